"""Workers elsewhere: behind a link there is a far side, which has them.

A link that is lost is taken up again: the far side is started anew, plugins are loaded and models opened as before, and
a request goes on with the clips that haven't come back. Models and clips are sent once, by the hash of their bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import re
import shlex
import signal
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from parity import errors, registry
from parity import frontend as fe
from parity.errors import ConfigError, ModelError, TargetError
from parity.protocols import Array, Artifact
from parity.targets import answers, far, wire
from parity.targets.channel import Channel, LostError
from parity.targets.link import Link
from parity.targets.worker import PluginRaisedError, WorkerDiedError

PATIENCE = 90.0
"""Seconds in which a lost link must be back: a small board boots in less."""
_SMALL = 1024
"""Bytes of an array up to which it isn't worth a reference."""
_SLACK = 30.0
"""Seconds that an answer may take on its way, beyond a worker's limit."""
_REMEMBERED = 32 << 20
_AGAIN = 3
"""Times that the link may be lost over one request, and nothing come back in between."""


class _LostLinkError(TargetError):
    """Lost while the far side was being started: it may be worth a second try."""


class Remote:
    """The place behind a link. `python` is the interpreter there; `limit` seconds a reply of a worker may take."""

    apart = True

    def __init__(self, link: Link, python: str | None = None, limit: float = 120.0, patience: float = PATIENCE) -> None:
        self.name, self.limit, self.patience = link.name, limit, patience
        self._link, self._python = link, python
        self._guard = threading.RLock()
        self._channel: Channel | None = None
        self._was: list[Channel] = []
        self._given: OrderedDict[int, tuple[Array, tuple[int, int]]] = OrderedDict()
        self._files: dict[str, str] = {}
        self._workers = 0
        self.closing = False
        self._hello: dict[str, Any] = {}

    # ---- the far side ----

    def channel(self) -> Channel:
        """The far side, started where it isn't. TargetError where it can't be reached, ConfigError to be mended."""
        with self._guard:
            if self.closing:
                raise WorkerDiedError("stopped")
            if self._channel is None:
                self._link.connect()  # who can't be reached at first isn't waited for
                try:
                    self._channel = self._opened()
                except _LostLinkError as e:
                    self._channel = self._taken_up(e.message)
            elif self._channel.lost is not None:
                self._channel = self._again(self._channel)
            return self._channel

    def _opened(self) -> Channel:
        fresh = Channel(self._link, self._python)
        self._was.append(fresh)
        try:
            fresh.open()
        except LostError as e:
            code, words = fresh.ending(), fresh.last_words()
            fresh.close()
            if code in (126, 127):
                raise ConfigError(f"{self.name}: there is no Python there: {words or self._python or 'python3'}",
                                  "name it: `python` of the target in parity.toml; on a Raspberry Pi: "
                                  "sudo apt install python3") from None  # fmt: skip
            if code is not None:
                said = f"; its last words: {words}" if words else ""
                raise ConfigError(f"{self.name}: the far side can't be started: exit code {code}{said}",
                                  f"parity target check {shlex.quote(self.name)}") from None  # fmt: skip
            raise _LostLinkError(f"{self.name}: the link was lost: {e}", "the same command again") from None
        except BaseException:
            fresh.close()
            raise
        self._hello = self._machine(fresh.hello)
        return fresh

    def _again(self, old: Channel) -> Channel:
        """Another far side in the place of one that was lost."""
        old.close()
        self._given.clear()
        return self._taken_up(old.lost)

    def _taken_up(self, why: str | None) -> Channel:
        """A lost link, taken up. TargetError when it isn't back in time."""
        deadline, wait = time.monotonic() + self.patience, 0.0
        while not self.closing:
            time.sleep(wait)
            try:
                if not self._link.alive:
                    self._link.connect()
                return self._opened()
            except TargetError as e:
                why, wait = e.message, min(max(0.5, 2 * wait), 8.0)
                if time.monotonic() + wait > deadline:
                    raise TargetError(
                        f"{self.name}: the link was lost and isn't back after {self.patience:g} s: {why}",
                        "the same command again sends nothing twice",
                    ) from None
        raise WorkerDiedError("stopped")

    def ended(self, channel: Channel) -> str | None:
        """How the far side itself died, though the link stands; None where it is the link that was lost."""
        code = channel.ending()
        if code is None or code in (0, 255):
            return None
        words = f"; its last words: {said}" if (said := channel.last_words()) else ""
        if code == 128 + signal.SIGKILL:
            return f"the far side was killed (SIGKILL): out of memory, or by somebody{words}"
        how = f"died of signal {code - 128}" if code > 128 else f"ended with exit code {code}"
        return f"the far side {how}{words}"

    def ask(self, message: dict[str, Any], limit: float = 60.0) -> dict[str, Any]:
        """A request to the far side itself, again when the link was lost meanwhile."""
        for _ in range(_AGAIN):
            channel = self.channel()
            try:
                return _checked(next(channel.ask(message, 1, limit)))
            except LostError:
                continue
        raise self.again_and_again(channel)

    def again_and_again(self, channel: Channel) -> errors.ParityError:
        """Why a request is given up, for which the link was lost each time."""
        if channel.strange is not None:
            return self._stranger(channel.strange)
        why = channel.lost
        return TargetError(f"{self.name}: the link is lost again and again: {why}", "the same command again")

    # ---- a place ----

    def worker(self, kind: str, spec: str) -> RemoteWorker:
        with self._guard:
            self._workers += 1
            return RemoteWorker(self, kind, spec, f"{kind} {spec} {self._workers}")

    def artifact(self, artifact: Artifact) -> Artifact:
        changes: dict[str, Any] = {"path": self._file(Path(artifact.path))}
        if artifact.network is not None:
            file, _, name = artifact.network.rpartition(":")
            changes["network"] = f"{self._file(Path(file))}:{name}"
        if artifact.ranges is not None:
            changes["ranges"] = None  # bounds are derived on this side
        return dataclasses.replace(artifact, **changes)

    def _file(self, path: Path) -> str:
        """Where a file is there; sent if it isn't."""
        if (known := self.channel().files.get(path)) is not None:
            return known
        try:
            data = path.read_bytes()
        except OSError as e:
            raise ModelError(f"{path} can't be read: {e.strerror}", "export it again") from None
        if len(data) > wire.MAX_ARRAYS:
            raise ModelError(f"{path} is too large to be sent: {len(data) / 1e9:.1f} GB", "2.1 GB are the most")
        sha256, name = hashlib.sha256(data).hexdigest(), _plain_name(path.name)
        with self._guard:
            channel = self.channel()
            there = f"{channel.content}/{sha256}/{name}"
            file = {"sha256": sha256, "name": name}
            # By its name, too: the same bytes may be there under another.
            if self.ask({"do": "has", **file}).get("has") is not True:
                self.ask({"do": "hold", **file, "data": np.frombuffer(data, np.uint8)}, 600.0)
            channel.files[path] = there
            self._files[f"{sha256}/{name}"] = str(path)
            return there

    def plugins(self, kind: registry.Kind) -> Mapping[str, str]:
        try:
            return answers.texts(self.ask({"do": "plugins", "kind": kind}).get("plugins"))
        except wire.WireError as e:
            raise self._stranger(e) from None

    def how_to_install(self, plugin: registry.Plugin) -> str:
        return self._link.how_to_install([d for _, d in plugin.needs], plugin.name)

    def facts(self, now: bool) -> dict[str, Any]:
        self.channel()
        return self._machine(self.ask({"do": "facts"}).get("facts")) if now else dict(self._hello)

    def _machine(self, told: Any) -> dict[str, Any]:
        """What the machine says of itself, if it has the form. ConfigError where it hasn't."""
        try:
            return answers.machine(told)
        except wire.WireError as e:
            raise self._stranger(e) from None

    def _stranger(self, why: object) -> ConfigError:
        return ConfigError(f"{self.name}: what answers there is not parity's far side: {why}",
                           f"what does it print? parity target check {shlex.quote(self.name)}")  # fmt: skip

    def link(self) -> dict[str, Any]:
        return {
            "address": self._link.address,
            "sent": sum(c.sent for c in self._was),
            "received": sum(c.received for c in self._was),
            "arrays": sum(c.arrays for c in self._was),
            "connections": len(self._was),
            "reconnects": len(self._was) - 1,
        }

    def close(self) -> None:
        self.closing = True
        channel = self._channel
        if channel is not None:
            channel.close()
        self._link.close()

    # ---- arrays that are there already ----

    def packed(self, value: Any, channel: Channel, *, whole: bool) -> Any:
        """A request with what the far side has in place of arrays; `whole`: with all of them."""
        if isinstance(value, np.ndarray):
            if value.nbytes < _SMALL:
                return value
            with self._guard:
                if (given := self._given.get(id(value))) is not None:
                    return value if whole else {"$given": list(given[1])}
            value = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("="))
            sha256 = hashlib.sha256(value.data).hexdigest()
            if sha256 in channel.held and not whole:
                return {"$held": [sha256, value.dtype.name, list(value.shape)]}
            channel.held.add(sha256)
            return {"$keep": sha256, "array": value}
        if isinstance(value, dict):
            return {k: self.packed(v, channel, whole=whole) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.packed(v, channel, whole=whole) for v in value]
        return value

    def remember(self, number: int, output: str, reply: Mapping[str, Any]) -> None:
        """Features that came from there: a network there needn't be sent them."""
        with self._guard:
            for i, clip in enumerate(reply["clips"]):
                if (array := clip["taps"].get(output)) is not None:
                    self._given[id(array)] = array, (number, i)
            while sum(a.nbytes for a, _ in self._given.values()) > _REMEMBERED:
                self._given.popitem(last=False)

    def here(self, text: str) -> str:
        """What the far side says, with this side's paths in place of its cache's."""
        for there, path in self._files.items():
            text = re.sub(r"[^\s'\"]*/" + re.escape(there), lambda _, p=path: p, text)  # type: ignore[misc]
        return text


class RemoteWorker:
    """A worker on the far side; it outlives the link, as far as whoever asks it can see."""

    def __init__(self, place: Remote, kind: str, spec: str, name: str) -> None:
        self.kind, self.spec = kind, spec
        self.opened: set[str] = set()
        self.versions: Mapping[str, str] = {}
        self._place, self._name = place, name
        self._channel: Channel | None = None
        self._models: list[dict[str, Any]] = []
        self._dead: str | None = None

    @property
    def alive(self) -> bool:
        return self._dead is None

    def load(self) -> None:
        self.request({"do": "load", "kind": self.kind, "spec": self.spec})

    def request(self, message: dict[str, Any]) -> Any:
        return next(self.requests(message, 1))

    def requests(self, message: dict[str, Any], replies: int) -> Iterator[Any]:
        """As a worker here answers; where the link is lost on the way, what hasn't come is asked for again."""
        done, died, lost = 0, 0, 0
        rest = message
        while done < replies:
            channel = self._place.channel()
            try:
                if channel is not self._channel:
                    self._begin(channel, message)
                for reply in self._asked(channel, rest, replies - done):
                    done, lost = done + 1, 0
                    rest = _rest(rest, reply)
                    if message["do"] == "open":
                        self._models.append(message)
                    elif message["do"] == "close":
                        self._models.clear()
                    yield reply
            except LostError:
                how = self._place.ended(channel)
                if how is None:
                    lost += 1
                    if lost < _AGAIN:
                        continue
                    if channel.strange is not None:
                        self._dead = channel.strange
                        raise WorkerDiedError(self._dead) from None
                    raise self._place.again_and_again(channel) from None
                died += 1
                if died > 1 or message["do"] != "load":
                    self._dead = how
                    raise WorkerDiedError(how) from None

    def _begin(self, channel: Channel, message: dict[str, Any]) -> None:
        """A process of its own on a far side that hasn't one yet, in the state that it was in."""
        start = {"do": "start", "worker": self._name, "kind": self.kind, "spec": self.spec, "limit": self._place.limit}
        _checked(next(channel.ask(start, 1, _SLACK)))
        self._channel = channel
        if message["do"] != "load":
            list(self._asked(channel, {"do": "load", "kind": self.kind, "spec": self.spec}, 1))
        for model in self._models:
            list(self._asked(channel, model, 1))

    def _asked(self, channel: Channel, message: dict[str, Any], replies: int) -> Iterator[dict[str, Any]]:
        whole = False
        done = 0
        while done < replies:
            asked = {"do": "ask", "worker": self._name, "replies": replies - done,
                     "request": self._place.packed(message, channel, whole=whole)}  # fmt: skip
            try:
                for answer in channel.ask(asked, replies - done, self._place.limit + _SLACK):
                    reply = self._reply(message, answer)
                    if message["do"] == "features":
                        self._place.remember(answer["id"], fe.from_plain(message["frontend"]).output, reply)
                    done += 1
                    message = _rest(message, reply)
                    yield reply
            except far.Forgotten:
                if whole:
                    raise WorkerDiedError("it says that it wasn't sent what it was sent") from None
                whole = True

    def _reply(self, message: Mapping[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        try:
            told = _checked(answer)
        except WorkerDiedError as e:
            if not isinstance(e, PluginRaisedError):
                self._dead = str(e)
            raise type(e)(self._place.here(str(e))) from None
        except far.Forgotten:
            raise
        except errors.ParityError as e:
            raise type(e)(self._place.here(e.message), e.hint and self._place.here(e.hint)) from None
        try:
            reply = answers.reply(message, told.get("reply"))
        except wire.WireError as e:
            self._dead = f"its answer can't be read: {e}"
            raise WorkerDiedError(self._dead) from None
        if message["do"] == "load":
            self.versions = reply["versions"]
        return reply

    def kill(self) -> None:
        self._dead = self._dead or "stopped"

    def close(self) -> None:
        self.kill()
        channel, self._channel = self._channel, None
        if channel is not None and channel.lost is None and not self._place.closing:
            with contextlib.suppress(LostError):
                next(channel.ask({"do": "stop", "worker": self._name}, 1, _SLACK))


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer of the far side; what it says went wrong is raised."""
    text = answer.get("message", "")
    if "error" in answer:
        if answer["error"] == far.Forgotten.__name__:
            raise far.Forgotten
        kind, hint = errors.named(answer["error"]), answer.get("hint")
        if not issubclass(kind, ConfigError):  # what a plugin may say; our own exit codes aren't a device's to choose
            raise WorkerDiedError(f"it says: {text}")
        raise kind(str(text), hint if isinstance(hint, str) else None)
    if "failed" in answer:
        raise PluginRaisedError(str(answer["failed"]))
    if "died" in answer:
        raise WorkerDiedError(str(answer["died"]))
    return answer


def _rest(message: dict[str, Any], reply: Mapping[str, Any]) -> dict[str, Any]:
    """A request for activations without the clip that has been answered; any other as it is."""
    if message["do"] not in ("run", "stream"):
        return message
    left: dict[str, Any] = {k: message[k][1:] for k in ("inputs", "taps", "moved") if k in message}
    if message["do"] == "stream" and reply.get("state"):
        left["state"] = reply["state"]
    return message | left


def _plain_name(name: str) -> str:
    """A file's name as the cache takes it; its ending stays."""
    plain = re.sub(r"[^A-Za-z0-9_.+-]", "-", name)[-90:]
    return plain if re.match(r"[A-Za-z0-9_]", plain) else f"f{plain}"
