"""The commands as a user meets them: one clear line and a hint, the right exit code, nothing half-written."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from junitparser import JUnitXml

import parity as package
from parity import cli, load_run, registry
from tests.plugins_for_tests import rig

pytestmark = pytest.mark.slow  # whole commands and worker processes

ONE = ("--system", rig.SYSTEM.name)
RUNTIMES = ["torch", "torchscript", "torch-int8", "torch-export", "onnxrt", "tflite", "tflm", "onnx-reference"]
SYSTEMS = sorted(path.parent.name for path in rig.MODELS.glob("*/system.toml"))
COMMANDS = ("compare", "doctor", "golden", "init", "list", "models", "report", "run")


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    return tmp_path / "reports"


def run(reports: Path, *more: str | Path, cwd: Path = rig.ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """`parity run` of one system, with numpy and onnxrt, which start fast; clips without goldens in float32 alone."""
    system = () if "--system" in more or cwd != rig.ROOT else ONE
    precision = ("--precision", "float32") if "--audio" in more else ()
    return rig.parity("run", "--report", reports, "--backend", "numpy", "--runtime", "onnxrt", *system, *precision,
                      *more, cwd=cwd, **environment)  # fmt: skip


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy and onnxrt are all that there is: each other plugin would be started to be asked."""
    monkeypatch.setattr(registry, "_BUILTIN", [p for p in registry._BUILTIN if p.name in ("numpy", "onnxrt")])


# ---- The commands themselves ----


def test_version_and_help() -> None:
    assert rig.process("--version").stdout == f"parity, version {package.__version__}\n"
    done = rig.process("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert f"\n  {command} " in done.stdout
    assert rig.parity().returncode == 3  # nothing was asked for
    assert rig.process("run", "--help").stdout.startswith("Usage: python -m parity run")
    for command in COMMANDS:
        said = rig.parity(command, "--help")
        assert said.returncode == 0
        assert said.stdout.startswith("Usage: ")
        assert f" {command} " in said.stdout.splitlines()[0]


def test_help_imports_nothing_heavy() -> None:
    heavy = ("numpy", "msgspec", "rich", "soundfile", "onnxruntime", "librosa", "torch", "tensorflow", "hypothesis")
    code = f"import sys, parity.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=rig.ROOT)
    assert done.stdout == "[]\n"


def test_lists() -> None:
    plugins = rig.process("list")
    assert plugins.returncode == 0
    for name in (
        "reference",
        "numpy",
        "librosa",
        "tf_signal",
        "torch",
        "torchscript",
        "onnxrt",
        "tflite",
        "onnx-reference",
    ):
        assert name in plugins.stdout
    done = rig.parity("models", "list")
    assert done.returncode == 0
    assert "commands-cnn" in done.stdout
    assert "98 frames x 50 bands" in done.stdout
    for file in ("weights.safetensors", "commands-cnn.pt", "commands-cnn.onnx", "commands-cnn.tflite"):
        assert file in done.stdout


def test_lists_of_what_is_not_built(tmp_path: Path) -> None:
    done = rig.parity("models", "list", "--system", rig.system(tmp_path / "system"))
    assert done.returncode == 0
    assert re.search(r"tflite +float32 +commands-cnn.tflite +not there", done.stdout)


def test_doctor() -> None:
    done = rig.process("doctor")
    assert done.returncode == 0, done.stdout
    assert all(line.startswith("ok") for line in done.stdout.splitlines())
    assert re.search("runtime onnxrt: .*onnxruntime [0-9]", done.stdout)
    assert re.search(r"goldens of commands-cnn: \d+ clips", done.stdout)


@pytest.mark.usefixtures("few")
def test_doctor_of_a_project_that_is_ill(tmp_path: Path) -> None:
    rig.system(tmp_path / "reference_models" / "good")
    broken = rig.system(tmp_path / "reference_models" / "broken") / "system.toml"
    broken.write_text("labels = [", encoding="utf-8")
    (tmp_path / "reports").write_text("in the way")
    done = rig.parity("doctor", cwd=tmp_path)
    assert done.returncode == 3  # above the goldens' 5, which are missing too
    failures = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert len(failures) == 3
    assert "broken" in failures[0]
    assert "is not TOML" in failures[0]
    assert "no goldens of commands-cnn" in failures[1]
    assert "reports can't be written" in failures[2]


def test_init_twice(tmp_path: Path) -> None:
    done = rig.parity("init", tmp_path / "my system")
    assert done.returncode == 0
    assert "parity golden record --system" in done.stdout
    before = {p.name: p.read_bytes() for p in (tmp_path / "my system").iterdir()}
    assert set(before) == {"system.toml", "tolerances.toml"}
    rig.refused(rig.parity("init", tmp_path / "my system"), 3, "is there already")
    assert {p.name: p.read_bytes() for p in (tmp_path / "my system").iterdir()} == before
    rig.refused(rig.parity("init", "/proc/no-such-place"), 3, "can't be written")
    (tmp_path / "file").write_text("in the way")
    rig.refused(rig.parity("init", tmp_path / "file"), 3, "can't be written")


@pytest.mark.parametrize(
    ("words", "typed", "offered"),
    [
        ("parity run --backend", "lib", ["librosa"]),
        ("parity run --runtime", "", RUNTIMES),
        ("parity run --system", "comm", ["commands-cnn"]),
        ("parity golden record --system", "", SYSTEMS),
        ("parity models train", "", SYSTEMS),
        ("parity", "go", ["golden"]),
    ],
)
def test_names_are_completed_in_the_shell(words: str, typed: str, offered: list[str]) -> None:
    script = Path(sys.executable).parent / "parity"
    done = subprocess.run(
        [script], cwd=rig.ROOT, capture_output=True, text=True, check=False,
        env=rig.environment(_PARITY_COMPLETE="bash_complete", COMP_WORDS=f"{words} {typed}",
                            COMP_CWORD=str(len(words.split()))),
    )  # fmt: skip
    assert [line.split(",")[1] for line in done.stdout.splitlines()] == offered


# ---- What is asked for ----


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--backend", "librossa"], ["unknown backend 'librossa'", "did you mean 'librosa'?"]),
        (["--runtime", "onnxrunt"], ["unknown runtime 'onnxrunt'", "did you mean 'onnxrt'?"]),
        (
            ["--runtime", "qqq"],
            ["unknown runtime 'qqq'", f"runtimes: {', '.join(RUNTIMES)}"],
        ),
        (["--system", "commands-cn"], ["unknown system 'commands-cn'", "did you mean 'commands-cnn'?"]),
        (["--system", "/no/such/folder"], ["unknown system '/no/such/folder'", "system.toml"]),
        (["--system", "golden"], ["system.toml", "parity init"]),
        (["--runtime", "onnxrt:opt=fast"], ["no optimization level 'fast'", "all, basic, off"]),
        (["--runtime", "onnxrt:speed=1"], ["speed"]),
        (["--runtime", "onnxrt:opt=off,threads"], ["'threads' is not an option"]),
        (["--bakend", "numpy"], ["No such option '--bakend'", "--backend"]),
        (["--jobs", "0"], ["--jobs", "0 is not in the range"]),
        (["--limit", "0"], ["--limit"]),
        (["--examples", "-1"], ["--examples"]),
        (["--format", "yaml"], ["'yaml'", "json"]),
        (["--labels-from", "folders"], ["--labels-from needs --audio"]),
        (["--golden", "golden", "--audio", "golden/clips"], ["--audio judges without goldens", "--golden"]),
        (["--layers", "3"], ["--layers needs --audio"]),
        (["--seed", "0"], ["--seed needs --examples"]),
        (["--audio", "no-such-folder"], ["no audio at no-such-folder"]),
        (["--seed", "one"], ["--seed"]),
    ],
    ids=lambda value: " ".join(value[:2]) if value[0].startswith("--") else "",
)
def test_what_cannot_be_asked_for(arguments: list[str], words: list[str], reports: Path) -> None:
    rig.refused(run(reports, *arguments), 3, *words)
    assert not reports.exists()


def test_nothing_to_compare(reports: Path, tmp_path: Path) -> None:
    rig.refused(run(reports, "--precision", "int4"), 2, "nothing to compare", "no precision int4 in commands-cnn")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no audio here")
    rig.refused(run(reports, "--audio", tmp_path / "empty"), 2, "no audio in", ".wav or .flac")
    assert not reports.exists()


def test_a_pair_that_was_asked_for_and_is_unsupported(reports: Path, golden: Path) -> None:
    both = run(reports, "--system", "commands-cnn", "--runtime", "tflite", "--golden", golden, "--precision", "float32")
    assert both.returncode == 0, both.stderr
    only_onnx = rig.system(reports.parent / "system")
    half = run(reports, "--system", only_onnx, "--runtime", "tflite", "--golden", golden)
    assert half.returncode == 2
    assert "commands-cnn has no model that tflite can run" in half.stdout


def test_a_missing_extra_says_what_to_install(reports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A sitecustomize of our own, in which TensorFlow and Hypothesis aren't installed.
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import importlib.util as u, sys\n"
        "find = u.find_spec\n"
        "gone = ('tensorflow', 'onnxruntime')\n"
        "u.find_spec = lambda name, package=None: None if name in gone else find(name, package)\n"
        "sys.modules['hypothesis'] = None\n"
        "sys.modules['pandas'] = None\n"
    )
    path = os.pathsep.join([str(tmp_path / "site"), rig.environment()["PYTHONPATH"]])
    done = rig.process("run", "--backend", "tf_signal", "--report", reports, PYTHONPATH=path)
    rig.refused(done, 3, "backend 'tf_signal' needs tensorflow, which is not installed", "pip install 'parity[tf]'")
    done = rig.process("run", "--runtime", "onnxrt", "--report", reports, PYTHONPATH=path)
    rig.refused(done, 3, "runtime 'onnxrt' needs onnxruntime", "pip install 'parity[onnxrt]'")
    listed = rig.process("list", PYTHONPATH=path)
    assert "pip install 'parity[tf]'" in listed.stdout
    done = rig.process("run", "--backend", "numpy", "--runtime", "tflite", "--examples", "3", "--report", reports,
                      PYTHONPATH=path)  # fmt: skip
    rig.refused(done, 3, "Hypothesis", "pip install 'parity[test]'")
    assert rig.left_over(reports) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("fmax = 8000", "f_max = 8000"), ["frontend.filterbank", "unknown key 'f_max'", "did you mean 'fmax'?"]),
        (("[frontend.filterbank]", "[frontend.filterbnak]"), ["unknown stage 'filterbnak'", "'filterbank'?"]),
        (("hop = 160", 'hop = "160"'), ["frontend.frame.hop", "int"]),
        (("hop = 160", "hop = 0"), ["frame.hop", "0 is not a number of samples"]),
        (("fmax = 8000", "fmax = 9000"), ["filterbank", "not within 0 to 8000 Hz"]),
        (('name = "hann"', 'name = "hanning"'), ["frontend.window.name", "hanning"]),
        (('kind = "log"', 'kind = "ln"'), ["frontend.compress", "kind is 'ln'", "'log', 'db'"]),
        (("labels = [", "lables = ["), ["unknown key 'lables'", "did you mean 'labels'?"]),
        (("length = 16032 ", "length = 16000 "), ["98 frames", "97", "frontend.input.length = 16032"]),
        (("shape = [98, 50] ", "shape = [98, 40] "), ["takes 40 bands", "gives 50"]),
        (('source = "model/logits"', 'source = "model/logit"'), ["decision.source", "not in model.taps"]),
        (("rate = 16000", "rate = 16000 Hz"), ["is not TOML", "line 8"]),
        (('name = "commands-cnn"', 'name = "../x"'), ["name", "can't be a file's name"]),
        (('rule = "argmax"', 'rule = "softmax"'), ["decision.rule", "softmax"]),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_a_system_toml_with_a_mistake(change: tuple[str, str], words: list[str], tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system", change)
    rig.refused(rig.parity("models", "list", "--system", folder), 3, "system.toml", *words)


def test_a_system_toml_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "system.toml").write_bytes(b"\xff\xfe\x00")
    rig.refused(rig.parity("models", "list", "--system", tmp_path), 3, "is not TOML")
    (tmp_path / "system.toml").write_text("")
    rig.refused(rig.parity("models", "list", "--system", tmp_path), 3, "system.toml")


def test_a_known_gap_or_tolerance_with_a_mistake(reports: Path, tmp_path: Path) -> None:
    root = rig.goldens(tmp_path / "golden", rig.CLIPS[:1])
    (root / "tolerances.toml").write_text('[[tolerance]]\ntap = "model/*"\nof_rmz = 1e-4\nwhy = "typo"\n')
    rig.refused(run(reports, "--golden", root), 3, "tolerances.toml", "of_rmz")
    (root / "tolerances.toml").write_text("[[tolerance]\n")
    rig.refused(run(reports, "--golden", root), 3, "tolerances.toml", "is not TOML")
    assert rig.left_over(reports) == []


# ---- Audio ----


def stereo(path: Path) -> None:
    soundfile.write(path, np.stack([rig.clip(), rig.clip()], axis=1), 16000)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (stereo, ["has 2 channels", "a clip is mono", "sox"]),
        (lambda p: rig.wav(p, rate=44100), ["is at 44100 Hz", "wants 16000 Hz", "resample = 'soxr-hq'"]),
        (lambda p: p.write_bytes(b""), ["is empty"]),
        (lambda p: p.write_text("these are words\n" * 100), ["can't be read as audio"]),
        (lambda p: rig.wav(p, rig.clip()[:511]), ["has 511 samples", "less than one frame of 512"]),
        (lambda p: rig.wav(p, rig.clip()[:0]), ["has 0 samples"]),
        (lambda p: rig.wav(p, np.full(16000, np.nan), subtype="FLOAT"), ["NaN or infinite"]),
        (lambda p: p.mkdir(), ["no audio in"]),
    ],
    ids=["stereo", "44100", "empty", "text", "short", "no samples", "NaN", "a folder called .wav"],
)
def test_audio_that_does_not_fit(
    write: Callable[[Path], object], words: list[str], reports: Path, tmp_path: Path
) -> None:
    (tmp_path / "wavs").mkdir()
    write(tmp_path / "wavs" / "bad clip.wav")
    code = 2 if "no audio in" in words else 3
    rig.refused(run(reports, "--audio", tmp_path / "wavs"), code, *words)
    assert rig.left_over(reports) == []


def test_a_wav_that_is_cut_off_is_read_or_refused_but_never_a_traceback(reports: Path, tmp_path: Path) -> None:
    whole = rig.wav(tmp_path / "wavs" / "cut.wav").read_bytes()
    for size in (10, 30, 44):
        (tmp_path / "wavs" / "cut.wav").write_bytes(whole[:size])
        rig.refused(run(reports, "--audio", tmp_path / "wavs"), 3, "cut.wav")


def test_other_encodings_and_one_sample_rate_more(reports: Path, tmp_path: Path) -> None:
    for subtype in ("PCM_24", "PCM_32", "FLOAT", "DOUBLE", "PCM_U8"):
        rig.wav(tmp_path / "wavs" / f"{subtype}.WAV", subtype=subtype)
    rig.wav(tmp_path / "wavs" / "loud.wav", rig.clip() * 4.0, subtype="FLOAT")  # beyond full scale
    done = run(reports, "--audio", tmp_path / "wavs", "--format", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["systems"]["commands-cnn"]["clips"] == 6
    resampled = rig.system(tmp_path / "system", ("rate = 16000", 'rate = 16000\nresample = "soxr-hq"'))
    rig.wav(tmp_path / "wavs" / "cd.wav", np.repeat(rig.clip(), 3), rate=48000)
    done = run(reports, "--system", resampled, "--audio", tmp_path / "wavs", "--layers", "1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_single_file_is_a_folder_of_one(reports: Path, tmp_path: Path) -> None:
    done = run(reports, "--audio", rig.wav(tmp_path / "yes.wav"), "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["systems"]["commands-cnn"]["clips"] == 1


def test_accuracy_by_folders(reports: Path, tmp_path: Path) -> None:
    for word in ("yes-en-us-f2", "no-en-gb-m3", "up-en-gb-scotland-f3", "seven-en-us-m2"):
        label = word.split("-")[0].replace("seven", "_unknown_")
        rig.wav(tmp_path / "wavs" / label / f"{word}.wav", rig.clip(word))
    rig.wav(tmp_path / "wavs" / "stop" / "is-no-stop.wav")
    done = run(reports, "--audio", tmp_path / "wavs", "--labels-from", "folders")
    assert done.returncode == 0, done.stderr  # accuracy is no verdict
    assert re.search(r"onnxrt float32 +5 +80(\.0)? %", done.stdout)


NAMES = ("a b.wav", 'it\'s "quoted".wav', "<script>alert(1)<&>.wav", "[bold]x[/bold].wav", "ümlaut ñ 語.wav", "-v.wav")


def test_odd_names_of_clips_and_folders(tmp_path: Path) -> None:
    """In paths, on the terminal, in HTML, JUnit and JSON."""
    odd = tmp_path / 'my <b>"models"</b> it\'s'.replace("/", "")
    folder, reports = rig.system(odd / "kws & co"), odd / "re ports"
    for name in NAMES:
        rig.wav(odd / "wavs" / name)
    done = run(reports, "--system", folder, "--audio", odd / "wavs", "--backend", "faulty.backends:SlaneyScale", "-v")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (left,) = reports.iterdir()
    page = (left / "index.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    JUnitXml.fromfile(str(left / "junit.xml"))
    table = load_run(left)
    assert set(table["clip"]) == set(NAMES)


def test_a_clip_whose_name_is_no_text(reports: Path, tmp_path: Path) -> None:
    whole = rig.wav(tmp_path / "wavs" / "yes.wav").read_bytes()
    Path(os.fsdecode(os.fsencode(tmp_path / "wavs") + b"/\xff\xfe.wav")).write_bytes(whole)
    rig.refused(run(reports, "--audio", tmp_path / "wavs"), 3, "is not UTF-8", "rename it")
    assert rig.left_over(reports) == []


# ---- What is written and printed ----


@pytest.mark.parametrize("where", ["/proc/no-such-place", "a-file/reports"])
def test_a_reports_folder_that_cannot_be_written(where: str, golden: Path, tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("in the way")
    rig.refused(run(tmp_path / where, "--golden", golden), 3, "reports can't be written to", "--report")


def test_json_is_pure_and_junit_parses(golden: Path, reports: Path) -> None:
    done = run(reports, "--golden", golden, "--format", "json", "--backend", "faulty.backends:SlaneyScale")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["exit_code"] == 1
    assert {s["tap"] for s in told["summaries"] if s["worst"]["outcome"] == "fail"} >= {"features/filterbank"}
    assert "python -m parity" not in told["command"]
    assert told["command"].startswith("parity run --report")
    (folder,) = reports.iterdir()
    suites = JUnitXml.fromfile(str(folder / "junit.xml"))
    assert suites.failures + suites.errors > 0
    assert suites.tests > suites.failures


def test_the_table_says_it_in_the_first_line_and_where_the_report_is(golden: Path, reports: Path) -> None:
    good = run(reports, "--golden", golden)
    assert good.returncode == 0
    assert good.stdout.startswith("PASS")
    assert good.stderr == ""
    shown = good.stdout.strip().splitlines()[-1]
    assert shown.startswith("report: ")
    assert Path(shown.removeprefix("report: ")).is_file()
    bad = run(reports, "--golden", golden, "--backend", "faulty.backends:SlaneyScale")
    assert bad.returncode == 1
    assert bad.stdout.startswith("FAIL")
    assert "features/filterbank" in bad.stdout


@pytest.mark.parametrize("form", ["table", "json"])
@pytest.mark.parametrize(("backend", "code"), [("numpy", 0), ("faulty.backends:SlaneyScale", 1)])
def test_a_reader_that_goes_away_changes_no_verdict(
    backend: str, code: int, form: str, golden: Path, reports: Path
) -> None:
    command = [sys.executable, "-m", "parity", "run", *ONE, "--backend", backend, "--runtime", "onnxrt",
               "--format", form, "--golden", str(golden), "--report", str(reports)]  # fmt: skip
    with subprocess.Popen(
        command, cwd=rig.ROOT, env=rig.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # before it says anything: `| head -1` may go away after
        said = process.stderr.read()
    assert said == ""
    assert process.returncode == code
    assert len(rig.left_over(reports)) == 1


def test_an_error_that_nobody_reads_keeps_its_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "parity", "golden", "verify", "--golden", str(tmp_path / "absent")]
    with subprocess.Popen(command, cwd=rig.ROOT, env=rig.environment(), stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        process.stderr.close()
    assert process.returncode == 5


def test_examples_without_a_fault_pass(golden: Path, reports: Path) -> None:
    done = run(reports, "--golden", golden, "--examples", "30", "--format", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(done.stdout)["examples"]
    assert row["count"] >= 30
    assert row["counterexample"] is None
    assert 0 < row["worst_ratio"] < 1


def test_examples_find_and_shrink_a_planted_fault(golden: Path, reports: Path) -> None:
    arguments: list[str | Path] = ["--golden", golden, "--examples", "30", "--format", "json"]
    done = rig.process("run", *ONE, "--backend", "faulty.backends:LoudGain", "--runtime", "onnxrt", "--report", reports,
                      *arguments)  # fmt: skip
    assert done.returncode == 1, done.stderr
    (row,) = json.loads(done.stdout)["examples"]
    assert row["failed"]
    assert row["message"].startswith("features/audio: ")
    small = row["counterexample"]
    assert small
    again = rig.process("run", *ONE, "--backend", "faulty.backends:LoudGain", "--runtime", "onnxrt",
                        "--report", reports, *arguments)  # fmt: skip
    assert json.loads(again.stdout)["examples"][0]["counterexample"] == small  # the same seed, the same clip


# ---- Goldens ----


def test_golden_show_and_verify(golden: Path) -> None:
    shown = rig.parity("golden", "show", *ONE, "--golden", golden)
    assert shown.returncode == 0
    assert "anchor: librosa" in shown.stdout
    for name in rig.CLIPS:
        assert name in shown.stdout
    verified = rig.parity("golden", "verify", *ONE, "--golden", golden)
    assert verified.returncode == 0
    assert verified.stdout == "commands-cnn: 3 clips checked\n"


def test_goldens_beside_a_system_that_is_named_by_its_folder_are_found(tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system")
    rig.goldens(folder / "golden", rig.CLIPS[:1])
    verified = rig.parity("golden", "verify", "--system", folder)
    assert (verified.returncode, verified.stdout) == (0, "commands-cnn: 1 clips checked\n"), verified.stderr
    shown = rig.parity("golden", "show", "--system", folder)
    assert shown.returncode == 0, shown.stderr
    assert "commands-cnn: 1 clips" in shown.stdout
    assert rig.CLIPS[0] in shown.stdout


def test_a_system_without_models_is_named_and_costs_nothing(tmp_path: Path, reports: Path) -> None:
    rig.system(tmp_path / "reference_models" / "commands-cnn")
    bare = rig.system(tmp_path / "reference_models" / "bare", ('name = "commands-cnn"', 'name = "bare"'), formats=())
    rig.goldens(tmp_path / "golden")
    done = run(reports, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "commands-cnn.onnx isn't there" in " ".join(done.stdout.split())
    verified = rig.parity("golden", "verify", cwd=tmp_path)
    assert (verified.returncode, verified.stdout) == (0, "commands-cnn: 3 clips checked\n"), verified.stderr
    rig.refused(rig.parity("golden", "verify", "--system", bare, cwd=tmp_path), 5, "no goldens of bare")


def test_golden_verify_names_what_was_altered(tmp_path: Path) -> None:
    root = rig.goldens(tmp_path / "golden")
    entries = json.loads((root / "commands-cnn" / "manifest.json").read_bytes())["clips"]
    path = root / entries[1]["model"]["file"]
    path.write_bytes(path.read_bytes() + b"\0")
    rig.refused(
        rig.parity("golden", "verify", *ONE, "--golden", root), 5, "1 problem", entries[1]["name"], "was altered"
    )


def test_golden_record_as_a_user_types_it(tmp_path: Path) -> None:
    project = rig.system(tmp_path / "project" / "reference_models" / "commands-cnn").parents[1]
    for name in rig.CLIPS:
        rig.wav(tmp_path / "wavs" / name.replace("flac", "wav"), rig.clip(name.removesuffix(".flac")))
    record: list[str | Path] = [
        "golden",
        "record",
        "--system",
        "commands-cnn",
        "--audio",
        tmp_path / "wavs",
        "--runtime",
        "onnxrt",
    ]
    done = rig.process(*record, "--out", tmp_path / "golden", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "3 clips recorded" in done.stdout
    assert "librosa, given this recipe, agrees with the oracle" in done.stdout
    manifest = json.loads((tmp_path / "golden" / "commands-cnn" / "manifest.json").read_bytes())
    assert manifest["command"].startswith("parity golden record --system commands-cnn --audio")
    bare = rig.parity(*record, "--out", tmp_path / "bare", "--unanchored", cwd=project)
    assert bare.returncode == 0
    assert "no anchor" in bare.stdout
    wrong = rig.parity(
        *record, "--out", tmp_path / "wrong", "--anchor", "faulty.with_librosa:SymmetricHann", cwd=project
    )
    rig.refused(wrong, 1, "disagrees with the oracle at features/spectrum", "nothing was recorded")
    assert not (tmp_path / "wrong").exists()
    rig.refused(
        rig.parity(*record, "--out", "/proc/no-such-place", cwd=project), 3, "goldens can't be written", "--out"
    )
    rig.refused(rig.parity(*record[:4], "--out", tmp_path / "none", cwd=project), 3, "no audio at")


def test_no_goldens_yet(reports: Path, tmp_path: Path) -> None:
    for done in (run(reports, "--golden", tmp_path), rig.parity("golden", "show", *ONE, "--golden", tmp_path)):
        rig.refused(done, 5, "no goldens of commands-cnn", "parity golden record")


def test_outside_any_project(tmp_path: Path) -> None:
    rig.refused(
        rig.parity("run", "--report", tmp_path / "reports", cwd=tmp_path),
        3,
        "no systems under",
        "the folder of a system.toml",
    )
    assert rig.parity("list", cwd=tmp_path).returncode == 0


# ---- Models ----


def test_a_models_own_scripts_get_their_arguments_and_their_exit_code(tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system")
    rig.refused(rig.process("models", "export", str(folder)), 3, "has no export.py")
    (folder / "export.py").write_text("import sys; print(sys.argv[1:]); sys.exit(9)\n")
    done = rig.process("models", "export", folder, "--fast", "--help", "x")
    assert done.returncode == 9
    assert done.stdout == "['--fast', '--help', 'x']\n"


def test_a_wrong_option_of_a_models_own_script_is_a_wrong_option(tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system")
    (folder / "export.py").write_text("import argparse; argparse.ArgumentParser().parse_args()\n")
    done = rig.process("models", "export", folder, "--no-such-option")
    assert done.returncode == 3
    assert "unrecognized arguments: --no-such-option" in done.stderr
    assert rig.process("models", "export", folder).returncode == 0


# ---- Our own bugs ----


def test_an_exception_of_our_own_is_70(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(cli.cli, "main", broken)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 70
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "this is a bug in parity" in said


def test_a_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.cli, "main", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_output_that_is_no_terminal_is_plain(golden: Path, reports: Path) -> None:
    command = ("run", *ONE, "--backend", "numpy", "--runtime", "onnxrt", "--golden", golden, "--report", reports, "-v")
    done = rig.process(*command, PYTHONIOENCODING="utf-8", TERM="xterm-256color")
    assert "\x1b" not in done.stdout + done.stderr
    ascii_only = rig.process(*command, PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert ascii_only.returncode == 0, ascii_only.stderr
    assert io.StringIO(ascii_only.stdout).readline().startswith("PASS")


@pytest.mark.usefixtures("few")
def test_a_system_that_is_not_built_leads_to_the_command_that_builds_it(tmp_path: Path, reports: Path) -> None:
    bare = ('name = "commands-cnn"', 'name = "bare"')
    folder = rig.system(tmp_path / "reference_models" / "folder", bare, formats=())
    for script in ("train.py", "export.py"):
        (folder / script).touch()
    command = "parity models build folder"
    named = ("--system", "folder")
    rig.refused(
        run(reports, *named, cwd=tmp_path),
        2,
        f"commands-cnn.onnx is not built ({command})",
        f"hint: build it: {command}",
    )
    for words in (("golden", "show", *named), ("golden", "export", "--format", "c", *named)):
        rig.refused(rig.parity(*words, cwd=tmp_path), 5, "no goldens of bare", command)
    for words in (("golden", "record", *named), ("models", "export", "folder", "--format", "c")):
        rig.refused(rig.parity(*words, cwd=tmp_path), 3, f"hint: {command}")
    assert f"ok    system folder: not built ({command})" in rig.parity("doctor", cwd=tmp_path).stdout
    (folder / "weights.safetensors").touch()
    assert "to build: parity models export folder" in rig.parity("models", "list", cwd=tmp_path).stdout


def test_help_without_a_system_is_parity_s_own_and_with_one_its_script_s() -> None:
    for command in ("export", "train"):
        own = rig.process("models", command, "--help")
        assert own.returncode == 0, own.stderr
        assert f"parity models {command} [OPTIONS] SYSTEM" in own.stdout
    theirs = rig.process("models", "train", "commands-cnn", "--help")
    assert "--held-out-folder" in theirs.stdout


@pytest.mark.usefixtures("few")
def test_systems_to_list_are_named(tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system")
    done = rig.parity("list", "systems", folder, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "commands-cnn.tflite" in done.stdout
    assert "not there" in done.stdout
    assert "mfcc-lstm" not in done.stdout
    rig.refused(rig.parity("list", "systems", cwd=tmp_path), 3, "no systems under", "parity list systems DIR")
    rig.refused(rig.parity("list", "plugins", folder), 3, "goes with `list systems`")


def test_a_precision_or_stream_that_no_system_has_is_told_in_a_line(reports: Path) -> None:
    rig.refused(
        run(reports, "--precision", "int9"), 2, "no precision int9 in commands-cnn", "hint: there are dynamic, float16"
    )
    rig.refused(run(reports, "--streaming"), 2, "README, 'Streams'")
