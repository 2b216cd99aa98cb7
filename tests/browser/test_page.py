"""The page of a run in Chromium: what can be done with it, on a screen, a phone and paper, by eye, ear and keyboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from parity import kept
from parity.localize import first_failures, number, pairs
from parity.records import Verdict
from parity.report import compared, html, rows
from tests.browser.conftest import HOSTILE, NEXT, SLANEY, Made, Opened

pytestmark = pytest.mark.slow


def drawn(page: Page, box: str) -> None:
    """Scroll a figure into view, and wait until it is drawn."""
    page.locator(box).scroll_into_view_if_needed()
    page.wait_for_selector(f"{box} .main-svg")


def shown(page: Page) -> list[str]:
    """The ids of the rows that are shown, in their order."""
    found: list[str] = page.evaluate(
        "[...document.querySelectorAll('#rows > details')].filter(d => !d.hidden).map(d => d.id)"
    )
    return found


def row(backend: str, runtime: str) -> str:
    return rows.row_id("commands-cnn", backend, runtime, "float32" if runtime else "", "local")


def test_every_number_of_a_row_is_the_records(opened: Opened, failing: Made) -> None:
    with opened(failing.url) as (page, _):
        told: list[dict[str, Any]] = (
            page.evaluate("""[...document.querySelectorAll('#rows td[data-path].num')].map(td => ({
            row: td.closest('details').id, tap: td.parentElement.cells[0].textContent, path: td.dataset.path,
            ratio: td.dataset.ratio, said: td.textContent.trim()}))""")
        )
        cells: list[list[str]] = page.evaluate("""[...document.querySelectorAll('.matrix td a')].map(a =>
            [a.hash.slice(1), a.querySelector('b').textContent, a.querySelector('.num')?.textContent ?? ''])""")
    want = {}
    for p in pairs(failing.run):
        for r in p.rows:
            name = rows.row_id(p.system, p.backend, p.runtime, p.precision, p.target)
            for path, s in (("cumulative", r.cumulative), ("isolated", r.isolated)):
                if s is not None and s.worst.error is not None:
                    want[name, r.tap, path] = s.worst
    found = {(t["row"], t["tap"], t["path"]): t for t in told}
    assert want.keys() <= found.keys()
    for at, v in want.items():
        assert found[at]["said"] == f"{number(v.error)} / {number(v.bound)}"
        assert found[at]["ratio"] is None if v.ratio is None else float(found[at]["ratio"]) == v.ratio
    assert len(cells) > 6
    worst = {(s.backend, s.runtime, s.path): s for s in sorted(failing.run.summaries, key=lambda s: s.worst.ratio or 0)
             if s.worst.outcome == "fail"}  # fmt: skip
    slaney = worst[SLANEY, "", "features"].worst
    said = {(link, outcome): numbers for link, outcome, numbers in cells}
    assert said[row(SLANEY, ""), f"FAIL {number(slaney.ratio)}"] == f"{number(slaney.error)} / {number(slaney.bound)}"


def first(made: Made, backend: str, path: str) -> tuple[int, Verdict]:
    """A first failure, and its place on the page."""
    found = first_failures(made.run)
    i = next(i for i, v in enumerate(found) if v.path == path and v.backend == backend)
    return i, found[i]


def test_hovering_says_the_values_of_the_records(opened: Opened, failing: Made) -> None:
    i, v = first(failing, SLANEY, "features")
    arrays = kept.of_verdict(failing.folder, v)
    assert arrays is not None
    assert v.index is not None
    assert v.tap == "features/filterbank"
    frame, band = v.index
    with opened(failing.url) as (page, _):
        box = f"[data-figure=picture-{i}]"
        drawn(page, box)
        for panel, values in (
            ("", arrays["golden"]),
            ("2", arrays["candidate"]),
            ("3", arrays["candidate"] - arrays["golden"]),
        ):
            point = page.evaluate("""([box, panel, time, band]) => {
                const gd = document.querySelector(box), l = gd._fullLayout, at = gd.getBoundingClientRect();
                const [x, y] = [l['xaxis' + panel], l['yaxis' + panel]];
                return [at.left + x._offset + x.d2p(time), at.top + y._offset + y.d2p(band)];
            }""", [box, panel, v.time, band])  # fmt: skip
            page.mouse.move(*point)
            text = page.wait_for_selector(f"{box} .hoverlayer .hovertext").text_content() or ""
            assert f"time (s) {v.time:g}" in text
            assert f"frequency (Hz) {number(v.frequency)} Hz" in text
            told = float(text.split({"": "golden ", "2": "candidate ", "3": "difference "}[panel])[1].split(" ")[0])
            assert told == pytest.approx(values[frame, band], rel=1e-6)
            page.mouse.move(0, 0)
            page.wait_for_selector(f"{box} .hoverlayer .hovertext", state="detached")
        page.get_by_role("button", name="Show error over bound").first.click()
        worst = page.evaluate(f"""Math.max(...document.querySelector('{box}').data[2].customdata.flat().map(Number))""")
        assert worst == pytest.approx(v.ratio, rel=1e-6)
        sides = page.evaluate(f"document.querySelector('{box}').data.slice(0, 2).map(t => [t.zmin, t.zmax])")
        assert sides[0] == sides[1], "one scale of colours for golden and candidate"
        assert page.evaluate(f"document.querySelector('{box}').data[0].x.length") == arrays["golden"].shape[0]
        buttons = page.evaluate(f"[...document.querySelectorAll('{box} .modebar-btn')].map(b => b.dataset.title)")
        assert "Zoom" in buttons
        assert not [b for b in buttons if "Share" in b or "Cloud" in b], "nothing leaves the page"
        edge = "e => e.getBoundingClientRect().right"
        assert page.eval_on_selector(f"{box} .main-svg", edge) <= page.eval_on_selector(box, edge) + 1
        # This clip, or the other, has a hostile name, here and in the charts: it is just a name.
        drawn(page, f"[data-figure=cut-{i}]")
        assert page.get_by_text(HOSTILE).count() > 1
        assert page.locator("script").count() == 5, "four of the page, and plotly.js"


def test_rows_are_filtered_and_sorted(opened: Opened, failing: Made) -> None:
    with opened(failing.url) as (page, _):
        every = shown(page)
        assert len(every) == len(pairs(failing.run)) == 6
        page.get_by_label("Words in its name").fill("slaney ONNXRT")
        assert shown(page) == [row(SLANEY, "onnxrt")]
        assert page.locator("output[name=shown]").text_content() == "1 of 6 shown"
        page.get_by_role("button", name="Reset").click()
        page.wait_for_function("document.querySelector('output[name=shown]').value === 'all 6 shown'")
        page.get_by_label("Outcome").select_option("pass")
        assert shown(page) == [row("numpy", ""), row("numpy", "onnxrt")]
        page.get_by_label("Outcome").select_option("")
        page.get_by_label("Order").select_option("best")
        assert shown(page)[0] == row("numpy", "onnxrt") or shown(page)[0] == row("numpy", "")
        ratios = page.evaluate(
            "[...document.querySelectorAll('#rows > details')].map(d => [+d.dataset.rank, +d.dataset.ratio])"
        )
        assert ratios == sorted(ratios)
        page.get_by_label("Order").select_option("worst")
        assert [*reversed(ratios)] == page.evaluate(
            "[...document.querySelectorAll('#rows > details')].map(d => [+d.dataset.rank, +d.dataset.ratio])"
        )
        page.get_by_label("Order").select_option("given")
        assert shown(page) == every
        head = page.get_by_role("button", name="ms a clip")
        for way in (1, -1):
            head.click()
            column = [
                float(x)
                for x in page.evaluate(
                    "[...document.querySelectorAll('#costs ~ .wide td:nth-child(6)')].map(td => td.dataset.value)"
                )
            ]
            assert column == sorted(column, reverse=way < 0)
            assert len(column) > 2


def test_a_link_opens_its_row(opened: Opened, failing: Made) -> None:
    name = row(SLANEY, NEXT)
    with opened(f"{failing.url}#{name}") as (page, _):
        assert page.evaluate(f"document.getElementById('{name}').open")
        assert page.evaluate(f"document.getElementById('{name}').getBoundingClientRect().top") < 900
        lines = through(page, name)
        page.get_by_label("Words in its name").fill("nothing like it")
        page.get_by_label("Order").select_option("best")
        page.locator(f".matrix a[href='#{row('numpy', '')}']").first.click()
        page.wait_for_function(f'document.getElementById("{row("numpy", "")}").open')
        assert page.evaluate(f'!document.getElementById("{row("numpy", "")}").hidden'), "a link outdoes the filter"
        assert page.evaluate("document.activeElement.parentElement.id") == row("numpy", "")

    p = next(p for p in pairs(failing.run) if (p.backend, p.runtime) == (SLANEY, NEXT))
    for path, told in lines.items():
        for r in p.rows:
            s = {"cumulative": r.cumulative, "isolated": r.isolated}[path]
            if s is not None and s.worst.ratio:
                assert told[r.tap] == pytest.approx(min(s.worst.ratio, 1e12))


def through(page: Page, name: str) -> dict[str, dict[str, float]]:
    """What the line through the taps of a row shows: by path and tap."""
    drawn(page, f"[id='{name}'] .chart")
    chart = page.query_selector(f"[id='{name}'] .chart")
    traces = page.evaluate("c => c.data.map(t => [t.name, t.x, t.y])", chart)
    assert [t[0] for t in traces] == ["cumulative", "isolated"]
    return {path: dict(zip(taps, values, strict=True)) for path, taps, values in traces}


def test_rows_open_by_keyboard(opened: Opened, passing: Made) -> None:
    with opened(passing.url) as (page, _):
        page.locator("#rows > details").nth(1).locator("summary").focus()
        before = page.evaluate("document.activeElement.parentElement.open")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.parentElement.open") is not before


def test_the_posteriors_of_a_flip(opened: Opened, failing: Made) -> None:
    with opened(failing.url) as (page, _):
        told = page.evaluate("""[...document.querySelectorAll('table.flip')].map(t => [t.caption.textContent,
            [...t.tBodies[0].rows].map(r => [...r.cells].map(c => c.textContent.trim()))])""")
    caption, table = next(t for t in told if "golden features" in t[0] and "yes.wav" in t[0])
    assert NEXT in caption
    at = next(
        s.worst for s in failing.run.summaries if s.path == "isolated" and s.runtime == NEXT and s.tap == "model/logits"
    )
    arrays = kept.of_verdict(
        failing.folder, Verdict(**{f: getattr(at, f) for f in at.__struct_fields__} | {"clip": "yes.wav"})
    )
    assert arrays is not None
    for column, key in ((1, "golden"), (2, "candidate")):
        x = np.exp(arrays[key].astype(np.float64) - arrays[key].max())
        assert [r[column] for r in table] == [number(p) for p in x / x.sum()]
    assert [r[0] for r in table] == failing.run.systems["commands-cnn"]["labels"]


def test_nothing_sticks_out_on_a_phone(opened: Opened, failing: Made) -> None:
    width = 320
    with opened(failing.url, width=width) as (page, _):
        page.get_by_role("button", name="Open all").click()
        assert page.locator("#rows > details[open]").count() == 6
        i, _ = first(failing, SLANEY, "features")
        drawn(page, f"[data-figure=picture-{i}]")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        tops = page.evaluate(
            "l => ['yaxis', 'yaxis2', 'yaxis3'].map(a => l._fullLayout[a].domain[0])",
            page.query_selector(f"[data-figure=picture-{i}]"),
        )
        assert len(set(tops)) == 3, "one below the other"


def test_all_is_said_without_scripts(opened: Opened, failing: Made) -> None:
    with opened(failing.url, java_script_enabled=False) as (page, _):
        assert not page.locator("form.filter").is_visible()
        page.locator(f"[id='{row('numpy', 'onnxrt')}'] summary").click()
        assert page.locator(f"[id='{row('numpy', 'onnxrt')}'] table.taps").is_visible()
        assert not page.get_by_text("Golden, candidate, difference").first.is_visible(), "no caption without its chart"
        assert "need JavaScript" in page.locator("noscript").inner_text()


def test_print_leaves_the_controls_out(opened: Opened, failing: Made) -> None:
    with opened(failing.url) as (page, _):
        page.emulate_media(media="print")
        assert not page.locator("form.filter").is_visible()
        assert not page.locator("nav").is_visible()
        assert page.locator(".failure").first.is_visible()
        page.set_viewport_size({"width": 720, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= 720, "a sheet of paper holds every column"
        page.emulate_media(media="screen")
        page.set_viewport_size({"width": 1280, "height": 900})
        i, _ = first(failing, SLANEY, "features")
        box = f"[data-figure=picture-{i}]"
        drawn(page, box)
        wide = page.evaluate(f"document.querySelector('{box}')._fullLayout.width")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate(f"document.querySelector('{box}')._fullLayout.width") == 680 < wide
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.evaluate(f"document.querySelector('{box}')._fullLayout.width") == wide


@pytest.mark.parametrize(
    ("which", "scheme"),
    [("failing", "light"), ("failing", "dark"), ("passing", "light"), ("compared", "dark"), ("places", "light"),
     ("places", "dark")],
)  # fmt: skip
def test_no_barrier_is_serious(
    opened: Opened, failing: Made, passing: Made, places: Made, tmp_path: Path, which: str, scheme: str
) -> None:
    url = {"failing": failing.url, "passing": passing.url, "places": places.url}.get(which, "")
    if not url:
        url = compared.write(passing.folder, failing.folder, tmp_path / "since.html").as_uri()
    with opened(url, color_scheme=scheme) as (page, _):
        if which != "compared":
            page.locator("#rows > details > summary").first.click()
            drawn(page, "#rows > details[open] .chart")
        assert serious(page) == []
        if which == "compared":
            page.evaluate("document.querySelector('main').append(document.createElement('button'))")
            assert [name for name, _ in serious(page)] == ["button-name"], "a planted barrier is seen"


def serious(page: Page) -> list[tuple[str, list[str]]]:
    """What axe finds that keeps somebody from reading or using the page: its rule, and where."""
    found = Axe().run(page).response["violations"]
    return [
        (f["id"], [n["html"][:150] for n in f["nodes"][:3]]) for f in found if f["impact"] in ("serious", "critical")
    ]


def test_a_request_would_be_seen_and_is_refused(opened: Opened, passing: Made, tmp_path: Path) -> None:
    text = (passing.folder / "index.html").read_text(encoding="utf-8")
    planted = text.replace("<main>", '<main><img src="file:///etc/hostname" alt="">')
    for name, page in (("refused", planted), ("asked", planted.replace("http-equiv", "name"))):
        path = tmp_path / f"{name}.html"
        path.write_text(page, encoding="utf-8")
        match = {"refused": "Content Security Policy", "asked": "hostname"}[name]
        with pytest.raises(AssertionError, match=match), opened(path.as_uri()):
            pass


def test_a_page_of_the_same_records_is_the_same(failing: Made) -> None:
    assert html.render(failing.run, failing.folder) == (failing.folder / "index.html").read_text(encoding="utf-8")
