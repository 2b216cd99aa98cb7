"""`junit.xml`: a test case a summary, well-formed whatever the names are."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from parity.records import Run, Skipped
from parity.report import junit

from .made import hostile, mixed, run, summary, verdict, whole
from .test_markdown import GATE


def written(folder: Path, of: Run) -> ElementTree.Element:
    junit.write(folder, of)
    return ElementTree.parse(folder / "junit.xml").getroot()


def case(root: ElementTree.Element, name: str) -> ElementTree.Element:
    (found,) = [c for c in root.iter("testcase") if c.get("name") == name]
    return found


def test_a_case_for_each_summary(tmp_path: Path) -> None:
    of = run(*whole("numpy"))
    root = written(tmp_path, of)
    names = [(c.get("classname"), c.get("name")) for c in root.iter("testcase")]
    assert len(names) == len(set(names)) == len(of.summaries) == int(root.get("tests", "0"))
    assert [s.get("name") for s in root] == [
        "commands-cnn · golden features → onnxrt float32",
        "commands-cnn · numpy",
        "commands-cnn · numpy → onnxrt float32",
    ]
    assert not list(root.iter("failure")) + list(root.iter("error")) + list(root.iter("skipped"))


@pytest.mark.parametrize(
    ("outcome", "element"),
    [("fail", "failure"), ("missing", "failure"), ("error", "error"), ("unavailable", "skipped"),
     ("unsupported", "skipped"), ("pass", None), ("gap", None)],
)  # fmt: skip
def test_outcomes(tmp_path: Path, outcome: str, element: str | None) -> None:
    root = written(tmp_path, run(verdict("pass", "model/relu1"), verdict(outcome, "model/logits", message="why")))
    found = case(root, "model/logits")
    results = [e for e in found if e.tag != "system-out"]
    assert [e.tag for e in results] == ([element] if element else [])
    assert all(e.get("message") == "why" for e in results)
    for counted, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(root.get(counted, "0")) == (tag == element)


def test_a_failure_says_where_and_by_how_much(tmp_path: Path) -> None:
    text = case(written(tmp_path, run(verdict("fail", "features/spectrum"))), "features/spectrum")[0].text or ""
    for words in ("yes-en-us-f2", "frame 12, 0.125 s, bin 14 = 438 Hz", "error: 0.312 FS², bound: 2.1e-5 FS²", "12 %"):
        assert words in text


def test_near_ties_and_gaps_are_told(tmp_path: Path) -> None:
    tie = summary(verdict("pass", "decision/label"), near_ties=2)
    gap = summary(verdict("gap", "model/relu1", gap="old"))
    root = written(tmp_path, run(summaries=[tie, gap]))
    assert not list(root.iter("property"))
    assert "near ties: 2" in (case(root, "decision/label").findtext("system-out") or "")
    assert "known gap: old" in (case(root, "model/relu1").findtext("system-out") or "")


def test_skipped_pairs_unmet_gaps_and_examples(tmp_path: Path) -> None:
    root = written(tmp_path, mixed())
    skipped = case(root, "tflm int8").find("skipped")
    assert skipped is not None
    assert (skipped.get("message"), skipped.get("type")) == ("no model for tflm", "asked for")
    assert case(root, "commands-cnn x: old kernel").find("failure") is not None
    assert case(root, "librosa onnxrt float32").find("failure") is not None
    assert case(root, "numpy onnxrt float32").find("failure") is None


def test_nothing_compared_is_an_error(tmp_path: Path) -> None:
    assert written(tmp_path, run()).get("errors") == "1"
    skipped = run(skipped=[Skipped(system="s", reason="weights aren't built")], exit_code=2)
    root = written(tmp_path, skipped)
    assert (root.get("errors"), root.get("skipped")) == ("1", "1")


def test_any_text_is_well_formed(tmp_path: Path) -> None:
    root = written(tmp_path, hostile())
    failure = next(root.iter("failure"))
    assert "<script>alert(1)</script>\\x00\\x1b[31m\\ud800\\ufffe]]>" in (failure.get("message") or "")


def test_the_order_of_summaries_changes_nothing(tmp_path: Path) -> None:
    of = mixed()
    junit.write(tmp_path, of)
    before = (tmp_path / "junit.xml").read_bytes()
    of.summaries = list(reversed(of.summaries))
    junit.write(tmp_path, of)
    assert (tmp_path / "junit.xml").read_bytes() == before


def test_goldens_without_an_anchor_are_told(tmp_path: Path) -> None:
    of = run(*whole("numpy"))
    of.systems["commands-cnn"]["anchor"] = {"backend": "none"}
    root = written(tmp_path, of)
    assert [p.get("value") for p in root.iter("property")] == [
        "none: the goldens were recorded with --unanchored"
    ] * len(root)


def test_findings_of_the_gate_are_cases(tmp_path: Path) -> None:
    root = written(tmp_path, run(*whole("numpy"), gate=GATE, exit_code=1))
    (suite,) = [s for s in root if s.get("name") == "gate"]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    drift = case(suite, "features/spectrum")
    assert drift.get("classname") == "gate.commands-cnn.numpy.local.features"
    assert [e.get("message") for e in drift.iter("failure")] == ["0.45 of its bound, 0.3 was accepted"]
    assert case(suite, "latency").find("failure") is None
    skipped = case(suite, "baseline").find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "judged by bounds alone, none for this environment: onnxruntime 1.22 -> 1.23"
    held = [{"system": "s", "state": "held", "accepted": "2026-01-02", "reason": "first"}]
    baseline = case(written(tmp_path, run(*whole("numpy"), gate={"baselines": held})), "baseline")
    assert baseline.findtext("system-out") == "accepted 2026-01-02: first"
