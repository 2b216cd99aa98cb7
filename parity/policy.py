"""What people declared: `tolerances.toml` for taps whose bound isn't derived, `known_gaps.toml` for known failures.

Neither can be used without a reason, and no rule for a tap is an error, not a default.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from parity.bounds.features import Interval
from parity.errors import ConfigError
from parity.protocols import Array, Tap
from parity.taps import LABEL, MODEL_INPUT

Width = Annotated[float, msgspec.Meta(ge=0)]
PathOf = Literal["*", "features", "isolated", "cumulative", "deployment"]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """half-width = absolute + relative·|golden| + of_rms·(root mean square of the golden's tap in the clip)
    + steps·(the quantization step of the candidate's tensor)
    + input_steps·(by how many steps a recipe's quantized features differ from the golden's, summed over the clip).

    At `decision/label` only `absolute` counts: the golden's lead up to which a quantized model may say another label.
    """

    tap: str
    why: str
    system: str = "*"
    candidate: str = "*"
    """The backend's name for features, the runtime's for the network's taps."""
    path: PathOf = "*"
    """features, isolated, cumulative, or deployment (held to the kernels that system.toml names for the file)."""
    precision: str = "*"
    clips: tuple[str, ...] = ("*",)
    """Patterns of clips' names: where designed clips leave the range that a file was calibrated for."""
    machine: str = "*"
    """The target's architecture, as `uname -m` names it there: kernels of one may round what those of another don't."""
    absolute: Width = 0.0
    relative: Width = 0.0
    of_rms: Width = 0.0
    steps: Width = 0.0
    input_steps: Width = 0.0


class Gap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A known failure. It fails the run when none of what it matches fails any more, or it matches nothing selected.

    Only on the goldens that it was declared beside: other clips needn't show it. It covers numbers out of bounds, and
    labels: never a wrong dtype or shape, or a NaN.
    """

    kind: Literal["converter", "kernel", "quantizer", "recipe", "model"]
    reason: str
    outcome: Literal["fail", "missing", "error"]
    system: str
    tap: str
    backend: str = "*"
    runtime: str = "*"
    precision: str = "*"
    path: PathOf = "*"
    clip: str = "*"
    machine: str = "*"
    """The target's architecture, as `uname -m` names it there."""
    max_ratio: float | None = None
    """Error over bound up to which it is the known failure, and not a worse one."""


class _Tolerances(msgspec.Struct, forbid_unknown_fields=True):
    tolerance: list[Rule] = []


class _Gaps(msgspec.Struct, forbid_unknown_fields=True):
    gap: list[Gap] = []


def _read(path: Path, kind: Any) -> Any:
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), kind)
    except OSError as e:
        raise ConfigError(f"{path} can't be read: {e.strerror}", "name a file like golden/tolerances.toml") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path} is not TOML: {e}", "mend the line that it names") from None
    except msgspec.ValidationError as e:
        raise ConfigError(f"{path}: {e}", "see golden/README.md") from None


def _matches(r: Rule, key: tuple[str, ...]) -> bool:
    # What a network is fed with is known: `model/*` doesn't loosen it, only a rule that names it does.
    if key[-1] in (MODEL_INPUT, LABEL) and r.tap != key[-1]:
        return False
    patterns = (r.system, r.candidate, r.path, r.precision, r.tap)
    return all(fnmatchcase(value, pattern) for value, pattern in zip(key, patterns, strict=True))


def _covers_clip(r: Rule, clip: str) -> bool:
    return r.clips == ("*",) or any(fnmatchcase(clip, pattern) for pattern in r.clips)


@dataclass(frozen=True)
class Policy:
    """The rules of a run. The first rule that matches counts."""

    rules: Sequence[Rule] = ()
    gaps: Sequence[Gap] = ()
    path: Path | None = None
    gaps_from: Path | None = None
    """The folder that the gaps were read from."""
    machine: str = ""
    """The architecture that it is for; where it isn't known, what is declared for one doesn't count."""
    used_gaps: set[int] = field(default_factory=set)
    _found: dict[tuple[str, ...], list[Rule]] = field(default_factory=dict, repr=False, compare=False)
    _known: dict[tuple[tuple[str, str], ...], list[Gap]] = field(default_factory=dict, repr=False, compare=False)

    def on(self, machine: str) -> Policy:
        """The same policy for targets of an architecture; what one of them met of its gaps, all have met."""
        return replace(self, machine=machine, _found={}, _known={})

    def rule(self, system: str, candidate: str, path: str, precision: str, tap: Tap, clip: str = "") -> Rule | None:
        """The rule for a tap of a candidate on a clip, if there is one."""
        key = (system, candidate, path, precision, tap)
        if key not in self._found:  # asked for once a clip
            self._found[key] = [r for r in self.rules if _matches(r, key) and self._here(r)]
        return next((r for r in self._found[key] if _covers_clip(r, clip)), None)

    def require(self, system: str, candidate: str, path: str, precision: str, tap: Tap, clip: str = "") -> Rule:
        """The rule for a tap whose bound isn't derived. ConfigError where nobody declared one."""
        found = self.rule(system, candidate, path, precision, tap, clip)
        if found is None:
            rule = f"add a [[tolerance]] with its why to {self.path or 'tolerances.toml'}"
            derived = "; none is needed where bounds are derived: README, 'Bounds', says what that takes"
            raise ConfigError(
                f"no rule says how far {tap} of {system} ({precision}, {path}) may move on {candidate}",
                rule if path == "deployment" else rule + derived,
            )
        return found

    def gap(self, clip: str | None = None, **what: str) -> Gap | None:
        """The known gap that a verdict falls under, if there is one."""
        key = tuple(sorted(what.items()))
        if key not in self._known:  # asked for once a clip
            self._known[key] = [
                g for g in self.gaps if self._here(g) and all(fnmatchcase(v, getattr(g, k)) for k, v in what.items())
            ]
        return next((g for g in self._known[key] if clip is None or fnmatchcase(clip, g.clip)), None)

    def _here(self, declared: Rule | Gap) -> bool:
        return fnmatchcase(self.machine, declared.machine)

    def met(self, gap: Gap) -> None:
        """Remember that a gap covered a failure."""
        self.used_gaps.add(next(i for i, g in enumerate(self.gaps) if g is gap))


def half_width(rule: Rule, value: Array, step: float = 0.0, moved: float = 0.0) -> Array:
    """How far each element may move under a rule, float64 of `value`'s shape; none where it is infinite.

    `step` is the quantization step of the tensor that is judged, 0 where it isn't quantized; `moved` by how many steps
    the features that the network was fed with differ from the golden's, summed over their elements.
    """
    v = np.abs(np.asarray(value, np.float64))
    finite = np.isfinite(v)
    rms = float(np.sqrt(np.square(v[finite]).mean())) if finite.any() else 0.0
    v = np.where(finite, v, 0.0)
    return rule.absolute + rule.relative * v + rule.of_rms * rms + rule.steps * step + rule.input_steps * moved


def interval(rule: Rule, value: Array, step: float = 0.0, moved: float = 0.0) -> Interval:
    """The interval that a rule puts around a golden's array; `step` and `moved` as for `half_width`."""
    v = np.asarray(value, np.float64)
    half = half_width(rule, v, step, moved)
    return Interval(v, v - half, v + half)


def widened(rule: Rule | None, derived: Interval) -> Interval:
    """A derived interval, widened where a rule declares more for this tap and candidate."""
    if rule is None:
        return derived
    declared = interval(rule, derived.value)
    return Interval(derived.value, np.minimum(derived.lo, declared.lo), np.maximum(derived.hi, declared.hi))


def load(folders: Sequence[Path], named: Path | None = None) -> Policy:
    """Rules from the first of `folders` that has `tolerances.toml`, gaps from the first with `known_gaps.toml`.

    A file of rules that is `named` stands before them.
    """
    tolerances = named or next((f / "tolerances.toml" for f in folders if (f / "tolerances.toml").is_file()), None)
    gaps = next((f / "known_gaps.toml" for f in folders if (f / "known_gaps.toml").is_file()), None)
    rules = _read(tolerances, _Tolerances).tolerance if tolerances else []
    for where, entries in ((tolerances, rules), (gaps, known := _read(gaps, _Gaps).gap if gaps else [])):
        for entry in entries:
            reason = entry.why if isinstance(entry, Rule) else entry.reason
            widths = [
                getattr(entry, name, None)
                for name in ("absolute", "relative", "of_rms", "steps", "input_steps", "max_ratio")
            ]
            if not all(w is None or math.isfinite(w) for w in widths):
                raise ConfigError(f"{where}: the entry for {entry.tap!r} has a width that is no number", "say how wide")
            if isinstance(entry, Rule) and entry.tap == LABEL and fnmatchcase("float32", entry.precision):
                raise ConfigError(
                    f"{where}: a rule for {LABEL} covers float32; only a quantized model's label may flip",
                    'name the precision, as in precision = "int8"',
                )
            if not reason.strip():
                raise ConfigError(f"{where}: the entry for {entry.tap!r} gives no reason", "say what was measured")
    where_gaps = gaps.parent if gaps else None
    if tolerances is None and folders:
        return Policy(rules, known, folders[0] / "tolerances.toml", where_gaps)
    return Policy(rules, known, tolerances, where_gaps)


class _Applied(msgspec.Struct):
    """`policy.json` of a run: the rules and gaps, each set once, and which of them a system was judged by."""

    policies: list[tuple[list[Rule], list[Gap]]]
    systems: dict[str, int]
    files: dict[str, tuple[str | None, str | None]]
    """By system where they were read from: the file of rules, the folder of gaps."""


APPLIED = "policy.json"


def _full(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())


def writer(rules: Mapping[str, Policy]) -> Callable[[Path, object], None]:
    """Writes the policies that the systems of a run were judged by into its folder."""

    def write(folder: Path, _run: object) -> None:
        sets: list[tuple[list[Rule], list[Gap]]] = []
        systems = {}
        for name, p in sorted(rules.items()):
            pair = (list(p.rules), list(p.gaps))
            if pair not in sets:
                sets.append(pair)
            systems[name] = sets.index(pair)
        files = {name: (_full(p.path), _full(p.gaps_from)) for name, p in rules.items()}
        (folder / APPLIED).write_bytes(msgspec.json.encode(_Applied(sets, systems, files), order="sorted") + b"\n")

    return write


def applied(run: Path) -> dict[str, Policy]:
    """System -> the policy that a run judged it by. ConfigError where the run doesn't say."""
    try:
        found = msgspec.json.decode((run / APPLIED).read_bytes(), type=_Applied)
        out = {}
        for name, i in found.systems.items():
            (rules, gaps), (path, folder) = found.policies[i], found.files[name]
            out[name] = Policy(rules, gaps, Path(path) if path else None, Path(folder) if folder else None)
        return out
    except (OSError, IndexError, KeyError, msgspec.DecodeError) as e:
        raise ConfigError(
            f"{run} doesn't say which policy it was judged by: {e}", "it is of an older parity: make the run again"
        ) from None


def same_width(a: Rule | None, b: Rule | None) -> bool:
    """Whether two rules allow the same, whatever their reasons."""
    if a is None or b is None:
        return a is b
    return all(getattr(a, w) == getattr(b, w) for w in ("absolute", "relative", "of_rms", "steps", "input_steps"))
