"""Workers behind a link: the same answers, nothing sent twice, a lost link taken up where it was."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from parity import pipeline
from parity.errors import ConfigError, TargetError
from parity.plan import Selection
from parity.protocols import Failure
from parity.records import read_verdicts
from parity.targets import channel, remote
from parity.targets.link import PythonLink
from parity.targets.local import LocalTarget
from parity.targets.remote import Remote
from parity.targets.worker import WorkerDiedError
from parity.targets.workers import WorkersTarget
from tests.plugins_for_tests import rig
from tests.targets.test_local import alone, job, until  # noqa: F401 - a fixture

pytestmark = pytest.mark.slow  # whole commands and worker processes


class Cut(PythonLink):
    """Another Python behind something like a network: `cut` takes the line away, both ends at once."""

    def __init__(self, name: str, python: str, folder: Path) -> None:
        super().__init__(name, python, {"XDG_CACHE_HOME": str(folder)})
        self.back = True

    def connect(self) -> None:
        if not self.back:
            raise TargetError(f"{self.name}: no route to it")
        super().connect()

    @property
    def alive(self) -> bool:
        return self.back

    def cut(self, back: bool = True) -> None:
        """Ends every far side as a lost link does: none says how it went."""
        self.back = back
        for process in self._started:
            with contextlib.suppress(psutil.Error):
                for there in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
                    there.kill()


@contextlib.contextmanager
def elsewhere(folder: Path, limit: float = 60.0, patience: float = 2.0) -> Iterator[tuple[WorkersTarget, Cut]]:
    """Workers under another Python, which is this one, with a cache in `folder`; and the link to them."""
    with rig.target() as here:
        link = Cut("there", sys.executable, folder)
        place = Remote(link, sys.executable, limit, patience)
        with WorkersTarget(place, 1, 1, trusted=here) as target:
            yield target, link


def ran(target: Any, golden: Path, folder: Path, **more: Any) -> tuple[Any, Path]:
    wanted: dict[str, Any] = {"systems": (str(rig.SYSTEM),), "backends": ("numpy",), "runtimes": ("onnxrt",)}
    return pipeline.run(Selection(**(wanted | more), golden=golden), target, folder)


def of_target(folder: Path, name: str) -> list[Any]:
    return [{k: v for k, v in _plain(v).items() if k != "target"} for v in read_verdicts(folder) if v.target == name]


def _plain(verdict: Any) -> dict[str, Any]:
    import msgspec

    return msgspec.structs.asdict(verdict)


@pytest.mark.usefixtures("alone")
def test_the_same_comes_from_elsewhere_and_nothing_is_sent_twice(golden: Path, tmp_path: Path) -> None:
    with elsewhere(tmp_path / "cache") as (target, _):
        done, folder = ran([target.trusted, target], golden, tmp_path / "reports")
        first = target.link()
    assert done.exit_code == 0
    assert of_target(folder, "there") == of_target(folder, "local") != []
    assert done.environment["targets"].keys() == {"local", "there"}
    assert done.environment["targets"]["there"]["link"]["connections"] == 1
    assert first["sent"] + first["received"] <= 1.1 * first["arrays"] + len(channel.bundle().data)

    with elsewhere(tmp_path / "cache") as (target, _):
        again, folder = ran(target, golden, tmp_path / "reports")
        second = target.link()
    assert again.exit_code == 0
    model = next(a for a in done.systems[rig.SYSTEM.name]["artifacts"] if a["format"] == "onnx")
    assert second["sent"] < 40_000 < model["bytes"] < first["sent"]
    kept = {p.name for p in (tmp_path / "cache" / "parity").iterdir()}
    assert {"agent", "content"} <= kept <= {"agent", "content", "libraries"}  # the last where ONNX Runtime keeps an id
    assert len(list((tmp_path / "cache" / "parity" / "agent").iterdir())) == 1


@pytest.mark.usefixtures("alone")
def test_a_model_under_another_name_or_damaged_there_is_sent_again(tmp_path: Path) -> None:
    """The cache knows content by its bytes; a runtime is given a file by its name."""
    folder = tmp_path / "cache" / "parity" / "content"
    for name, damaged in (("a.onnx", None), ("it's b.onnx", None), ("a.onnx", b""), ("a.onnx", b"mod")):
        (tmp_path / name).write_bytes(b"model")
        if damaged is not None:
            next(folder.glob(f"*/{name}")).write_bytes(damaged)
        with elsewhere(tmp_path / "cache") as (target, _):
            for _again in range(2):
                there = target.place._file(tmp_path / name)  # type: ignore[attr-defined]
                assert Path(there).read_bytes() == b"model"
    assert len(list(folder.iterdir())) == 1


@pytest.mark.usefixtures("alone")
def test_what_was_taken_away_there_meanwhile_is_sent_again(golden: Path, tmp_path: Path) -> None:
    """Arrays that the far side had when the run began: cleaned away, or damaged by a loss of power."""
    content = tmp_path / "cache" / "parity" / "content"
    for spoil in (None, Path.unlink, lambda path: path.write_bytes(b"")):
        with elsewhere(tmp_path / "cache") as (target, _):
            target.plugins("backend")
            if spoil is not None:
                held = list(content.glob("*/data"))
                assert held
                for path in held:
                    spoil(path)
            (result,) = target.run([job(golden, ["numpy"], ["onnxrt"])])
        assert not [f for f in (*result.features.values(), *result.activations.values()) if isinstance(f, Failure)]


@pytest.mark.usefixtures("alone")
def test_what_is_lost_again_and_again_is_given_up(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that can't be read comes again however often it is asked for: an error of its pair, not a loop."""
    monkeypatch.setattr(channel, "MOST", 100_000)
    with elsewhere(tmp_path / "cache") as (target, link):
        (result,) = target.run([job(golden, ["numpy"], [])])
        assert len(link._started) == 3
    found = result.features["numpy"]
    assert isinstance(found, Failure)
    assert found.reason == "what it says can't be read: arrays of over 100000 bytes"


@pytest.mark.usefixtures("alone")
def test_a_device_tells_what_it_took(golden: Path, tmp_path: Path) -> None:
    with elsewhere(tmp_path / "cache") as (target, _):
        done, _ = ran(target, golden, tmp_path / "reports", precisions=("float32",))
    rows = {(t["stage"], t["plugin"]): t for t in done.timings if t.get("target") == "there"}
    assert rows["features", "numpy"]["clip_ms"][0] <= rows["features", "numpy"]["clip_ms"][1]
    assert rows["features", "numpy"]["warm_up"] == 1
    assert rows["features", "numpy"]["rtf"] > 0
    assert rows["open", "onnxrt"]["seconds"] > 0
    assert rows["memory", "onnxrt"]["peak_bytes"] > 10_000_000
    assert rows["memory", "numpy"]["peak_bytes"] < rows["memory", "onnxrt"]["peak_bytes"]


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("plugin", "cause"),
    [
        ("Aborts", "died of SIGABRT"),
        ("Exits", "ended with exit code 7; its last words: license server not found"),
        ("KilledForMemory", "killed (SIGKILL): out of memory, or by somebody"),
        ("Raises", "RuntimeError: kernel not implemented"),
        ("Hangs", "no answer within 5 s: stopped"),
        ("LeavesChildrenAndAborts", "died of SIGABRT"),
    ],
)
def test_a_runtime_that_fails_there_is_an_error_of_its_own_pair(
    plugin: str, cause: str, golden: Path, tmp_path: Path
) -> None:
    runtime = f"faulty.runtimes:{plugin}"
    with elsewhere(tmp_path / "cache", limit=5.0) as (target, _):
        done, _ = ran(target, golden, tmp_path, runtimes=(runtime, "onnxrt"), precisions=("float32",))
    assert done.exit_code == 1
    assert rig.failing(done, runtime=runtime) == [("model/logits", "error"), ("decision/label", "error")]
    for said in rig.messages(done, "error").splitlines():
        assert said.startswith(f"{runtime}: {cause}")
    assert {s.worst.outcome for s in done.summaries if s.runtime == "onnxrt"} == {"pass"}
    assert done.environment["targets"]["there"]["link"]["reconnects"] == 0


@pytest.mark.usefixtures("alone")
def test_a_link_that_is_lost_on_the_way_is_taken_up_where_it_was(golden: Path, tmp_path: Path) -> None:
    """In the middle of a network's clips: those that came aren't asked for again, and none is judged twice."""
    told = tmp_path / "asked"
    runtime = f"faulty.at_work:Slow:told={told}"
    with elsewhere(tmp_path / "cache") as (target, link):
        (undisturbed,) = target.run([job(golden, [], [runtime])])
        whole = told.read_bytes()
        told.write_bytes(b"")
        coming = target.run([job(golden, [], [runtime])])
        assert until(lambda: len(told.read_bytes()) == 2)  # the second clip is being computed
        link.cut()
        (result,) = coming
        reconnects = target.link()["reconnects"]
    key = "", runtime, "float32"
    right, found = undisturbed.activations[key], result.activations[key]
    assert not isinstance(right, Failure)
    assert not isinstance(found, Failure), found
    assert [sorted(o.taps) for o in found] == [sorted(o.taps) for o in right]
    for one, other in zip(right, found, strict=True):
        assert all((one.taps[t] == other.taps[t]).all() for t in one.taps)
    assert reconnects == 1
    assert len(whole) == 3
    assert len(told.read_bytes()) == 4  # the clip that was under way, once more


@pytest.mark.usefixtures("alone")
def test_a_link_that_stays_away_ends_the_run(golden: Path, tmp_path: Path) -> None:
    told = tmp_path / "asked"
    with elsewhere(tmp_path / "cache", patience=1.0) as (target, link):
        coming = target.run([job(golden, [], [f"faulty.at_work:Slow:told={told}"])])
        assert until(told.exists)
        link.cut(back=False)
        with pytest.raises(
            TargetError, match="there: the link was lost and isn't back after 1 s: there: no route"
        ) as e:
            list(coming)
    assert e.value.exit_code == 4


@pytest.mark.usefixtures("alone")
def test_a_far_side_that_is_killed_is_told_from_a_lost_link(golden: Path, tmp_path: Path) -> None:
    told = tmp_path / "asked"
    runtime = f"faulty.at_work:Slow:told={told}"
    with elsewhere(tmp_path / "cache") as (target, link):
        coming = target.run([job(golden, [], [runtime, "onnxrt"])])
        assert until(told.exists)
        shell = psutil.Process(link._started[-1].pid)
        (far,) = shell.children()
        far.send_signal(signal.SIGKILL)
        (result,) = coming
    failed = result.activations["", runtime, "float32"]
    assert isinstance(failed, Failure)
    assert failed.reason.startswith("the far side was killed (SIGKILL): out of memory, or by somebody")
    assert not isinstance(result.activations["", "onnxrt", "float32"], Failure)


@pytest.mark.usefixtures("alone")
def test_two_runs_at_once_share_a_device(golden: Path, tmp_path: Path) -> None:
    found: list[Any] = []

    def one(name: str) -> None:
        with elsewhere(tmp_path / "cache") as (target, _):
            found.append(ran(target, golden, tmp_path / name)[0].exit_code)

    both = [threading.Thread(target=one, args=(name,)) for name in ("a", "b")]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert found == [0, 0]
    assert not list((tmp_path / "cache").rglob(".part-*"))


def there(tmp_path: Path, script: str) -> Remote:
    """A place whose Python is a shell script."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    python.chmod(stat.S_IRWXU)
    return Remote(
        PythonLink("there", str(python), {"XDG_CACHE_HOME": str(tmp_path / "cache")}), str(python), patience=0.5
    )


HELLO = r"""printf '\0parity-far-1\n'"""


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (r"printf '\0parity-python 3.9.2\n'; exit 9", "is 3.9.2 there; parity needs 3.11 or newer"),
        (r"printf 'motd\n\0parity-numpy /usr/bin/python3\n'; exit 9", "NumPy is not installed for /usr/bin/python3"),
        (r"printf '\0parity-disk /x: No space left on device\n'; exit 9", "can't be kept there: /x: No space left"),
        (
            r"printf '\0parity-\033[2Jdance\n'; sleep 9",
            "not parity's far side: it said '\ufffd\\[2Jdance'",
        ),
        ("yes", "not parity's far side: it prints 'y' without end"),
        ("exit 127", "there is no Python there"),
        (
            "echo Illegal instruction >&2; exit 132",
            "exit code 132; its last words: Illegal instruction",
        ),
        (f"{HELLO}; head -c 4096 /dev/urandom", "what answers there|the link was lost|can't be started"),
        (f"{HELLO}; head -c 99999999 /dev/zero", "what answers there|the link was lost|can't be started"),
    ],
)
def test_what_is_there_in_the_place_of_the_far_side_is_told(script: str, words: str, tmp_path: Path) -> None:
    place = there(tmp_path, script)
    with pytest.raises((ConfigError, TargetError), match=words):
        place.plugins("backend")
    place.close()


def test_a_python_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match="python:/no/such: there is no Python at /no/such"):
        Remote(PythonLink("python:/no/such", "/no/such"), "/no/such").plugins("backend")


@pytest.mark.usefixtures("alone")
def test_a_damaged_far_side_is_sent_again(tmp_path: Path) -> None:
    for again, spoil in ((True, None), (False, b"spoilt"), (True, b""), (True, None)):
        with elsewhere(tmp_path / "cache") as (target, _):
            assert target.plugins("backend")["numpy"] == ""
            sent = target.link()["sent"]
        (file,) = (tmp_path / "cache" / "parity" / "agent").iterdir()
        assert (sent > 50_000) == again
        assert file.read_bytes() == channel.bundle().data
        if spoil is not None:
            file.write_bytes(spoil)


@pytest.mark.usefixtures("alone")
def test_nothing_runs_there_when_this_side_is_killed(golden: Path, tmp_path: Path) -> None:
    told = tmp_path / "hangs"
    arguments = ["run", "--system", "commands-cnn", "--backend", "numpy", "--precision", "float32", "--golden",
                 str(golden), "--runtime", "faulty.runtimes:Hangs", "--report", str(tmp_path / "reports"),
                 "--target", f"python:{sys.executable}"]  # fmt: skip
    environment = rig.environment(TELL_HANGING=str(told), XDG_CACHE_HOME=str(tmp_path / "cache"))
    process = subprocess.Popen(
        [sys.executable, "-m", "parity", *arguments], cwd=rig.ROOT, stdout=subprocess.DEVNULL, env=environment
    )
    assert until(told.exists)
    found = psutil.Process(process.pid).children(recursive=True)
    assert len(found) >= 3
    process.kill()
    process.wait()
    assert until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in found))


def test_silence_ends_the_far_side(tmp_path: Path) -> None:
    (tmp_path / "far.pyz").write_bytes(channel.bundle().data)
    begun = time.monotonic()
    done = subprocess.Popen([sys.executable, str(tmp_path / "far.pyz"), "1.5"], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)})  # fmt: skip
    assert done.wait(30) == 0
    assert time.monotonic() - begun > 1.5
    assert done.stderr is not None
    assert b"nothing heard for 1.5 s" in done.stderr.read()
    done.communicate()


def test_a_local_target_named_is_measured_clip_by_clip() -> None:
    with LocalTarget(apart=True) as target:
        assert target.apart
        assert target.link() == {}


@pytest.mark.parametrize("name", ["GoldenError", "NothingCompared", "NoSuchError"])
def test_a_device_does_not_choose_our_exit_code(name: str) -> None:
    with pytest.raises(WorkerDiedError, match="it says: all is lost"):
        remote._checked({"error": name, "message": "all is lost", "hint": "weep"})
    with pytest.raises(ConfigError, match="no such model"):
        remote._checked({"error": "ModelError", "message": "no such model"})
