"""Counter-examples: a small file each, the same clip again, part of every run from goldens."""

from __future__ import annotations

import dataclasses
import re
import shutil
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from parity import counterexamples, search, sources, system
from parity.counterexamples import CounterExample, read, read_all, text, write
from parity.errors import AudioError, ConfigError, GoldenError
from parity.parameters import Parameters, Sound, render
from parity.patterns import Pattern
from parity.targets.local import LocalTarget
from parity.testing import RECIPES
from tests.conftest import PROJECT
from tests.plugins_for_tests import rig

CLIPS = PROJECT / "golden" / "clips"
COMMANDS = system.load(PROJECT / "reference_models" / "commands-cnn").frontend
LOUD = CounterExample(
    system="commands-cnn", backend="faulty.backends:LoudGain", runtime="onnxrt", precision="float32", seed=7,
    tap="features/spectrum", found='12 of 4800 elements are "out"\n', drawn=Parameters(sounds=(Sound(),), dc=0.3),
)  # fmt: skip


@given(
    st.one_of(search.parameters(RECIPES["mel40"], CLIPS), search.patterns()),
    st.text(max_size=20),
    st.sampled_from(("error", "flip", "crash")),
)
def test_what_is_written_is_read_again(drawn: Parameters | Pattern, found: str, goal: Any) -> None:
    c = dataclasses.replace(LOUD, drawn=drawn, found=found, goal=goal)
    data = tomllib.loads(text(c))
    assert counterexamples._of(data) == c


def test_a_file_is_small_readable_and_named_by_what_it_holds(tmp_path: Path) -> None:
    path = write(tmp_path, LOUD)
    assert path.parent == tmp_path / "counterexamples" / "commands-cnn"
    assert path.name.startswith("tone-1000-hz-dc-0.3-")
    assert path.stat().st_size < 500
    assert read(path) == LOUD
    assert write(tmp_path, LOUD) == path
    other = write(tmp_path, dataclasses.replace(LOUD, runtime="tflite"))
    assert sorted([path, other]) == sorted(path.parent.iterdir())
    assert read_all(tmp_path, "commands-cnn") == [read(p) for p in sorted([path, other])]
    assert read_all(tmp_path, "tiny-conv") == []
    # Of the two pairs it is one clip.
    ((precisions, (clip,)),) = counterexamples.clips(tmp_path, "commands-cnn", COMMANDS).items()
    assert precisions == {"float32"}
    np.testing.assert_array_equal(clip.samples, render(Parameters(sounds=(Sound(),), dc=0.3)))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("format = 1", "format = 2", "format 2, this parity reads 1"),
        ("format = 1", 'format = "1"', "format '1', this parity reads 1"),
        ("format = 1", "format = true", "format True"),
        ("format = 1", "format = 1.0", r"format 1\.0"),
        ("format = 1", "format = ", "not TOML"),
        ('goal = "error"', 'goal = "worse"', "goal must be one of"),
        ("seed = 7", 'seed = "7"', "seed must be a whole number"),
        ("seed = 7", "sed = 7", "unknown: sed"),
        ("seed = 7", "seed = -1", "seed must be 0 or more"),
        ("seed = 7", "seed = true", "seed must be a whole number"),
        ("seed = 7", "seed = " + "7" * 5000, "not TOML: a number in it has thousands of digits"),
        ("seed = 7", "seed = " + "[" * 3000 + "]" * 3000, "too much is nested"),
        ("seed = 7", "seed" + ".a" * 3000 + " = 7", "too much is nested"),
        ("seed = 7", f'seed = "{"7 " * 5000}"', r"seed must be a whole number, not '7 .* \.\.\.$"),
        ('system = "commands-cnn"', 'system = "../x"', "system must be a name"),
        ('system = "commands-cnn"', 'system = ".."', "system must be a name"),
        ('system = "commands-cnn"', 'system = "."', "system must be a name"),
        ('system = "commands-cnn"', 'system = ".hidden"', "system must be a name"),
        ('system = "commands-cnn"\n', "", "needs a system"),
        ("[clip]", "[clop]", "unknown: clop"),
        ("[clip]", "[input]\n[clip]", r"either \[clip\] or \[input\]"),
        ("dc = 0.3", "dc = 3.0", "dc must be"),
        ("dc = 0.3", "dc = " + "3" * 400, "dc must be a finite number"),
        ("dc = 0.3", "length = 1000000000000", "length must be 1 to 16777216 samples"),
        ("dc = 0.3", "length = -1", "length must be 1 to 16777216 samples, not -1"),
        ('kind = "tone"', 'kind = "recording"\nfile = "a\\u0000b"', "can't be the name of a file"),
        ("dc = 0.3", "cd = 0.3", "unknown in the clip: cd"),
        ('kind = "tone"', 'kind = "hum"', "kind must be one of"),
    ],
)
def test_a_damaged_file_is_a_golden_error(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = write(tmp_path, LOUD)
    was = path.read_text(encoding="utf-8")
    assert was.count(old) == 1
    path.write_text(was.replace(old, new), encoding="utf-8")
    with pytest.raises(GoldenError, match=said) as told:
        read_all(tmp_path, "commands-cnn")
    assert told.value.hint
    assert "\n" not in told.value.message
    assert len(told.value.message) < 500


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("level = true", "level must be a finite number, not True"),
        (f"level = {'3' * 400}", "level must be a finite number"),
        ("offset = nan", "offset must be a finite number"),
        ("seed = true", "seed must be a whole number, not True"),
        ("seed = 9223372036854775808", "seed must be 0 to 9223372036854775807"),
        ("at = 1.0", "at must be a whole number"),
    ],
)
def test_a_damaged_input_is_a_golden_error(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "some.toml"
    path.write_text(f'format = 1\nsystem = "s"\n[input]\n{line}\n', encoding="utf-8")
    with pytest.raises(GoldenError, match=said):
        read(path)


WHOLE = [
    text(LOUD),
    text(dataclasses.replace(LOUD, drawn=Parameters(sounds=(Sound(kind="recording", file="yes-en-us-f2.flac", at=-9),),
                                                    speed=0.5, length=99, noise_dbfs=-60.0, clip_at=0.5, fade=3))),
    text(CounterExample(system="s", runtime="r", drawn=Pattern(kind="one", level=1e-40, offset=2.0, at=3, seed=4))),
]  # fmt: skip
DAMAGE = st.one_of(
    st.sampled_from(
        ["true", "[]", "{}", '""', '"a\\u0000b"', '".."', '"tone"', '"recording"', '"yes-en-us-f2.flac"', "nan", "-inf",
         "-1", "0", "1.0", "1e308", "0xFF", "0x" + "F" * 5000, "9" * 400, "-" + "9" * 5000, "1000000000000",
         "1979-05-27", "[" * 3000 + "]" * 3000, "[[1], {a = [2]}]", "", "=", "'"]
    ),
    st.integers().map(str),
    st.integers(-40, 40).map(str),
    st.floats(-2, 2).map(repr),
    st.floats().map(repr),
)  # fmt: skip


def refusal(path: Path) -> GoldenError | AudioError | None:
    """The error that a file is, or that its recording is; where there is none, it can be written again and rendered."""
    try:
        c = read(path)
    except GoldenError as e:
        return e
    path.write_text(text(c), encoding="utf-8")
    assert read(path) == c
    assert c.name
    if isinstance(c.drawn, Pattern):
        assert np.isfinite(counterexamples.fed(c.drawn, 16000, (1, 4, 5), "float32")[1]).all()
        return None
    try:
        samples = render(c.drawn, CLIPS)
    except AudioError as e:
        return e
    assert samples.shape == (c.drawn.samples,)
    assert np.abs(samples).max() <= 1.0
    return None


@given(st.sampled_from(WHOLE), st.data())
@settings(max_examples=300)
def test_whatever_is_damaged_is_read_as_something_else_or_is_a_golden_error(whole: str, data: st.DataObject) -> None:
    lines = whole.splitlines()
    for _ in range(data.draw(st.integers(1, 2))):
        i = data.draw(st.integers(0, len(lines) - 1))
        name, equals, _ = lines[i].partition(" = ")
        match data.draw(st.sampled_from("vvvvvnxc")):
            case "v" if equals:
                lines[i] = f"{name} = {data.draw(DAMAGE)}"
            case "n" if equals:
                other = data.draw(
                    st.sampled_from(["length", "rate", "at", "after", "seed", "level", "dc", "kind.a", "x"])
                )
                lines[i] = f"{other} = {data.draw(DAMAGE)}"
            case "x":
                lines[i] = ""
            case _:
                lines[i] = lines[i][: data.draw(st.integers(0, len(lines[i])))]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "some.toml"
        path.write_text("\n".join(lines), encoding="utf-8")
        refused = refusal(path)
    event("read" if refused is None else type(refused).__name__)
    if refused is not None:
        assert refused.hint
        assert "\n" not in refused.message


def test_a_recording_of_any_name_is_written(tmp_path: Path) -> None:
    c = dataclasses.replace(LOUD, drawn=Parameters(sounds=(Sound(kind="recording", file="a\nb\x7fé.wav"),)))
    path = write(tmp_path, c)
    assert read(path) == c
    assert path.read_text(encoding="utf-8").startswith("# a b é.wav\n")


def test_a_file_in_another_systems_folder_is_told(tmp_path: Path) -> None:
    shutil.copytree(write(tmp_path, LOUD).parent, tmp_path / "counterexamples" / "tiny-conv")
    with pytest.raises(GoldenError, match="is of commands-cnn"):
        read_all(tmp_path, "tiny-conv")


def test_what_cannot_be_rendered_any_more_is_told(tmp_path: Path) -> None:
    recorded = dataclasses.replace(LOUD, drawn=Parameters(sounds=(Sound(kind="recording", file="gone.wav"),)))
    write(tmp_path, recorded).rename(tmp_path / "counterexamples" / "commands-cnn" / "renamed.toml")
    for there in (False, True):
        if there:
            (tmp_path / "clips").mkdir()
        with pytest.raises(GoldenError, match=r"renamed\.toml can't be rendered: .*gone\.wav"):
            counterexamples.clips(tmp_path, "commands-cnn", COMMANDS)


@pytest.mark.parametrize(
    ("input_", "length", "said"),
    [
        ({"rate": 8000}, 500, "is at 16000 Hz, not 8000 Hz"),
        ({"length": 16000, "fit": "refuse"}, 500, "has 500 samples, not 16000"),
        ({"length": None}, 500, "has 500 samples, less than a frame"),
        ({}, 500, None),
    ],
)
def test_what_fits_the_recipe_no_more_is_told(tmp_path: Path, input_: Any, length: int, said: str | None) -> None:
    drawn = Parameters(sounds=(Sound(),), length=length)
    path = write(tmp_path, dataclasses.replace(LOUD, drawn=drawn))
    path = path.rename(path.with_name("renamed.toml"))
    changed = dataclasses.replace(COMMANDS, input=dataclasses.replace(COMMANDS.input, **input_))
    assert counterexamples.unfit(drawn, changed) == said
    if said is None:
        assert counterexamples.clips(tmp_path, "commands-cnn", changed)
        return
    with pytest.raises(GoldenError, match=f"the counter-example {re.escape(str(path))} {said}") as told:
        counterexamples.clips(tmp_path, "commands-cnn", changed)
    assert "search again, and take renamed.toml away" in (told.value.hint or "")


def test_two_that_round_to_the_same_words_are_two(tmp_path: Path) -> None:
    for dc in (0.1234567, 0.1234568, 0.5):
        write(tmp_path, dataclasses.replace(LOUD, drawn=Parameters(dc=dc)))
        write(tmp_path, dataclasses.replace(LOUD, drawn=Pattern(level=dc)))
    write(tmp_path, dataclasses.replace(LOUD, drawn=Parameters(dc=0.5), runtime="tflite"))
    ((_, clips),) = counterexamples.clips(tmp_path, "commands-cnn", COMMANDS).items()
    assert sorted(round(float(c.samples[0]), 6) for c in clips) == [0.123457, 0.123457, 0.5]
    ((_, inputs),) = counterexamples.inputs(tmp_path, "commands-cnn", 16000, (2,), "float32").items()
    assert len({x.tobytes() for _, x in inputs}) == 3
    digests = [p.stem.rpartition("-")[2] for p in counterexamples.files(tmp_path, "commands-cnn")]
    for found, words in ((clips, "DC"), ([c for c, _ in inputs], "constant")):
        names = sorted(c.name for c in found)
        assert names[-1] == f"{words} 0.5"
        assert len(set(names)) == 3
        for name in names[:-1]:
            told = re.fullmatch(rf"{words} 0\.123457 \((\w{{8}})\)", name)
            assert told is not None
            assert told[1] in digests


def test_one_of_a_bare_recording_is_not_named_as_its_golden(tmp_path: Path) -> None:
    shutil.copytree(CLIPS, tmp_path / "clips")
    yes = Sound(kind="recording", file="yes-en-us-f2.flac")
    for drawn in (Parameters(sounds=(yes,)), Parameters(sounds=(yes,), dc=0.1)):
        write(tmp_path, dataclasses.replace(LOUD, drawn=drawn))
    ((_, clips),) = counterexamples.clips(tmp_path, "commands-cnn", COMMANDS).items()
    assert {c.name for c in clips} == {"yes-en-us-f2.flac (counter-example)", "yes-en-us-f2.flac, DC 0.1"}


def test_what_is_wrong_with_any_of_them_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, LOUD)
    assert list(counterexamples.problems(tmp_path, "commands-cnn", COMMANDS)) == []
    path.with_name("damaged.toml").write_text("format = 2\n", encoding="utf-8")
    path.with_name("other.toml").write_text(text(dataclasses.replace(LOUD, system="tiny-conv")), encoding="utf-8")
    write(tmp_path, dataclasses.replace(LOUD, drawn=Parameters(rate=8000))).rename(path.with_name("rate.toml"))
    gone = Parameters(sounds=(Sound(kind="recording", file="gone.wav"),))
    write(tmp_path, dataclasses.replace(LOUD, drawn=gone)).rename(path.with_name("gone.toml"))
    said = list(counterexamples.problems(tmp_path, "commands-cnn", COMMANDS))
    for line, words in zip(said, ("damaged.toml is not a", "gone.toml can't be rendered", "other.toml is of tiny-conv",
                                  "rate.toml is at 8000 Hz"), strict=True):  # fmt: skip
        assert words in line
        assert "(hint: " in line


@pytest.mark.slow
def test_golden_verify_reads_counter_examples_too(tmp_path: Path) -> None:
    root = rig.goldens(tmp_path / "golden", rig.CLIPS[:1])
    verify = ("golden", "verify", "--system", "commands-cnn", "--golden", root)
    path = write(root, LOUD)
    done = rig.parity(*verify)
    assert (done.returncode, done.stdout) == (0, "commands-cnn: 1 clips checked, 1 counter-example\n"), done.stderr
    path.with_name("damaged.toml").write_text("format = 2\n", encoding="utf-8")
    rig.refused(rig.parity(*verify), 5, "1 problem", "damaged.toml is not a counter-example")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "counterexamples").write_text("a file in the way", encoding="utf-8")
    with pytest.raises(ConfigError, match="can't be written"):
        write(tmp_path, LOUD)


@pytest.mark.slow
def test_every_run_replays_counter_examples(
    tmp_path: Path, local: LocalTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = rig.goldens(tmp_path / "golden")
    spec = "faulty.backends:LoudGain"
    quiet = rig.run(local, root, tmp_path, backends=(spec,))
    assert quiet.exit_code == 0  # the golden's clips don't show the fault

    write(root, LOUD)
    loud = rig.run(local, root, tmp_path, backends=(spec, "numpy"))
    assert loud.exit_code == 1
    assert loud.systems["commands-cnn"]["clips"] == 4
    assert {tap for tap, _ in rig.failing(loud, backend=spec, path="features")} >= {"features/spectrum"}
    assert rig.failing(loud, backend="numpy") == []
    assert rig.failing(loud, path="isolated") == []
    (worst,) = [
        s.worst for s in loud.summaries if (s.backend, s.tap, s.path) == (spec, "features/spectrum", "features")
    ]
    assert worst.clip == "tone 1000 Hz, DC 0.3"
    (inner,) = [s for s in loud.summaries if (s.backend, s.tap) == ("numpy", "model/relu1")]
    assert inner.counts["pass"] == 3  # two goldens have layers, and the counter-example has them too

    # Files of fewer bits are held to what a search of theirs found, and to nothing else.
    write(root, dataclasses.replace(LOUD, drawn=Parameters(dc=0.2), precision="int8"))
    few = rig.run(local, root, tmp_path, precisions=("float32", "int8"))
    of = {s.precision: sum(s.counts.values()) for s in few.summaries
          if (s.tap, s.path) == ("model/logits", "isolated")}  # fmt: skip
    assert of == {"float32": 5, "int8": 4}

    # Where bounds of activations can't be derived, features are held to them all the same.
    monkeypatch.setattr(sources, "underived", lambda *_: "onnx isn't installed")
    bare = rig.run(local, root, tmp_path, backends=(spec, "numpy"))
    assert bare.exit_code == 1
    assert rig.failing(bare, backend=spec, path="features") == rig.failing(loud, backend=spec, path="features")
    assert rig.failing(bare, backend="numpy") == []
    (logits,) = [s for s in bare.summaries if (s.tap, s.path) == ("model/logits", "isolated")]
    assert logits.counts == {"pass": 3}
    assert "networks aren't held to counter-examples (2): onnx isn't installed" in [s.reason for s in bare.skipped]


@pytest.mark.slow
def test_every_run_replays_what_a_network_alone_was_fed_with(tmp_path: Path, local: LocalTarget) -> None:
    root = rig.goldens(tmp_path / "golden")
    spec = "hidden.runtimes:ScalesByThePeak"
    runtimes = (spec, "onnxrt")
    quiet = rig.run(local, root, tmp_path, backends=("numpy",), runtimes=runtimes)
    assert quiet.exit_code == 0  # no features of a clip are so small

    small = CounterExample(system="commands-cnn", runtime=spec, precision="float32", drawn=Pattern(level=1e-40))
    write(root, small)
    run = rig.run(local, root, tmp_path, backends=("numpy",), runtimes=runtimes)
    assert run.exit_code == 1
    assert run.systems["commands-cnn"]["clips"] == 4
    assert {s.runtime for s in run.summaries if s.counts.get("fail")} == {spec}
    (worst,) = [s.worst for s in run.summaries if (s.runtime, s.tap, s.path) == (spec, "model/relu1", "isolated")]
    assert (worst.outcome, worst.clip) == ("fail", "constant 1e-40")
    counts = {(s.runtime, s.path): sum(s.counts.values()) for s in run.summaries if s.tap == "model/logits"}
    assert counts == {(r, path): n for r in runtimes for path, n in (("isolated", 4), ("cumulative", 3))}
    assert not any(s.counts.get("fail") for s in run.summaries if s.path in ("features", "cumulative"))

    # What was kept of it can be read, judged again and explained like any other failure.
    folder = tmp_path / run.name
    assert rig.parity("report", folder).returncode == 0
    assert rig.parity("recheck", folder, "--tolerances", root / "tolerances.toml").returncode == 1
    assert "constant 1e-40" in (folder / "index.html").read_text(encoding="utf-8")
    told = rig.parity("explain", folder)
    assert told.returncode == 0, told.stderr
    assert "model/relu1" in told.stdout


@pytest.mark.slow
def test_a_file_that_is_tied_to_so_many_frames_is_fed_with_them(tmp_path: Path, local: LocalTarget) -> None:
    root = rig.goldens(tmp_path / "golden", name="logmel-gru")
    write(root, CounterExample(system="logmel-gru", runtime="tflite", drawn=Pattern(level=1e-40)))
    write(root, CounterExample(system="logmel-gru", backend="numpy", drawn=Parameters(sounds=(Sound(),), dc=0.3)))
    gru, runtimes = PROJECT / "reference_models" / "logmel-gru", ("onnxrt", "tflite")
    run = rig.run(local, root, tmp_path, systems=(str(gru),), runtimes=runtimes)
    assert run.exit_code == 0
    counts = {s.runtime: s.counts for s in run.summaries if (s.tap, s.path) == ("model/input", "isolated")}
    assert counts == {r: {"pass": 5} for r in runtimes}

    # In chunks the clip is replayed, what no clip gives is not.
    streamed = rig.run(local, root, tmp_path, systems=(str(gru),), runtimes=("onnxrt",), streaming=True)
    assert streamed.exit_code == 0
    counts = {s.runtime: s.counts for s in streamed.summaries if (s.tap, s.path) == ("model/logits", "isolated")}
    assert counts == {"onnxrt": {"pass": 4 * 3}}


@pytest.mark.slow
def test_a_damaged_counter_example_ends_a_run_before_it_writes(tmp_path: Path) -> None:
    root = rig.goldens(tmp_path / "golden")
    write(root, LOUD).write_text("format = 1\n", encoding="utf-8")
    done = rig.parity("run", "--system", "commands-cnn", "--backend", "numpy", "--runtime", "onnxrt", "--golden", root,
                      "--report", tmp_path / "reports")  # fmt: skip
    rig.refused(done, 5, "not a counter-example")
    assert rig.left_over(tmp_path / "reports") == []
