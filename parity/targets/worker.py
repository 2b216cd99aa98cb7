"""A worker: a process with one plugin in it, that may abort, hang or be killed without harm to this one."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parity import errors
from parity.targets import wire

# One thread and quiet logs, whatever the library; the CPU only.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GRPC_VERBOSITY": "ERROR",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONHASHSEED": "0",
}


class WorkerDiedError(Exception):
    """A worker can't answer any more; the text says how it ended."""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class PluginRaisedError(WorkerDiedError):
    """The plugin raised something of its own; its process lives on."""


class Worker:
    """A process with one plugin in it; one request at a time."""

    def __init__(self, kind: str, spec: str, limit: float) -> None:
        self.kind, self.spec, self._limit = kind, spec, limit
        self.opened: set[str] = set()
        self.versions: Mapping[str, str] = {}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the worker
        # -P: the current folder must not shadow a library; parity itself may be run from a checkout.
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "parity.targets.agent"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
            env=os.environ | _ENVIRONMENT | {"PYTHONPATH": path}, start_new_session=True,
        )  # fmt: skip
        self._selector = selectors.DefaultSelector()
        assert self._process.stdout is not None
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        if hasattr(fcntl, "F_SETPIPE_SZ"):  # Linux: arrays come in fewer pieces
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, 1 << 20)

    def load(self) -> None:
        """Import the plugin, over there."""
        self.versions = self.request({"do": "load", "kind": self.kind, "spec": self.spec})["versions"]

    def request(self, message: dict[str, Any]) -> Any:
        """One request, one reply."""
        return next(self.requests(message, 1))

    def requests(self, message: dict[str, Any], replies: int) -> Iterator[Any]:
        """One request, so many replies, each within the limit.

        A ParityError of the far side is raised here; WorkerDiedError for a death, a hang or a foreign exception.
        """
        stdin = self._process.stdin
        assert stdin is not None
        try:
            for part in wire.encode(message):
                stdin.write(part)
            stdin.flush()
        except (BrokenPipeError, OSError):
            raise WorkerDiedError(self._ending()) from None
        for _ in range(replies):
            deadline = time.monotonic() + self._limit
            try:
                reply = wire.decode(functools.partial(self._read, deadline=deadline))
            except wire.WireError as e:
                self.kill()
                raise WorkerDiedError(f"its answer can't be read: {e}") from None
            if "error" in reply:
                raise errors.named(reply["error"])(reply["message"], reply["hint"])
            if "failed" in reply:
                raise PluginRaisedError(reply["failed"])
            yield reply

    def _read(self, n: int, deadline: float) -> bytearray:
        data, done = bytearray(n), 0
        assert self._process.stdout is not None
        while done < n:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                self.kill()
                self._process.wait()
                raise WorkerDiedError(f"no answer within {self._limit:g} s: stopped")
            got = os.readv(self._process.stdout.fileno(), [memoryview(data)[done:]])
            if not got:
                raise WorkerDiedError(self._ending())
            done += got
        return data

    def _ending(self) -> str:
        """How the process ended, with the last line it wrote to stderr."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._process.wait()
        if code == -signal.SIGKILL:
            how = "killed (SIGKILL): out of memory, or by somebody"
        else:
            how = f"died of {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 4096))
        last = [line for line in self._log.read().decode(errors="replace").splitlines() if line.strip()][-1:]
        return how + (f"; its last words: {last[0].strip()[:200]}" if last else "")

    def kill(self) -> None:
        """End the process and all that it started, at once; whoever waits for its answer is told."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # it leads a group of its own

    @property
    def alive(self) -> bool:
        """Whether it can take requests."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process and wait for it; nothing that it started stays."""
        self.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._selector.close()
        self._log.close()
