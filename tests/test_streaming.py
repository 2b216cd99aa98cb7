"""Streaming: chunks and their samples, what is heard, and that every frame is held to the whole clip's."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from parity import pipeline, streaming, system
from parity.backends import reference
from parity.backends.numpy_ import NumpyBackend
from parity.errors import ConfigError, ModelError
from parity.plan import Selection
from parity.protocols import Clip
from parity.records import Run, read_verdicts
from parity.streaming import Detection, Detector
from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig

NAME = "logmel-gru"
SYSTEM = rig.MODELS / NAME
CLIPS = ("stop-en-us-m4.flac", "up-en-gb-scotland-f3.flac")


def clip(name: str) -> Clip:
    return Clip(name, rig.clip(name), 16000, "")


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_chunks_hold_the_samples_of_their_frames_and_no_more(size: int) -> None:
    frontend, whole = system.load(SYSTEM).frontend, clip("yes-en-us-f2")
    every = frontend.frames(len(whole.samples))
    found = list(streaming.chunks(frontend, whole, size))
    assert [f for s, _ in found for f in range(s.start, s.stop)] == list(range(every))
    assert {s.stop - s.start for s, _ in found[:-1]} <= {size}
    assert all(frontend.frames(len(c.samples)) == s.stop - s.start for s, c in found)
    assert all(len(c.samples) == 512 + 160 * (s.stop - s.start - 1) for s, c in found)
    taps = frozenset({frontend.output})
    (at_once,) = NumpyBackend().features([whole], frontend, taps)
    pieces = [NumpyBackend().features([c], frontend, taps)[0][frontend.output] for _, c in found]
    assert np.abs(np.concatenate(pieces) - at_once[frontend.output]).max() < 1e-5
    exact = [reference.oracle(frontend, c)[frontend.output] for _, c in found]
    assert np.abs(np.concatenate(exact) - reference.oracle(frontend, whole)[frontend.output]).max() < 1e-12


def heard(logits: np.ndarray, at_once: int = 1000) -> list[tuple[str, float, float]]:
    found = system.load(SYSTEM)
    assert found.streaming is not None
    detector = Detector(found, found.streaming)
    return [d for i in range(0, len(logits), at_once) for d in detector.hear(logits[i : i + at_once])]


def sure(label: str, frames: int, logit: float = 20.0) -> np.ndarray:
    rows = np.zeros((frames, 12))
    rows[:, system.load(SYSTEM).labels.index(label)] = logit
    return rows


def test_a_word_counts_when_its_smoothed_posterior_is_above_the_threshold() -> None:
    # 0.2 s are 20 frames: the 13th sure one lifts their mean above 0.6, and it ends 12 hops and 512 samples in.
    ((label, time, confidence),) = heard(sure("stop", 50))
    assert label == "stop"
    assert time == pytest.approx((12 * 160 + 512) / 16000)
    assert confidence == pytest.approx(13 / 20, abs=1e-6)
    assert heard(sure("stop", 12)) == []


def test_it_counts_once_and_again_after_a_pause_or_another() -> None:
    stop, go, rest = sure("stop", 40), sure("go", 40), sure("silence", 40)
    assert [d[0] for d in heard(np.concatenate([stop, go, stop, rest, stop]))] == ["stop", "go", "stop", "stop"]


@pytest.mark.parametrize("label", ["unknown", "silence"])
def test_what_is_no_word_is_ignored(label: str) -> None:
    assert heard(sure(label, 100)) == []


def test_detections_do_not_depend_on_the_chunks_they_come_in() -> None:
    logits = np.concatenate([sure("yes", 31, 4.0), sure("no", 44, 5.0)])
    assert heard(logits, 1) == heard(logits, 7) == heard(logits)
    assert heard(np.full((30, 12), np.nan)) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("center = false ", "center = true "), "the recipe needs the whole clip"),
        (("rate = 16000 ", "rate = 16000\nlength = 16000 "), "the recipe needs the whole clip"),
        (("chunks = [1, 3, 7]", "chunks = [0]"), "chunks are one or more numbers of frames"),
        (("chunks = [1, 3, 7]", "chunk = [1]"), "unknown key 'chunk'"),
        (("threshold = 0.6", "threshold = 60"), "the threshold a probability"),
        (('ignored = ["unknown", "silence"]', 'ignored = ["noise"]'), "ignores 'noise', which is no label"),
    ],
)
def test_a_streaming_table_that_makes_no_sense_is_refused(change: tuple[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        system.load(rig.system(tmp_path / "s", change, name=NAME))


def test_a_state_that_comes_out_at_no_tap_is_refused(tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "s", name=NAME)
    text = (folder / "system.toml").read_text()
    (folder / "system.toml").write_text(text.replace('"model/state" = { name = "next_state", layout = "CNF" }\n', ""))
    with pytest.raises(ConfigError, match="maps no 'model/state'"):
        system.load(folder)


def test_a_stream_carries_a_state_over_and_nothing_else(tmp_path: Path) -> None:
    state = 'state = [{ name = "state", tap = "model/state", shape = [2, 1, 128] }]\n'
    folder = rig.system(tmp_path / "s", name=NAME)
    text = (folder / "system.toml").read_text()
    (folder / "system.toml").write_text(text.replace("frames = 1 ", "context = 8\nframes = 1 "))
    with pytest.raises(ConfigError, match="remembers more than its state"):
        system.load(folder)
    (folder / "system.toml").write_text(text.replace(state, state + 'kernels = "onnxrt:opt=off"\n'))
    with pytest.raises(ConfigError, match="names kernels to be held to"):
        system.load(folder)
    (folder / "system.toml").write_text(text.replace(state, ""))
    with pytest.raises(ConfigError, match="has no state to hand on"):
        system.load(folder)


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed goldens of two words; not to be changed."""
    return rig.goldens(tmp_path_factory.mktemp("streaming"), CLIPS, NAME)


def stream(local: LocalTarget, reports: Path, **selection: object) -> tuple[Run, list[Detection]]:
    told: list[Detection] = []
    wanted = {"systems": (str(SYSTEM),), "backends": ("numpy",), "runtimes": ("onnxrt",), "streaming": True}
    done, _ = pipeline.run(Selection(**(wanted | selection)), local, reports, heard=told.append)  # type: ignore[arg-type]
    return done, told


@pytest.mark.slow
def test_every_frame_of_a_stream_is_the_whole_clips_on_each_runtime(
    local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    done, told = stream(local, tmp_path, golden=golden, runtimes=("torch", "onnxrt", "tflite"))
    assert done.exit_code == 0
    frames = [v for v in read_verdicts(tmp_path / done.name) if v.tap == "model/frames"]
    # two clips, three sizes of chunks, three runtimes, on the backend's features and on the golden's
    assert [v.outcome for v in frames] == ["pass"] * 36
    assert {v.clip for v in frames} == {f"{c} in chunks of {n}" for c in CLIPS for n in (1, 3, 7)}
    assert {v.path for v in frames} == {"cumulative", "isolated"}
    assert {s.tap for s in done.summaries if s.backend == "numpy" and s.path == "features"} >= {"features/compressed"}
    rows = done.streaming["times"]
    assert {(r["pair"].split()[1], r["chunk"]) for r in rows} == {
        (r, n) for r in ("torch", "onnxrt", "tflite") for n in (1, 3, 7)
    }
    assert all(r["frame_ms"] > 0 and r["frames"] > 100 for r in rows)
    assert all(r["real_time_factor"] == pytest.approx(r["frame_ms"] / 10) for r in rows)
    assert {(d.label, d.clip) for d in told} == {("stop", CLIPS[0]), ("up", CLIPS[1])}
    assert len(told) == len(done.streaming["detections"]) == 6


@pytest.mark.slow
def test_without_goldens_a_stream_is_held_to_the_reference_on_the_whole_clip(
    local: LocalTarget, tmp_path: Path
) -> None:
    # 2.5 s: several segments, and a state that goes from one to the next.
    sound = rig.wav(
        tmp_path / "long.wav",
        np.concatenate([rig.clip("stop-en-us-m4"), np.zeros(6000), rig.clip("up-en-gb-scotland-f3")]),
    )
    done, told = stream(local, tmp_path / "reports", audio=sound)
    assert done.exit_code == 0
    assert (told[0].label, told[0].clip) == ("stop", "long.wav")
    assert told[0].time < 1
    (row,) = [r for r in done.streaming["times"] if r["chunk"] == 1]
    assert row["frames"] > 2 * streaming.SEGMENT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runtime", "backend", "tap", "path"),
    [
        ("faulty.streams:Forgets", "numpy", "model/frames", "isolated"),
        ("faulty.streams:Swaps", "numpy", "model/frames", "isolated"),
        ("onnxrt", "faulty.streams:StartsAnew", "features/frames", "features"),
    ],
)
def test_a_state_that_is_not_carried_over_is_seen_where_it_is_lost(
    runtime: str, backend: str, tap: str, path: str, local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    done, _ = stream(local, tmp_path, golden=golden, runtimes=(runtime,), backends=(backend,))
    assert done.exit_code == 1
    assert rig.failing(done, path=path)[0] == (tap, "fail")
    if path == "isolated":
        assert rig.failing(done, path="features") == []
        failed = {v.clip for v in read_verdicts(tmp_path / done.name) if v.tap == tap and v.outcome == "fail"}
        assert failed == {f"{c} in chunks of {n}" for c in CLIPS for n in (1, 3, 7)}
    else:
        assert rig.failing(done, path="isolated") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runtime", "backend", "path", "tap", "outcome", "words"),
    [
        ("onnxrt", "faulty.streams:LosesABin", "features", "features/spectrum", "fail", "[1, 256] and [1, 257]"),
        ("onnxrt", "faulty.streams:LosesATap", "features", "features/spectrum", "missing", "didn't return it"),
        ("faulty.streams:LosesALabel", "numpy", "isolated", "model/frames", "fail", "[1, 11] and [1, 12]"),
    ],
)
def test_chunks_that_do_not_fit_together_fail_at_their_tap(
    runtime: str, backend: str, path: str, tap: str, outcome: str, words: str, local: LocalTarget, golden: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    done, _ = stream(local, tmp_path, golden=golden, runtimes=(runtime,), backends=(backend,))
    assert done.exit_code == 1
    assert rig.failing(done, path=path)[0] == (tap, outcome)
    assert words in rig.messages(done, outcome, path=path, tap=tap)
    if path == "features":
        assert rig.failing(done, path=path) == [(tap, outcome)]
        assert rig.failing(done, path="isolated") == []


@pytest.mark.slow
def test_one_chunk_proves_nothing_of_a_stream(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    text = "chunks = [1, 3, 7]        # frames"
    alone = rig.system(tmp_path / "alone", (text, "chunks = [200]"), name=NAME)
    both = rig.system(tmp_path / "both", (text, "chunks = [200, 40]"), name=NAME)
    for folder in (alone, both):
        shutil.copyfile(SYSTEM / f"{NAME}-stream.onnx", folder / f"{NAME}-stream.onnx")
    done, told = stream(local, tmp_path / "a", golden=golden, systems=(str(alone),))
    assert done.exit_code == 2
    assert {o for s in done.summaries for o in s.counts} == {"unsupported"}
    assert {s.worst.message for s in done.summaries} == {"one chunk: nothing is carried over"}
    assert [(s.reason, s.asked) for s in done.skipped if "one chunk:" in s.reason] == [
        ("2 of 2 clips and sizes are one chunk: nothing is carried over", True)
    ]
    assert told  # what is heard is told all the same
    done, _ = stream(local, tmp_path / "b", golden=golden, systems=(str(both),))
    assert done.exit_code == 0
    assert [(s.reason, s.asked) for s in done.skipped if "one chunk:" in s.reason] == [
        ("2 of 4 clips and sizes are one chunk: nothing is carried over", False)
    ]
    found = {(v.clip, v.outcome) for v in read_verdicts(tmp_path / "b" / done.name) if v.tap == "model/frames"}
    assert found == {(f"{c} in chunks of {n}", o) for c in CLIPS for n, o in ((200, "unsupported"), (40, "pass"))}
    # A fault within the one chunk is a fault.
    done, _ = stream(
        local, tmp_path / "c", golden=golden, systems=(str(alone),), backends=("faulty.streams:LosesABin",)
    )
    assert done.exit_code == 1
    assert rig.failing(done) == [("features/spectrum", "fail")]


@pytest.mark.slow
@pytest.mark.parametrize(("runtime", "kind"), [("onnxrt", "onnx"), ("tflite", "tflite")])
def test_a_state_that_the_file_does_not_take_is_named(
    runtime: str, kind: str, local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    folder = rig.system(tmp_path / "system", name=NAME)
    text = (folder / "system.toml").read_text()
    (folder / "system.toml").write_text(text.replace('state = [{ name = "state"', 'state = [{ name = "memory"'))
    shutil.copyfile(SYSTEM / f"{NAME}-stream.{kind}", folder / f"{NAME}-stream.{kind}")
    with pytest.raises(ModelError, match="has no input 'memory'"):
        stream(local, tmp_path, golden=golden, systems=(str(folder),), runtimes=(runtime,))


@pytest.mark.slow
def test_a_layers_state_reset_in_the_file_is_seen(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    folder = rig.system(tmp_path / "system", name=NAME)
    file = f"{NAME}-stream.onnx"
    model = onnx.load(SYSTEM / file)
    first, _ = [n for n in model.graph.node if n.op_type == "GRU"]
    zeros = numpy_helper.from_array(np.zeros((1, 1, 128), np.float32), "zeros")
    model.graph.initializer.append(zeros)
    first.input[5] = "zeros"
    onnx.save(model, folder / file)
    done, _ = stream(local, tmp_path, golden=golden, systems=(str(folder),))
    assert done.exit_code == 1
    assert rig.failing(done, path="isolated")[0] == ("model/frames", "fail")
    shutil.copyfile(SYSTEM / file, folder / file)
    assert stream(local, tmp_path / "again", golden=golden, systems=(str(folder),))[0].exit_code == 0


@pytest.mark.slow
def test_the_command_prints_what_is_heard_and_what_a_frame_costs(golden: Path, tmp_path: Path) -> None:
    where = ("--golden", golden, "--report", tmp_path)
    done = rig.parity("run", "--streaming", "--system", NAME, "--backend", "numpy", "--runtime", "onnxrt", *where)
    assert done.returncode == 0, done.stderr
    heard_in = [line.split() for line in done.stdout.splitlines() if " s  " in line and ".flac" in line]
    assert [(words[2], words[4]) for words in heard_in[:2]] == [("stop", CLIPS[0]), ("up", CLIPS[1])]
    assert "real-time factor" in done.stdout
    (page,) = tmp_path.glob("*/index.html")
    assert all(
        words in page.read_text() for words in ("What was heard", "real-time factor", f'<th scope="row">{CLIPS[0]}')
    )
    refused = rig.parity("run", "--streaming", "--system", "commands-cnn", "--backend", "numpy", *where)
    rig.refused(refused, 2, "no [streaming] in its system.toml")
    both = rig.parity("run", "--streaming", "--examples", "5")
    rig.refused(both, 3, "take --labels-from and --examples away")
