from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from parity.bounds.features import Interval
from parity.errors import ConfigError
from parity.policy import Gap, Policy, Rule, half_width, interval, load, widened

WHY = 'why = "measured"'
GAP = '[[gap]]\nkind = "kernel"\nreason = "why"\noutcome = "fail"\nsystem = "s"\ntap = "t"'


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder


def rule(**fields: object) -> Rule:
    return Rule(**{"tap": "*", "why": "w", **fields})  # type: ignore[arg-type]


def test_the_first_rule_that_matches_counts() -> None:
    rules = [
        rule(tap="model/logits", candidate="onnxrt", absolute=1.0), rule(tap="model/*", path="isolated", absolute=2.0),
        rule(tap="model/*", precision="int8", absolute=3.0), rule(tap="model/*", system="a", absolute=4.0),
    ]  # fmt: skip
    p = Policy(rules)

    def width(
        tap: str, candidate: str = "tflite", path: str = "cumulative", precision: str = "float32", name: str = "a"
    ) -> float:
        return p.require(name, candidate, path, precision, tap).absolute

    assert width("model/logits", "onnxrt") == 1.0
    assert width("model/logits", path="isolated") == 2.0
    assert width("model/logits", precision="int8") == 3.0
    assert width("model/logits") == 4.0
    assert p.rule("b", "tflite", "cumulative", "float32", "model/logits") is None


def test_what_is_declared_for_an_architecture_counts_there_and_nowhere_else() -> None:
    p = Policy([rule(machine="aarch64", steps=1.0), rule(machine="*64*", steps=2.0)])
    asked = ("s", "onnxrt", "deployment", "int8", "model/logits")
    for machine, steps in (("aarch64", 1.0), ("x86_64", 2.0)):
        found = p.on(machine).rule(*asked)
        assert found is not None
        assert found.steps == steps
    assert p.on("armv7l").rule(*asked) is None
    assert p.rule(*asked) is None  # nobody said where it ran
    assert Policy([rule()]).on("armv7l").rule(*asked) == rule()


def test_what_was_found_for_one_architecture_is_not_answered_for_another() -> None:
    p = Policy([rule(machine="aarch64", steps=1.0)])
    asked = ("s", "onnxrt", "deployment", "int8", "model/logits")
    there = p.on("aarch64")
    assert there.rule(*asked) is not None
    assert there.on("x86_64").rule(*asked) is None
    assert p.on("x86_64").rule(*asked) is None


def test_a_gap_of_an_architecture_is_met_there_and_the_run_knows_it(tmp_path: Path) -> None:
    folder = write(tmp_path, "known_gaps.toml", GAP + '\nmachine = "armv[78]*"')
    p = load([folder])
    what = {"system": "s", "tap": "t", "backend": "", "runtime": "tflite", "precision": "int8", "path": "isolated"}
    assert p.gap(**what) is None
    assert p.on("aarch64").gap(**what) is None
    for machine in ("armv7l", "armv8l"):
        assert p.on(machine).gap(**what) is p.gaps[0]
    assert not p.used_gaps
    p.on("armv7l").met(p.gaps[0])
    assert p.used_gaps == {0}


def test_no_rule_is_an_error_that_names_what_has_none_and_where_it_goes() -> None:
    with pytest.raises(ConfigError, match=r"model/logits of kws \(int8, isolated\) may move on tflite") as e:
        Policy(path=Path("golden/tolerances.toml")).require("kws", "tflite", "isolated", "int8", "model/logits")
    assert "golden/tolerances.toml" in (e.value.hint or "")


def test_patterns_match_whole_names_and_know_case() -> None:
    p = Policy([rule(tap="model/relu?")])
    assert p.rule("s", "c", "p", "f", "model/relu1")
    assert not p.rule("s", "c", "p", "f", "model/relu10")
    assert not p.rule("s", "c", "p", "f", "xmodel/relu1")
    assert not p.rule("s", "c", "p", "f", "model/Relu1")


def test_only_a_rule_that_names_the_input_loosens_it() -> None:
    wide, named = Rule(tap="model/*", why="w", of_rms=1.0), Rule(tap="model/input", why="quantized", absolute=0.5)
    assert Policy([wide]).rule("kws", "onnxrt", "isolated", "float32", "model/input") is None
    assert Policy([wide, named]).rule("kws", "onnxrt", "isolated", "int8", "model/input") is named
    assert Policy([wide]).rule("kws", "onnxrt", "isolated", "float32", "model/logits") is wide


def test_widths_add_up() -> None:
    value = np.array([3.0, -4.0])
    half = half_width(rule(absolute=0.5, relative=0.1, of_rms=2.0), value)
    np.testing.assert_allclose(half, 0.5 + 0.1 * np.abs(value) + 2.0 * np.sqrt(12.5))
    x = interval(rule(absolute=0.5), value)
    assert (x.lo.tolist(), x.hi.tolist()) == ([2.5, -4.5], [3.5, -3.5])


def test_steps_of_the_tensor_and_of_the_input_count_as_many_times_as_they_were_taken() -> None:
    wide = rule(steps=2.0, input_steps=0.5)
    assert half_width(wide, np.zeros(1)).tolist() == [0.0]
    assert half_width(wide, np.zeros(1), step=0.1, moved=3.0).tolist() == [0.2 + 1.5]


def test_an_infinite_element_widens_nothing() -> None:
    value = np.array([-np.inf, 3.0, 4.0])
    half = half_width(rule(relative=0.1, of_rms=1.0), value)
    assert np.isfinite(half).all(), "one -inf would let the whole clip pass"
    assert half[1] == pytest.approx(0.3 + np.sqrt(12.5))
    x = interval(rule(relative=0.1), value)
    assert x.lo[0] == x.hi[0] == -np.inf
    assert half_width(rule(of_rms=1.0), np.array([np.nan])).tolist() == [0.0]
    assert half_width(rule(of_rms=1.0), np.zeros(0)).shape == (0,)


def test_a_rule_widens_a_derived_bound_and_never_narrows_it() -> None:
    value = np.array([1.0, -np.inf])
    derived = Interval(value, np.array([0.5, -np.inf]), np.array([1.1, -20.0]))
    wider = widened(rule(absolute=0.2), derived)
    np.testing.assert_allclose(wider.lo[0], 0.5)
    np.testing.assert_allclose(wider.hi[0], 1.2)
    assert (wider.lo[1], wider.hi[1]) == (-np.inf, -20.0)
    assert widened(None, derived) is derived


def test_a_gap_covers_what_it_names_and_is_remembered() -> None:
    gap = Gap(kind="kernel", reason="r", outcome="fail", system="kws", tap="model/logits", runtime="tflm")
    p = Policy(gaps=[Gap(kind="model", reason="x", outcome="fail", system="other", tap="*"), gap])
    what = {
        "system": "kws",
        "backend": "numpy",
        "runtime": "tflm",
        "precision": "int8",
        "path": "isolated",
        "tap": "model/logits",
        "clip": "a",
    }
    assert p.gap(**what | {"runtime": "onnxrt"}) is None
    assert p.used_gaps == set()
    assert p.gap(**what) is gap
    assert p.used_gaps == set(), "the gap may not cover what was found there"
    p.met(gap)
    assert p.used_gaps == {1}, "the caller can tell the gap that matched nothing"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tolerances.toml", '[[tolerance]]\ntap = "*"\nwhy = "  "', "the entry for '\\*' gives no reason"),
        ("tolerances.toml", '[[tolerance]]\ntap = "*"', "missing required field `why`"),
        ("tolerances.toml", f'[[tolerance]]\ntap = "*"\n{WHY}\nabsolut = 1', "absolut"),
        ("tolerances.toml", f'[[tolerance]]\ntap = "*"\n{WHY}\nabsolute = -1e-6', ">= 0"),
        ("tolerances.toml", f'[[tolerance]]\ntap = "*"\n{WHY}\nof_rms = nan', "of_rms"),
        ("tolerances.toml", "[[tolerances]]", "tolerances"),
        ("tolerances.toml", "tolerance = ", "is not TOML"),
        ("known_gaps.toml", GAP.replace('"why"', '""'), "gives no reason"),
        ("known_gaps.toml", GAP.replace("kernel", "mood"), "Invalid enum value"),
        ("known_gaps.toml", GAP.replace("fail", "pass"), "Invalid enum value"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load([write(tmp_path, name, text)])


@pytest.mark.parametrize("number", ["inf", "nan"])
@pytest.mark.parametrize("width", ["absolute", "relative", "of_rms", "max_ratio"])
def test_a_width_that_is_no_number_is_refused_and_its_file_is_named(tmp_path: Path, width: str, number: str) -> None:
    rules = width != "max_ratio"
    name = "tolerances.toml" if rules else "known_gaps.toml"
    text = f'[[tolerance]]\ntap = "*"\n{WHY}' if rules else GAP
    with pytest.raises(ConfigError) as error:
        load([write(tmp_path, name, f"{text}\n{width} = {number}")])
    assert str(tmp_path / name) in error.value.message


def test_files_come_from_the_first_folder_that_has_them(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    write(b, "tolerances.toml", f'[[tolerance]]\ntap = "b"\n{WHY}')
    assert [r.tap for r in load([a, b]).rules] == ["b"]
    write(a, "tolerances.toml", f'[[tolerance]]\ntap = "a"\n{WHY}')
    p = load([a, b])
    assert [r.tap for r in p.rules] == ["a"]
    assert p.path == a / "tolerances.toml"
    assert load([tmp_path / "none"]).path == tmp_path / "none" / "tolerances.toml"


def test_the_committed_policy_is_read(project: Path) -> None:
    p = load([project / "golden"])
    assert p.rules
    assert all(r.why.strip() for r in p.rules)


def test_a_rule_may_name_clips(tmp_path: Path) -> None:
    (tmp_path / "tolerances.toml").write_text(
        '[[tolerance]]\ntap = "model/a"\nclips = ["sine-*", "dc.flac"]\nabsolute = 2\nwhy = "beyond its range"\n'
        '[[tolerance]]\ntap = "model/a"\nabsolute = 1\nwhy = "speech"\n'
    )
    rules = load([tmp_path])
    wide = {clip: rules.require("s", "c", "isolated", "int8", "model/a", clip).absolute
            for clip in ("sine-1khz.flac", "dc.flac", "yes.flac", "")}  # fmt: skip
    assert wide == {"sine-1khz.flac": 2, "dc.flac": 2, "yes.flac": 1, "": 1}


def test_a_path_that_there_is_not_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tolerances.toml").write_text('[[tolerance]]\ntap = "model/a"\npath = "deploy"\nwhy = "a slip"\n')
    with pytest.raises(ConfigError, match="deploy"):
        load([tmp_path])
