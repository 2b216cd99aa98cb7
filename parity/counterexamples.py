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
import textwrap
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from parity import audio, parameters, patterns
from parity.errors import AudioError, ConfigError, GoldenError
from parity.frontend import Frontend
from parity.golden import write_atomic
from parity.parameters import Parameters
from parity.patterns import Pattern
from parity.protocols import Array, Clip

FORMAT = 1
FOLDER = "counterexamples"
Goal = Literal["error", "flip", "crash"]


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
        if not re.fullmatch(r"[\w-][\w.-]*", self.system):  # it is a folder's: no .. and nothing hidden
            raise ValueError(f"system must be a name, not {self.system!r}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, not {self.seed}")

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
    # A recording may have any name, and a comment of TOML no control characters.
    lines = ["# " + re.sub(r"[\x00-\x1f\x7f]", " ", c.described), f"format = {FORMAT}"]
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
        raise GoldenError(f"{path} is not TOML: {_line_of(e)}", again) from None
    except ValueError:  # Python's, which tomllib lets through
        raise GoldenError(f"{path} is not TOML: a number in it has thousands of digits", again) from None
    except RecursionError:
        raise GoldenError(f"{path} is not TOML that can be read: too much is nested in it", again) from None
    try:
        return _of(data)
    except ValueError as e:
        raise GoldenError(f"{path} is not a counter-example: {_line_of(e)}", again) from None
    except RecursionError:  # where a value that is nested by a dotted key would be shown
        raise GoldenError(f"{path} is not a counter-example: too much is nested in it", again) from None


def _line_of(e: ValueError) -> str:
    """What it says in one line that can be read, however long the value is that it shows."""
    return textwrap.shorten(str(e), 300, placeholder=" ...")


def _of(data: Mapping[str, Any]) -> CounterExample:
    # 1.0 and true are equal to 1 in Python, and no whole numbers in TOML.
    if type(version := data.get("format")) is not int or version != FORMAT:
        raise ValueError(f"it has format {version!r}, this parity reads {FORMAT}")
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
    return [c for _, c in _all(golden, system)]


def _all(golden: Path, system: str) -> list[tuple[Path, CounterExample]]:
    return [(path, _own(path, system)) for path in files(golden, system)]


def files(golden: Path, system: str) -> list[Path]:
    """The files of a system's counter-examples, sorted. GoldenError where their folder can't be read."""
    folder = golden / FOLDER / system
    try:
        return sorted(p for p in folder.iterdir() if p.suffix == ".toml" and not p.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as e:
        raise GoldenError(f"{folder} can't be read: {e.strerror}", "make the folder readable") from None


def _own(path: Path, system: str) -> CounterExample:
    c = read(path)
    if c.system != system:
        raise GoldenError(f"{path} is of {c.system}", f"it belongs into {path.parent.parent / c.system}")
    return c


def clips(golden: Path, system: str, frontend: Frontend) -> dict[frozenset[str], list[Clip]]:
    """The clips of a system's counter-examples, each once, by the precisions of the files that are held to them.

    Files of fewer bits are calibrated for speech: only a search of their own precision holds them to what it found.
    GoldenError where one can't be rendered, or doesn't fit the recipe any more.
    """
    found = [(path, c, c.drawn) for path, c in _all(golden, system)]
    return _by_precisions(
        [(c, _rendered(path, p, frontend, golden)) for path, c, p in found if isinstance(p, Parameters)]
    )


def _rendered(path: Path, p: Parameters, frontend: Frontend, golden: Path) -> Clip:
    """The clip of a file, under a name that no golden has."""
    if (other := unfit(p, frontend)) is not None:
        hint = f"the recipe of {path.parent.name} has changed: search again, and take {path.name} away"
        raise GoldenError(f"the counter-example {path} {other}", hint)
    try:
        clip = parameters.clip_of(p, recordings(golden))
    except AudioError as e:
        raise GoldenError(f"the counter-example {path} can't be rendered: {e.message}", e.hint) from None
    # A golden's name is its recording's: so would that of a recording be to which nothing was done.
    alike = clip.name.lower().endswith(tuple(audio.SUFFIXES))
    return replace(clip, name=f"{clip.name} (counter-example)") if alike else clip


def unfit(p: Parameters, frontend: Frontend) -> str | None:
    """Why a clip doesn't fit a recipe, as `is at 8000 Hz, not 16000 Hz`; None where it does."""
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
    made = [(c, fed(c.drawn, rate, shape, dtype)) for c in read_all(golden, system) if isinstance(c.drawn, Pattern)]
    features = {clip.sha256: x for _, (clip, x) in made}
    by_precisions = _by_precisions([(c, clip) for c, (clip, _) in made])
    return {of: [(clip, features[clip.sha256]) for clip in some] for of, some in by_precisions.items()}


def fed(drawn: Pattern, rate: int, shape: tuple[int, ...], dtype: str) -> tuple[Clip, Array]:
    """What a network is fed with, and a clip of no samples that names it."""
    features = patterns.render(drawn, shape, dtype)
    digest = hashlib.sha256(features.tobytes()).hexdigest()
    return Clip(patterns.describe(drawn), np.zeros(0, np.float32), rate, digest), features


def _by_precisions(rendered: Sequence[tuple[CounterExample, Clip]]) -> dict[frozenset[str], list[Clip]]:
    """Each once by what it holds, under the precisions of all counter-examples that it is of.

    Words round: where two clips have the same, each has its file's digest after them.
    """
    once: dict[str, tuple[CounterExample, Clip]] = {}
    held: dict[str, set[str]] = {}
    for c, clip in rendered:
        once.setdefault(clip.sha256, (c, clip))
        held.setdefault(clip.sha256, {"float32"}).add(c.precision or "float32")
    named = Counter(clip.name for _, clip in once.values())
    found: dict[frozenset[str], list[Clip]] = {}
    for digest, (c, clip) in once.items():
        name = clip.name if named[clip.name] == 1 else f"{clip.name} ({c.name.rpartition('-')[2]})"
        found.setdefault(frozenset(held[digest]), []).append(replace(clip, name=name))
    return found


def require_fit(path: Path, c: CounterExample, frontend: Frontend) -> None:
    """GoldenError where the clip of a file doesn't fit a recipe."""
    if isinstance(c.drawn, Parameters) and (other := unfit(c.drawn, frontend)) is not None:
        raise GoldenError(f"{path} {other}", "search again, and take it away; or name its own system: --system NAME")


def require_room(golden: Path, system: str) -> None:
    """ConfigError where no counter-example of a system could be written; nothing is."""
    folder = golden / FOLDER / system
    try:
        with tempfile.TemporaryFile(dir=next(p for p in (folder, *folder.parents) if p.exists())):
            pass
    except OSError as e:
        hint = "make its folder writable, or name another: --golden DIR"
        raise ConfigError(f"nothing can be saved in {folder}: {e.strerror}", hint) from None


def problems(golden: Path, system: str, frontend: Frontend) -> Iterator[str]:
    """What is wrong with a system's counter-examples: a line each that can't be read, doesn't fit or can't be rendered.

    GoldenError where their folder can't be read.
    """
    for path in files(golden, system):
        try:
            if isinstance(p := _own(path, system).drawn, Parameters):
                _rendered(path, p, frontend, golden)
        except GoldenError as e:
            yield f"{e.message} (hint: {e.hint})"
