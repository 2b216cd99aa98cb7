"""A System: a frontend, model artifacts, labels and a decision rule, read from one `system.toml`.

Nothing unknown is overlooked: a key that doesn't belong is refused with its place in the file.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from parity import frontend as fe
from parity import layout, taps
from parity.errors import ConfigError
from parity.protocols import Array, Artifact, Port, State, Tap

FILE = "system.toml"
LISTING = "artifacts.json"
"""What an export writes beside the files: sha256, size and what made each."""
_MOST = 2**31
"""No recipe takes so many samples, bins or bands: a larger number is a slip."""


@dataclass(frozen=True, kw_only=True)
class _Model:
    taps: tuple[Tap, ...] = ("model/logits",)
    shape: tuple[int | Literal["any"], int] | None = None
    reference: str | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """How a label is chosen: the largest element of the tap `source`, or whether one is above a threshold.

    The margin is its lead over the second, or over the threshold.
    """

    rule: Literal["argmax", "threshold"] = "argmax"
    source: Tap = "model/logits"
    threshold: float | None = None
    """For the rule `threshold`: the second of two labels where any element of `source` is above it, else the first."""

    def logits(self, values: Array) -> Array:
        """What the labels are chosen by, `[labels]`: `source` itself, or the threshold and the largest element."""
        if self.threshold is None or not values.size:
            return values
        return np.array([self.threshold, values.max()], values.dtype)

    def room(self, half: Array) -> Array:
        """How far each of `logits` may move where `source` may move by `half`."""
        return half.reshape(-1) if self.threshold is None else np.array([0.0, half.max(initial=0.0)])


@dataclass(frozen=True, kw_only=True)
class Published:
    """What was published of what a network costs, as it was printed, and why what is counted here differs."""

    parameters: str
    multiply_adds: str
    input: tuple[int, ...]
    """Shape that was counted with, in PyTorch's order, with its batch."""
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Vector:
    """A published input and output of one or more stages; see `parity.vectors`."""

    input: str
    tap: Tap
    expected: str
    after: Tap | None = None
    transposed: bool = False
    tolerance: float = 0.0
    recipe: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """What proves the recipe when goldens are recorded, where `--anchor` doesn't say."""

    backend: str | None = None
    """An independent implementation. None: librosa, or none beside published vectors."""
    source: str = ""
    """Who published the vectors, and under which licence."""
    vector: tuple[Vector, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Artifact:
    format: str
    precision: str = "float32"
    file: str
    network: str | None = None
    kernels: str | None = None
    frames: int | None = None
    state: tuple[State, ...] = ()
    context: int = 0
    constants: Mapping[str, int | float] = field(default_factory=dict)
    reset: str | None = None
    input: Port
    taps: Mapping[Tap, Port]


@dataclass(frozen=True, kw_only=True)
class _Streaming:
    tap: Tap
    chunks: tuple[int, ...] = (1,)
    smoothing: float = 0.0
    threshold: float
    ignored: tuple[str, ...] = ()
    artifacts: tuple[_Artifact, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Streaming:
    """How a system runs on sound that doesn't end: `artifacts` take a few frames and a state, and hand the state on."""

    tap: Tap
    """Logits of each frame, as if the clip ended there: equal to the whole clip's."""
    chunks: tuple[int, ...]
    """Frames in a chunk, each size tried in turn."""
    smoothing: float
    """Seconds over which posteriors are averaged."""
    threshold: float
    """A smoothed posterior above it is a detection, if its label isn't among `ignored`."""
    ignored: tuple[str, ...]
    artifacts: tuple[Artifact, ...]
    not_built: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _File:
    name: str
    description: str = ""
    labels: tuple[str, ...]
    frontend: Mapping[str, Any]
    model: _Model = field(default_factory=_Model)
    decision: Decision = field(default_factory=Decision)
    published: Published | None = None
    anchor: Anchor = field(default_factory=Anchor)
    streaming: _Streaming | None = None
    artifacts: tuple[_Artifact, ...]


@dataclass(frozen=True, kw_only=True)
class System:
    """What was trained and what is deployed. `artifacts` are those whose files are there; `not_built` the others."""

    name: str
    folder: Path
    description: str
    frontend: fe.Frontend
    labels: tuple[str, ...]
    taps: tuple[Tap, ...]
    """Taps of the network in flow order."""
    decision: Decision
    reference: str | None
    """The runtime that activations are judged against where no golden is at hand."""
    artifacts: tuple[Artifact, ...]
    not_built: tuple[str, ...]
    unbuilt: tuple[Artifact, ...] = ()
    """The artifacts whose files aren't there, without a digest."""
    published: Published | None = None
    changed: tuple[str, ...] = ()
    """Files that aren't the ones that artifacts.json beside system.toml lists, one sentence each."""
    anchor: Anchor = field(default_factory=Anchor)
    streaming: Streaming | None = None

    @property
    def files(self) -> tuple[Artifact, ...]:
        """Every artifact that is there, and then those of a stream in files of their own."""
        own = {a.path for a in self.artifacts}
        streamed = () if self.streaming is None else self.streaming.artifacts
        return (*self.artifacts, *(a for a in streamed if a.path not in own))

    @property
    def answers(self) -> frozenset[Tap]:
        """Taps that are wanted of every clip: what decides, and what a stream is held to."""
        return frozenset({self.decision.source, *([self.streaming.tap] if self.streaming is not None else [])})


def _where(path: Path, place: str) -> str:
    return f"{path}: {place}" if place else str(path)


def _refuse_unknown(path: Path, place: str, data: Any, kind: Any) -> None:
    """msgspec overlooks keys that a dataclass doesn't have; a typo must not."""
    if not (dataclasses.is_dataclass(kind) and isinstance(data, dict)):
        return
    known = [f.name for f in dataclasses.fields(kind)]
    for key in data:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            raise ConfigError(
                f"{_where(path, place)}: unknown key {key!r}",
                f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}",
            )


def _convert(path: Path, place: str, data: Any, kind: Any) -> Any:
    _refuse_unknown(path, place, data, kind)
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as e:
        text, _, at = str(e).partition(" - at `$")
        inner = at.rstrip("`").lstrip(".")
        full = ".".join(filter(None, (place, inner)))
        raise ConfigError(
            f"{_where(path, full)}: {text[0].lower()}{text[1:]}", "see the README, 'system.toml'"
        ) from None


def read_frontend(path: Path, data: Mapping[str, Any], place: str = "frontend") -> fe.Frontend:
    """The recipe in a TOML table. ConfigError names the place of what is wrong."""
    stages: dict[str, Any] = {}
    for name in data:
        if name not in fe.STAGES:
            close = difflib.get_close_matches(name, fe.STAGES, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"stages: {', '.join(fe.STAGES)}"
            raise ConfigError(f"{_where(path, place)}: unknown stage {name!r}", hint)
    for name in fe.REQUIRED:
        if name not in data:
            raise ConfigError(f"{_where(path, place)}: no [{place}.{name}]", f"a recipe needs {', '.join(fe.REQUIRED)}")
    for name, kinds in fe.STAGES.items():
        if name not in data:
            continue
        here, values = f"{place}.{name}", data[name]
        if not isinstance(values, dict):
            raise ConfigError(f"{_where(path, here)}: expected a table", f"write [{here}] and its keys below")
        kind = values.get("kind", kinds[0].kind if len(kinds) == 1 else None)
        cls = next((k for k in kinds if k.kind == kind), None)
        if cls is None:
            names = ", ".join(repr(k.kind) for k in kinds)
            raise ConfigError(f"{_where(path, here)}: kind is {kind!r}", f"kind is one of {names}")
        stages[name] = _convert(path, here, {k: v for k, v in values.items() if k != "kind"}, cls)
    frontend = fe.Frontend(**stages)
    for name, stage in stages.items():
        _refuse_absurd(path, f"{place}.{name}", stage)
    problem = _inconsistent(frontend)
    if problem is not None:
        raise ConfigError(f"{_where(path, place)}.{problem}", "the stages of a recipe must fit together")
    return frontend


def _refuse_absurd(path: Path, place: str, stage: fe.Stage) -> None:
    """NaN and infinities slip through every comparison below; huge sizes would only fail far from here."""
    for f in dataclasses.fields(stage):
        value = getattr(stage, f.name)
        for i, x in enumerate(value if isinstance(value, tuple) else (value,)):
            here = _where(path, f"{place}.{f.name}[{i}]" if isinstance(value, tuple) else f"{place}.{f.name}")
            if isinstance(x, float) and not math.isfinite(x):
                raise ConfigError(f"{here}: {x} is not a number to compute with", "write a finite number")
            if isinstance(x, int) and abs(x) > _MOST:
                raise ConfigError(f"{here}: {x} is more than {_MOST}", "sizes are in samples, bins or bands")


def _inconsistent(f: fe.Frontend) -> str | None:
    """What doesn't fit together in a recipe, beginning with its place."""
    if (problem := _misplaced(f)) is not None:
        return problem
    mel, half, framing = f.filterbank, f.input.rate / 2, f.framing
    framed = "micro" if f.micro is not None else "frame"
    if f.input.rate <= 0:
        return f"input.rate: {f.input.rate} Hz is not a sampling rate"
    for place, value in (
        ("input.length", f.input.length),
        (f"{framed}.length", framing.length if framing is not None else None),
        (f"{framed}.hop", framing.hop if framing is not None else None),
    ):
        if value is not None and value < 1:
            return f"{place}: {value} is not a number of samples"
    if f.stft is not None:
        frame, window, spectrum = f.stft
        if frame.length > spectrum.n_fft:
            return f"spectrum.n_fft: an FFT of {spectrum.n_fft} is shorter than the frame of {frame.length}"
        if window.length is not None and not 1 <= window.length <= frame.length:
            return f"window.length: {window.length} doesn't fit the frame of {frame.length}"
    if f.micro is not None and (problem := _unfit(f.micro, f.input)) is not None:
        return problem
    if f.input.fit == "refuse" and f.input.length is None:
        return "input.fit: 'refuse' needs a length"
    if isinstance(mel, fe.Mel):
        if not 0 <= mel.fmin < mel.fmax <= half:
            return f"filterbank: {mel.fmin:g} to {mel.fmax:g} Hz is not within 0 to {half:g} Hz"
        if mel.bands < 1:
            return f"filterbank.bands: {mel.bands} is not a number of bands"
    if isinstance(mel, fe.Pool) and mel.size < 1:
        return f"filterbank.size: {mel.size} is not a number of bins"
    if isinstance(f.compress, fe.Log) and min(f.compress.offset, f.compress.floor) < 0:
        return "compress: offset and floor are 0 or more"
    if isinstance(f.compress, fe.Decibel) and (f.compress.amin <= 0 or (f.compress.top_db or 0.0) < 0):
        return "compress: amin is above 0, top_db 0 or more"
    if f.cepstrum is not None and f.compress is None:
        return "cepstrum: needs [compress] before it"
    bands = dataclasses.replace(f, cepstrum=None).bands
    if f.cepstrum is not None and not 1 <= f.cepstrum.count <= bands:
        return f"cepstrum.count: {f.cepstrum.count} coefficients of {bands} bands"
    if f.normalize is not None and (problem := _uneven(f.normalize, f.bands)) is not None:
        return problem
    if f.quantize is not None and f.quantize.scale <= 0:
        return f"quantize.scale: {f.quantize.scale:g} is not above 0"
    if f.input.length is not None and framing is not None and f.frames(0) == 0:
        return f"input.length: {f.input.length} samples give no frame of {framing.length}"
    return None


def _misplaced(f: fe.Frontend) -> str | None:
    """A stage that lacks what it works on, or stands beside one that does its work."""
    has = {name for name in fe.STAGES if getattr(f, name) is not None}
    if f.micro is not None and (beside := has & {"frame", "window", "spectrum", "filterbank", "compress", "cepstrum"}):
        first = next(name for name in fe.STAGES if name in beside)
        return f"{first}: [micro] is a whole front end: it frames, windows, transforms and compresses by itself"
    for name, before in (("window", "frame"), ("spectrum", "frame"), ("spectrum", "window"), ("window", "spectrum"),
                         ("filterbank", "spectrum"), ("compress", "spectrum")):  # fmt: skip
        if name in has and before not in has:
            order = "after" if before == "spectrum" and name == "window" else "before"
            return f"{name}: needs [{before}] {order} it"
    return None


def _unfit(s: fe.Micro, given: fe.Input) -> str | None:
    """What the fixed-point front end can't be: it has so many bits."""
    if given.scale != "int16" or given.peak_normalize or given.pre_emphasis:
        return 'micro: takes 16-bit samples as they are: input.scale = "int16", and nothing done to them'
    for name, least, most in (
        ("length", 16, 2**14), ("bands", 1, 2**10), ("smoothing_bits", 8, 16), ("gain_bits", 20, 31),
        ("even_smoothing", 0.0, 1.0), ("odd_smoothing", 0.0, 1.0), ("min_signal_remaining", 0.0, 1.0),
        ("pcan_offset", 1.0, 2.0**15), ("pcan_strength", 0.0, 2.0), ("log_shift", 0, 12),
    ):  # fmt: skip
        if not least <= getattr(s, name) <= most:
            return f"micro.{name}: {getattr(s, name):g} is not within {least:g} to {most:g}"
    if not 0 <= s.fmin < s.fmax < given.rate / 2:
        return f"micro: {s.fmin:g} to {s.fmax:g} Hz is not within 0 to less than {given.rate / 2:g} Hz"
    if s.pcan and 2**s.gain_bits * s.pcan_offset**-s.pcan_strength > 32767:
        return (
            "micro.gain_bits: PCAN's largest gain, 2^gain_bits · pcan_offset^-pcan_strength, is more than 16 bits hold"
        )
    return None


def _uneven(s: fe.Normalize, bands: int) -> str | None:
    for name, values in (("mean", s.mean), ("spread", s.spread)):
        if len(values) not in (1, bands):
            return f"normalize.{name}: {len(values)} values for {bands} bands (one for each, or one for all)"
    return "normalize.spread: a spread of 0" if 0.0 in s.spread else None


def _tables(path: Path, data: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = data.get(name, [])
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise ConfigError(f"{_where(path, name)}: expected a list of tables", f"write [[{name}]], with two brackets")
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load(path: Path) -> System:
    """The system in `path`, a system.toml or the folder that holds it. ConfigError for anything wrong in it."""
    path = path / FILE if path.is_dir() else path
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no {path}", "make one with `parity init DIR`") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path} is not TOML: {e}", "mend the line that it names") from None
    streaming = data.get("streaming")
    streamed = _tables(path, streaming, "artifacts") if isinstance(streaming, dict) else []
    tables = [(f"artifacts[{i}]", a) for i, a in enumerate(_tables(path, data, "artifacts"))]
    tables += [(f"streaming.artifacts[{i}]", a) for i, a in enumerate(streamed)]
    for here, artifact in tables:
        _refuse_unknown(path, here, artifact, _Artifact)
        _refuse_unknown(path, f"{here}.input", artifact.get("input"), Port)
        for tap, port in artifact["taps"].items() if isinstance(artifact.get("taps"), dict) else ():
            _refuse_unknown(path, f"{here}.taps.{tap}", port, Port)
        for state in artifact["state"] if isinstance(artifact.get("state"), list) else ():
            _refuse_unknown(path, f"{here}.state", state, State)
    anchor = data.get("anchor", {})
    for i, vector in enumerate(_tables(path, anchor, "vector") if isinstance(anchor, dict) else ()):
        _refuse_unknown(path, f"anchor.vector[{i}]", vector, Vector)
    for place, kind in (
        ("model", _Model), ("decision", Decision), ("anchor", Anchor), ("streaming", _Streaming),
        ("published", Published),
    ):  # fmt: skip
        _refuse_unknown(path, place, data.get(place), kind)
    file: _File = _convert(path, "", data, _File)
    frontend = read_frontend(path, file.frontend)
    _check(path, file, frontend)
    artifacts, unbuilt, not_built = _built(path, file, frontend, file.artifacts)
    found = System(
        name=file.name, folder=path.parent, description=file.description, frontend=frontend, labels=file.labels,
        taps=file.model.taps, decision=file.decision, reference=file.model.reference,
        artifacts=artifacts, not_built=not_built, unbuilt=unbuilt, published=file.published, anchor=file.anchor,
        streaming=None if file.streaming is None else _streaming(path, file, frontend, file.streaming),
    )  # fmt: skip
    return dataclasses.replace(found, changed=_changed(path.parent, found.files))


def _built(
    path: Path, file: _File, frontend: fe.Frontend, wanted: Sequence[_Artifact]
) -> tuple[tuple[Artifact, ...], tuple[Artifact, ...], tuple[str, ...]]:
    """The artifacts whose files are there, the others, and what is to be said of those."""
    there = {a.file: (path.parent / a.file).is_file() for a in wanted}
    made = [(a.file, _artifact(path, file, frontend, a, path.parent / a.file)) for a in wanted]
    said = tuple(f"{a.format} {a.precision}: {name} is not built" for name, a in made if not there[name])
    return tuple(a for name, a in made if there[name]), tuple(a for name, a in made if not there[name]), said


def _streaming(path: Path, file: _File, frontend: fe.Frontend, s: _Streaming) -> Streaming:
    # Where the clip ends, the last frame's logits are the clip's: what decides is read from the same tensor.
    deciding = [dataclasses.replace(a, taps={**a.taps, file.decision.source: a.taps[s.tap]}) for a in s.artifacts]
    built, _, not_built = _built(path, file, frontend, deciding)
    return Streaming(
        tap=s.tap, chunks=s.chunks, smoothing=s.smoothing, threshold=s.threshold, ignored=s.ignored,
        artifacts=built, not_built=not_built,
    )  # fmt: skip


def _changed(folder: Path, artifacts: Sequence[Artifact]) -> tuple[str, ...]:
    """Files with another sha256 than artifacts.json lists, where a system has one; others are new."""
    listing = folder / LISTING
    if not listing.is_file():
        return ()
    try:
        listed = {name: entry["sha256"] for name, entry in json.loads(listing.read_bytes()).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise ConfigError(f"{listing} can't be read: {e}", "export again: parity models export NAME") from None
    found = {Path(os.path.relpath(a.path, folder)).as_posix(): a.sha256 for a in artifacts}
    return tuple(
        f"{name} was changed: its sha256 is {digest[:12]}, {LISTING} says {listed[name][:12]}"
        for name, digest in sorted(found.items())
        if name in listed and listed[name] != digest
    )


def _artifact(path: Path, file: _File, frontend: fe.Frontend, a: _Artifact, where: Path) -> Artifact:
    network = None
    if a.network is not None:
        module, _, attribute = a.network.rpartition(":")
        # A file beside this one, or a module on the path.
        network = f"{path.parent / module}:{attribute}" if module.endswith(".py") else a.network
    shape = file.model.shape or ("any", frontend.bands)
    return Artifact(
        system=file.name, format=a.format, precision=a.precision, path=str(where), input=a.input,
        sha256=_sha256(where) if where.is_file() else "",
        taps={t: a.taps[t] for t in [*file.model.taps, *(s.tap for s in a.state)] if t in a.taps}, network=network,
        shape=(None if shape[0] == "any" else shape[0], shape[1]), frames=a.frames, kernels=a.kernels,
        state=a.state, context=a.context, constants=dict(a.constants), reset=a.reset,
    )  # fmt: skip


def _check(path: Path, file: _File, frontend: fe.Frontend) -> None:
    def fail(place: str, what: str, hint: str) -> None:
        raise ConfigError(f"{_where(path, place)}: {what}", hint)

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
        if a.frames is not None and not 1 <= a.frames <= _MOST:
            fail(f"{here}.frames", f"{a.frames} is not a number of frames", "write how many the file takes")
        if a.format == "torch" and (a.network is None or ":" not in a.network):
            fail(f"{here}.network", "PyTorch weights need the code of their network", "network = 'model.py:build'")
    _check_shape(path, file, frontend)
    if file.streaming is not None and (wrong := _unstreamable(file, file.streaming, frontend)) is not None:
        fail("streaming", *wrong)


def _unstreamable(file: _File, s: _Streaming, frontend: fe.Frontend) -> tuple[str, str] | None:
    """What is wrong with [streaming], and what to do."""
    cut = frontend.input.length is not None or frontend.input.peak_normalize or frontend.input.pre_emphasis
    whole = isinstance(frontend.compress, fe.Decibel) and (frontend.compress.ref == "max" or frontend.compress.top_db)
    frame = frontend.frame
    if frame is None or cut or whole or frame.center or frame.last != "drop":
        return "the recipe needs the whole clip, or what was before a frame", "no stream can compute it: take it out"
    if s.tap not in file.model.taps:
        return f"{s.tap!r} is not in model.taps", "name the tap of each frame's logits"
    if not s.chunks or min(s.chunks) < 1 or max(s.chunks) > _MOST:
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
        if a.context or a.reset is not None:
            return f"{a.file} remembers more than its state", "only a state can be carried over: take the rest out"
        for port in [a.input, *a.taps.values()]:
            if (problem := layout.problem(port.layout)) is not None:
                return f"{a.file}: {problem}", "one letter an axis, as in 'NTF'"
    return None


def _unremembered(a: _Artifact) -> tuple[str, str, str] | None:
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
    if a.context and (a.frames != 1 or not 0 < a.context <= _MOST):
        return "context", "values of the frame before, for a file that takes one frame at a time", "frames = 1"
    if a.reset is not None and a.format != "torchscript":
        return (
            "reset",
            f"{a.format} files have no methods",
            "write where the state goes in and comes out: state = [...]",
        )
    return None


def _check_shape(path: Path, file: _File, frontend: fe.Frontend) -> None:
    """A clip length that gives another number of frames than the network takes is an error that names it."""
    if file.model.shape is None:
        return
    wanted, bands = file.model.shape
    if wanted != "any" and not 1 <= wanted <= _MOST:
        raise ConfigError(
            f"{_where(path, 'model.shape')}: {wanted} is not a number of frames", "write a number, or 'any'"
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
            f"set frontend.input.length = {_needed(frontend, wanted)}",
        )


def _needed(frontend: fe.Frontend, frames: int) -> int:
    """The fewest samples that give so many frames."""
    if (frame := frontend.framing) is None:
        return frames
    pad = 2 * (frame.length // 2) if frame.center else 0
    if frame.last == "pad":
        return max(1, (frames - 1) * frame.hop + 1 - pad)
    return max(1, (frames - 1) * frame.hop + frame.length - pad)


def root() -> Path:
    """The project: the nearest folder, from the current one upwards, that has `reference_models/`; else the current."""
    here = Path.cwd()
    return next((p for p in (here, *here.parents) if (p / "reference_models").is_dir()), here)


def names() -> list[str]:
    """Systems under `reference_models/`, sorted."""
    return sorted(p.parent.name for p in (root() / "reference_models").glob(f"*/{FILE}"))


def find(wanted: Sequence[str]) -> list[System]:
    """The systems that were asked for by name or path; all of the project's where none was."""
    if not wanted:
        if not names():
            raise ConfigError(f"no systems under {root() / 'reference_models'}", "name one: --system DIR")
        return [load(root() / "reference_models" / name) for name in names()]
    found = []
    for name in wanted:
        inside = root() / "reference_models" / name / FILE
        if inside.is_file() and "/" not in name:
            found.append(load(inside))
        elif Path(name).exists():
            found.append(load(Path(name)))
        else:
            close = difflib.get_close_matches(name, names(), n=1)
            hint = f"did you mean {close[0]!r}? Or" if close else f"systems: {', '.join(names()) or 'none here'}; or"
            raise ConfigError(f"unknown system {name!r}", f"{hint} name a folder that holds a {FILE}")
    return found
