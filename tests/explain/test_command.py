"""`parity explain RUN`, on a run folder with evidence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from parity import evidence, pipeline, records
from parity import frontend as fe
from parity.cli import cli
from parity.errors import ConfigError, NothingCompared
from parity.plan import Selection
from parity.report import causes
from tests.explain.test_features import CLIPS, frontend
from tests.explain.test_features import evidence as given
from tests.plugins_for_tests import rig


def _run(folder: Path, **changed: object) -> Path:
    """A run whose hand-made backend failed (or none, without settings)."""
    system = {"frontend": fe.to_plain(frontend("commands-cnn"))}
    run = records.Run(name="run", started="", systems={"commands-cnn": system})
    (folder / "run.json").write_bytes(msgspec.json.encode(run))
    if changed:
        (folder / evidence.FOLDER).mkdir()
        for i, e in enumerate(given("commands-cnn", **changed)):
            evidence.write(folder / evidence.FOLDER / f"{i:04d}.npz", e)
    return folder


def _explain(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["explain", *map(str, arguments)])


def test_it_names_the_setting(tmp_path: Path) -> None:
    result = _explain(_run(tmp_path, periodic=False))
    assert result.exit_code == 0
    assert "commands-cnn · handmade" in result.output
    assert "window symmetric, not periodic: 100 % of the error explained (" in result.output
    assert "-> within bound)" in result.output
    (told,) = causes.read(tmp_path)
    assert (told.backend, told.path, told.complete) == ("handmade", "features", True)
    assert "window symmetric, not periodic: 100 %" in told.lines[0]
    assert (tmp_path / "index.html").is_file(), "the page is drawn again"


def test_where_the_page_cant_be_written_the_cause_is_said_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(causes, "add", full)
    result = _explain(_run(tmp_path, periodic=False))
    assert result.exit_code == 0
    assert "window symmetric" in result.stdout
    assert "doesn't say it: No space left on device" in result.stderr


def test_each_target_is_explained_by_what_it_computed(tmp_path: Path) -> None:
    """The same backend is right here, and wrong in one place there and in another elsewhere."""
    _run(tmp_path)
    run = msgspec.structs.replace(records.read_run(tmp_path), environment={"targets": {"pi": {}, "old": {}}})
    (tmp_path / "run.json").write_bytes(msgspec.json.encode(run))
    (tmp_path / evidence.FOLDER).mkdir()
    for target, changed in (("pi", {"periodic": False}), ("old", {"norm": "none"})):
        for i, e in enumerate(given("commands-cnn", **changed)):
            there = dataclasses.replace(e, target=target)
            evidence.write(tmp_path / evidence.FOLDER / f"{target}{i:04d}.npz", there)
    result = _explain(tmp_path)
    assert result.exit_code == 0, result.output
    old, pi = result.output.split("commands-cnn · handmade on pi")
    assert "handmade on old" in old
    assert "window symmetric" not in old
    assert "window symmetric, not periodic: 100 %" in pi
    assert [t.target for t in causes.read(tmp_path)] == ["old", "pi"]
    assert "on old" not in _explain(tmp_path, "--target", "pi").output
    wrong = _explain(tmp_path, "--target", "pie")
    assert isinstance(wrong.exception, ConfigError)
    assert "it has pi, old" in str(wrong.exception.hint)


def test_json_has_the_keys(tmp_path: Path) -> None:
    result = _explain(_run(tmp_path, norm="none"), "--format", "json", "--clip", "yes-en-us-f2.flac")
    (explanation,) = msgspec.json.decode(result.output)
    assert explanation["complete"]
    assert explanation["clips"] == ["yes-en-us-f2.flac"]
    assert explanation["findings"][0]["alternatives"][0][0]["key"] == "mel.norm"
    assert causes.read(tmp_path) == [], "of one clip alone nothing is written into the page"


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    result = _explain(tmp_path)
    assert isinstance(result.exception, ConfigError)
    assert result.exception.exit_code == 3


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        ({"recheck": {"of": "the-run"}}, "is a recheck", "explain the run that it judged: the-run"),
    ],
)
def test_why_evidence_is_not_there(tmp_path: Path, said: dict[str, object], message: str, hint: str) -> None:
    _run(tmp_path)
    run = msgspec.json.decode((tmp_path / "run.json").read_bytes())
    who = {"system": "commands-cnn", "backend": "handmade", "runtime": "", "precision": "", "target": "local",
           "path": "features", "tap": "features/compressed"}  # fmt: skip
    worst = who | {"clip": "yes.flac", "outcome": "fail"}
    run["summaries"] = [who | {"counts": {"fail": 1}, "near_ties": 0, "worst": worst}]
    (tmp_path / "run.json").write_bytes(msgspec.json.encode(run | said))
    result = _explain(tmp_path)
    assert isinstance(result.exception, NothingCompared)
    assert message in result.exception.message
    assert hint in result.exception.hint


def _listed(folder: Path, names: list[str]) -> Path:
    """run.json says that the folder holds one file of evidence a clip."""
    run = msgspec.json.decode((folder / "run.json").read_bytes())
    who = {"system": "commands-cnn", "backend": "handmade", "runtime": "", "precision": "", "path": "features"}
    run["evidence"] = [who | {"file": f"evidence/{i:04d}.npz", "clip": name} for i, name in enumerate(names)]
    (folder / "run.json").write_bytes(msgspec.json.encode(run))
    return folder


def test_evidence_that_is_lost_is_told(tmp_path: Path) -> None:
    _run(tmp_path, norm="none")
    _listed(tmp_path, names := list(CLIPS))
    assert _explain(tmp_path).stderr == ""
    (tmp_path / evidence.FOLDER / "0001.npz").unlink()
    result = _explain(tmp_path)
    assert result.exit_code == 0
    assert "lacks evidence/0001.npz, which run.json lists (commands-cnn · handmade)" in result.stderr
    assert names[1] not in result.stdout
    of_it = _explain(tmp_path, "--clip", names[1])
    assert isinstance(of_it.exception, ConfigError)
    assert of_it.exception.exit_code == 3
    assert "is not whole: it lacks evidence/0001.npz" in of_it.exception.message
    for path in (tmp_path / evidence.FOLDER).iterdir():
        path.unlink()
    none = _explain(tmp_path)
    assert isinstance(none.exception, ConfigError)
    assert none.exception.hint == "copy all of it, or make the run again"


def test_a_run_that_kept_nothing(tmp_path: Path) -> None:
    result = _explain(_run(tmp_path))
    assert isinstance(result.exception, NothingCompared)
    assert result.exception.exit_code == 2
    assert "nothing to explain" in result.exception.message


@pytest.mark.parametrize(
    ("option", "error"), [("--system", ConfigError), ("--backend", NothingCompared), ("--clip", NothingCompared)]
)
def test_names_that_are_not_there(tmp_path: Path, option: str, error: type[Exception]) -> None:
    result = _explain(_run(tmp_path, norm="none"), option, "other")
    assert isinstance(result.exception, error)


def test_a_backend_is_explained_in_the_arithmetic_that_it_is_held_to(tmp_path: Path) -> None:
    """A window in float32 is within float32's bounds; librosa's own is not."""
    golden = rig.goldens(tmp_path / "golden", rig.CLIPS[2:])
    with rig.target() as local:
        selection = Selection(
            systems=(str(rig.SYSTEM),), backends=("faulty.with_librosa:SingleWindow",), runtimes=("onnxrt",),
            precisions=("float32",), golden=golden,
        )  # fmt: skip
        done, folder = pipeline.run(selection, local, tmp_path / "reports")
    assert done.exit_code == 1
    result = _explain(folder)
    assert "window in float32: 100 % of the error explained (" in result.output


def test_an_interrupted_search_says_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two settings are wrong, and Ctrl-C comes when one has been found to come near."""
    told: list[str] = []

    @contextmanager
    def shown() -> Iterator[Callable[[str, int, int], None]]:
        def step(what: str, done: int, total: int) -> None:
            told.append(what)
            assert 0 <= done < total
            if what.startswith("pairs"):
                raise KeyboardInterrupt

        yield step

    monkeypatch.setattr("parity.progress.shown", shown)
    result = _explain(_run(tmp_path, periodic=False, offset=1e-8))
    assert result.exit_code != 0
    assert told[0] == "settings tried at features/compressed"
    assert "nothing explains it so far; closest is " in result.stdout
    assert "interrupted: what was found so far" in result.stdout
