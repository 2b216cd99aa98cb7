"""What tests of whole runs share: goldens of a few clips, copies of the system, workers that find the fake plugins."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import soundfile

from parity import cli, pipeline
from parity.plan import Selection
from parity.protocols import Array
from parity.records import Run
from parity.targets.local import LocalTarget

ROOT = Path(__file__).parents[2]
PLUGINS = Path(__file__).parent
MODELS = ROOT / "reference_models"
SYSTEM = MODELS / "commands-cnn"
# Two words with inner layers among the committed goldens, and one without.
CLIPS = ("no-en-gb-m3.flac", "on-en-gb-midlands-m5.flac", "yes-en-us-f2.flac")
OWNER = "TESTED_BY"
"""Every process that a test starts, and what that starts, has this variable with the pid of the test's process."""
FAILED = ("fail", "missing", "error")


def environment(**more: str) -> dict[str, str]:
    """The environment of a process whose workers find the fake plugins."""
    path = os.pathsep.join(filter(None, [str(PLUGINS), os.environ.get("PYTHONPATH", "")]))
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PARITY_RUN", "_PARITY"))}
    return clean | {"PYTHONPATH": path, OWNER: str(os.getpid())} | more


@contextmanager
def target(limit: float = 60.0, jobs: int = 2) -> Iterator[LocalTarget]:
    """Workers of this process."""
    with mock.patch.dict(os.environ, environment()), LocalTarget(jobs, limit) as local:
        yield local


def goldens(root: Path, clips: Sequence[str] = CLIPS, name: str = SYSTEM.name) -> Path:
    """The committed goldens of a few clips under `root`, with the project's tolerances and no known gaps."""
    committed = ROOT / "golden"
    manifest = json.loads((committed / name / "manifest.json").read_text(encoding="utf-8"))
    manifest["clips"] = [e for e in manifest["clips"] if e["name"] in clips]
    assert len(manifest["clips"]) == len(clips)
    for entry in manifest["clips"]:
        for part in ("clip", "features", "model"):
            (root / entry[part]["file"]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(committed / entry[part]["file"], root / entry[part]["file"])
    (root / name / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    shutil.copyfile(committed / "tolerances.toml", root / "tolerances.toml")
    (root / "known_gaps.toml").write_text("", encoding="utf-8")
    return root


def system(
    folder: Path,
    *changes: tuple[str, str],
    formats: Sequence[str] = ("onnx",),
    name: str = SYSTEM.name,
    fewer_bits: bool = False,
) -> Path:
    """A copy of a system in `folder`, with texts of its system.toml changed; only models of `formats` are there.

    Without `fewer_bits` it declares float32 files only.
    """
    folder.mkdir(parents=True)
    text = (MODELS / name / "system.toml").read_text(encoding="utf-8")
    if not fewer_bits:
        head, *artifacts = text.split("[[artifacts]]\n")
        kept = [a for a in artifacts if 'precision = "float32"' in a]
        text = "[[artifacts]]\n".join([head, *kept])
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in system.toml"
        text = text.replace(old, new)
    (folder / "system.toml").write_text(text, encoding="utf-8")
    files = {
        "onnx": [f"{name}.onnx"],
        "tflite": [f"{name}.tflite"],
        "torch": ["weights.safetensors", "model.py"],
        "torchscript": [f"{name}.pt"],
        "torch-export": [f"{name}.pt2"],
    }
    for file in (f for kind in formats for f in files[kind]):
        shutil.copyfile(MODELS / name / file, folder / file)
    return folder


def run(local: LocalTarget, golden: Path | None, reports: Path, **selection: Any) -> Run:
    """A run in this process; commands-cnn in float32, numpy and onnxrt unless told otherwise."""
    wanted: dict[str, Any] = {
        "systems": (str(SYSTEM),),
        "backends": ("numpy",),
        "runtimes": ("onnxrt",),
        "precisions": ("float32",),
        "golden": golden,
    }
    done, _ = pipeline.run(Selection(**(wanted | selection)), local, reports)
    return done


def failing(done: Run, **fields: str) -> list[tuple[str, str]]:
    """(tap, outcome) of what fails, in flow order, among the summaries with these fields."""
    order = {tap: i for name in done.systems for i, tap in enumerate(done.systems[name]["taps"])}
    found = {
        (s.tap, s.worst.outcome)
        for s in done.summaries
        if s.worst.outcome in FAILED and all(getattr(s, k) == v for k, v in fields.items())
    }
    return sorted(found, key=lambda f: order[f[0]])


def messages(done: Run, outcome: str, **fields: str) -> str:
    """The messages of the worst verdicts with an outcome, one a line."""
    return "\n".join(
        s.worst.message
        for s in done.summaries
        if s.worst.outcome == outcome and all(getattr(s, k) == v for k, v in fields.items())
    )


def parity(*arguments: str | Path, cwd: Path = ROOT, **more: str) -> subprocess.CompletedProcess[str]:
    """`parity ...` by its entry point in this process, which has imported what it needs: its exit code and output.

    What it starts is real; what that prints to the terminal itself isn't seen here (`process` sees it).
    """
    typed, before = ["parity", *map(str, arguments)], signal.getsignal(signal.SIGTERM)
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with (
        mock.patch.dict(os.environ, environment(**more), clear=True), contextlib.chdir(cwd),
        mock.patch.object(sys, "argv", typed), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
    ):  # fmt: skip
        try:
            cli.main()
        except SystemExit as e:
            code = e.code
        finally:
            signal.signal(signal.SIGTERM, before)
    assert isinstance(code, int)
    said = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(typed, code, *said)


def process(*arguments: str | Path, cwd: Path = ROOT, **more: str) -> subprocess.CompletedProcess[str]:
    """`parity ...` as a user runs it: a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "parity", *map(str, arguments)],
        cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """It ended with `code` and said why, in a line and a hint, without a traceback."""
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said
    assert "bug in parity" not in said
    lines = done.stderr.strip().splitlines()
    assert sum(line.startswith(("parity: ", "Error: ")) for line in lines) == 1, said
    assert any(line.startswith(("hint: ", "Try ", "Usage: ")) for line in lines), said
    for word in words:
        assert word in done.stderr, said


def clip(name: str = "yes-en-us-f2") -> Array:
    """Samples of one of the project's clips."""
    samples, _ = soundfile.read(ROOT / "golden" / "clips" / f"{name}.flac", dtype="float32")
    return samples


def wav(path: Path, samples: Array | None = None, rate: int = 16000, subtype: str = "PCM_16") -> Path:
    """A WAV file; one of the project's clips where no samples are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, clip() if samples is None else np.asarray(samples), rate, subtype=subtype)
    return path


def left_over(folder: Path) -> list[str]:
    """What stands in a reports folder."""
    return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []


def plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping as JSON would have it."""
    loaded: dict[str, Any] = json.loads(json.dumps(value))
    return loaded
