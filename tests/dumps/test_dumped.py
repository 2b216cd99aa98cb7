"""`parity compare`, `recorded:` and `exec:` on what compiled C, Octave and a runtime's own tensors wrote."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from parity import golden as goldens
from parity import load_run, pipeline, system
from parity.dumped import DumpTarget
from parity.dumps import description
from parity.dumps.description import Description
from parity.dumps.dump import Dump
from parity.errors import ConfigError, NothingCompared
from parity.plan import Selection
from parity.records import Run, read_verdicts
from parity.targets.local import LocalTarget
from tests.dumps.conftest import STEMS
from tests.plugins_for_tests import rig

pytestmark = pytest.mark.slow  # whole runs, a compiler and Octave

SYSTEM = system.load(rig.SYSTEM)
STAGES = ("windowed", "spectrum", "filterbank", "compressed")
LOGMEL = "features/compressed"


@pytest.fixture(scope="module")
def dumped(featurizer: Path, wavs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the board wrote: every stage of each clip, right (`good`) and with a symmetric window (`bad`)."""
    root = tmp_path_factory.mktemp("dumped")
    for name, fault in (("good", []), ("bad", ["--symmetric"])):
        for stem in STEMS:
            (root / name / stem).mkdir(parents=True)
            subprocess.run([featurizer, *fault, "--all", wavs / f"{stem}.wav", root / name / stem], check=True)
    return root


def said(*arrays: dict[str, Any], **more: Any) -> Description:
    return Description(arrays=tuple(description.entry("test", "", a) for a in arrays), **more)


def compared(
    local: LocalTarget, path: Path, reports: Path, golden: Path | None, what: Description | None = None,
    audio: Path | None = None, of: system.System = SYSTEM,
) -> tuple[Run, Path]:  # fmt: skip
    taps = (*of.frontend.taps, "model/input", *of.taps)
    selection = Selection(systems=(str(of.folder),), golden=golden, audio=audio)
    return pipeline.run(selection, local, reports, dump=DumpTarget(local, of, Dump(path, what, taps)))


def outcomes(done: Run) -> dict[str, str]:
    return {s.tap: s.worst.outcome for s in done.summaries}


# ---- Features that C computed ----


def test_what_c_computed_in_float32_is_within_the_derived_bounds(
    local: LocalTarget, golden: Path, dumped: Path, tmp_path: Path
) -> None:
    done, folder = compared(local, dumped / "good", tmp_path, golden)
    assert done.exit_code == 0
    assert outcomes(done) == {f"features/{s}": "pass" for s in STAGES} | {
        "features/audio": "unavailable", "features/frames": "unavailable",
    }  # fmt: skip
    verdicts = list(read_verdicts(folder))
    assert {v.clip for v in verdicts} == set(rig.CLIPS)
    assert all(v.rule == "derived" and v.backend == "recorded" for v in verdicts if v.outcome == "pass")
    # It is another implementation, not the oracle's own numbers.
    assert all(v.error and v.error > 0 for v in verdicts if v.tap == LOGMEL)
    assert {"index.html", "junit.xml", "run.json"} <= set(rig.left_over(folder))
    assert len(done.environment["plugins"]["recorded"]["sha256"]) == 64


def test_a_symmetric_window_in_c_fails_first_at_the_window(
    local: LocalTarget, golden: Path, dumped: Path, tmp_path: Path
) -> None:
    done, _ = compared(local, dumped / "bad", tmp_path, golden)
    assert done.exit_code == 1
    assert rig.failing(done) == [(f"features/{s}", "fail") for s in STAGES]


def test_a_fault_is_placed_among_the_taps_that_were_dumped(
    local: LocalTarget, golden: Path, dumped: Path, tmp_path: Path
) -> None:
    for stem in STEMS:
        mixed = tmp_path / "dump" / stem
        mixed.mkdir(parents=True)
        for stage, kind in (("windowed", "good"), ("filterbank", "bad"), ("compressed", "bad")):
            shutil.copyfile(dumped / kind / stem / f"features_{stage}.npy", mixed / f"features_{stage}.npy")
    done, _ = compared(local, tmp_path / "dump", tmp_path / "r", golden)
    assert rig.failing(done) == [("features/filterbank", "fail"), (LOGMEL, "fail")]
    assert outcomes(done)["features/spectrum"] == "unavailable"
    assert rig.messages(done, "unavailable").splitlines() == ["not in the dump"] * 3


@pytest.mark.parametrize(
    ("file", "options", "entry"),
    [
        ("{clip}.csv", [], {}), ("{clip}.f32", [], {}), ("{clip}.npy", [], {}),
        ("{clip}.i32", ["--q28"], {"written": "<i4", "scale": 2.0**-28}),
        ("{clip}.csv", ["--stage", "spectrum"], {"tap": "features/spectrum"}),
    ],
)  # fmt: skip
def test_every_file_that_c_writes_is_judged_alike(
    local: LocalTarget, golden: Path, featurizer: Path, wavs: Path, tmp_path: Path, file: str, options: list[str],
    entry: dict[str, Any],
) -> None:  # fmt: skip
    (tmp_path / "dump").mkdir()
    for fault, code in ((["--symmetric"], 1), ([], 0)):
        for stem in STEMS:
            out = tmp_path / "dump" / file.replace("{clip}", stem)
            subprocess.run([featurizer, *fault, *options, wavs / f"{stem}.wav", out], check=True)
            if out.suffix == ".i32":
                out.rename(out.with_suffix(".raw"))
        done, _ = compared(local, tmp_path / "dump", tmp_path / "r", golden, said({"tap": LOGMEL} | entry))
        assert done.exit_code == code
        assert {o for t, o in outcomes(done).items() if t == entry.get("tap", LOGMEL)} == {"fail" if code else "pass"}


def test_a_stack_the_other_way_round(local: LocalTarget, golden: Path, dumped: Path, tmp_path: Path) -> None:
    stack = np.stack([np.load(dumped / "good" / s / "features_compressed.npy").T for s in STEMS])
    np.save(tmp_path / "x.npy", stack.astype(">f4"))
    right = said({"tap": LOGMEL, "axes": "NFT"}, clips=rig.CLIPS)
    assert compared(local, tmp_path / "x.npy", tmp_path, golden, right)[0].exit_code == 0
    done, _ = compared(local, tmp_path / "x.npy", tmp_path, golden, said({"tap": LOGMEL}, clips=rig.CLIPS))
    assert done.exit_code == 1
    assert "transposed?" in rig.messages(done, "fail")
    # Clips in another order than was said: each is another clip's array.
    turned = said({"tap": LOGMEL, "axes": "NFT"}, clips=rig.CLIPS[::-1])
    assert compared(local, tmp_path / "x.npy", tmp_path, golden, turned)[0].exit_code == 1


def test_one_bad_number_among_all_clips_is_found(
    local: LocalTarget, golden: Path, dumped: Path, tmp_path: Path
) -> None:
    shutil.copytree(dumped / "good", tmp_path / "dump")
    path = tmp_path / "dump" / STEMS[1] / "features_compressed.npy"
    x = np.load(path)
    for value, words in (
        (np.float32("nan"), r"nan at \[40, 7\]"),
        (x[40, 7] + np.float32(1e-3), r"1 of 4900 elements"),
    ):
        x[40, 7] = value
        np.save(path, x)
        done, folder = compared(local, tmp_path / "dump", tmp_path / "r", golden)
        assert rig.failing(done) == [(LOGMEL, "fail")]
        (v,) = [v for v in read_verdicts(folder) if v.outcome == "fail"]
        assert v.clip == rig.CLIPS[1]
        assert re.search(words, v.message)
        assert (v.frame, v.band) == (40, 7) or v.index == (40, 7)


# ---- Which clips ----


def test_what_is_on_one_side_only_is_told(local: LocalTarget, golden: Path, dumped: Path, tmp_path: Path) -> None:
    shutil.copytree(dumped / "good", tmp_path / "dump")
    (tmp_path / "dump" / STEMS[0]).rename(tmp_path / "dump" / "nobody")
    done, _ = compared(local, tmp_path / "dump", tmp_path / "r", golden)
    assert done.exit_code == 2  # it was given, and compared with nothing
    told = {s.reason: s.asked for s in done.skipped}
    assert told == {"the dump has what no golden goes by: nobody": True,
                    f"the dump has nothing of 1 of 3 clips: {rig.CLIPS[0]}": False}  # fmt: skip
    shutil.rmtree(tmp_path / "dump" / "nobody")
    assert compared(local, tmp_path / "dump", tmp_path / "r", golden)[0].exit_code == 0
    (tmp_path / "dump" / STEMS[1] / "features_spectrum.npy").unlink()
    done, _ = compared(local, tmp_path / "dump", tmp_path / "r", golden)
    assert rig.failing(done) == [("features/spectrum", "missing")]
    assert "of other clips, not of this one" in rig.messages(done, "missing")
    renamed = said({"tap": LOGMEL, "file": "{clip}/features_compressed.npy"}, named={STEMS[1]: "yes.wav"})
    only = said({"tap": LOGMEL, "file": "{clip}/features_compressed.npy"}, clips=(STEMS[1],))
    few = rig.goldens(tmp_path / "g", rig.CLIPS[:1])
    with pytest.raises(NothingCompared, match="no clip of the dump goes by the name of a golden"):
        compared(local, tmp_path / "dump", tmp_path / "r", few, only)
    done, _ = compared(local, tmp_path / "dump", tmp_path / "r", golden, renamed)
    assert any("no golden goes by" in s.reason and STEMS[1] in s.reason for s in done.skipped)


def test_clips_without_goldens_are_judged_by_the_oracle(
    local: LocalTarget, dumped: Path, wavs: Path, tmp_path: Path
) -> None:
    good, _ = compared(local, dumped / "good", tmp_path, None, audio=wavs)
    bad, _ = compared(local, dumped / "bad", tmp_path, None, audio=wavs)
    assert (good.exit_code, bad.exit_code) == (0, 1)
    assert rig.failing(bad)[0] == ("features/windowed", "fail")
    shutil.copytree(wavs, tmp_path / "dump" / "wavs")
    for stem in STEMS:
        shutil.copyfile(dumped / "good" / stem / "features_compressed.npy", tmp_path / "dump" / f"{stem}.npy")
    (tmp_path / "dump" / "dump.toml").write_text(f'audio = "wavs"\ndevice = "a board"\n[[arrays]]\ntap = "{LOGMEL}"\n')
    done, folder = compared(local, tmp_path / "dump", tmp_path / "r", None)
    assert done.exit_code == 0
    assert {v.target for v in read_verdicts(folder)} == {"a board"}


def test_a_clip_goes_by_its_samples_too(local: LocalTarget, golden: Path, dumped: Path, tmp_path: Path) -> None:
    entry = goldens.load(golden, SYSTEM).clips[0]
    (tmp_path / "dump").mkdir()
    shutil.copyfile(dumped / "good" / STEMS[0] / "features_compressed.npy", tmp_path / "dump" / "rec-0017.npy")
    what = said({"tap": LOGMEL}, named={"rec-0017": entry["samples_sha256"]})
    done, folder = compared(local, tmp_path / "dump", tmp_path / "r", golden, what)
    assert done.exit_code == 0
    assert {v.clip for v in read_verdicts(folder)} == {entry["name"]}


@pytest.mark.parametrize(
    ("what", "message", "hint"),
    [
        ({"precision": "int7"}, "tiny has no int7 file", "did you mean 'int8'"),
        ({"precision": "int8", "format": "torch"}, "tiny has no torch int8 file", "its files: torch float32, "),
        ({"runtime": "nope"}, "unknown runtime 'nope'", "runtimes: recorded, torch, "),
        ({"runtime": "tfml:threads=2"}, "unknown runtime 'tfml'", "did you mean 'tflm'"),
    ],
)
def test_a_file_or_runtime_that_nobody_knows_is_refused(
    local: LocalTarget, golden: Path, dumped: Path, tmp_path: Path, what: dict[str, str], message: str, hint: str
) -> None:
    """Also where the dump holds features alone, which neither judges."""
    with pytest.raises(ConfigError, match=message.replace("tiny", SYSTEM.name)) as e:
        compared(local, dumped / "good", tmp_path / "r", golden, said({"tap": LOGMEL}, **what))
    assert hint in (e.value.hint or "")
    assert rig.left_over(tmp_path / "r") == []


def test_a_runtime_that_a_rule_names_is_known(local: LocalTarget, golden: Path, dumped: Path, tmp_path: Path) -> None:
    own = shutil.copytree(golden, tmp_path / "golden")
    (own / "tolerances.toml").write_text(
        '[[tolerance]]\ncandidate = "my-board"\ntap = "model/*"\nabsolute = 1e-3\nwhy = "a board of ours"\n'
    )
    done, _ = compared(local, dumped / "good", tmp_path / "r", own, said({"tap": LOGMEL}, runtime="my-board"))
    assert done.exit_code == 0


# ---- Activations ----


@pytest.fixture(scope="module")
def activations(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX Runtime's own tensors on the goldens' features, in its own axes, a folder a clip."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    root = tmp_path_factory.mktemp("activations")
    artifact = next(a for a in SYSTEM.artifacts if (a.format, a.precision) == ("onnx", "float32"))
    model = onnx.load(artifact.path)
    known = {o.name for o in model.graph.output}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(p.name) for p in artifact.taps.values()
                              if p.name not in known)  # fmt: skip
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    whole = goldens.load(golden, SYSTEM)
    for entry in whole.clips:
        folder = root / Path(entry["name"]).stem
        folder.mkdir()
        features = whole.read(entry).reference
        np.save(folder / "model_input.npy", features)
        for tap, port in artifact.taps.items():
            (x,) = session.run([port.name], {"features": features[None, None]})
            np.save(folder / f"{tap.replace('/', '_')}.npy", x)
    return root


NCTF = [{"tap": f"model/relu{i}", "axes": "NCTF"} for i in range(1, 6)]
LOGITS = {"tap": "model/logits"}


def test_activations_are_judged_as_a_runtime_s_are(
    local: LocalTarget, golden: Path, activations: Path, tmp_path: Path
) -> None:
    layout = said({"tap": "model/input"}, *NCTF, LOGITS)
    done, folder = compared(local, activations, tmp_path / "r", golden, layout)
    assert done.exit_code == 0
    verdicts = list(read_verdicts(folder))
    assert {(v.path, v.backend, v.runtime, v.precision) for v in verdicts} == {("isolated", "", "recorded", "float32")}
    judged = [
        "model/input",
        *(f"model/relu{i}" for i in range(1, 6)),
        "model/logits",
        "decision/label",
        "decision/margin",
    ]
    assert outcomes(done) == dict.fromkeys(judged, "pass") | {"model/pool5": "unavailable"}
    broken = shutil.copytree(activations, tmp_path / "broken")
    for stem in STEMS:
        for tap in ("relu3", "relu4", "relu5", "logits"):
            path = broken / stem / f"model_{tap}.npy"
            np.save(path, np.load(path) * np.float32(1.01))
    done, _ = compared(local, broken, tmp_path / "r", golden, layout)
    assert done.exit_code == 1
    assert rig.failing(done)[0] == ("model/relu3", "fail")


def test_activations_alone_and_what_decides_not_among_them(
    local: LocalTarget, golden: Path, activations: Path, tmp_path: Path
) -> None:
    done, _ = compared(local, activations, tmp_path / "r", golden, said(NCTF[0]))
    assert done.exit_code == 0
    assert outcomes(done)["model/relu1"] == "pass"
    assert {outcomes(done)[t] for t in ("model/input", "decision/label")} == {"unavailable"}
    assert any("not every golden holds model/relu1" in s.reason for s in done.skipped)
    np.save(tmp_path / "no.npy", np.ones((2, 3, 4, 5), np.float32))
    with pytest.raises(ConfigError, match=r"4 axes .* where the layout 'TFC' has 3"):
        compared(local, tmp_path / "no.npy", tmp_path / "r", golden, said({"tap": "model/relu1"}, clips=rig.CLIPS[:1]))
    assert len(rig.left_over(tmp_path / "r")) == 1  # what was refused left nothing behind


def test_a_device_that_computed_all_of_it_is_judged_cumulatively(
    local: LocalTarget, golden: Path, activations: Path, dumped: Path, tmp_path: Path
) -> None:
    whole = shutil.copytree(activations, tmp_path / "dump")
    for stem in STEMS:
        (whole / stem / "model_input.npy").unlink()
        shutil.copyfile(dumped / "good" / stem / "features_compressed.npy", whole / stem / "features_compressed.npy")
    done, folder = compared(local, whole, tmp_path / "r", golden, said({"tap": LOGMEL}, *NCTF, LOGITS, fed="own"))
    assert done.exit_code == 0
    verdicts = list(read_verdicts(folder))
    assert {(v.path, v.backend, v.runtime) for v in verdicts} == {
        ("features", "recorded", ""), ("cumulative", "recorded", "recorded"),
    }  # fmt: skip
    fed = [v for v in verdicts if v.tap == "model/input"]
    assert all(v.outcome == "pass" and v.error and v.error > 0 for v in fed)  # the device's own features


def test_a_label_alone(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    whole = goldens.load(golden, SYSTEM)
    index = [SYSTEM.labels.index(e["decision"]["label"]) for e in whole.clips]
    what = said({"tap": "decision/label"}, clips=tuple(e["name"] for e in whole.clips))
    for turn, code in ((0, 0), (1, 1)):
        np.savetxt(tmp_path / "x.csv", np.array([(i + turn) % 11 for i in index]), fmt="%d")
        done, folder = compared(local, tmp_path / "x.csv", tmp_path / "r", golden, what)
        assert done.exit_code == code
        (label,) = {v.outcome for v in read_verdicts(folder) if v.tap == "decision/label"}
        assert label == ("fail" if turn else "pass")
    np.savetxt(tmp_path / "x.csv", [11, 0, 0], fmt="%d")
    with pytest.raises(ConfigError, match="is number 11, of 11 labels"):
        compared(local, tmp_path / "x.csv", tmp_path / "r", golden, what)


def test_integers_of_an_int8_file_are_held_to_its_kernels_in_steps(
    local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    artifact = next(a for a in SYSTEM.artifacts if (a.format, a.precision) == ("tflite", "int8"))
    kernels = interpreter.OpResolverType.BUILTIN_REF
    model = interpreter.Interpreter(artifact.path, experimental_op_resolver_type=kernels)
    model.allocate_tensors()
    fed, out = model.get_input_details()[0], model.get_output_details()[0]
    whole = goldens.load(golden, SYSTEM)
    rows = []
    for entry in whole.clips:
        x = whole.read(entry).reference[None, ..., None]
        scale, zero = fed["quantization"]
        model.set_tensor(fed["index"], np.clip(np.rint(x / np.float32(scale)) + zero, -128, 127).astype(np.int8))
        model.invoke()
        rows.append(model.get_tensor(out["index"])[0].copy())
    scale, zero = out["quantization"]
    names = tuple(e["name"] for e in whole.clips)
    logits = LOGITS | {"scale": scale, "zero_point": zero}
    layout = said(logits, clips=names, precision="int8", format="tflite", runtime="tflm")
    for changed, code in ((0, 0), (5, 1)):
        stack = np.stack(rows)
        stack[1, 2] = np.clip(int(stack[1, 2]) + changed, -128, 127)
        np.save(tmp_path / "x.npy", stack)
        done, folder = compared(local, tmp_path / "x.npy", tmp_path / "r", golden, layout)
        assert done.exit_code == code, [v.message for v in read_verdicts(folder) if v.outcome == "fail"]
        steps = [v for v in read_verdicts(folder) if v.path == "deployment" and v.tap == "model/logits"]
        assert {v.runtime for v in steps} == {"tflm:recorded"}
        assert sorted(v.outcome for v in steps) == sorted(["fail" if changed else "pass", "pass", "pass"])
        assert all(v.step == pytest.approx(scale) for v in steps)
        assert max(v.error / scale for v in steps if v.error is not None) == pytest.approx(changed, abs=1e-3)


def test_a_tap_or_a_file_that_the_system_has_not_got(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((98, 50), np.float32))
    for what, words in (
        (said({"tap": "features/cepstrum"}), "has no tap 'features/cepstrum'"),
        (said(LOGITS, precision="int4"), "has no int4 file"),
        (said(LOGITS, precision="int8", format="torch"), "has no torch int8 file"),
    ):
        with pytest.raises(ConfigError, match=words) as e:
            compared(local, tmp_path / "x.npy", tmp_path / "r", golden, what)
        assert e.value.hint
    assert rig.left_over(tmp_path / "r") == []


def test_float64_says_how_to_say_that_it_is_none(
    local: LocalTarget, golden: Path, dumped: Path, tmp_path: Path
) -> None:
    x = np.load(dumped / "good" / STEMS[0] / "features_compressed.npy").astype(np.float64)
    np.save(tmp_path / f"{STEMS[0]}.npy", x)
    done, _ = compared(local, tmp_path / f"{STEMS[0]}.npy", tmp_path / "r", golden, said({"tap": LOGMEL}))
    assert "dtype is float64, declared is float32 (say `dtype`" in rig.messages(done, "fail")
    told = said({"tap": LOGMEL, "dtype": "float32"})
    assert compared(local, tmp_path / f"{STEMS[0]}.npy", tmp_path / "r", golden, told)[0].exit_code == 0


# ---- MATLAB's side ----


@pytest.fixture(scope="module")
def matlab(octave: tuple[str, ...], wavs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("matlab")
    for name, fault in (("good", []), ("bad", ["symmetric"])):
        (root / name).mkdir()
        for stem in STEMS:
            subprocess.run([*octave, wavs / f"{stem}.wav", root / name / f"{stem}.mat", "-v7", *fault], check=True)
    return root


MATLAB = [
    {"tap": "features/spectrum", "variable": "spectrum", "axes": "FT"},
    {"tap": "features/filterbank", "variable": "filterbank", "axes": "FT"},
    {"tap": LOGMEL, "variable": "logmel", "axes": "FT"},
]


def test_what_octave_saved_passes_and_its_fault_is_placed(
    local: LocalTarget, golden: Path, matlab: Path, tmp_path: Path
) -> None:
    done, _ = compared(local, matlab / "good", tmp_path, golden, said(*MATLAB))
    assert done.exit_code == 0
    done, _ = compared(local, matlab / "bad", tmp_path, golden, said(*MATLAB))
    assert rig.failing(done) == [("features/spectrum", "fail"), ("features/filterbank", "fail"), (LOGMEL, "fail")]


# ---- The commands as they are typed ----


def toml(octave: tuple[str, ...], path: Path, fault: str = "") -> Path:
    """exec:FILE.toml that drives features.m."""
    words = [*octave, "{wav}", "{dir}/all.mat", "-v7", *fault.split()]
    arrays = "".join(
        "[[arrays]]\nfile = 'all.mat'\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in a.items()) for a in MATLAB
    )
    path.write_text(f"command = {json.dumps(words)}\n{arrays}")
    return path


def test_octave_and_c_as_live_backends(octave: tuple[str, ...], featurizer: Path, golden: Path, tmp_path: Path) -> None:
    good, bad = toml(octave, tmp_path / "good.toml"), toml(octave, tmp_path / "bad.toml", "symmetric")
    common = ("run", "--system", "commands-cnn", "--runtime", "onnxrt", "--precision", "float32", "--golden", golden)
    done = rig.parity(*common, "--report", tmp_path / "r", "--backend", f"exec:{good}",
                      "--backend", f"exec:{featurizer} {{wav}} {{out}}.npy", "--backend",
                      f"exec:{featurizer} {{wav}} -", "--examples", "3")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 backends and 3 pairs compared" in done.stdout
    done = rig.parity(*common, "--report", tmp_path / "bad", "--backend", f"exec:{bad}",
                      "--backend", f"exec:{featurizer} --symmetric {{wav}} {{out}}.csv")  # fmt: skip
    assert done.returncode == 1
    pytest.importorskip("pandas")
    (folder,) = (tmp_path / "bad").iterdir()
    df = load_run(folder)
    failing = df[(df.outcome == "fail") & (df.path == "features")]
    assert set(failing[failing.backend == f"exec:{bad}"].tap) == {a["tap"] for a in MATLAB}
    assert set(failing[failing.backend != f"exec:{bad}"].tap) == {LOGMEL}
    alone = df[(df.path == "isolated") & (df.outcome != "pass") & (df.outcome != "unavailable")]
    assert alone.empty  # the network isn't blamed


def test_a_program_that_fails_costs_its_own_pair_only(featurizer: Path, golden: Path, tmp_path: Path) -> None:
    done = rig.parity("run", "--system", "commands-cnn", "--runtime", "onnxrt", "--precision", "float32",
                      "--golden", golden, "--report", tmp_path, "--backend",
                      f"exec:{featurizer} --stage nonsense {{wav}} {{out}}.npy",
                      "--backend", "numpy")  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "ended with exit code 3" in done.stdout
    assert "no such stage" in done.stdout
    (folder,) = tmp_path.iterdir()
    assert {v.outcome for v in read_verdicts(folder) if v.backend == "numpy"} <= {"pass", "unavailable"}
    rig.refused(
        rig.parity("run", "--system", "commands-cnn", "--backend", "exec:./nothing {wav}"), 3, "no such program"
    )


def test_recorded_takes_part_in_a_run_as_any_backend(dumped: Path, golden: Path, tmp_path: Path) -> None:
    common = ("run", "--system", "commands-cnn", "--runtime", "onnxrt", "--precision", "float32", "--golden", golden)
    done = rig.parity(*common, "--report", tmp_path / "r", "--backend", f"recorded:{dumped / 'good'}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "model/logits" in done.stdout
    few = shutil.copytree(dumped / "good", tmp_path / "few")
    (few / STEMS[0]).rename(few / "nobody")
    done = rig.parity(*common, "--report", tmp_path / "r", "--backend", f"recorded:{few}")
    assert done.returncode == 1
    assert "MISSING" in done.stdout
    assert "the dump has what no clip of this run goes by: nobody" in " ".join(done.stdout.split())
    (tmp_path / "only").mkdir()
    np.save(tmp_path / "only" / "features_spectrum.npy", np.ones((98, 257), np.float32))
    done = rig.parity(*common, "--report", tmp_path / "r", "--backend", f"recorded:{tmp_path / 'only'}")
    rig.refused(done, 2, "has no features/compressed, which a network is fed with", "parity compare")
    for more in (["--examples", "2"], ["--streaming"]):
        done = rig.parity("run", "--system", "commands-cnn", "--backend", f"recorded:{few}", *more)
        rig.refused(done, 3, "a dump knows no drawn clips")


def test_compare_as_it_is_typed(dumped: Path, golden: Path, tmp_path: Path) -> None:
    common = ("compare", "--system", "commands-cnn", "--golden", golden, "--report", tmp_path / "r")
    done = rig.process(*common, dumped / "good")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("PASS")
    done = rig.parity(*common, dumped / "bad")
    assert done.returncode == 1
    assert "first at features/windowed" in done.stdout
    file = tmp_path / "mel.csv"
    np.savetxt(file, np.load(dumped / "good" / STEMS[0] / "features_compressed.npy").T, delimiter=";", header="x")
    done = rig.parity(*common, file, "--tap", LOGMEL, "--axes", "FT", "--clip", rig.CLIPS[0], "--header", "1",
                      "--format", "json")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["exit_code"] == 0
    for more, code, words in (
        ((file,), 3, ("can't be told", "--tap")),
        ((file, "--tap", LOGMEL, "--clip", rig.CLIPS[0]), 3, ("line 1", "header = 1")),
        ((file, "--tap", LOGMEL, "--header", "1"), 2, ("no clip of the dump", "--clip NAME")),
        ((file, "--axes", "FT"), 3, ("--axes is of an array", "--tap")),
        ((file, "--tap", "features/mel"), 3, ("no tap 'features/mel'",)),
        ((file, "--tap", LOGMEL, "--shape", "9x"), 3, ("no shape",)),
        ((tmp_path / "none", "--tap", LOGMEL), 3, ("no dump at",)),
        ((file, "--layout", tmp_path / "none.toml"), 3, ("can't be read",)),
        ((dumped / "good", "--audio", tmp_path), 3, ("take --golden away",)),
    ):  # fmt: skip
        rig.refused(rig.parity(*common, *more), code, *words)
    np.zeros(11, np.int8).tofile(tmp_path / f"{STEMS[0]}.raw")
    raw = ("--tap", "model/logits", "--written", "int8", "--scale", "0.17", "--precision", "int8")
    rig.refused(rig.parity(*common, tmp_path / f"{STEMS[0]}.raw", *raw), 3, "no rule says", "--runtime tflm")
    done = rig.parity(*common, tmp_path / f"{STEMS[0]}.raw", *raw, "--runtime", "tflm", "--report", tmp_path / "int8")
    assert done.returncode == 1, done.stderr
    assert "tflm:recorded int8" in done.stdout
    assert len(rig.left_over(tmp_path / "r")) == 3  # what was refused left nothing behind


def test_wavs_that_were_given_to_the_device(dumped: Path, featurizer: Path, tmp_path: Path) -> None:
    """A clip that is no 16-bit number comes as float32 and passes too."""
    quiet = rig.clip(STEMS[0]) * np.float32(0.0123)
    soundfile.write(tmp_path / "quiet.wav", quiet, 16000, subtype="FLOAT")
    (tmp_path / "wavs").mkdir()
    shutil.move(tmp_path / "quiet.wav", tmp_path / "wavs")
    done = rig.parity("run", "--system", "commands-cnn", "--audio", tmp_path / "wavs", "--report", tmp_path / "r",
                      "--runtime", "onnxrt", "--precision", "float32",
                      "--backend", f"exec:{featurizer} {{wav}} {{out}}.npy")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
