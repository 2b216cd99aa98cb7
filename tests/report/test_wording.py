"""What the terminal and the page say in the same words."""

from __future__ import annotations

from typing import Any

import pytest

from parity.records import Run, Skipped
from parity.report import html, wording

from .made import run, verdict, whole
from .test_terminal import shown


def test_skipped_names() -> None:
    of = run(skipped=[Skipped(system="a", reason="r"), Skipped(system="b", backend="x", reason="r"),
                      Skipped(system="c", backend="x", runtime="y", precision="int8", reason="r")])  # fmt: skip
    assert wording.not_compared(of) == [("r", ["a", "b · x", "c · x → y int8"])]


@pytest.mark.parametrize(
    ("name", "width", "short"),
    [("abc", 3, "abc"), ("abcdefgh", 5, "ab…gh"), ("abcdefgh", 4, "a…gh"), ("a\nb", 9, "a\\nb")],
)
def test_names_lose_their_middle(name: str, width: int, short: str) -> None:
    assert wording.shorten(name, width) == short


def test_who_judged_is_said_where_there_is_no_golden() -> None:
    live = "features judged by the float64 oracle, activations by torch:dtype=float64"
    of = run(verdict("pass", "features/spectrum"))
    assert wording.judged_by(of) == []
    of.systems["commands-cnn"]["anchor"] = {"live": live}
    assert wording.judged_by(of) == [f"commands-cnn: {live}"]
    assert live in " ".join(shown(of).split())
    assert live in html.render(of)


FAILING: dict[str, Any] = {"own_outcome": "fail", "own_error": 0.2, "own_bound": 1e-5, "own_from": "features/spectrum"}


def by_itself(tap: str = "features/filterbank", **own: Any) -> Run:
    """librosa fails from the filter bank on; `own` is what that stage does by itself."""
    of = run(*whole("librosa", filterbank="fail", compressed="fail", input="fail"))
    for s in of.summaries:
        if s.tap == tap:
            s.worst = s.own = verdict("fail", tap, **FAILING | own)
    return of


def told(of: Run) -> str:
    return wording.made(of, wording.pairs(of)[0].worst.worst)


def test_an_error_is_made_at_its_stage_or_came_in() -> None:
    here = "made here (own error 0.2 FS², bound 1e-5 FS²); the stages after it hand it on"
    assert told(by_itself()) == here
    assert here in " ".join(shown(by_itself(), width=200).split())
    assert here in html.render(by_itself())
    assert told(by_itself(own_outcome="pass")) == (
        "came in: with the input that it had, from features/spectrum, it is within bounds "
        "(own error 0.2 FS², bound 1e-5 FS²)"
    )
    assert told(by_itself(own_outcome="pass", own_from="")).startswith(
        "came in: with the input that it had, from the samples, it"
    )
    assert told(by_itself(own_bound=0.0)).startswith("made here (own error 0.2 FS², none allowed)")
    assert told(by_itself(own_error=None)) == "made here; the stages after it hand it on"
    assert told(by_itself(own_outcome="", own_error=None)) == ""


def test_stages_that_are_not_shown_share_the_blame() -> None:
    assert told(by_itself(own_from="")).startswith("made here or in spectrum, which it doesn't show (own error 0.2")


def test_a_second_stage_that_errs_by_itself_is_named() -> None:
    of = by_itself()
    for s in of.summaries:
        if s.tap == "features/compressed":
            s.own = verdict("fail", s.tap, **FAILING)
    assert told(of).endswith("; by itself compressed errs as well")


def test_a_layer_is_blamed_where_what_comes_before_it_is_right() -> None:
    of = run(*whole("numpy", isolated_logits="fail"))
    failing = next(s for s in of.summaries if s.tap == "model/logits" and s.path == "isolated")
    assert wording.made(of, failing.worst) == ""
    failing.since = {"model/relu1": 2}
    here = "made here: what comes before it, up to model/relu1, is within bounds"
    assert wording.made(of, failing.worst) == here
    assert here in " ".join(shown(of).split())
    assert here in html.render(of)
    failing.since = {"model/input": 2}
    assert wording.made(of, failing.worst) == (
        "made after model/input, which is within bounds: on the clips that fail no layer between was compared"
    )


def test_a_network_that_passes_alone_is_not_blamed() -> None:
    of = run(*whole("numpy", logits="fail"))
    failing = next(s for s in of.summaries if s.tap == "model/logits" and s.path == "cumulative")
    failing.since = {"model/relu1": 1}
    assert wording.made(of, failing.worst).startswith("came in: it passes on the golden's features")


def test_a_recheck_says_so() -> None:
    of = run(verdict("pass", "features/spectrum"), recheck={"of": "r", "judged": 7, "stand": 2, "open": 1})
    words = "recheck of r, nothing was run: 7 verdicts judged again, 2 stand as they were, 1 can't be judged"
    assert wording.judged_by(of) == [words]
    assert words in " ".join(shown(of, width=200).split())
