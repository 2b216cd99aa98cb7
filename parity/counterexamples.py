"""Counter-examples: what a search found, as parameters and no samples, rendered and compared again in every run.

`<golden>/counterexamples/<system>/<name>.toml`, a clip or a network's input each:

    format = 1
    system = "commands-cnn"
    backend = "numpy"
    runtime = "onnxrt"
    precision = "float32"
    goal = "error"
    seed = 7
    tap = "features/compressed"
    found = "12 of 4800 elements are out of bounds"

    [clip]
    length = 511
    dc = 0.3

    [[clip.sounds]]
    kind = "tone"
    level_dbfs = -80.0

Only `parity search --save` writes them. Recordings are read from `<golden>/clips`.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from parity import parameters, patterns
from parity.errors import AudioError, ConfigError, GoldenError
from parity.frontend import Frontend
from parity.golden import write_atomic
from parity.parameters import Parameters
from parity.patterns import Pattern
from parity.protocols import Array, Clip

FORMAT = 1
FOLDER = "counterexamples"
Goal = Literal["error", "flip", "crash"]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class CounterExample:
    """What was found: of which pair, what for, and the parameters that show it. ValueError where it can't be."""

    system: str
    drawn: Parameters | Pattern
    """A clip for the whole pair, or an input for the network alone."""
    goal: Goal = "error"
    """What was searched for: the largest error over bound, another label, or a crash."""
    backend: str = ""
    """Empty where a network's input was searched."""
    runtime: str = ""
    """Empty where features alone were."""
    precision: str = ""
    against: str = ""
    """What it was held to: `backend/runtime` of another pair; empty: the oracle."""
    seed: int = 0
    """Of the search."""
    tap: str = ""
    """The first tap that diverged."""
    found: str = ""
    """What was found there, in words."""

    def __post_init__(self) -> None:
        if self.goal not in get_args(Goal):
            raise ValueError(f"goal must be one of {', '.join(get_args(Goal))}, not {self.goal!r}")
        if not re.fullmatch(r"[\w.-]+", self.system):
            raise ValueError(f"system must be a name, not {self.system!r}")

    @property
    def described(self) -> str:
        """The parameters in one line for people."""
        return parameters.describe(d) if isinstance(d := self.drawn, Parameters) else patterns.describe(d)

    @property
    def name(self) -> str:
        """What its file is called: its parameters, and a digest of everything that tells it from another."""
        words = re.sub(r"[^\w.-]+", "-", self.described.lower()).strip("-.")[:60].strip("-.")
        what = [getattr(self, name) for name in ("system", "backend", "runtime", "precision", "goal", "against")]
        digest = hashlib.sha256(json.dumps([*what, _plain(self.drawn)], sort_keys=True).encode()).hexdigest()[:8]
        return f"{words}-{digest}"


def recordings(golden: Path) -> Path | None:
    """The clip folder of goldens, that recordings are drawn and rendered from; None where they have none."""
    folder = golden / "clips"
    return folder if folder.is_dir() else None


def text(c: CounterExample) -> str:
    """A counter-example as TOML."""
    lines = [f"# {c.described}", f"format = {FORMAT}"]
    defaults = {f.name: f.default for f in fields(c)}
    for name in ("system", "backend", "runtime", "precision", "goal", "against", "seed", "tap", "found"):
        value = getattr(c, name)
        if value != defaults[name] or name == "goal":
            lines.append(_line(name, value))
    kind, plain = ("clip" if isinstance(c.drawn, Parameters) else "input"), _plain(c.drawn)
    sounds = plain.pop("sounds", [])
    lines += ["", f"[{kind}]", *(_line(name, value) for name, value in plain.items())]
    for sound in sounds:
        lines += ["", f"[[{kind}.sounds]]", *(_line(name, value) for name, value in sound.items())]
    return "\n".join(lines) + "\n"


def _plain(drawn: Parameters | Pattern) -> dict[str, Any]:
    return parameters.to_plain(drawn) if isinstance(drawn, Parameters) else patterns.to_plain(drawn)


def _line(name: str, value: str | int | float) -> str:
    # JSON's strings are TOML's, but for the one control character that JSON leaves as it is.
    shown = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") if isinstance(value, str) else repr(value)
    return f"{name} = {shown}"


def write(golden: Path, c: CounterExample) -> Path:
    """Put a counter-example in its place below the goldens. ConfigError where its folder can't be written."""
    path = golden / FOLDER / c.system / f"{c.name}.toml"
    try:
        write_atomic(path, text(c).encode())
    except OSError as e:
        raise ConfigError(
            f"the counter-example {path} can't be written: {e.strerror}",
            "make its folder writable, or name another: --golden DIR",
        ) from None
    return path


def read(path: Path) -> CounterExample:
    """A counter-example. GoldenError for a file that can't be read, or isn't one."""
    again = "restore it (git checkout), or take it away"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise GoldenError(f"the counter-example {path} can't be read: {e.strerror}", again) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise GoldenError(f"{path} is not TOML: {e}", again) from None
    try:
        return _of(data)
    except ValueError as e:
        raise GoldenError(f"{path} is not a counter-example: {e}", again) from None


def _of(data: Mapping[str, Any]) -> CounterExample:
    if (version := data.get("format")) != FORMAT:
        raise ValueError(f"it has format {version}, this parity reads {FORMAT}")
    said = {k: v for k, v in data.items() if k not in ("format", "clip", "input")}
    known = {f.name: "whole number" if f.name == "seed" else "word" for f in fields(CounterExample)}
    del known["drawn"]
    if unknown := sorted(set(said) - set(known)):
        raise ValueError(f"unknown: {', '.join(unknown)} (known: {', '.join(known)})")
    for name, value in said.items():
        if not isinstance(value, int if known[name] == "whole number" else str) or isinstance(value, bool):
            raise ValueError(f"{name} must be a {known[name]}, not {value!r}")
    if "system" not in said or ("clip" in data) == ("input" in data):
        raise ValueError("it needs a system, and either [clip] or [input]")
    kind, of = ("clip", parameters.from_plain) if "clip" in data else ("input", patterns.from_plain)
    if not isinstance(data[kind], Mapping):
        raise ValueError(f"{kind} must be a table")
    drawn: Any = of(data[kind])
    return CounterExample(drawn=drawn, **said)


def read_all(golden: Path, system: str) -> list[CounterExample]:
    """Those of a system, by name. GoldenError for a file that isn't one, or is another system's."""
    folder = golden / FOLDER / system
    try:
        paths = sorted(p for p in folder.iterdir() if p.suffix == ".toml" and not p.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as e:
        raise GoldenError(f"{folder} can't be read: {e.strerror}", "make the folder readable") from None
    found = [(path, read(path)) for path in paths]
    for path, c in found:
        if c.system != system:
            raise GoldenError(f"{path} is of {c.system}", f"it belongs into {golden / FOLDER / c.system}")
    return [c for _, c in found]


def clips(golden: Path, system: str, frontend: Frontend) -> dict[frozenset[str], list[Clip]]:
    """The clips of a system's counter-examples, each once, by the precisions of the files that are held to them.

    Files of fewer bits are calibrated for speech: only a search of their own precision holds them to what it found.
    GoldenError where one can't be rendered, or doesn't fit the recipe any more.
    """
    rendered: list[tuple[CounterExample, str, Clip]] = []
    for c in read_all(golden, system):
        if not isinstance(c.drawn, Parameters):
            continue
        if (other := _unfit(c.drawn, frontend)) is not None:
            hint = f"the recipe of {system} has changed: search again, and take {c.name}.toml away"
            raise GoldenError(f"the counter-example {c.name} {other}", hint)
        try:
            clip = parameters.clip_of(c.drawn, recordings(golden))
        except AudioError as e:
            raise GoldenError(f"the counter-example {c.name} can't be rendered: {e.message}", e.hint) from None
        rendered.append((c, clip.name, clip))
    return _by_precisions(rendered)


def _unfit(p: Parameters, frontend: Frontend) -> str | None:
    """Why a clip doesn't fit a recipe; None where it does."""
    takes = frontend.input
    if p.rate != takes.rate:
        return f"is at {p.rate} Hz, not {takes.rate} Hz"
    if takes.fit == "refuse" and p.samples != takes.length:
        return f"has {p.samples} samples, not {takes.length}"
    if frontend.frames(p.samples) < 1:
        return f"has {p.samples} samples, less than a frame"
    return None


def inputs(
    golden: Path, system: str, rate: int, shape: tuple[int, ...], dtype: str
) -> dict[frozenset[str], list[tuple[Clip, Array]]]:
    """What a system's counter-examples feed its network with, `shape`, each once, by precisions as `clips` are.

    Each with a clip of no samples that names it.
    """
    rendered: list[tuple[CounterExample, str, tuple[Clip, Array]]] = []
    for c in read_all(golden, system):
        if isinstance(c.drawn, Pattern):
            clip, features = fed(c.drawn, rate, shape, dtype)
            rendered.append((c, clip.name, (clip, features)))
    return _by_precisions(rendered)


def fed(drawn: Pattern, rate: int, shape: tuple[int, ...], dtype: str) -> tuple[Clip, Array]:
    """What a network is fed with, and a clip of no samples that names it."""
    features = patterns.render(drawn, shape, dtype)
    digest = hashlib.sha256(features.tobytes()).hexdigest()
    return Clip(patterns.describe(drawn), np.zeros(0, np.float32), rate, digest), features


def _by_precisions(rendered: Iterable[tuple[CounterExample, str, T]]) -> dict[frozenset[str], list[T]]:
    """Each once by its name, under the precisions of all counter-examples that it is of."""
    once: dict[str, T] = {}
    held: dict[str, set[str]] = {}
    for c, name, what in rendered:
        once[name] = what
        held.setdefault(name, {"float32"}).add(c.precision or "float32")
    found: dict[frozenset[str], list[T]] = {}
    for name, what in once.items():
        found.setdefault(frozenset(held[name]), []).append(what)
    return found


def require_fit(path: Path, c: CounterExample, frontend: Frontend) -> None:
    """GoldenError where the clip of a file doesn't fit a recipe."""
    if isinstance(c.drawn, Parameters) and (other := _unfit(c.drawn, frontend)) is not None:
        raise GoldenError(f"{path} {other}", "search again, and take it away; or name its own system: --system NAME")


def make_room(golden: Path, system: str) -> None:
    """The folder of a system's counter-examples, made now. ConfigError where nothing can be written there."""
    folder = golden / FOLDER / system
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as e:
        hint = "make its folder writable, or name another: --golden DIR"
        raise ConfigError(f"nothing can be saved in {folder}: {e.strerror}", hint) from None
