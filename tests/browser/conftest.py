"""A failing and a passing run, made once, and Chromium to look at their pages with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from parity import pipeline, records
from parity.plan import Selection
from parity.records import Run
from tests.conftest import program
from tests.plugins_for_tests import rig
from tests.report import places as several

HOSTILE = "<script>alert(1)</script>.wav"
"""A clip's name: the file `script>.wav` in the folder `<script>alert(1)<`."""
SLANEY, NEXT = "faulty.backends:SlaneyScale", "faulty.corrupted:Network:how=next-label,tap=model/logits"


@dataclass(frozen=True)
class Made:
    """A run and its folder."""

    run: Run
    folder: Path

    @property
    def url(self) -> str:
        return (self.folder / "index.html").as_uri()


@pytest.fixture(scope="session")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A wrong mel scale, and a runtime that swaps two logits; one of the clips has a hostile name."""
    folder = tmp_path_factory.mktemp("failing")
    audio = folder / "audio"
    rig.wav(audio / HOSTILE)
    rig.wav(audio / "yes.wav", 0.25 * rig.clip())
    own = rig.system(folder / "commands-cnn")
    with rig.target() as local:
        selection = Selection(
            systems=(str(own),), backends=("numpy", SLANEY), runtimes=("onnxrt", NEXT), precisions=("float32",),
            audio=audio,
        )  # fmt: skip
        command = f"parity run --system {own} --backend numpy --audio {audio}"
        return Made(*pipeline.run(selection, local, folder / "reports", command))


@pytest.fixture(scope="session")
def passing(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """NumPy and ONNX Runtime on three of the goldens."""
    folder = tmp_path_factory.mktemp("passing")
    golden = rig.goldens(folder / "golden")
    with rig.target() as local:
        selection = Selection(
            systems=(str(rig.SYSTEM),), backends=("numpy",), runtimes=("onnxrt",), precisions=("float32", "int8"),
            golden=golden,
        )  # fmt: skip
        return Made(*pipeline.run(selection, local, folder / "reports", "parity run --backend numpy"))


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A backend that is right here and wrong on a Pi."""
    folder = tmp_path_factory.mktemp("places")
    runs = several.made(folder, ["local", "pi"], wrong=["pi"])
    joined = several.joined(runs, folder / "reports", pi=several.PI)
    return Made(records.read_run(joined), joined)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium: Debian's."""
    path = program("chromium", "chromium fonts-dejavu-core")
    with sync_playwright() as p:
        found = p.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


@dataclass
class Seen:
    """What a page did beyond showing itself."""

    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("console", lambda m: self.said.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda e: self.said.append(f"error: {e}"))
        page.on("dialog", lambda d: (self.said.append(f"dialog: {d.message}"), d.dismiss()))
        page.on("request", lambda r: self.asked.append(r.url))


Opened = Callable[..., contextlib.AbstractContextManager[tuple[Page, Seen]]]


@pytest.fixture
def opened(browser: Browser) -> Opened:
    """Opens an address in a context of its own: `with opened(url, width=390) as (page, seen)`.

    Afterwards nothing may have been said on the console, and nothing asked for but the page itself.
    """

    @contextlib.contextmanager
    def open_(url: str, width: int = 1280, **context: Any) -> Iterator[tuple[Page, Seen]]:
        made = browser.new_context(viewport={"width": width, "height": 900}, **context)
        page, seen = made.new_page(), Seen()
        page.set_default_timeout(20_000)
        seen.watch(page)
        page.goto(url)
        yield page, seen
        made.close()
        assert seen.said == []
        assert [u for u in seen.asked if not u.startswith(("data:", "blob:"))] == [url.partition("#")[0]]

    return open_
