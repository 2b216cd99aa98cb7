"""A line for each figure that the project claims and no test holds: requirement, figure, met or not."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.proof.tables import Line

ROOT = Path(__file__).resolve().parents[2]
ONE = "--system=commands-cnn"
PAIRS = [f"--backend={b}" for b in ("librosa", "numpy", "tf_signal")] + [
    f"--runtime={r}" for r in ("torch", "onnxrt", "tflite")
]
PAIRS.append("--precision=float32")


def parity(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    command = [sys.executable, "-m", "parity", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def run(*arguments: str, reports: Path) -> dict[str, Any]:
    """A run's record."""
    done = parity("run", "--format=json", f"--report={reports}", *arguments)
    if not done.stdout:
        raise SystemExit(f"parity run {' '.join(arguments)} failed:\n{done.stderr}")
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def help_time() -> Line:
    """Median time of `parity --help`."""
    times = []
    for _ in range(15):
        start = time.perf_counter()
        parity("--help")
        times.append(time.perf_counter() - start)
    median = statistics.median(times)
    return Line("`parity --help` under 0.15 s (median of 15)", f"{median:.3f} s", median < 0.15)


def sizes() -> Iterator[Line]:
    """What is committed stays small."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = {f: (ROOT / f).stat().st_size for f in listed.split("\0") if f and (ROOT / f).is_file()}
    golden = sum(n for f, n in files.items() if f.startswith("golden/")) / 1e6
    yield Line("golden/ under 25 MB", f"{golden:.1f} MB", golden < 25)
    name, largest = max(files.items(), key=lambda item: item[1])
    yield Line("no committed file over 5 MB", f"{largest / 1e6:.2f} MB ({name})", largest < 5e6)


def everything(reports: Path) -> Iterator[Line]:
    """`parity run` without options: every system, backend, runtime and precision that is here."""
    start = time.perf_counter()
    record = run(reports=reports)
    took = time.perf_counter() - start
    pairs = sum(len(about["pairs"]) for about in record["systems"].values())
    gaps = len(record["gaps"]["met"])
    figure = f"exit {record['exit_code']}: {len(record['systems'])} systems, {pairs} pairs, {gaps} known gaps"
    yield Line("`parity run` without options exits 0", figure, record["exit_code"] == 0)
    yield Line("`parity run` without options under 10 minutes", f"{took:.0f} s", took < 600)


def streamed(reports: Path) -> Iterator[Line]:
    """A stream of logmel-gru, frame by frame: the mean time a frame, of a hop of 10 ms."""
    pairs = [f"--runtime={r}" for r in ("torch", "onnxrt", "tflite")]
    record = run("--streaming", "--system=logmel-gru", "--backend=numpy", *pairs, reports=reports)
    yield Line("streams are the whole clips' frames", f"exit {record['exit_code']}", record["exit_code"] == 0)
    for row in record["streaming"]["times"]:
        if row["chunk"] == 1:
            figure = f"{row['frame_ms']:.2f} ms a frame, real-time factor {row['real_time_factor']:.3f}"
            yield Line(f"logmel-gru, {row['pair']}: a frame within its hop", figure, row["real_time_factor"] < 1)


def committed(reports: Path) -> Line:
    """Nine pairs a system on the committed goldens."""
    record = run(*PAIRS, reports=reports)
    return Line(
        "9 pairs a system on the committed goldens exit 0", f"exit {record['exit_code']}", record["exit_code"] == 0
    )


def recorded(speech: Path, work: Path) -> Line:
    """Goldens recorded from 100 spoken clips, then the nine pairs on them."""
    clips = work / "hundred"
    clips.mkdir()
    every = sorted(speech.glob("*/*.flac"))
    for i, path in enumerate(every[:: len(every) // 100][:100]):
        (clips / f"{i:03}-{path.parent.name}.flac").symlink_to(path)
    done = parity("golden", "record", ONE, f"--audio={clips}", f"--out={work / 'golden'}")
    if done.returncode != 0:
        return Line("9 pairs on goldens recorded from 100 clips exit 0", done.stderr.strip(), False)
    record = run(ONE, *PAIRS, f"--golden={work / 'golden'}", reports=work)
    tally = {o: sum(s["counts"].get(o, 0) for s in record["summaries"]) for o in ("pass", "fail", "missing", "error")}
    figure = (
        f"exit {record['exit_code']}: {tally['pass']} taps of clips pass, {sum(tally.values()) - tally['pass']} don't"
    )
    return Line("9 pairs on goldens recorded from 100 clips exit 0", figure, record["exit_code"] == 0)


def held_out(speech: Path, work: Path) -> Iterator[Line]:
    """Clips of speakers that the network never heard: labels, false alarms and head-room."""
    folder = work / "held-out"
    train = ROOT / "reference_models" / "commands-cnn" / "train.py"
    command = [sys.executable, str(train), "--data", str(speech), "--held-out-folder", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    record = run(
        ONE,
        *PAIRS,
        f"--audio={folder}",
        "--labels-from=folders",
        "--layers=60",
        "--examples=200",
        "--seed=1",
        reports=work,
    )
    accuracies = {p["accuracy"] for p in record["labels"]["pairs"]}
    clips = record["labels"]["pairs"][0]["clips"]
    differ = [d["clip"] for d in record["labels"]["differ"]]
    figure = f"{', '.join(f'{a:.2%}' for a in sorted(accuracies))} on {clips} clips, {len(differ)} labels differ"
    yield Line("same accuracy on all 9 pairs, unheard speakers", figure + (f": {differ}" if differ else ""), not differ)
    judged = failed = 0
    worst: dict[tuple[str, str], float] = {}
    for s in record["summaries"]:
        judged += sum(s["counts"].get(o, 0) for o in ("pass", "fail"))
        failed += sum(n for o, n in s["counts"].items() if o in ("fail", "missing", "error"))
        ratio = s["worst"].get("ratio")
        if ratio is not None:
            key = (s["path"], s["tap"])
            worst[key] = max(worst.get(key, 0.0), ratio)
    yield Line("no false alarm on unheard speakers", f"{failed} of {judged} comparisons (tap, clip, pair)", failed == 0)
    examples = record["examples"]
    failing = [e["pair"] for e in examples if e["failed"]]
    largest = max((e["worst_ratio"] or 0.0 for e in examples), default=0.0)
    figure = f"{examples[0]['count']} clips a pair, largest error over bound {largest:.2f}, {len(failing)} pairs fail"
    yield Line("no false alarm on drawn clips", figure, not failing)
    for (path, tap), ratio in sorted(worst.items()):
        if path in ("features", "isolated", "cumulative") and tap != "features/audio":
            yield Line(f"{tap}, {path}: largest error over bound below 1", f"{ratio:.3f}", ratio < 1)


def bounds_and_defects(speech: Path) -> Line:
    """Share of 100 spoken clips on which a gain of 1.001 is out of the derived bound at the last stage."""
    import soundfile

    from parity import system
    from parity.backends import reference
    from parity.bounds.features import bounds
    from parity.protocols import Clip

    frontend = system.load(ROOT / "reference_models" / "commands-cnn").frontend
    seen = total = 0
    for path in sorted(speech.glob("*/*.flac"))[::29][:100]:
        samples, rate = soundfile.read(path, dtype="float32")
        x = bounds(frontend, reference.oracle(frontend, Clip("", samples, rate, "")))[frontend.output]
        louder = reference.oracle(frontend, Clip("", samples * np.float32(1.001), rate, ""))[frontend.output]
        seen += bool(((louder < x.lo) | (louder > x.hi)).any())
        total += 1
    return Line(
        "a gain of 1.001 is seen at features/compressed", f"{seen} of {total} spoken clips", seen >= 0.94 * total
    )


def published_vectors(data: Path) -> Line:
    """Every vector of ell_dsp: mel banks, windows, FFT and DCT."""
    from tests.backends.test_reference import deviations

    with np.load(data / "ell_dsp" / "ell_dsp_test_data.npz", allow_pickle=False) as z:
        found = deviations({name: z[name] for name in z.files})
    worst = {kind: max(most for n, (most, _) in found.items() if (n.startswith("GetRealFFT")) == kind)
             for kind in (False, True)}  # fmt: skip
    figure = f"{len(found)} vectors; largest deviation of tables {worst[False]:.1e}, of FFTs {worst[True]:.1e}"
    met = all(most <= allowed for most, allowed in found.values())
    return Line("the oracle meets every ell_dsp vector to the 12 digits printed", figure, met)


def weights() -> Line:
    """Every weight of every committed file, held to the trained ones."""
    done = parity("models", "check", "--format", "json")
    found = json.loads(done.stdout) if done.stdout else []
    wrong = sum(r["ok"] is False for r in found)
    figure = f"{sum(r['ok'] is True for r in found)} tensors explained, {wrong} not, exit {done.returncode}"
    return Line("every weight of every file is the trained one", figure, done.returncode == 0)


def lines() -> Iterator[Line]:
    """Every line, cheap ones first."""
    yield help_time()
    yield from sizes()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        yield weights()
        yield from everything(work)
        yield from streamed(work)
        yield committed(work)
        if "PARITY_DATA" not in os.environ:
            yield Line("figures on real speech", "PARITY_DATA is not set", None)
            return
        speech = Path(os.environ["PARITY_DATA"]) / "speech_commands"
        yield published_vectors(speech.parent)
        yield recorded(speech, work)
        yield from held_out(speech, work)
        yield bounds_and_defects(speech)
