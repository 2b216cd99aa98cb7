"""`index.html`: one file, everything escaped, every outcome in words."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from parity.records import Skipped
from parity.report import html
from parity.report.heatmap import matrix

from .made import hostile, mixed, places, run, verdict, whole

VOID = {"meta", "link", "br", "input"}
LOADS = {"src", "srcset", "action", "background", "poster", "data", "onclick", "onload"}


class Page(HTMLParser):
    """The elements of a page; checks that they close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


RUNS = {"mixed": mixed, "hostile": hostile, "empty": run, "pass": lambda: run(*whole("numpy")), "places": places}


@pytest.mark.parametrize("name", RUNS)
def test_one_file_that_asks_for_nothing(tmp_path: Path, name: str) -> None:
    html.write(tmp_path, RUNS[name]())
    assert [p.name for p in tmp_path.iterdir()] == ["index.html"]
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in {"img", "iframe", "object", "embed", "base", "video", "audio"}
        assert not LOADS & attributes.keys()
        assert (attributes.get("href") or "#").startswith(("#", "data:"))
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert "url(" not in text
    policies = [a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policies
    policy = policies[0] or ""
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    for digest in digests(text):
        assert f"'sha256-{digest}'" in policy


def digests(text: str) -> list[str]:
    """Those of every script that runs: what is written into the page, and what is packed into it."""
    run = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    packed = re.findall(r'<script type="text/plain" id="(\w+)">([A-Za-z0-9+/=]*)</script>', text)
    assert [name for name, _ in packed] == ["figures", "plotly"]
    assert len(run) == 2
    assert text.count("<script") == 4
    sources = [*(r.encode() for r in run), gzip.decompress(base64.b64decode(packed[1][1]))]
    assert sources[2].startswith(b"/**\n* plotly.js v")
    return [base64.b64encode(hashlib.sha256(s).digest()).decode() for s in sources]


@pytest.mark.parametrize("name", RUNS)
def test_tables_say_what_they_are(name: str) -> None:
    page = Page(html.render(RUNS[name]()))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("table") == tags.count("caption")
    assert all(a.get("scope") in ("col", "row", "rowgroup") for t, a in page.tags if t == "th")
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    anchors = {(a.get("href") or "")[1:] for t, a in page.tags if t == "a"}
    assert anchors <= set(ids)
    assert tags.count("h1") == 1


def test_a_hostile_name_is_just_a_name() -> None:
    text = html.render(hostile())
    assert text.count("<script") == 4
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\x00\\x1b[31m\\ud800\\ufffe]]&gt;" in text
    assert all(c.isprintable() or c == "\n" for c in text)


def test_every_outcome_is_a_word() -> None:
    text = Page(html.render(mixed())).text
    for word in ("FAIL", "MISSING", "ERROR", "known gap", "pass", "unavailable"):
        assert word in text


def test_what_a_reader_looks_for() -> None:
    text = Page(html.render(mixed())).text
    for words in (
        "1 backend and 3 pairs fail (1 only because of features)", "3 skipped or unsupported",
        "frame 12, 0.125 s, bin 14 = 438 Hz",
        "14900 times the bound", "follows from features/spectrum of librosa", "needs pymicro-features",
        "no model for tflm",
        "old kernel", "94.4 %", "_background_noise_ (6)", "golden/counterexamples/1.toml", "with uncommitted changes",
        "0123456789abcdef", "parity run commands-cnn", "onnxruntime 1.31.1", "recorded on another", "near tie",
    ):  # fmt: skip
        assert words in text, words


def test_the_matrix_shows_the_worst_number_of_a_cell() -> None:
    of = mixed()
    table = matrix(of, "commands-cnn", "local", html.pairs(of))
    assert table["columns"] == ["onnxrt float32", "tflite int8"]
    assert list(table["rows"]) == ["golden features", "librosa", "numpy", "tf_signal"]
    outcome, shown, link, flips = table["rows"]["librosa"][1]
    assert link == "row-commands-cnn~librosa~onnxrt~float32~local"
    assert flips
    assert (outcome, shown.worst.error) == ("fail", 0.3125)
    assert [cell and cell[0] for cell in table["rows"]["golden features"]] == [None, "pass", "error"]
    assert [cell and cell[0] for cell in table["rows"]["tf_signal"]] == ["gap", None, None]
    assert [s.backend for s in table["absent"]] == ["microfrontend"]


def test_no_anchor_is_shown() -> None:
    of = run(verdict("pass", "features/spectrum"))
    assert "no anchor" not in Page(html.render(of)).text
    of.systems["commands-cnn"]["anchor"] = {"backend": "none", "versions": {}}
    assert "no anchor" in Page(html.render(of)).text


def test_nothing_compared_and_incomplete() -> None:
    assert "NOTHING COMPARED" in Page(html.render(run())).text
    skipped = [Skipped(system="s", reason="no", asked=True)]
    partly = run(verdict("pass", "features/spectrum"), skipped=skipped, exit_code=2)
    assert "INCOMPLETE" in Page(html.render(partly)).text


@pytest.mark.parametrize(
    ("ratio", "bar"), [(None, None), (float("nan"), None), (float("inf"), 100), (0.0, 0), (1.0, 50), (1e9, 100)]
)
def test_the_bar_has_the_bound_in_its_middle(ratio: float | None, bar: int | None) -> None:
    assert html.meter(ratio) == bar


def test_the_same_run_gives_the_same_page() -> None:
    assert html.render(mixed()) == html.render(mixed())


def test_a_failing_run_says_how_to_ask_why() -> None:
    failed = run(verdict("fail", "features/spectrum"))
    assert "parity explain" not in html.render(failed), "nothing was kept to explain"
    failed.evidence = [{"file": "0000.npz"}]
    assert f"parity explain {failed.name}" in html.render(failed)


def test_what_saturates_is_a_finding_of_its_own() -> None:
    done = run(verdict("pass", "model/relu1", path="isolated", runtime="onnxrt", precision="int8"))
    assert 'id="saturated"' not in html.render(done)
    done.summaries[0].saturated, done.summaries[0].most_saturated = 1, 0.25
    page = html.render(done)
    assert 'id="saturated"' in page
    assert "model/relu1, up to 25 % of a clip's elements" in page.replace("&#39;", "'")
