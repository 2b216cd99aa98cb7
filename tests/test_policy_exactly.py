"""`parity.policy` to the last word and number: what a changed operator or a changed message would go by unseen."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from parity.bounds.features import Interval
from parity.errors import ConfigError
from parity.policy import (
    APPLIED,
    Gap,
    Policy,
    Rule,
    _matches,
    applied,
    half_width,
    interval,
    load,
    same_width,
    widened,
    writer,
)

RULE = '[[tolerance]]\ntap = "model/a"\nwhy = "measured"\n'
GAP = '[[gap]]\nkind = "kernel"\nreason = "why"\noutcome = "fail"\nsystem = "s"\ntap = "t"\n'


def rule(**fields: object) -> Rule:
    return Rule(**{"tap": "*", "why": "w", **fields})  # type: ignore[arg-type]


def refused(folder: Path, name: str, text: bytes | str) -> tuple[str, str | None]:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as e:
        load([folder])
    return e.value.message, e.value.hint


# ---- Which rule ----


@pytest.mark.parametrize("field", ["system", "candidate", "path", "precision", "tap"])
def test_each_field_must_match(field: str) -> None:
    key = {"system": "kws", "candidate": "onnxrt", "path": "isolated", "precision": "int8", "tap": "model/a"}
    p = Policy([rule(**{field: key[field]})])
    assert p.rule(**key) is p.rules[0]
    assert Policy([rule(**{field: key[field]})]).rule(**key | {field: "cumulative"}) is None


def test_a_key_of_another_length_is_a_slip_of_ours() -> None:
    with pytest.raises(ValueError, match="zip"):
        _matches(rule(), ("kws", "onnxrt"))


@pytest.mark.parametrize("tap", ["model/input", "decision/label"])
def test_a_pattern_says_nothing_of_what_is_known_otherwise(tap: str) -> None:
    assert Policy([rule(tap="*")]).rule("s", "c", "isolated", "int8", tap) is None
    assert Policy([rule(tap=tap)]).rule("s", "c", "isolated", "int8", tap) is not None
    assert Policy([rule(tap=tap, system="other")]).rule("s", "c", "isolated", "int8", tap) is None


def test_rules_are_looked_up_once_a_key_and_never_mixed_up() -> None:
    one, other = rule(tap="model/a", absolute=1.0), rule(tap="model/b", absolute=2.0)
    p = Policy([one, other])
    for _ in range(2):
        assert p.rule("s", "c", "isolated", "float32", "model/a") is one
        assert p.rule("s", "c", "isolated", "float32", "model/b") is other
    assert p._found == {
        ("s", "c", "isolated", "float32", "model/a"): [one], ("s", "c", "isolated", "float32", "model/b"): [other],
    }  # fmt: skip
    p._found["s", "c", "isolated", "float32", "model/a"] = [other]
    assert p.rule("s", "c", "isolated", "float32", "model/a") is other, "it was looked up again"


def test_a_clips_name_is_part_of_the_question() -> None:
    wide, usual = rule(clips=("sine*",), absolute=2.0), rule(absolute=1.0)
    p = Policy([wide, usual])
    assert p.rule("s", "c", "isolated", "float32", "model/a", "sine") is wide
    assert p.rule("s", "c", "isolated", "float32", "model/a") is usual
    assert p.require("s", "c", "isolated", "float32", "model/a", "sine") is wide
    assert p.require("s", "c", "isolated", "float32", "model/a") is usual
    assert Policy([wide]).rule("s", "c", "isolated", "float32", "model/a") is None
    named = Policy([rule(clips=("?*",))])
    assert named.rule("s", "c", "isolated", "float32", "model/a") is None
    with pytest.raises(ConfigError):
        named.require("s", "c", "isolated", "float32", "model/a")
    assert Policy([rule(clips=("*", "x"))]).rule("s", "c", "isolated", "float32", "model/a", "y") is not None
    assert Policy([rule(clips=("[*]",))]).rule("s", "c", "isolated", "float32", "model/a", "y") is None


@pytest.mark.parametrize(("path", "named"), [(None, "tolerances.toml"), (Path("my/rules.toml"), "my/rules.toml")])
def test_no_rule_in_words(path: Path | None, named: str) -> None:
    with pytest.raises(ConfigError) as e:
        Policy(path=path).require("kws", "tflite", "isolated", "int8", "model/a")
    assert e.value.message == "no rule says how far model/a of kws (int8, isolated) may move on tflite"
    rule_of_ones_own = f"add a [[tolerance]] with its why to {named}"
    assert e.value.hint == (
        f"{rule_of_ones_own}; none is needed where bounds are derived: README, 'Bounds', says what that takes"
    )
    with pytest.raises(ConfigError) as e:
        Policy(path=path).require("kws", "tflite", "deployment", "int8", "model/a")
    assert e.value.hint == rule_of_ones_own


def test_a_gap_must_match_in_every_field_and_the_first_counts() -> None:
    gaps = [Gap(kind="kernel", reason=str(i), outcome="fail", system="s", tap="t", clip=c) for i, c in enumerate("a*")]
    p = Policy(gaps=gaps)
    assert p.gap(system="s", tap="t", clip="a") is gaps[0]
    assert p.gap(system="s", tap="t", clip="b") is gaps[1]
    assert p.gap(system="x", tap="t", clip="a") is None
    equal = Policy(gaps=[gaps[0], msgspec.structs.replace(gaps[0])])
    equal.met(equal.gaps[1])
    assert equal.used_gaps == {1}, "equal gaps are two"


# ---- How far ----


def test_each_width_by_itself() -> None:
    value = np.array([3.0, -4.0])
    rms = np.sqrt(12.5)
    for field, expected in (
        ("absolute", [0.5, 0.5]), ("relative", [1.5, 2.0]), ("of_rms", [0.5 * rms, 0.5 * rms]), ("steps", [1.5, 1.5]),
        ("input_steps", [3.5, 3.5]),
    ):  # fmt: skip
        assert half_width(rule(**{field: 0.5}), value, step=3.0, moved=7.0).tolist() == pytest.approx(expected), field
        x = interval(rule(**{field: 0.5}), value, 3.0, 7.0)
        np.testing.assert_allclose(x.hi, value + expected)
        np.testing.assert_allclose(x.lo, value - expected)
        np.testing.assert_array_equal(x.value, value)
    for field in ("steps", "input_steps"):  # nothing, where nothing is said of them
        assert half_width(rule(**{field: 0.5}), value).tolist() == [0.0, 0.0]
        assert interval(rule(**{field: 0.5}), value).hi.tolist() == value.tolist()


def test_widths_are_counted_in_double_whatever_the_goldens_type() -> None:
    value = np.array([16777217.0, 0.1], np.float32)
    assert half_width(rule(relative=1.0), value).dtype == np.float64
    x = interval(rule(absolute=2.0**-30), np.array([1.0], np.float32))
    assert (x.value.dtype, x.lo[0], x.hi[0]) == (np.float64, 1.0 - 2.0**-30, 1.0 + 2.0**-30)
    assert half_width(rule(of_rms=1.0), np.array([200, 200], np.uint8)).tolist() == [200.0, 200.0]
    assert half_width(rule(of_rms=1.0), [3.0, 4.0]).tolist() == [np.sqrt(12.5)] * 2  # type: ignore[arg-type]


def test_what_is_infinite_counts_for_nothing() -> None:
    value = np.array([-np.inf, 3.0, np.nan, 4.0])
    expected = np.array([0.0, 3.0, 0.0, 4.0]) + 2.0 * 12.5**0.5
    np.testing.assert_allclose(half_width(rule(relative=1.0, of_rms=2.0), value), expected)
    assert half_width(rule(of_rms=5.0, absolute=1.0), np.array([np.inf])).tolist() == [1.0]


def test_a_wider_rule_on_either_side() -> None:
    derived = Interval(np.array([1.0, 1.0]), np.array([0.75, 0.25]), np.array([1.25, 1.75]))
    wider = widened(rule(absolute=0.5), derived)
    assert (wider.lo.tolist(), wider.hi.tolist()) == ([0.5, 0.25], [1.5, 1.75])
    assert wider.value is derived.value


# ---- Files ----


def test_files_that_are_refused_in_words(tmp_path: Path) -> None:
    rules, gaps = tmp_path / "tolerances.toml", tmp_path / "known_gaps.toml"
    assert refused(tmp_path, rules.name, "tolerance = ") == (
        f"{rules} is not TOML: Invalid value (at end of document)", "mend the line that it names",
    )  # fmt: skip
    message, hint = refused(tmp_path, rules.name, b"# \xff")
    assert message.startswith(f"{rules} is not TOML: 'utf-8' codec can't decode byte 0xff")
    assert hint == "mend the line that it names"
    assert refused(tmp_path, rules.name, '[[tolerance]]\ntap = "a"') == (
        f"{rules}: Object missing required field `why` - at `$.tolerance[0]`", "see golden/README.md",
    )  # fmt: skip
    assert refused(tmp_path, rules.name, RULE + "absolute = inf") == (
        f"{rules}: the entry for 'model/a' has a width that is no number", "say how wide",
    )  # fmt: skip
    assert refused(tmp_path, rules.name, RULE.replace("measured", " ")) == (
        f"{rules}: the entry for 'model/a' gives no reason", "say what was measured",
    )  # fmt: skip
    rules.unlink()
    assert refused(tmp_path, gaps.name, GAP.replace('"why"', '""')) == (
        f"{gaps}: the entry for 't' gives no reason", "say what was measured",
    )  # fmt: skip
    assert refused(tmp_path, gaps.name, GAP + "max_ratio = inf") == (
        f"{gaps}: the entry for 't' has a width that is no number", "say how wide",
    )  # fmt: skip
    gaps.unlink()
    with pytest.raises(ConfigError) as e:
        load([], tmp_path / "none.toml")
    assert e.value.message == f"{tmp_path / 'none.toml'} can't be read: No such file or directory"
    assert e.value.hint == "name a file like golden/tolerances.toml"


def test_words_in_other_letters_are_read(tmp_path: Path) -> None:
    (tmp_path / "tolerances.toml").write_text(RULE.replace("measured", "größer als ½ ulp"), encoding="utf-8")
    assert load([tmp_path]).rules[0].why == "größer als ½ ulp"


@pytest.mark.parametrize("width", ["absolute", "relative", "of_rms", "steps", "input_steps"])
def test_every_width_must_be_a_number(width: str, tmp_path: Path) -> None:
    assert "width that is no number" in refused(tmp_path, "tolerances.toml", f"{RULE}{width} = inf")[0]


@pytest.mark.parametrize("precision", ["", 'precision = "*"\n', 'precision = "float32"\n', 'precision = "float*"\n'])
def test_a_label_of_float32_may_not_flip_by_decree(precision: str, tmp_path: Path) -> None:
    text = RULE.replace("model/a", "decision/label") + precision
    assert refused(tmp_path, "tolerances.toml", text) == (
        f"{tmp_path / 'tolerances.toml'}: a rule for decision/label covers float32; only a quantized model's label may "
        "flip",
        'name the precision, as in precision = "int8"',
    )


def test_a_label_of_a_quantized_model_may(tmp_path: Path) -> None:
    (tmp_path / "tolerances.toml").write_text(
        RULE.replace("model/a", "decision/label") + 'precision = "int8"\n' + RULE + 'precision = "float32"\n'
    )
    assert [r.tap for r in load([tmp_path]).rules] == ["decision/label", "model/a"]


def test_where_rules_and_gaps_come_from(tmp_path: Path) -> None:
    a, b, c = (tmp_path / n for n in "abc")
    for folder in (a, b, c):
        folder.mkdir()
    assert load([]) == Policy([], [], None, None)
    assert load([a, b]) == Policy([], [], a / "tolerances.toml", None)
    (b / "known_gaps.toml").write_text(GAP)
    assert load([a, b]) == Policy([], load([b]).gaps, a / "tolerances.toml", b)
    (b / "known_gaps.toml").unlink()
    (b / "tolerances.toml").write_text(RULE)
    (c / "tolerances.toml").write_text(RULE.replace("model/a", "model/c"))
    (c / "known_gaps.toml").write_text(GAP)
    found = load([a, b, c])
    assert [r.tap for r in found.rules] == ["model/a"]
    assert [g.reason for g in found.gaps] == ["why"]
    assert (found.path, found.gaps_from) == (b / "tolerances.toml", c)
    (b / "known_gaps.toml").write_text("")
    assert (load([a, b, c]).gaps, load([a, b, c]).gaps_from) == ([], b)
    named = load([a, b, c], c / "tolerances.toml")
    assert [r.tap for r in named.rules] == ["model/c"]
    assert named.path == c / "tolerances.toml"
    (a / "tolerances.toml").mkdir()
    assert load([a, b]).path == b / "tolerances.toml", "a folder of that name is no file of rules"


# ---- What a run was judged by ----

GAPS = [Gap(kind="kernel", reason="r", outcome="fail", system="s", tap="t")]


def test_policies_survive_a_run_and_are_kept_once(tmp_path: Path) -> None:
    one = Policy([rule(absolute=1.0)], GAPS, tmp_path / "x" / ".." / "tolerances.toml", tmp_path / "x" / "..")
    same = Policy([rule(absolute=1.0)], GAPS)
    other = Policy([rule(absolute=2.0)], [], tmp_path / "mine.toml", None)
    writer({"b": one, "a": other, "c": same})(tmp_path, None)
    text = (tmp_path / APPLIED).read_bytes()
    assert text.endswith(b"}\n")
    plain = json.loads(text)
    assert plain["systems"] == {"a": 0, "b": 1, "c": 1}
    assert len(plain["policies"]) == 2
    assert plain["files"]["b"] == [str(tmp_path / "tolerances.toml"), str(tmp_path)]
    assert list(plain) == ["files", "policies", "systems"]
    found = applied(tmp_path)
    assert found == {
        "a": Policy([rule(absolute=2.0)], [], tmp_path / "mine.toml", None),
        "b": Policy([rule(absolute=1.0)], GAPS, tmp_path / "tolerances.toml", tmp_path),
        "c": same,
    }


@pytest.mark.parametrize("text", [None, "{", '{"policies": [], "systems": {"a": 0}, "files": {"a": [null, null]}}',
                                  '{"policies": [[[], []]], "systems": {"a": 0}, "files": {}}'])  # fmt: skip
def test_a_run_that_does_not_say_what_it_was_judged_by(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / APPLIED).write_text(text)
    with pytest.raises(ConfigError) as e:
        applied(tmp_path)
    assert e.value.message.startswith(f"{tmp_path} doesn't say which policy it was judged by: ")
    assert e.value.hint == "it is of an older parity: make the run again"


@pytest.mark.parametrize("width", ["absolute", "relative", "of_rms", "steps", "input_steps"])
def test_the_same_width(width: str) -> None:
    assert same_width(rule(**{width: 1.0}, why="a"), rule(**{width: 1.0}, why="b", tap="x"))
    assert not same_width(rule(**{width: 1.0}), rule(**{width: 2.0}))
    assert same_width(None, None)
    assert not same_width(None, rule())
    assert not same_width(rule(), None)
