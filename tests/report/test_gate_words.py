"""What the terminal says of a gate: the first line, what was found under its heading, what may be accepted."""

from __future__ import annotations

import io
from typing import Any

import msgspec
from rich.console import Console

from parity.records import Run
from parity.report import terminal, wording
from parity.standing import Finding
from tests.report import made


def found(kind: str, **more: Any) -> dict[str, Any]:
    base = {"system": "commands-cnn", "target": "local", "text": "what it is"}
    plain: dict[str, Any] = msgspec.to_builtins(Finding(kind=kind, **(base | more)))
    return plain


def drift(tap: str, backend: str = "librosa") -> dict[str, Any]:
    network = not tap.startswith("features/")
    where = {"runtime": "onnxrt", "precision": "float32", "path": "cumulative"} if network else {"path": "features"}
    return found("drift", backend=backend, tap=tap, text="error over bound grew 1.5 times, 0.2 -> 0.3", **where)


def gated(verdict: str, *findings: dict[str, Any], exit_code: int = 0, **more: Any) -> Run:
    held = {"verdict": verdict, "findings": list(findings), "baselines": [{"state": "held"}]}
    return made.run(*made.whole("librosa"), exit_code=exit_code, gate=held, **more)


def printed(run: Run, verbose: bool = False) -> str:
    out = io.StringIO()
    terminal.show(run, Console(file=out, width=100), verbose)
    return out.getvalue()


def test_a_pass_says_what_it_was_held_to() -> None:
    assert (
        wording.judgement(gated("pass"))[1]
        == "everything compared is within bounds, and nothing drifted from the accepted baseline"
    )
    new = gated("new", found("baseline", fails=False))
    assert wording.judgement(new)[1] == "everything compared is within bounds, without a baseline of this environment"
    assert wording.judgement(made.run(*made.whole("librosa")))[1] == "everything compared is within bounds"


def test_each_kind_of_regression_is_counted_in_the_first_line() -> None:
    kinds = ("drift", "drift", "flips", "accuracy", "coverage", "size", "latency")
    word, why = wording.judgement(gated("fail", *(found(k) for k in kinds), exit_code=1))
    assert word == "FAIL"
    assert why == (
        "2 taps drifted from the accepted baseline, more labels differ in 1 pair, 1 pair less accurate than allowed, "
        "coverage lost in 1 place, 1 file larger than allowed, 1 plugin slower than allowed"
    )


def test_a_baseline_that_is_required_and_not_there_is_not_a_pass() -> None:
    run = gated("fail", found("baseline"), exit_code=2)
    assert wording.judgement(run) == ("INCOMPLETE", "within bounds, but a baseline of this environment is required")


def test_of_drift_the_first_tap_is_told_and_how_many_follow() -> None:
    run = gated("fail", drift("model/logits"), drift("features/compressed"), drift("features/spectrum"), exit_code=1)
    ((head, lines),) = wording.found_by_gate(run)
    assert head == "Drift: within bounds, but further than accepted"
    text = "error over bound grew 1.5 times, 0.2 -> 0.3"
    assert lines == [
        f"commands-cnn · librosa → onnxrt float32 · cumulative · model/logits: {text}",
        f"commands-cnn · librosa · features/spectrum: {text} (and 1 tap after it)",
    ]


def test_what_is_said_of_many_systems_is_said_once() -> None:
    of = [found("baseline", system=f"system{i}", fails=False, text="no baseline yet") for i in range(6)]
    other = found("baseline", system="another", fails=False, text="no baseline of this environment")
    ((_, lines),) = wording.found_by_gate(gated("new", *of, other))
    some = "system0, system1, system2, system3 and 2 more"
    assert lines == [f"{some}: no baseline yet", "another: no baseline of this environment"]


def test_findings_stand_before_what_was_compared_and_many_are_cut_short() -> None:
    many = [drift("features/spectrum", f"backend{i:02}") for i in range(terminal.MOST + 3)]
    text = printed(gated("fail", *many, found("coverage", text="a clip fewer"), exit_code=1))
    assert text.index("Drift: ") < text.index("Coverage lost") < text.index("commands-cnn · librosa")
    assert "and 3 more (--verbose)" in text
    assert "backend12" not in text
    assert "backend12" in printed(gated("fail", *many, exit_code=1), verbose=True)


def test_what_is_found_from_outside_cannot_draw_on_the_terminal() -> None:
    text = printed(gated("fail", found("coverage", backend=made.HOSTILE, text=made.HOSTILE), exit_code=1))
    assert "\x1b" not in text
    assert "[31m" in text


def test_only_what_the_gate_alone_found_may_be_accepted() -> None:
    assert wording.acceptable(gated("fail", drift("features/spectrum"), exit_code=1))
    assert wording.acceptable(gated("new", found("baseline", fails=False)))
    assert not wording.acceptable(gated("pass"))
    assert not wording.acceptable(made.run(*made.whole("librosa")))
    failing = made.run(*made.whole("librosa", spectrum="fail"), exit_code=1, gate=gated("fail", drift("x")).gate)
    assert not wording.acceptable(failing)
    unmet = gated("fail", drift("features/spectrum"), exit_code=1, gaps={"unmet": ["a gap"], "met": []})
    assert not wording.acceptable(unmet)
