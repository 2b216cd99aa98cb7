"""Where a difference starts: taps in flow order, cumulative beside isolated, and which failure follows from which.

Of features the isolated error of a stage is what it did with the input that it had (see `parity.stages`). Of a network
the first layer out of bounds has made the error, for everything before it in the flow, and so each of its inputs, is
within bounds; where layers between weren't compared on that clip, it was made somewhere between.

Works on a run's records alone. A *pair* is a backend (its features) or a backend with a runtime and a precision (the
network's taps). The network is judged twice: on the backend's features (cumulative) and on the golden's (isolated).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from parity import lookup
from parity.lookup import Lookup
from parity.records import LOCAL, Run, TapSummary, Verdict, severity
from parity.taps import is_feature

FAILED = lookup.FAILED
NOT_COMPARED = frozenset({"unavailable", "unsupported"})


def badness(verdict: Verdict) -> tuple[int, float]:
    """`severity` as a total order: NaN counts as infinite."""
    rank, ratio = severity(verdict)
    return rank, ratio if ratio == ratio else float("inf")


@dataclass(frozen=True)
class Row:
    """A tap of a pair; a tap of the features stands under `cumulative`."""

    tap: str
    cumulative: TapSummary | None
    isolated: TapSummary | None
    deployment: TapSummary | None = None
    """Against the reference kernels of the same file."""

    @property
    def worst(self) -> Verdict:
        """The worst of them; the first where they are as bad."""
        found = [s.worst for s in (self.cumulative, self.isolated, self.deployment) if s is not None]
        return max(found, key=badness)

    @property
    def outcome(self) -> str:
        """The outcome of the worst of them."""
        return self.worst.outcome


@dataclass(frozen=True)
class Pair:
    """What was compared together: `rows` in flow order."""

    system: str
    backend: str
    runtime: str
    precision: str
    target: str
    rows: tuple[Row, ...]
    several: bool = False
    """Whether the run went to more than one target, so that each is named."""

    @property
    def worst(self) -> Row:
        """The row that failed worst, or came closest to its bound."""
        return max(self.rows, key=lambda row: badness(row.worst))

    @property
    def outcome(self) -> str:
        """The outcome of the worst row."""
        return self.worst.outcome

    @property
    def name(self) -> str:
        """The pair in words, without its system."""
        return title("", self.backend, self.runtime, self.precision, self.target, self.several)


def title(
    system: str, backend: str, runtime: str, precision: str, target: str = "", several: bool = False
) -> str:  # fmt: skip
    """A pair in words: `commands-cnn · librosa → onnxrt float32 on pi`; this machine is named beside others only."""
    fed = backend or "golden features"
    name = f"{fed} → {runtime} {precision}".rstrip() if runtime else fed
    return (f"{system} · " if system else "") + name + on(target, several)


def on(target: str, several: bool = False) -> str:
    """` on pi`; nothing of this machine, unless there are `several` targets."""
    return f" on {target}" if target and (several or target != LOCAL) else ""


def several(run: Run) -> bool:
    """Whether a run went to more than one target."""
    return len(run.environment.get("targets", ())) > 1 or lookup.of(run).several


def title_of(verdict: Verdict, run: Run | None = None) -> str:
    """The pair that a verdict belongs to, in words, as it is called in its run."""
    v = verdict
    return title(v.system, v.backend, v.runtime, v.precision, v.target, run is not None and several(run))


def flow(run: Run, system: str) -> list[str]:
    """A system's taps in flow order: as its records list them, then any other in the order in which it was seen."""
    return lookup.of(run).flow(system)


def pairs(run: Run) -> list[Pair]:
    """Everything that has a verdict, sorted by system, backend, runtime, precision and target.

    A network that was fed only with the golden's features is a pair with the backend ''; else its isolated numbers
    stand beside each backend's cumulative ones.
    """
    steps, named = lookup.of(run).steps, several(run)
    own: dict[tuple[str, str, str, str, str], dict[str, TapSummary]] = defaultdict(dict)
    isolated: dict[tuple[str, str, str, str], dict[str, TapSummary]] = defaultdict(dict)
    deployment: dict[tuple[str, str, str, str], dict[str, TapSummary]] = defaultdict(dict)
    for s in run.summaries:
        if s.path in ("isolated", "deployment"):
            kept = isolated if s.path == "isolated" else deployment
            kept[s.system, s.runtime, s.precision, s.target][s.tap] = s
        else:
            own[s.system, s.backend, s.runtime, s.precision, s.target][s.tap] = s
    fed = {(system, runtime, precision, target) for system, _, runtime, precision, target in own if runtime}
    for system, runtime, precision, target in isolated.keys() - fed:
        own[system, "", runtime, precision, target] = {}
    found = []
    for (system, backend, runtime, precision, target), mine in sorted(own.items()):
        alone = isolated.get((system, runtime, precision, target), {})
        held = deployment.get((system, runtime, precision, target), {})
        taps = sorted(mine.keys() | alone.keys() | held.keys(), key=lambda tap: steps[system, tap])
        rows = tuple(Row(tap, mine.get(tap), alone.get(tap), held.get(tap)) for tap in taps)
        found.append(Pair(system, backend, runtime, precision, target, rows, named))
    return found


def _first(found: Lookup, *of: str) -> Verdict | None:
    """The first failing tap, in flow order, of what was compared together."""
    return min(found.failing.get(of, ()), key=lambda v: found.steps[v.system, v.tap], default=None)


def follows_from(run: Run, verdict: Verdict) -> Verdict | None:
    """The earlier failure that explains a cumulative one, or None where it stands for itself.

    Where the network already fails at this tap or before on the golden's features, that; else, where this tap passes
    on the golden's features (or there were no features to feed it), the backend's first failing stage.
    """
    v = verdict
    if v.path != "cumulative" or v.outcome not in FAILED:
        return None
    found = lookup.of(run)
    steps, network = found.steps, (v.system, "", v.runtime, v.precision, v.target)
    ways = [_first(found, *network, "isolated"), _first(found, *network, "deployment")]
    alone = min((w for w in ways if w is not None), key=lambda w: steps[w.system, w.tap], default=None)
    if alone is not None and steps[alone.system, alone.tap] <= steps[v.system, v.tap]:
        return alone
    stage = _first(found, v.system, v.backend, "", "", v.target, "features")
    if stage is None or not is_feature(stage.tap):
        return None
    return stage if passes_alone(run, v) or stage.outcome == "error" else None


def passes_alone(run: Run, verdict: Verdict) -> bool:
    """Whether a network passes at this tap on the golden's features."""
    v = verdict
    return (v.system, v.runtime, v.precision, v.target, v.tap) in lookup.of(run).alone


def first_failures(run: Run) -> list[Verdict]:
    """The first failing tap, in flow order, of each pair: worst first, then those that follow from another one.

    A network on the golden's features (backend '') is a pair of its own here: that is the one to blame. Where it also
    fails against the kernels that say what its file computes, these say more: it is the runtime, not the file. A file
    that fails before its runtime does is told as well.
    """
    known = lookup.of(run)
    steps = known.steps
    first = {of: v for of in known.failing if (v := _first(known, *of)) is not None}
    for *pair, path in list(first):
        held, alone = first.get((*pair, "deployment")), first[*pair, path]
        if path == "isolated" and held is not None and steps[held.system, held.tap] <= steps[alone.system, alone.tap]:
            del first[*pair, path]

    def order(verdict: Verdict) -> tuple[bool, int, float, str]:
        rank, ratio = badness(verdict)
        return follows_from(run, verdict) is not None, -rank, -ratio, title_of(verdict)

    return sorted(first.values(), key=order)


@dataclass(frozen=True)
class Since:
    """What is known to be right before the first failing tap of a pair."""

    tap: str
    """The last tap within bounds before it, on the clip that tells most; '' where none was compared."""
    between: tuple[str, ...]
    """The taps between the two, which weren't compared on the clips that first fail here."""


def since(run: Run, verdict: Verdict) -> Since | None:
    """Up to where all is within bounds before a failing tap; None where no clip first fails at it."""
    found = lookup.of(run).summaries.get((*lookup.group(verdict), verdict.tap))
    if found is None or not found.since:
        return None
    taps = flow(run, verdict.system)
    last = max(found.since, key=lambda tap: taps.index(tap) if tap in taps else -1)
    start = taps.index(last) + 1 if last in taps else 0
    same = [t for t in taps[start : taps.index(verdict.tap)] if is_feature(t) == is_feature(verdict.tap)]
    return Since(last, tuple(same))


def erring(run: Run, verdict: Verdict) -> list[str]:
    """The stages of a backend that are out of bounds by themselves, on a clip at least, in flow order."""
    keys = ("system", "backend", "target")
    own = {
        s.tap
        for s in run.summaries
        if s.path == "features" and s.own is not None and s.own.own_outcome == "fail"
        and all(getattr(s, k) == getattr(verdict, k) for k in keys)
    }  # fmt: skip
    return [tap for tap in flow(run, verdict.system) if tap in own]


def number(x: float | None) -> str:
    """Three significant digits: `0.31`, `2.1e-5`, `1250`; a dash where there is none."""
    if x is None:
        return "–"
    if x != x or x in (float("inf"), float("-inf")):
        return f"{x:g}"
    if 99.95 <= abs(x) < 99_950:
        return f"{float(f'{x:.3g}'):.0f}"
    if 0 < abs(x) < 1e-3 or abs(x) >= 99_950:
        mantissa, _, exponent = f"{x:.2e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{x + 0.0:.3g}"


def place(verdict: Verdict) -> list[str]:
    """Where in its clip the worst element is, in words: `frame 12, 0.125 s`, `bin 14 = 437 Hz`, `t 12 f 3 c 40`."""
    v = verdict
    if not is_feature(v.tap):
        if v.index is None or v.tap.startswith("decision/"):
            return []
        names = ("t", "f", "c") if len(v.index) == 3 else ("index",) + ("",) * (len(v.index) - 1)
        return [" ".join(f"{name} {i}".strip() for name, i in zip(names, v.index, strict=True))] if v.index else []
    words = []
    if v.frame is not None:
        words.append(f"frame {v.frame}")
    elif v.index:
        words.append(f"sample {v.index[0]}")
    if v.time is not None:
        words.append(f"{number(v.time)} s")
    if v.band is not None:
        kind = {"features/spectrum": "bin", "features/cepstrum": "coefficient"}.get(v.tap, "band")
        words.append(f"{kind} {v.band}" + (f" = {hertz(v.frequency)}" if v.frequency is not None else ""))
    return words


def hertz(f: float) -> str:
    """A frequency: `437 Hz`, `4.38 kHz`."""
    return f"{number(f / 1000)} kHz" if f >= 999.5 else f"{number(f)} Hz"
