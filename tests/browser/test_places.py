"""The page of a run on two targets in Chromium: what is clicked, filtered and read of them."""

from __future__ import annotations

import pytest

from parity.localize import number, pairs
from parity.report import rows
from tests.report.places import THERE

from .conftest import Made, Opened
from .test_page import shown

pytestmark = pytest.mark.slow


def test_each_cell_says_what_the_records_say_and_opens_its_row(opened: Opened, places: Made) -> None:
    with opened(places.url) as (page, _):
        heads = page.locator(".places thead th").all_text_contents()
        assert heads == ["pair", "local", "pi"]
        told = page.evaluate("""[...document.querySelectorAll('.places td a')].map(a =>
            [a.hash.slice(1), a.querySelector('b').textContent])""")
        want = {
            r.id: f"{'FAIL' if r.pair.outcome == 'fail' else r.pair.outcome} {number(r.ratio)}"
            for r in rows.rows(places.run, pairs(places.run))
        }
        assert dict(told) == want
        assert len(want) == 4
        assert "Fails only on pi" in page.locator(".only").inner_text()
        there = rows.row_id("commands-cnn", THERE, "", "", "pi")
        page.locator(f".places a[href='#{there}']").click()
        page.wait_for_function(f"document.getElementById('{there}').open")
        command = page.locator(f"[id='{there}'] .command").inner_text()
        assert "--target pi" in command


def test_rows_are_filtered_by_target(opened: Opened, places: Made) -> None:
    with opened(places.url) as (page, _):
        page.locator("select[name=target]").select_option("pi")
        assert {name.rpartition("~")[2] for name in shown(page)} == {"pi"}
        assert page.locator("output[name=shown]").text_content() == "2 of 4 shown"


def test_nothing_of_several_targets_sticks_out_on_a_phone_or_on_paper(opened: Opened, places: Made) -> None:
    with opened(places.url, width=320) as (page, _):
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 720, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= 720
