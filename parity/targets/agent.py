"""The far side: one process that holds one plugin and answers requests over stdin and stdout.

It runs wherever the computing happens and needs NumPy and the standard library, beside the framework of its plugin.
Requests: `load`, `describe`, `features`, `open`, `close`, and `run`, which answers once a clip, so that a death names
its clip.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from parity import frontend as fe
from parity import layout, registry
from parity.errors import ConfigError, ModelError, ParityError
from parity.protocols import Array, Artifact, Clip, Port, Raw, State, Tap, Tensor, Unsupported, arithmetic_of
from parity.taps import MODEL_INPUT
from parity.targets import wire
from parity.targets.pieces import InPieces, constants, remembers


def artifact_from_plain(plain: dict[str, Any]) -> Artifact:
    """The inverse of `dataclasses.asdict` for an artifact."""
    taps = {tap: Port(**port) for tap, port in plain["taps"].items()}
    state = tuple(State(**{**s, "shape": tuple(s["shape"])}) for s in plain["state"])
    nested = {"input": Port(**plain["input"]), "taps": taps, "shape": tuple(plain["shape"]), "state": state}
    return Artifact(**{**plain, **nested})


def check_shape(artifact: Artifact, declared: Tensor | None, features: Array) -> None:
    """ModelError, in the user's terms, where the features of a clip don't fit the network."""
    frames, bands = artifact.shape
    width = features.shape[1] if features.ndim == 2 else 1  # raw audio is [samples]
    if features.ndim in (1, 2) and width == bands and frames in (None, features.shape[0]):
        tensor = layout.native(features, artifact.input.layout)
        if declared is None or (
            len(declared.shape) == tensor.ndim
            and all(w in (None, n) for w, n in zip(declared.shape, tensor.shape, strict=True))
        ):
            return
        if (takes := _other_frames(declared, tensor, artifact.input.layout)) is not None:
            raise ModelError(
                f"{artifact.path} takes {takes} frames; this clip gives {features.shape[0]}",
                f"set frontend.input.length ({takes} frames) in system.toml, or model.shape = [{takes}, {bands}] and "
                "parity says how many samples that takes",
            )
        wanted = [n if n is not None else "any" for n in declared.shape]
        raise ModelError(
            f"{artifact.path} takes an input of shape {wanted}; the frontend's features {list(features.shape)} "
            f"[frames, bands] are {list(tensor.shape)} in its layout {artifact.input.layout!r}",
            "mend the frontend (its input.length gives the frames), or the input's layout in system.toml",
        )
    raise ModelError(
        f"{artifact.path} takes {frames or 'any number of'} frames of {bands} bands; "
        f"the frontend gives {list(features.shape)} [frames, bands]",
        "set frontend.input.length, or model.shape, in system.toml",
    )


def _other_frames(declared: Tensor, tensor: Array, names: str) -> int | None:
    """The frames that a network takes where that is all that doesn't fit."""
    if "T" not in names or "(" in names or len(declared.shape) != tensor.ndim:
        return None
    time = names.index("T")
    rest = [w in (None, n) for i, (w, n) in enumerate(zip(declared.shape, tensor.shape, strict=True)) if i != time]
    return declared.shape[time] if all(rest) else None


def to_input(features: Array, artifact: Artifact, declared: Tensor | None) -> Array:
    """Features as the network's own input tensor; quantized by its scale where it takes integers and they are floats.

    Features of an integer recipe are fed as they are, or moved by the zero point where the input counts the same whole
    numbers from another one (uint8 features, int8 input). ModelError where they can't become the input without loss.
    """
    x = layout.native(features, artifact.input.layout)
    if declared is None or declared.dtype == x.dtype.name:
        return x
    if declared.scale is not None and np.issubdtype(x.dtype, np.floating):
        info = np.iinfo(declared.dtype)
        return np.clip(np.rint(x / np.float32(declared.scale)) + declared.zero_point, info.min, info.max).astype(
            declared.dtype
        )
    if _counts_alike(x.dtype, declared):
        return (x.astype(np.int64) + declared.zero_point).astype(declared.dtype)
    if np.issubdtype(np.dtype(declared.dtype), np.integer) and not np.can_cast(x.dtype, declared.dtype):
        raise ModelError(
            f"{artifact.path} takes {declared.dtype}; the frontend's features are {x.dtype.name}",
            "quantize them as the network was trained: [frontend.quantize] in system.toml",
        )
    with np.errstate(over="ignore"):  # float16: an infinity is judged as one
        return x.astype(declared.dtype)


def _counts_alike(features: np.dtype[Any], declared: Tensor) -> bool:
    """Whether an integer input of step 1 holds every whole number of the features' own type, counted from elsewhere."""
    if declared.scale != 1.0 or not all(np.issubdtype(d, np.integer) for d in (features, np.dtype(declared.dtype))):
        return False
    given, taken = np.iinfo(features), np.iinfo(declared.dtype)
    return taken.min <= given.min + declared.zero_point and given.max + declared.zero_point <= taken.max


def from_input(x: Array, features: Array, artifact: Artifact, declared: Tensor | None) -> Array:
    """What the network was fed with, as it stands at `model/input`: of the dtype of the features it was made from."""
    x, port = unflattened(x, features, artifact.input)
    if x.dtype == features.dtype:
        return layout.time_major(x, port.layout)
    if declared is not None and _counts_alike(features.dtype, declared):
        x = x.astype(np.int64) - declared.zero_point
    return from_output(x, port, declared if np.issubdtype(features.dtype, np.floating) else None).astype(features.dtype)


def unflattened(x: Array, features: Array, port: Port) -> tuple[Array, Port]:
    """An input that the file takes flattened as it was before, with its layout then; any other as it is."""
    port = dataclasses.replace(port, layout=layout.plain(port.layout))
    return x.reshape(layout.native(features, port.layout).shape), port


def from_output(value: Array, port: Port, declared: Tensor | None) -> Array:
    """A tensor of the network as it stands at a tap: time-major, dequantized."""
    raw = integers_of(value, port, declared) if np.issubdtype(value.dtype, np.integer) else None
    if raw is None:
        return layout.time_major(value, port.layout)
    x = raw.integers.astype(np.float32)
    return ((x - np.float32(raw.zero_point)) * np.float32(raw.scale)).astype(np.float32)


def integers_of(value: Array, port: Port, declared: Tensor | None) -> Raw | None:
    """The integers of a quantized tensor, time-major; None where it isn't one.

    A float tensor with a scale is one that the file has dequantized already: its integers are worked out.
    """
    if declared is None or declared.scale is None:
        return None
    x = layout.time_major(value, port.layout)
    if not np.issubdtype(x.dtype, np.integer):
        with np.errstate(invalid="ignore"):
            steps = x.astype(np.float64) / declared.scale
            if (np.abs(steps - np.rint(steps)) > 1e-3).any():
                raise ModelError(
                    f"{port.name} is not made of steps of {declared.scale:g}, which its scale says",
                    f"mend `scale` ({port.scale!r}) of this tap in system.toml",
                )
            x = (np.rint(x.astype(np.float64) / declared.scale) + declared.zero_point).astype(np.int32)
    return Raw(x, float(declared.scale), int(declared.zero_point))


class Agent:
    """Holds the plugin and its open sessions by artifact; `handle` answers a request with one or more replies."""

    def __init__(self) -> None:
        self._plugin: Any = None
        self._opened = contextlib.ExitStack()
        self._sessions: dict[str, tuple[Artifact, Any]] = {}

    def handle(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Replies to a request; foreign exceptions leave it as they are."""
        do: Callable[..., Iterator[dict[str, Any]]] = getattr(self, "_" + request.pop("do"))
        yield from do(**request)

    def _load(self, kind: registry.Kind, spec: str) -> Iterator[dict[str, Any]]:
        self._plugin = registry.create(kind, spec)
        yield {"versions": dict(self._plugin.versions()) | {"python": sys.version.split()[0]}}

    def _describe(self, questions: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        answers = []
        for question in questions:
            if "frontend" in question:
                frontend = fe.from_plain(question["frontend"])
                reason = self._plugin.supports(frontend)
                told: dict[str, Any] = {}
                if reason is None:
                    told["taps"] = sorted(self._plugin.taps(frontend))
                    told["arithmetic"] = arithmetic_of(self._plugin, frontend)
            else:
                artifact = artifact_from_plain(question["artifact"])
                reason = self._plugin.supports(artifact)
                told = {"taps": sorted(artifact.taps)}
            if reason is not None and not isinstance(reason, Unsupported):
                raise ConfigError(f"the plugin's supports() gave {reason!r}", "give None, or Unsupported(reason)")
            answers.append({"unsupported": reason.reason} if isinstance(reason, Unsupported) else told)
        yield {"answers": answers}

    def _features(
        self, frontend: dict[str, Any], clips: list[dict[str, Any]], taps: list[Tap], apart: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Features of clips, in a batch or, as chunks of a stream come, `apart`: one after another."""
        whole = [Clip(c["name"], c["samples"], c["rate"], c["sha256"]) for c in clips]
        recipe = fe.from_plain(frontend)
        wanted = frozenset(taps) & self._plugin.taps(recipe)
        out = []
        for batch in [[clip] for clip in whole] if apart else [whole]:
            start = time.perf_counter()
            results = self._plugin.features(batch, recipe, wanted)
            seconds = (time.perf_counter() - start) / max(1, len(batch))
            out += [{"taps": {t: np.asarray(a) for t, a in r.items()}, "seconds": seconds} for r in results]
        yield {"clips": out}

    def _open(self, artifact: dict[str, Any], threads: int) -> Iterator[dict[str, Any]]:
        model = artifact_from_plain(artifact)
        start = time.perf_counter()
        session = self._opened.enter_context(self._plugin.open(model, threads))
        self._sessions[model.key] = model, session
        yield {"seconds": time.perf_counter() - start}

    def _memory(self) -> Iterator[dict[str, Any]]:
        """The most memory that this process has had at a time, in bytes; None where the system doesn't say."""
        found = None
        with contextlib.suppress(OSError, ValueError, IndexError):
            status = Path("/proc/self/status").read_text(encoding="utf-8")
            found = 1024 * int(status.partition("VmHWM:")[2].split()[0])
        yield {"peak_bytes": found}

    def _close(self) -> Iterator[dict[str, Any]]:
        self._sessions.clear()
        self._opened.close()
        yield {}

    def _run(
        self, model: str, inputs: list[Array], taps: list[list[Tap]], moved: list[Array] | None = None
    ) -> Iterator[dict[str, Any]]:
        artifact, opened = self._sessions[model]
        session = InPieces(opened, artifact) if remembers(artifact) or artifact.constants else opened
        tensors = session.tensors
        for i, (features, wanted) in enumerate(zip(inputs, taps, strict=True)):
            tied = artifact.frames is not None and not remembers(artifact)
            if tied and features.ndim in (1, 2) and len(features) != artifact.frames:
                what = "frames" if features.ndim == 2 else "samples"
                yield {"unsupported": f"takes {artifact.frames} {what} only; this clip gives {len(features)}"}
                continue
            declared = tensors.get(MODEL_INPUT)
            # What remembers is fed so many frames at a time: those are what must fit.
            check_shape(artifact, declared, features[: artifact.frames] if remembers(artifact) else features)
            x = to_input(features, artifact, declared)
            start = time.perf_counter()
            given = {artifact.input.name: x}
            if moved is not None:
                given["moved"] = layout.native(moved[i], artifact.input.layout)
            asked = frozenset(wanted) & artifact.taps.keys()
            got = session.run(given, asked)
            seconds = time.perf_counter() - start
            out: dict[Tap, Array] = {}
            raw: dict[Tap, dict[str, Any]] = {}
            for tap, value in got.items():
                if tap not in asked:
                    continue  # by its exact name or not at all: what nobody asked for isn't compared
                port, tensor = artifact.taps[tap], tensors.get(tap)
                try:
                    out[tap] = from_output(np.asarray(value), port, tensor)
                    integers = integers_of(np.asarray(value), port, tensor)
                except ValueError as e:
                    raise ModelError(f"{artifact.path}: {tap} has {e}", "mend its layout in system.toml") from None
                if integers is not None:
                    raw[tap] = vars(integers)
            if MODEL_INPUT in wanted:
                out[MODEL_INPUT] = from_input(x, features, artifact, declared)
                fed = integers_of(*unflattened(x, features, artifact.input), declared)
                if fed is not None:
                    raw[MODEL_INPUT] = vars(fed)
            yield {"taps": out, "raw": raw, "seconds": seconds}

    def _stream(
        self, model: str, inputs: list[Array], taps: list[list[Tap]], state: dict[str, Array]
    ) -> Iterator[dict[str, Any]]:
        """Chunks of one sound, in order: each goes on from the state that the one before it left.

        A file that is tied to fewer frames than a chunk has takes it in pieces.
        """
        artifact, session = self._sessions[model]
        declared = session.tensors.get(MODEL_INPUT)
        carried = {s.name: state.get(s.name, np.zeros(s.shape, s.dtype)) for s in artifact.state}
        handed_on, fixed = {s.tap: s.name for s in artifact.state}, constants(artifact)
        for features, wanted in zip(inputs, taps, strict=True):
            asked = frozenset(wanted) & artifact.taps.keys()
            size = artifact.frames or len(features)
            parts: list[dict[Tap, Array]] = []
            seconds = 0.0
            for piece in [features[i : i + size] for i in range(0, len(features), size)]:
                check_shape(artifact, declared, piece)
                x = to_input(piece, artifact, declared)
                start = time.perf_counter()
                got = session.run({artifact.input.name: x, **carried, **fixed}, asked | handed_on.keys())
                seconds += time.perf_counter() - start
                carried = {name: np.asarray(got[tap]) for tap, name in handed_on.items()}
                parts.append({t: from_output(np.asarray(got[t]), artifact.taps[t], None) for t in asked})
            out = {t: np.concatenate([part[t] for part in parts]) for t in asked}
            if MODEL_INPUT in wanted:
                out[MODEL_INPUT] = features
            yield {"taps": out, "raw": {}, "seconds": seconds, "state": carried}


def _die_with_parent() -> None:
    """On Linux the kernel ends this process when the one that started it is gone, however it went."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _die_first() -> None:
    """Where memory runs out the kernel takes this process: not the one that tells of it, nor a device's service."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("900", encoding="ascii")


def main() -> None:
    """Answer requests until stdin ends."""
    _die_with_parent()
    _die_first()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # Frameworks print: what they say goes to stderr, the pipe is ours alone.
    pipe_in, pipe_out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def read(n: int) -> bytes:
        data = pipe_in.read(n)
        if len(data) != n:
            raise EOFError
        return data

    agent = Agent()
    while True:
        try:
            request = wire.decode(read)
        except EOFError:
            return
        try:
            for reply in agent.handle(request):
                _send(pipe_out, reply)
        except ParityError as e:
            _send(pipe_out, {"error": type(e).__name__, "message": e.message, "hint": e.hint})
        except Exception as e:  # the plugin's edge: whatever it raises becomes a verdict
            _send(pipe_out, {"failed": f"{type(e).__name__}: {e}".strip() + _raised_at(e)})


def _raised_at(e: BaseException) -> str:
    """Where a plugin raised, as ` (file.py, line 12, in name)`: its own last line, not a library's below it."""
    frames = traceback.extract_tb(e.__traceback__)
    own = [f for f in frames if "site-packages" not in f.filename and Path(f.filename) != Path(__file__)] or frames[-1:]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno}, in {own[-1].name})" if own else ""


def _send(pipe: Any, message: dict[str, Any]) -> None:
    for part in wire.encode(message):
        pipe.write(part)
    pipe.flush()


if __name__ == "__main__":
    main()
