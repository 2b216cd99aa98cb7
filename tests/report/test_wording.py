"""What the terminal and the page say in the same words."""

from __future__ import annotations

import pytest

from parity.records import Skipped
from parity.report import html, wording

from .made import run, verdict
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
