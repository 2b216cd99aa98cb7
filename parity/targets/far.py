"""The one process on the far side: it starts workers there, relays requests to them, and keeps what it was sent.

It talks over stdin and stdout in the messages of `wire`. Requests (each with an `id`; answers carry it):

    plugins   {kind}                             -> {plugins}: name -> what it lacks
    facts     {}                                 -> {facts}: what the machine says of itself now
    has       {sha256, name}                     -> {has}: whether the cache has that file, whole
    hold      {sha256, name, data}               -> {}: bytes of a file, for the cache
    start     {worker, kind, spec, limit}        -> {}: a process for a plugin; `ask` it to load
    ask       {worker, request, replies}         -> so many {reply}
    stop      {worker}                           -> {}: kill it
    ping      without an id                      -> {pong}

An array that is there already stands in a request as `{"$held": [sha256, dtype, shape]}`, or, as one that a backend
gave a moment ago, as `{"$given": [id, clip]}`. When stdin ends, or nothing is heard for a while, every worker is
killed, and this process ends.
"""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import signal
import sys
import threading
import time
from collections import OrderedDict
from typing import Any

import numpy as np

from parity import frontend as fe
from parity import registry
from parity.errors import ParityError
from parity.protocols import Array
from parity.targets import machine, wire
from parity.targets.cache import Cache
from parity.targets.worker import PluginRaisedError, Worker, WorkerDiedError

MAGIC = b"\0parity-far-1\n"
"""What comes before the first message: a login shell may have printed something before it."""
SILENCE = 60.0
"""Seconds without a word from the other side after which the link is taken for lost."""
CONTENT = "data"
"""The name of an array's file in the cache."""
_REMEMBERED = 64 << 20
"""Bytes of features that are kept in case a network is run on them."""


class Far:
    """The far side of one link; `answer` takes a request."""

    def __init__(self, out: Any, cache: Cache) -> None:
        self._out, self._cache = out, cache
        self._writing = threading.Lock()
        self._lanes: dict[str, _Lane] = {}
        self._given: OrderedDict[tuple[int, int], Array] = OrderedDict()
        self._guard = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        """Write a message, whole."""
        parts = wire.encode(message)
        with self._writing:
            for part in parts:
                self._out.write(part)
            self._out.flush()

    def answer(self, message: dict[str, Any]) -> None:
        """Take a request. What a worker is asked is answered from a thread of its own."""
        if message["do"] == "ping":
            self.send({"pong": True})
            return
        with self._telling(message["id"]):
            getattr(self, "_" + message.pop("do"))(**message)

    @contextlib.contextmanager
    def _telling(self, number: int) -> Any:
        """What goes wrong, as an answer."""
        try:
            yield
        except ParityError as e:
            self.send({"id": number, "error": type(e).__name__, "message": e.message, "hint": e.hint})
        except PluginRaisedError as e:
            self.send({"id": number, "failed": str(e)})
        except WorkerDiedError as e:
            self.send({"id": number, "died": str(e)})
        except BrokenPipeError:
            raise
        except Exception as e:  # a request that isn't one, or a fault of ours: never the end of the others
            self.send({"id": number, "died": f"the far side failed: {type(e).__name__}: {e}"})

    def _plugins(self, id: int, kind: registry.Kind) -> None:
        self.send({"id": id, "plugins": registry.lacking(kind)})

    def _facts(self, id: int) -> None:
        self.send({"id": id, "facts": machine.facts(str(self._cache.folder)) | {"numpy": np.__version__}})

    def _has(self, id: int, sha256: str, name: str) -> None:
        self.send({"id": id, "has": self._cache.use(sha256, name) is not None})

    def _hold(self, id: int, sha256: str, name: str, data: Array) -> None:
        self._cache.put(sha256, name, data.tobytes())
        self.send({"id": id})

    def _start(self, id: int, worker: str, kind: registry.Kind, spec: str, limit: float) -> None:
        self._stopped(worker)
        self._lanes[worker] = _Lane(self, kind, spec, limit)
        self.send({"id": id})

    def _ask(self, id: int, worker: str, request: dict[str, Any], replies: int) -> None:
        if worker not in self._lanes:
            raise WorkerDiedError("it isn't there any more")
        self._lanes[worker].requests.put((id, request, replies))

    def _stop(self, id: int, worker: str) -> None:
        self._stopped(worker)
        self.send({"id": id})

    def _stopped(self, worker: str) -> None:
        if (lane := self._lanes.pop(worker, None)) is not None:
            lane.stop()

    def relay(self, worker: Worker, number: int, request: dict[str, Any], replies: int) -> None:
        """Ask a worker, and pass on what it says."""
        with self._telling(number):
            recipe = request.get("frontend") if request.get("do") == "features" else None
            for reply in worker.requests(self._unpacked(request), replies):
                if recipe is not None:
                    self._remember(number, fe.from_plain(recipe).output, reply)
                self.send({"id": number, "reply": reply})

    def _remember(self, number: int, output: str, reply: dict[str, Any]) -> None:
        """Features, which a network may be asked to run on."""
        with self._guard:
            for i, clip in enumerate(reply["clips"]):
                if output in clip["taps"]:
                    self._given[number, i] = clip["taps"][output]
            while sum(a.nbytes for a in self._given.values()) > _REMEMBERED:
                self._given.popitem(last=False)

    def _unpacked(self, value: Any) -> Any:
        """A request with its arrays in place of what stands for them, and kept for the next time."""
        if isinstance(value, list):
            return [self._unpacked(v) for v in value]
        if not isinstance(value, dict):
            return value
        if value.keys() == {"$keep", "array"}:
            with contextlib.suppress(ParityError):  # a full disk costs the next run its time, not this one its answer
                self._cache.put(value["$keep"], CONTENT, np.ascontiguousarray(value["array"]).tobytes())
            return value["array"]
        if value.keys() == {"$held"}:
            sha256, dtype, shape = value["$held"]
            path = self._cache.use(sha256, CONTENT)
            data = bytearray(path.read_bytes()) if path is not None and dtype in wire.DTYPES else bytearray()
            try:
                return np.frombuffer(data, dtype).reshape(shape)
            except ValueError:
                raise Forgotten from None
        if value.keys() == {"$given"}:
            with self._guard:
                given = self._given.get(tuple(value["$given"]))  # from JSON: a list
            if given is None:
                raise Forgotten
            return given
        return {k: self._unpacked(v) for k, v in value.items()}

    def end(self) -> None:
        """Kill every worker."""
        for lane in list(self._lanes.values()):
            lane.kill()


class Forgotten(ParityError):
    """An array that a request refers to isn't there any more: to be sent again."""

    def __init__(self) -> None:
        super().__init__("an array isn't there any more")


class _Lane:
    """A worker and the thread that waits for its answers: one request at a time, in order."""

    def __init__(self, far: Far, kind: registry.Kind, spec: str, limit: float) -> None:
        self.requests: queue.SimpleQueue[tuple[int, dict[str, Any], int] | None] = queue.SimpleQueue()
        self._far, self._what = far, (kind, spec, limit)
        self._worker: Worker | None = None
        self._killed = False
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        # Started by the thread that stays with it: the kernel ends a worker with the thread that made it.
        self._worker = Worker(*self._what)
        if self._killed:
            self._worker.kill()
        with contextlib.suppress(BrokenPipeError):
            while (asked := self.requests.get()) is not None:
                self._far.relay(self._worker, *asked)
        self._worker.close()

    def kill(self) -> None:
        """End the process at once."""
        self._killed = True
        if self._worker is not None:
            self._worker.kill()

    def stop(self) -> None:
        """End the process, and then the thread."""
        self.kill()
        self.requests.put(None)


def _reader(source: int, silence: float) -> Any:
    """read(n) from a file descriptor; EOFError when it ends, TimeoutError when it is silent."""
    selector = selectors.DefaultSelector()
    selector.register(source, selectors.EVENT_READ)

    def read(n: int) -> bytearray:
        data, done = bytearray(n), 0
        while done < n:
            if not selector.select(silence):
                raise TimeoutError
            got = os.readv(source, [memoryview(data)[done:]])
            if not got:
                raise EOFError
            done += got
        return data

    return read


def main() -> None:
    """Serve until the other side goes: `parity-far.pyz [SECONDS of silence]`."""
    signal.signal(signal.SIGHUP, lambda *_: os._exit(0))
    source, out = os.dup(0), os.fdopen(os.dup(1), "wb", buffering=1 << 16)
    os.dup2(2, 1)  # what anything prints
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    silence = float(sys.argv[1]) if len(sys.argv) > 1 else SILENCE
    folder = machine.cache_folder()
    # What libraries leave in a user's cache (ONNX Runtime: an id and a database) is ours to clean up, too.
    os.environ["XDG_CACHE_HOME"] = str(folder / "libraries")
    cache = Cache(folder)
    cache.tidy()
    far = Far(out, cache)
    out.write(MAGIC)
    root = str(folder / "content")
    far.send({"hello": machine.facts(str(folder)) | {"numpy": np.__version__}, "content": root, "held": cache.held()})
    read = _reader(source, silence)
    begun = time.monotonic()
    try:
        while True:
            far.answer(wire.decode(read))
    except (EOFError, BrokenPipeError):
        pass
    except TimeoutError:
        print(f"nothing heard for {silence:g} s after {time.monotonic() - begun:.0f} s: ended", file=sys.stderr)
    finally:
        far.end()
        sys.stderr.flush()
        os._exit(0)  # threads that wait for dead workers, or for a reader that has gone
