"""ONNX Runtime that goes wrong on the second clip it is given (of every session), or as its name says."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from parity.protocols import Artifact, Session, Tap, Taps
from parity.runtimes.onnxrt import OnnxRuntime


class _Session:
    def __init__(self, session: Session, runtime: _Faulty) -> None:
        self._session, self._runtime, self._clips = session, runtime, 0
        self.tensors = session.tensors

    def run(self, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        self._clips += 1
        taps_of_clip = self._session.run(inputs, taps)
        return self._runtime.spoil(taps_of_clip) if self._clips == 2 or self._runtime.always else taps_of_clip


class _Faulty(OnnxRuntime):
    always = False
    """Goes wrong on every clip."""

    def spoil(self, taps: Taps) -> Taps:
        raise NotImplementedError

    @contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Iterator[Session]:
        with super().open(artifact, threads) as session:
            yield _Session(session, self)


class Aborts(_Faulty):
    def spoil(self, taps: Taps) -> Taps:
        os.abort()


class Exits(_Faulty):
    def spoil(self, taps: Taps) -> Taps:
        sys.stderr.write("license server not found\n")
        sys.stderr.flush()
        os._exit(7)


class Hangs(_Faulty):
    """Tells that it does by a file, where the environment names one."""

    def spoil(self, taps: Taps) -> Taps:
        if "TELL_HANGING" in os.environ:
            Path(os.environ["TELL_HANGING"]).touch()
        time.sleep(100_000)
        return taps


class KilledForMemory(_Faulty):
    """Ends as the kernel's OOM killer would end it."""

    def spoil(self, taps: Taps) -> Taps:
        os.kill(os.getpid(), signal.SIGKILL)
        return taps


class Segfaults(_Faulty):
    def spoil(self, taps: Taps) -> Taps:
        os.kill(os.getpid(), signal.SIGSEGV)
        return taps


class OutOfMemory(_Faulty):
    """Really asks for more than it may have: a gigabyte beyond a limit set for this process alone."""

    def spoil(self, taps: Taps) -> Taps:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 28, resource.getrlimit(resource.RLIMIT_AS)[1]))
        return {"model/logits": np.ones(1 << 27)}


class Raises(_Faulty):
    def spoil(self, taps: Taps) -> Taps:
        raise RuntimeError("kernel not implemented")


class AnswersAList(_Faulty):
    """The wrong number of outputs, by position: what a runtime's own API gives."""

    def spoil(self, taps: Taps) -> Taps:
        return list(taps.values())[:1]  # type: ignore[return-value]


class LosesLogits(_Faulty):
    def spoil(self, taps: Taps) -> Taps:
        return {t: a for t, a in taps.items() if t != "model/logits"}


class Doubles(_Faulty):
    """float64 logits."""

    def spoil(self, taps: Taps) -> Taps:
        return {t: np.asarray(a, np.float64) if t == "model/logits" else a for t, a in taps.items()}


class Gives(_Faulty):
    """The first element of one tap is another number, in every clip: options `tap` and `value`."""

    always = True

    def __init__(self, tap: str, value: str) -> None:
        super().__init__()
        self._tap, self._value = tap, float(value)

    def spoil(self, taps: Taps) -> Taps:
        spoilt = np.array(taps[self._tap])
        spoilt.reshape(-1)[0] = self._value
        return {**taps, self._tap: spoilt}


class Prints(_Faulty):
    """Talks on stdout, from Python and beneath it, and answers rightly."""

    def spoil(self, taps: Taps) -> Taps:
        sys.stdout.write("a progress bar\n" * 1000)
        sys.stdout.flush()
        os.write(1, b"\x00\x00\x00\x00 from C \xff\n" * 1000)
        return taps


class LeavesChildren(_Faulty):
    """Answers rightly, and leaves two processes behind, one of which ignores being asked to end."""

    def spoil(self, taps: Taps) -> Taps:
        for code in (
            "import time; time.sleep(100000)",
            "import signal, time; signal.signal(15, 1); time.sleep(100000)",
        ):
            subprocess.Popen([sys.executable, "-c", code])
        return taps


class LeavesChildrenAndAborts(LeavesChildren):
    def spoil(self, taps: Taps) -> Taps:
        super().spoil(taps)
        os.abort()
