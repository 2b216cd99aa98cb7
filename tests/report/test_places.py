"""A run on several targets: a column each, what fails on one alone, what the devices tell; and one target as before."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from junitparser import JUnitXml

from parity import localize
from parity.localize import pairs
from parity.records import Run
from parity.report import device, github, html, junit, markdown, places, rows, wording

from .made import HOSTILE, PI, example, hostile, on, run, verdict, whole
from .made import places as several
from .test_html import Page
from .test_terminal import shown


def lines(of: Run) -> list[places.Line]:
    return places.lines(rows.rows(of, pairs(of)))


def alone() -> Run:
    """One target, which isn't this machine."""
    return run(*on("pi", *whole("numpy")), environment={"targets": {"pi": PI}}, timings=[
        {"stage": "features", "plugin": "numpy", "system": "commands-cnn", "clips": 18, "seconds": 0.5, "target": "pi"},
    ])  # fmt: skip


def test_a_line_a_pair_has_a_cell_a_target() -> None:
    features, network = lines(several())
    assert (features.name, network.name) == ("numpy", "numpy → onnxrt float32")
    assert list(features.cells) == ["local", "old", "pi"]
    assert {t: (c.outcome, c.first) for t, c in features.cells.items()} == {
        "local": ("pass", ""), "pi": ("fail", "features/spectrum"), "old": ("pass", ""),
    }  # fmt: skip
    assert network.cells["pi"].id == "row-commands-cnn~numpy~onnxrt~float32~pi"
    assert network.cells["pi"].first == "model/input"
    assert features.apart
    assert not lines(run(*whole("numpy"), *on("pi", *whole("numpy"))))[0].apart


def test_what_fails_on_one_target_alone_is_said_of_it() -> None:
    of = several()
    assert places.alone(of, lines(of)) == ["Fails only on pi: commands-cnn · numpy, and 1 pair fed by it"]
    # A runtime that is wrong there is the one to be named, whatever feeds it.
    network = run(*whole("numpy"), *on("pi", *whole("numpy", isolated_relu1="fail", relu1="fail")))
    assert places.alone(network, lines(network)) == ["Fails only on pi: commands-cnn · numpy → onnxrt float32"]
    everywhere = run(*whole("numpy", spectrum="fail"), *on("pi", *whole("numpy", spectrum="fail")))
    assert places.alone(everywhere, lines(everywhere)) == []


def test_only_what_differs_between_the_targets_is_in_the_table() -> None:
    differing, same = places.differing(several())
    told = dict(differing)
    assert told["architecture"] == ["x86_64", "aarch64", "x86_64"]
    assert told["Python"] == ["3.11.2", "3.11.2", "3.9.2"]
    assert told["emulated"] == ["no", "yes", "no"]
    assert dict(same)["onnxrt: onnxruntime"] == "1.31.1"
    assert not told.keys() & dict(same).keys()


def test_every_report_says_which_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = several()
    page, printed, summary = Page(html.render(of)).text, shown(of, width=140), markdown.render(of)
    for text in (page, printed, summary):
        assert "on pi" in text
        assert "only on pi" in text
        assert "aarch64" in text
        assert "on local" in text or text is printed  # beside others this machine is named as well
    assert wording.judgement(of)[1].startswith("1 backend and 1 pair on pi fail")
    assert "3 targets" in wording.counts(of)
    head, *_ = [line for line in printed.splitlines() if line.startswith("pair ")]
    assert head.split() == ["pair", "local", "pi", "old"]
    assert re.search(r"^numpy +pass 0.303 +FAIL 14900 features/spectrum +pass 0.303 *$", printed, re.MULTILINE)
    assert [g for g in github.marks(of) if "numpy on pi" in g]
    junit.write(tmp_path, of)
    failing = {case.classname for suite in JUnitXml.fromfile(str(tmp_path / "junit.xml"))
               for case in suite if any(r.type == "fail" for r in case.result)}  # fmt: skip
    assert failing
    assert all(".pi." in name for name in failing)
    assert "librosa isn't there (commands-cnn · librosa on pi)" in page


def test_the_page_links_each_cell_to_its_row_and_filters_by_target() -> None:
    page = Page(html.render(several()))
    linked = [a["href"] for t, a in page.tags if t == "a" and "~pi" in (a.get("href") or "")]
    assert "#row-commands-cnn~numpy~~~pi" in linked
    assert "Target" in page.text
    values = [a.get("value") for t, a in page.tags if t == "option"]
    assert {"local", "pi", "old"} <= set(values)
    maps = re.findall(r"<caption>(commands-cnn[^<]*)</caption>", html.render(several()))
    assert maps == ["commands-cnn on local", "commands-cnn on old", "commands-cnn on pi"]


def test_with_this_machine_alone_nothing_speaks_of_targets() -> None:
    for environment in ({}, {"targets": {"local": {}}}):
        of = run(*whole("numpy"), environment=environment)
        text = Page(html.render(of)).text
        assert "Targets side by side" not in text
        assert "on local" not in text + shown(of) + markdown.render(of)
        assert "Latency and size" in text
        assert "What the devices tell" not in text


def test_one_target_elsewhere_is_named_but_stands_beside_nothing() -> None:
    of = alone()
    text = Page(html.render(of)).text
    assert "Targets side by side" not in text
    assert "commands-cnn · numpy on pi" in text
    assert "ssh://pi@raspberrypi, Cortex-A72, aarch64, emulated; 3.97 GB of memory; governor ondemand" in text
    assert "pi: ssh&#58;//pi@<!-- -->raspberrypi, Cortex-A72" in markdown.render(of)
    assert "numpy on pi" in shown(of)


def test_the_command_that_makes_a_pair_again_goes_to_its_target() -> None:
    of = run(*whole("numpy"), *on("pi", *whole("numpy")), command="parity run --target local --target=pi --threads 2")
    commands = {r.pair.target: r.command for r in rows.rows(of, pairs(of)) if r.pair.runtime}
    network = "--backend numpy --runtime onnxrt --precision float32"
    assert commands["pi"] == f"parity run --system commands-cnn {network} --target pi --threads 2"
    assert commands["local"] == f"parity run --system commands-cnn {network} --threads 2"


# ---- what the devices tell ----


def test_what_a_device_tells_is_in_the_table() -> None:
    of = several()
    (there,) = [c for c in device.costs(of) if c["target"] == "pi"]
    assert (there["ms"], there["p95"], there["rtf"], there["open"]) == (40.0, 80.0, 0.04, 0.125)
    assert there["emulated"]
    assert device.plugins(of) == [
        {"target": "pi", "emulated": True, "plugin": "onnxrt", "load": 2.41, "peak": 61_234_567}
    ]
    (told,) = [p for p in device.places(of) if p["target"] == "pi"]
    assert told["words"] == [
        "3.97 GB of memory", "governor ondemand", "48.3 °C → 61.9 °C",
        "2.00 MB sent and 1.08 MB received (1.1 times the arrays' own 2.80 MB)", "2 connections", "1 reconnect",
        "1 thread",
    ]  # fmt: skip
    page = Page(html.render(of)).text
    for words in (
        "What the devices tell",
        "ms a clip: median, 95 %",
        "not any device's speed",
        "61.23 MB",
        "48.3 °C",
        "1 reconnect",
    ):
        assert words in page, words
    assert "pi: emulated: not a device's speed" in shown(of)


def test_a_device_that_isnt_emulated_isnt_said_to_be() -> None:
    of = several()
    of.environment["targets"]["pi"] = PI | {"emulated": False}
    text = Page(html.render(of)).text
    assert "not any device's speed" not in text
    assert "not a device's speed" not in shown(of)


def test_a_run_of_before_there_were_medians_shows_its_means() -> None:
    (told,) = device.costs(run(*whole("numpy")))
    assert (told["ms"], told["p95"], told["target"]) == (pytest.approx(0.25 / 18 * 1000), None, "local")
    assert "95 %" not in Page(html.render(run(*whole("numpy")))).text.split("Latency and size")[-1]


# ---- what a far side says is nothing but text ----


def test_what_a_device_says_of_itself_steers_nothing() -> None:
    of = hostile()
    assert any(HOSTILE in word for word in device.places(of)[0]["words"])
    assert HOSTILE in places.about(of, HOSTILE)
    page = html.render(of)
    assert page.count("governor &lt;script&gt;alert(1)") >= 1
    assert page.count("<script") == 4
    assert all(c.isprintable() or c == "\n" for c in page)
    for verbose in (False, True):
        printed = shown(of, verbose, width=1000)
        assert "governor <script>" in printed
        assert all(c.isprintable() or c == "\n" for c in printed)
    text = markdown.render(of)
    assert "<script" not in text
    assert "\x1b" not in text


@pytest.mark.parametrize("what", [None, [], "x", 7, {"sent": "a"}, {"cpu": None}])
def test_nonsense_for_an_environment_makes_no_page_fail(what: Any) -> None:
    odd = {"link": what, "temperature_c": what, "memory_bytes": what, "cpu": what, "plugins": what, "governor": what}
    of = msgspec.structs.replace(several(), environment={"targets": {"local": {}, "pi": odd, "old": {}}})
    assert "Targets side by side" in Page(html.render(of)).text
    assert shown(of)
    assert markdown.render(of)


def test_names_are_the_same_wherever_a_pair_is_named() -> None:
    of = several()
    v = verdict("fail", "features/spectrum", backend="numpy", target="local")
    assert localize.title_of(v, of) == "commands-cnn · numpy on local"
    assert localize.title_of(v, run(*whole("numpy"))) == "commands-cnn · numpy"
    assert {p.name for p in pairs(of) if not p.runtime} == {"numpy on local", "numpy on old", "numpy on pi"}


def test_examples_labels_and_streams_say_their_target(tmp_path: Path) -> None:
    pair = "commands-cnn numpy onnxrt float32"
    more: dict[str, Any] = {
        "examples": [example(pair, True, 3.0, None) | {"target": t} for t in ("local", "pi")],
        "labels": {"pairs": [{"pair": pair, "target": t, "clips": 2, "accuracy": a, "confusion": {"yes": {"yes": k}}}
                             for t, a, k in (("local", 1.0, 2), ("pi", 0.5, 1))]},
        "streaming": {"times": [{"system": "commands-cnn", "pair": pair, "target": "pi", "chunk": 3, "features_ms": 1.0,
                                 "network_ms": 1.0, "frame_ms": 2.0, "real_time_factor": 0.2}]},
    }  # fmt: skip
    of = several(**more)
    junit.write(tmp_path, of)
    for text in (Page(html.render(of)).text, shown(of, width=160), markdown.render(of)):
        assert f"{pair} on pi" in text
        assert f"{pair} on local" in text
    cases = {case.name for suite in JUnitXml.fromfile(str(tmp_path / "junit.xml")) for case in suite}
    assert {f"{pair} on pi", f"{pair} on local"} <= cases
