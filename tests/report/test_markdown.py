"""Markdown for a pull request: short, the verdict first, and nothing from outside is markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from parity.records import Run
from parity.report import markdown
from parity.report.markdown import LIMIT, code, render, text

from .made import HOSTILE, hostile, mixed, run, summary, verdict, whole

OF = {
    "system": "commands-cnn",
    "backend": "numpy",
    "runtime": "",
    "precision": "",
    "target": "local",
    "path": "features",
}
GATE = {
    "verdict": "fail",
    "findings": [
        OF | {"kind": "drift", "tap": "features/spectrum", "text": "0.45 of its bound, 0.3 was accepted", "was": 0.3,
              "now": 0.45, "fails": True},
        OF | {"kind": "latency", "tap": "", "text": "slower | as allowed", "was": 1.0, "now": 1.2, "fails": False},
    ],
    "baselines": [
        {"system": "commands-cnn", "fingerprint": "ab", "state": "new", "accepted": None, "reason": None,
         "differs": ["onnxruntime 1.22 -> 1.23"]},
    ],
}  # fmt: skip


class Shown(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def shown(words: str) -> Shown:
    """What a reader of GitHub's Markdown sees."""
    return Shown(MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(words))


def test_the_verdict_comes_first() -> None:
    assert render(run(*whole("numpy"))).startswith("### ✅ parity: PASS: everything compared is within bounds\n")
    assert render(mixed()).startswith("### ❌ parity: FAIL: ")
    assert render(run()).startswith("### ⚠️ parity: NOTHING COMPARED")


def test_a_row_a_first_failure_with_where_and_why() -> None:
    (row,) = [
        line for line in render(mixed()).splitlines() if "features/spectrum" in line and line.startswith("| comm")
    ][:1]
    for words in ("librosa", "0.312 / 2.1e-5", "14900 ×", "frame 12, 0.125 s, bin 14 = 438 Hz", "12 of 100 are out"):
        assert words in row


def test_what_follows_is_folded() -> None:
    words = render(mixed())
    head, _, rest = words.partition("<details><summary>Following from these: 3</summary>")
    assert "follows from" not in head
    assert rest.partition("</details>")[0].count("follows from") == 3


def test_accuracy_is_told() -> None:
    assert "| commands-cnn numpy onnxrt float32 | 18 | 94.4 % |" in render(mixed())


def test_what_the_gate_found() -> None:
    of = run(*whole("numpy"), gate=GATE, exit_code=1)
    words = render(of)
    assert words.index("What the gate holds back") < words.index("0.45 of its bound, 0.3 was accepted")
    assert "<details><summary>What the gate noticed: 1</summary>" in words
    assert "judged by bounds alone: another environment: onnxruntime 1.22 -&#62; 1.23" in words
    assert "slower &#124; as allowed" in words


@pytest.mark.parametrize("name", [
    HOSTILE, "| a | b |", "`x`", "**bold** _it_ ~~no~~", "[l](http://x.y)", "![i](y)", "<b>", "www.example.com", "- li",
    "# head", "$x$", "a:+1:b", "http://example.com", "&lt;b&gt;", "\n\n# head", "</code></td></tr></table><h1>",
])  # fmt: skip
def test_a_name_is_shown_as_it_is_and_marks_nothing_up(name: str) -> None:
    for page, tags in (
        (shown(f"| a |\n| --- |\n| {text(name)} |"), []),
        (shown(f"- {code(name)}"), ["ul", "li", "code"]),
    ):
        allowed = {"table", "thead", "tbody", "tr", "th", "td", *tags}
        assert set(page.tags) <= allowed
        assert markdown.one_line(name).strip() in "".join(page.texts)


@given(st.text())
def test_any_text_is_shown_as_it_is(name: str) -> None:
    words = markdown.one_line(name).split()
    for page, before in ((shown(f"| a |\n| --- |\n| {text(name)} |"), ["a"]), (shown(f"- {text(name)}"), [])):
        assert set(page.tags) <= {"table", "thead", "tbody", "tr", "th", "td", "ul", "li"}
        assert "".join(page.texts).split() == before + words


def test_no_address_is_one() -> None:
    for address in ("http://example.com", "https://example.com", "www.example.com", "mailto:a@example.com"):
        assert not re.search(r"(https?|mailto):|www\.|@\w", text(address))


def test_nobody_is_mentioned() -> None:
    assert not re.search(r"@\w", render(run(verdict("fail", "features/spectrum", clip="@octocat", message="@octocat"))))


def test_a_hostile_run_has_only_our_tags() -> None:
    page = shown(render(hostile()))
    ours = {"h3", "p", "table", "thead", "tbody", "tr", "th", "td", "code", "ul", "li", "details", "summary"}
    assert set(page.tags) <= ours


def long() -> Run:
    found = [verdict("fail", "features/spectrum", backend=f"backend-{n}" + "x" * 200) for n in range(400)]
    return Run(name="r", started="", summaries=[summary(v) for v in found], exit_code=1)


def test_it_is_never_longer_than_a_comment_may_be() -> None:
    words = render(long())
    assert len(words.encode()) <= LIMIT
    assert "… and 350 more." in words
    cut = render(long(), 3000)
    assert len(cut.encode()) <= 3000
    assert cut.startswith("### ❌ parity: FAIL")
    assert cut.endswith("_The rest is in the report: this is as long as it may be._\n")
    assert set(shown(cut).tags) <= {"h3", "p", "em"}
