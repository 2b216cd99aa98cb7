"""What must fit together in a system.toml: labels, taps, files, memory, streams and the recipe."""

from __future__ import annotations

import math
import re
from pathlib import Path

from parity import frontend as fe
from parity import layout, taps
from parity.errors import ConfigError
from parity.recipe import MOST, where
from parity.schema import ArtifactTable, File, StreamingTable


def check(path: Path, file: File, frontend: fe.Frontend) -> None:
    """ConfigError, with its place, where the tables of a system.toml don't fit together."""

    def fail(place: str, what: str, hint: str) -> None:
        raise ConfigError(f"{where(path, place)}: {what}", hint)

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", file.name):
        fail("name", f"{file.name!r} can't be a file's name", "use letters, digits, '.', '_' and '-'")
    if not file.labels or len(set(file.labels)) != len(file.labels):
        fail("labels", "labels are one or more, each once, in the order of the network's outputs", "list them all")
    if not file.artifacts:
        fail("artifacts", "no model", "add an [[artifacts]] table")
    for tap in file.model.taps:
        if not taps.is_tap(tap) or not tap.startswith("model/") or tap == taps.MODEL_INPUT:
            fail("model.taps", f"{tap!r} is not a tap of a network", "write model/<name>; model/input is always there")
    if file.decision.source not in file.model.taps:
        fail("decision.source", f"{file.decision.source!r} is not in model.taps", "name the tap of the logits")
    if (file.decision.rule == "threshold") != (file.decision.threshold is not None):
        fail("decision.threshold", "belongs to the rule 'threshold', which needs it", 'rule = "threshold"')
    if file.decision.rule == "threshold" and len(file.labels) != 2:
        fail("labels", "a threshold tells two labels apart", "name them: below it, above it")
    if file.anchor.vector and not file.anchor.source.strip():
        fail("anchor.source", "vectors of unknown origin prove nothing", "say who published them, and their licence")
    for i, v in enumerate(file.anchor.vector):
        for tap in filter(None, (v.after, v.tap)):
            if tap not in frontend.taps:
                fail(f"anchor.vector[{i}]", f"{tap!r} is not a tap of the recipe", f"one of {', '.join(frontend.taps)}")
        if not 0 <= v.tolerance < math.inf:
            fail(f"anchor.vector[{i}].tolerance", f"{v.tolerance} is not a distance", "0 or more")
    seen: dict[tuple[str, str], str] = {}
    for i, a in enumerate(file.artifacts):
        here = f"artifacts[{i}]"
        if (first := seen.setdefault((a.format, a.precision), here)) != here:
            fail(here, f"{a.format} {a.precision} stands at {first} already",
                 "give one of them another precision (any word that tells them apart), or take it out")  # fmt: skip
        if (what := _unremembered(a)) is not None:
            fail(f"{here}.{what[0]}", *what[1:])
        if file.decision.source not in a.taps:
            fail(f"{here}.taps", f"no {file.decision.source!r}", "map the tap that decides")
        for tap, port in a.taps.items():
            if tap in {s.tap for s in a.state}:
                continue  # handed on as it is
            if tap not in file.model.taps:
                fail(f"{here}.taps", f"{tap!r} is not in model.taps", "list it there, in flow order")
            if "(" in port.layout:
                fail(f"{here}.taps.{tap}.layout", "only an input may be flattened", "map a tensor that has its axes")
            if (problem := layout.problem(port.layout, a.frames == 1)) is not None:
                fail(f"{here}.taps.{tap}.layout", problem, "one letter an axis, as in 'NCTF'")
        if (problem := layout.problem(a.input.layout, a.frames == 1)) is not None:
            fail(f"{here}.input.layout", problem, "one letter an axis, as in 'N1TF'")
        if a.frames is not None and (file.model.shape is None or file.model.shape[0] != "any"):
            fail(f"{here}.frames", "only a file of a network that takes any number of frames is tied to one",
                 f"write model.shape = [\"any\", {frontend.bands}], or take it out")  # fmt: skip
        if a.frames is not None and not 1 <= a.frames <= MOST:
            fail(f"{here}.frames", f"{a.frames} is not a number of frames", "write how many the file takes")
        if a.format == "torch" and (a.network is None or ":" not in a.network):
            fail(f"{here}.network", "PyTorch weights need the code of their network", "network = 'model.py:build'")
    if file.model.ranges is not None and Path(file.model.ranges).name != file.model.ranges:
        fail("model.ranges", f"{file.model.ranges!r} is not a file beside {path.name}", 'ranges = "ranges.json"')
    _check_shape(path, file, frontend)
    if file.streaming is not None and (wrong := _unstreamable(file, file.streaming, frontend)) is not None:
        fail("streaming", *wrong)


def _unstreamable(file: File, s: StreamingTable, frontend: fe.Frontend) -> tuple[str, str] | None:
    """What is wrong with [streaming], and what to do."""
    cut = frontend.input.length is not None or frontend.input.peak_normalize or frontend.input.pre_emphasis
    whole = isinstance(frontend.compress, fe.Decibel) and (frontend.compress.ref == "max" or frontend.compress.top_db)
    frame = frontend.frame
    if frame is None or cut or whole or frame.center or frame.last != "drop":
        return "the recipe needs the whole clip, or what was before a frame", "no stream can compute it: take it out"
    if s.tap not in file.model.taps:
        return f"{s.tap!r} is not in model.taps", "name the tap of each frame's logits"
    if not s.chunks or min(s.chunks) < 1 or max(s.chunks) > MOST:
        return "chunks are one or more numbers of frames", "chunks = [1, 3, 7]"
    if not 0 <= s.smoothing < math.inf or not 0 <= s.threshold <= 1:
        return "smoothing is in seconds, the threshold a probability", "smoothing = 0.2, threshold = 0.6"
    if unknown := [x for x in s.ignored if x not in file.labels]:
        return f"ignores {unknown[0]!r}, which is no label", f"labels: {', '.join(file.labels)}"
    seen = set()
    for a in s.artifacts:
        if (a.format, a.precision) in seen:
            return f"{a.format} {a.precision} stands there twice", "take one out"
        seen.add((a.format, a.precision))
        for tap in [s.tap, *(state.tap for state in a.state)]:
            if tap not in a.taps:
                return f"{a.file} maps no {tap!r}", "the logits and every state come out at a tap: map it"
        if not a.state:
            return f"{a.file} has no state to hand on", 'state = [{ name = "...", tap = "...", shape = [...] }]'
        if a.kernels is not None:
            return f"{a.file} names kernels to be held to; a stream is held to the whole clip's", "take kernels out"
        if a.context or a.reset is not None:
            return f"{a.file} remembers more than its state", "only a state can be carried over: take the rest out"
        for port in [a.input, *a.taps.values()]:
            if (problem := layout.problem(port.layout)) is not None:
                return f"{a.file}: {problem}", "one letter an axis, as in 'NTF'"
    return None


def _unremembered(a: ArtifactTable) -> tuple[str, str, str] | None:
    """What is wrong with how a file remembers: place, what, hint."""
    for s in a.state:
        if s.tap not in a.taps:
            return "state", f"maps no {s.tap!r}, where {s.name!r} comes out", "map it in [artifacts.taps]"
    if (a.state or a.constants) and a.format in ("torch-export", "torchscript-int8"):
        return "state" if a.state else "constants", f"{a.format} files are fed with features only", "take it out"
    if a.constants and a.format not in ("onnx", "torchscript"):
        return "constants", f"{a.format} files are given no numbers by name", "take it out: onnx and torchscript are"
    if (a.state or a.reset or a.context or a.constants) and "(" in a.input.layout:
        return "input.layout", "a flattened input can't be cut into pieces", "one letter an axis, as in 'NTF'"
    if (a.reset or a.context) and a.frames is None:
        return "frames", "a file that remembers takes so many frames at a time", "frames = 1"
    if a.context and (a.frames != 1 or not 0 < a.context <= MOST):
        return "context", "values of the frame before, for a file that takes one frame at a time", "frames = 1"
    if a.reset is not None and a.format != "torchscript":
        return (
            "reset",
            f"{a.format} files have no methods",
            "write where the state goes in and comes out: state = [...]",
        )
    return None


def _check_shape(path: Path, file: File, frontend: fe.Frontend) -> None:
    """A clip length that gives another number of frames than the network takes is an error that names it."""
    if file.model.shape is None:
        return
    wanted, bands = file.model.shape
    if wanted != "any" and not 1 <= wanted <= MOST:
        raise ConfigError(
            f"{where(path, 'model.shape')}: {wanted} is not a number of frames", "write a number, or 'any'"
        )
    if bands != frontend.bands:
        raise ConfigError(
            f"{path}: the network takes {bands} bands; the frontend gives {frontend.bands}",
            "mend model.shape or the last stage of the frontend",
        )
    length = frontend.input.length
    if wanted != "any" and length is not None and frontend.frames(length) != wanted:
        raise ConfigError(
            f"{path}: the network takes {wanted} frames; {length} samples give {frontend.frames(length)}",
            f"set frontend.input.length = {samples_for(frontend, wanted)}",
        )


def samples_for(frontend: fe.Frontend, frames: int) -> int:
    """The fewest samples that give so many frames."""
    if (frame := frontend.framing) is None:
        return frames
    pad = 2 * (frame.length // 2) if frame.center else 0
    if frame.last == "pad":
        return max(1, (frames - 1) * frame.hop + 1 - pad)
    return max(1, (frames - 1) * frame.hop + frame.length - pad)
