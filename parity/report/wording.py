"""A run in words: what the terminal, the page and junit.xml say in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parity.localize import (
    FAILED,
    NOT_COMPARED,
    Pair,
    erring,
    flow,
    follows_from,
    number,
    on,
    pairs,
    passes_alone,
    place,
    several,
    since,
    title,
)
from parity.localize import title_of as name_of
from parity.records import Run, TapSummary, Verdict, targets
from parity.taps import LABEL, is_feature

WORDS = {"fail": "FAIL", "missing": "MISSING", "error": "ERROR", "gap": "known gap"}


def clean(text: object) -> str:
    r"""Text that no terminal, XML or HTML chokes on: what can't be printed is written as `\x1b`; line breaks stay."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text)
    )


def one_line(text: object) -> str:
    """`clean`, and line breaks written out too."""
    return clean(text).replace("\n", "\\n")


def shorten(name: str, width: int) -> str:
    """A name of at most `width` characters: its middle goes."""
    name = one_line(name)
    head = (width - 1) // 2
    return name if len(name) <= width else f"{name[:head]}…{name[len(name) - (width - 1 - head) :]}"


def count(n: int, noun: str) -> str:
    """`1 pair`, `2 pairs`."""
    return f"{n} {noun}" + ("" if n == 1 else "s")


def compared(run: Run) -> list[Pair]:
    """The pairs that have a tap that was compared, or that should have been."""
    return [p for p in pairs(run) if any(row.outcome not in NOT_COMPARED for row in p.rows)]


def judgement(run: Run) -> tuple[str, str]:
    """PASS, FAIL, INCOMPLETE or NOTHING COMPARED, and why in words."""
    found = compared(run)
    failing = [p for p in found if p.outcome in FAILED]
    why = []
    if failing:
        fed = sum(_only_features(run, p) for p in failing)
        only = f" ({fed} only because of features)" if fed else ""
        why.append(f"{_where(failing)} {'fails' if len(failing) == 1 else 'fail'}{only}")
    if beaten := sum(bool(e.get("failed")) for e in run.examples):
        why.append(f"{count(beaten, 'pair')} out of bounds on generated examples")
    if unmet := len(run.gaps.get("unmet", ())):
        why.append(f"{count(unmet, 'known gap')} matched no failure")
    why += regressions(run)
    if why or run.exit_code == 1:
        return "FAIL", ", ".join(why) or "a regression against the baseline"
    if not found:
        return "NOTHING COMPARED", "that is not a pass"
    without = any(f["fails"] and f["kind"] == "baseline" for f in findings(run))
    if without and run.exit_code == 2 and not any(s.asked for s in run.skipped):
        return "INCOMPLETE", "within bounds, but a baseline of this environment is required"
    if run.exit_code:
        reason = {4: "a target could not be reached", 5: "a golden is missing or unreadable"}
        return "INCOMPLETE", reason.get(run.exit_code, "not everything that was asked for was compared")
    gaps = any(s.counts.get("gap") for s in run.summaries)
    held = {
        "pass": ", and nothing drifted from the accepted baseline",
        "new": f", without a baseline {_unaccepted(run)}",
    }
    beside = held.get(run.gate.get("verdict", ""), "") if run.gate.get("baselines") else ""
    return "PASS", "everything compared is within bounds" + (", or a known gap" if gaps else "") + beside


def _unaccepted(run: Run) -> str:
    """Of which environment nothing was accepted: of this one, or, among several targets, of those named."""
    beside = [(b.get("target", ""), b["state"]) for b in run.gate.get("baselines", ())]
    targets = list(dict.fromkeys(target for target, _ in beside))
    new = [t for t in targets if any(target == t and state != "held" for target, state in beside)]
    return f"on {', '.join(new)}" if len(targets) > 1 and new else "of this environment"


def findings(run: Run) -> Sequence[Mapping[str, Any]]:
    """What the gate found, the worst first; nothing of a run that was no gate."""
    found: Sequence[Mapping[str, Any]] = run.gate.get("findings", ())
    return found


REGRESSIONS = {
    "drift": ("{} drifted from the accepted baseline", "tap"), "flips": ("more labels differ in {}", "pair"),
    "accuracy": ("{} less accurate than allowed", "pair"), "coverage": ("coverage lost in {}", "place"),
    "size": ("{} larger than allowed", "file"), "latency": ("{} slower than allowed", "plugin"),
}  # fmt: skip
"""Kind of finding -> what the first line says of it, and what is counted."""


def regressions(run: Run) -> list[str]:
    """What the gate failed on, a phrase a kind."""
    failing = [f["kind"] for f in findings(run) if f["fails"]]
    return [phrase.format(count(n, noun)) for kind, (phrase, noun) in REGRESSIONS.items() if (n := failing.count(kind))]


def found_by_gate(run: Run) -> list[tuple[str, list[str]]]:
    """The gate's findings: a heading (the kind) with its lines.

    Of drift the first tap of each pair and path, in flow order, with how many follow: it is where to look.
    """
    steps = {(system, tap): i for system in run.systems for i, tap in enumerate(flow(run, system))}
    lines: dict[str, list[str]] = {}
    drift: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    same: dict[str, list[str]] = {}
    for f in findings(run):
        if f["kind"] == "baseline":  # often the same of every system
            same.setdefault(f["text"], []).append(finding_of(f, several(run)))
        elif f["kind"] != "drift":
            lines.setdefault(f["kind"], []).append(f"{finding_of(f, several(run))}: {f['text']}")
        else:
            key = tuple(f[k] for k in ("system", "backend", "runtime", "precision", "target", "path"))
            drift.setdefault(key, []).append(f)
    for of in drift.values():
        first = min(of, key=lambda f: steps.get((f["system"], f["tap"]), -1))
        more = f" (and {count(len(of) - 1, 'tap')} after it)" if len(of) > 1 else ""
        lines.setdefault("drift", []).append(f"{finding_of(first, several(run))}: {first['text']}{more}")
    for text, systems in same.items():
        some = ", ".join(systems[:4]) + (f" and {len(systems) - 4} more" if len(systems) > 4 else "")
        lines.setdefault("baseline", []).append(f"{some}: {text}")
    return [(HEADINGS[kind], lines[kind]) for kind in HEADINGS if kind in lines]


def acceptable(run: Run) -> bool:
    """Whether what the gate found is all that there is: then a run may be accepted instead of mended."""
    failed = any(n for s in run.summaries for o, n in s.counts.items() if o in FAILED)
    complete = not run.gaps.get("unmet") and not any(s.asked for s in run.skipped)
    # A system that is gone, from a target or altogether: no run accepts that.
    there = {(s.system, s.target) for s in run.summaries}
    found = any(f["kind"] != "coverage" or (f["system"], f["target"]) in there for f in findings(run))
    return bool(run.gate.get("baselines")) and found and not failed and complete


HEADINGS = {
    "drift": "Drift: within bounds, but further than accepted", "flips": "Labels that were the golden's when accepted",
    "accuracy": "Less accurate than float32", "coverage": "Coverage lost", "size": "Larger files",
    "latency": "Slower frames", "baseline": "Baselines",
}  # fmt: skip
"""What the findings of each kind stand under."""


def finding_of(f: Mapping[str, Any], among_several: bool = False) -> str:
    """What a finding is of, in words; its target too, where it isn't this machine or there are several."""
    who = title("", f["backend"], f["runtime"], f["precision"]) if f["backend"] or f["runtime"] else ""
    if f["kind"] == "latency" and f["runtime"]:
        who = f"{f['runtime']} {f['precision']}"
    place = on(f["target"], among_several)
    system, who = (f["system"], f"{who}{place}") if who else (f"{f['system']}{place}", "")
    path = f["path"] if f["path"] not in ("", "features") else ""
    return " · ".join(filter(None, (system, who, path, f["tap"])))


def _only_features(run: Run, pair: Pair) -> bool:
    """Whether every failing tap of a network follows from its backend's features."""
    failing = [
        s.worst
        for row in pair.rows
        for s in (row.cumulative, row.isolated, row.deployment)
        if s and s.worst.outcome in FAILED
    ]
    causes = [follows_from(run, v) for v in failing]
    return bool(causes) and all(cause is not None and cause.path == "features" for cause in causes)


def _sides(found: Sequence[Pair]) -> str:
    """`3 backends and 9 pairs`; nothing is left out of the first line that was compared."""
    backends, networks = sum(not p.runtime for p in found), sum(bool(p.runtime) for p in found)
    words = [count(n, noun) for n, noun in ((backends, "backend"), (networks, "pair")) if n]
    return " and ".join(words) or count(0, "pair")


def _where(found: Sequence[Pair]) -> str:
    """The same, with the targets that they are on where those are told apart: `2 pairs on pi and 1 pair on local`."""
    by_target: dict[str, list[Pair]] = {}
    for p in found:
        by_target.setdefault(p.target, []).append(p)
    of = [f"{_sides(same)}{on(target, same[0].several)}" for target, same in by_target.items()]
    return "; ".join(of) if len(of) > 2 else " and ".join(of)


def counts(run: Run) -> list[str]:
    """The numbers of a run: systems, targets, pairs, clips, skipped, known gaps, near ties."""
    sizes = []
    for name in dict.fromkeys([*run.systems, *(s.system for s in run.summaries)]):
        clips = run.systems.get(name, {}).get("clips")
        most = max((sum(s.counts.values()) for s in run.summaries if s.system == name), default=0)
        sizes.append(clips if isinstance(clips, int) else len(clips) if clips is not None else most)
    low, high = min(sizes, default=0), max(sizes, default=0)
    each = " each" if len(sizes) > 1 else ""
    places = [f"{len(targets(run))} targets"] if several(run) else []
    words = [
        count(len(sizes), "system"), *places, f"{_sides(compared(run))} compared",
        (count(high, "clip") if low == high else f"{low} to {high} clips") + each,
        f"{sum(len(names) for _, names in not_compared(run))} skipped or unsupported",
        count(len(run.gaps.get("met", ())), "known gap"),
    ]  # fmt: skip
    ties = sum(s.near_ties for s in run.summaries)
    return words + ([count(ties, "near tie")] if ties else [])


def outcome_of(example: Mapping[str, Any]) -> str:
    """The outcome of a pair on generated examples: fail, pass, gap (within a known gap), or unsupported."""
    return str(example.get("outcome") or ("fail" if example.get("failed") else "pass"))


def near_ties(run: Run) -> list[str]:
    """A line a model and path: on how many clips it says another label, and on the features of which backends.

    Targets on which it is the same share a line.
    """
    found: dict[tuple[str, str, str], dict[str, int]] = {}
    first: dict[tuple[str, str, str], str] = {}
    for s in run.summaries:
        if s.near_ties:
            key = f"{s.system} · {s.runtime} {s.precision}", s.path, s.target
            found.setdefault(key, {})[s.backend] = s.near_ties
            first.setdefault(key, s.tie)
    lines: dict[tuple[str, str, str], list[str]] = {}
    for (who, path, target), ties in found.items():
        same = len(set(ties.values())) == 1
        number = str(max(ties.values())) if same else ", ".join(f"{b} {n}" for b, n in ties.items())
        fed = f" (on the features of {', '.join(ties)})" if same and any(ties) else ""
        example = first[who, path, target]
        said = f"{number}{fed}" + (f"; first {example}" if example else "")
        lines.setdefault((who, path, said), []).append(target)
    every = targets(run)
    return [
        f"{who}{' on every target' if several(run) and len(of) == len(every) else _each(of, run)}, {path}: {said}"
        for (who, path, said), of in lines.items()
    ]


def _each(of: Sequence[str], run: Run) -> str:
    return on(" and ".join(of) if several(run) else of[0], several(run))


def saturated(run: Run) -> list[str]:
    """A line a model: at which taps right values leave what its integers can hold, isolated: a finding of its own."""
    found: dict[str, list[TapSummary]] = {}
    for s in run.summaries:
        if s.saturated and s.path == "isolated" and s.tap != LABEL:
            found.setdefault(f"{s.system} · {s.precision}", []).append(s)
    lines = []
    for who, summaries in found.items():
        worst = max(summaries, key=lambda s: s.most_saturated)
        taps = list(dict.fromkeys(s.tap for s in summaries))
        others = f" and {len(taps) - 1} more taps" if len(taps) > 1 else ""
        lines.append(
            f"{who}: {worst.tap}{others}, up to {100.0 * worst.most_saturated:.2g} % of a clip's elements, "
            f"on {count(worst.saturated, 'clip')} of {sum(worst.counts.values())}{_flipped(run, worst)}"
        )
    return lines


def _flipped(run: Run, of: TapSummary) -> str:
    """How many of the labels that differ are on clips that saturate: of the runtime where most are."""
    labels = [s for s in run.summaries if (s.tap, s.path) == (LABEL, "isolated")
              and (s.system, s.precision) == (of.system, of.precision) and s.counts.get("fail")]  # fmt: skip
    if not labels:
        return ""
    most = max(labels, key=lambda s: s.saturated)
    n = most.counts["fail"]
    said = f"{count(n, 'label')} that {'differs' if n == 1 else 'differ'}"
    return f"; of {said}, {most.saturated} {'is' if most.saturated == 1 else 'are'} on a clip that saturates"


def not_compared(run: Run) -> list[tuple[str, list[str]]]:
    """Reasons, and the pairs that weren't compared for each."""
    reasons: dict[str, list[str]] = {}
    for s in run.skipped:
        what = title("", s.backend, s.runtime, s.precision) if s.backend else f"{s.runtime} {s.precision}".strip()
        name = " · ".join(filter(None, (s.system, what))) + on(s.target, several(run))
        reasons.setdefault(s.reason, []).append(name + (" (asked for)" if s.asked else ""))
    for p in pairs(run):
        if all(row.outcome in NOT_COMPARED for row in p.rows):
            reasons.setdefault(p.worst.worst.message or p.outcome, []).append(f"{p.system} · {p.name}")
    return list(reasons.items())


def against(summary: TapSummary | None) -> str:
    """`error/bound` of a summary's worst element."""
    if summary is None or summary.worst.error is None:
        return "–"
    return f"{number(summary.worst.error)}/{number(summary.worst.bound)}"


def own(summary: TapSummary | None) -> str:
    """`error/bound` of a stage by itself, where a clip failed; a dash where there is nothing to be said."""
    if summary is None or summary.own is None or summary.own.own_error is None:
        return "–"
    return f"{number(summary.own.own_error)}/{number(summary.own.own_bound)}"


def made(run: Run, verdict: Verdict) -> str:
    """Whether the error of a first failing tap was made there or came in; nothing where that can't be told."""
    v = verdict
    if v.path == "features":
        return _made_by_a_stage(run, v)
    known = since(run, v)
    if known is None or not known.tap or v.outcome != "fail":
        return ""
    if v.path == "cumulative" and passes_alone(run, v):
        return "came in: it passes on the golden's features, so that it follows from features that are within bounds"
    if not known.between:
        return f"made here: what comes before it, up to {known.tap}, is within bounds"
    return f"made after {known.tap}, which is within bounds: on the clips that fail no layer between was compared"


def _made_by_a_stage(run: Run, v: Verdict) -> str:
    if not v.own_outcome:
        return ""
    unit = f" {v.unit}" if v.unit not in ("", "1") else ""
    bound = "none allowed" if v.own_bound == 0.0 else f"bound {number(v.own_bound)}{unit}"
    numbers = f"own error {number(v.own_error)}{unit}, {bound}" if v.own_error is not None else ""
    if v.own_outcome == "pass":
        start = v.own_from or "the samples"
        return f"came in: with the input that it had, from {start}, it is within bounds ({numbers})"
    flow_of = [tap for tap in flow(run, v.system) if is_feature(tap)]
    at = flow_of.index(v.tap)
    skipped = flow_of[flow_of.index(v.own_from) + 1 if v.own_from in flow_of else 0 : at]
    here = f"made here or in {', '.join(stage(t) for t in skipped)}, which it doesn't show" if skipped else "made here"
    also = [tap for tap in erring(run, v) if flow_of.index(tap) > at]
    rest = "" if at == len(flow_of) - 1 else "; the stages after it hand it on"
    if also:
        rest = f"; by itself {', '.join(stage(t) for t in also)} errs as well"
    return here + (f" ({numbers})" if numbers else "") + rest


def stage(tap: str) -> str:
    """A stage's short name: `windowed`."""
    return tap.partition("/")[2]


def failure(run: Run, verdict: Verdict) -> tuple[str, str]:
    """A first failure as a line that says where, and one that says what; the second may be empty."""
    v, cause = verdict, follows_from(run, verdict)
    held = " against the reference kernels" if v.path == "deployment" else ""
    head = f"{name_of(v, run)}{held}: first at {v.tap}"
    if cause is not None:
        if cause.path == "isolated":
            return f"{head}; on the golden's features {cause.tap} fails too", ""
        passes = " (passes in isolation)" if v.outcome == "fail" else ""
        return f"{head}, follows from {cause.tap} of {cause.backend}{passes}", ""
    unit = f" {v.unit}" if v.unit not in ("", "1") else ""
    numbers = f": error {number(v.error)}{unit}, bound {number(v.bound)}{unit}" if v.error is not None else ""
    if numbers and v.step:
        numbers += f" (steps of {number(v.step)})"
    return f"{head} ({', '.join(['clip ' + shorten(v.clip, 40), *place(v)])}){numbers}", v.message


def details(summary: TapSummary) -> list[str]:
    """Where the worst element of a tap is and what is wrong with it, a line a fact."""
    v = summary.worst
    lines = [f"clip: {v.clip}"]
    if where := place(v):
        lines.append(f"where: {', '.join(where)}")
    elif v.index is not None:
        lines.append(f"index: {list(v.index)}")
    if v.error is not None:
        unit = f" {v.unit}" if v.unit not in ("", "1") else ""
        lines.append(f"error: {number(v.error)}{unit}, bound: {number(v.bound)}{unit}, error/bound: {number(v.ratio)}")
    if v.candidate is not None or v.golden is not None:
        lines.append(f"candidate: {number(v.candidate)}, golden: {number(v.golden)}")
    if v.outside > 0:
        lines.append(f"out of bounds: {number(100 * v.outside)} % of the elements")
    return [*lines, f"bound is {v.rule}"]


def judged_by(run: Run) -> list[str]:
    """What was judged again, and what stood in for goldens, a line a system that was judged without."""
    anchors = {name: about.get("anchor") for name, about in run.systems.items()}
    live = [f"{name}: {a['live']}" for name, a in anchors.items() if isinstance(a, Mapping) and "live" in a]
    return _again(run) + live


def _again(run: Run) -> list[str]:
    if not run.recheck:
        return []
    n = {how: run.recheck.get(how, 0) for how in ("judged", "stand", "open")}
    words = f"recheck of {run.recheck['of']}, nothing was run: {count(n['judged'], 'verdict')} judged again"
    words += f", {n['stand']} stand as they were" if n["stand"] else ""
    return [words + (f", {n['open']} can't be judged" if n["open"] else "")]


def unanchored(run: Run) -> list[str]:
    """The systems whose goldens were recorded with --unanchored."""
    anchors = {name: about.get("anchor") for name, about in run.systems.items()}
    return [name for name, a in anchors.items() if isinstance(a, Mapping) and a.get("backend") == "none"]


def published(anchor: Mapping[str, Any]) -> str:
    """The published vectors that are part of a manifest's anchor, in words; nothing where there are none."""
    told = anchor.get("vectors")
    if not told:
        return ""
    taps = ", ".join(dict.fromkeys(r["tap"] for r in told["reproduced"]))
    without = f"; none for {', '.join(told['without'])}" if told["without"] else ""
    return f"{len(told['reproduced'])} published vectors reproduced ({told['source']}) at {taps}{without}"


def pair_of(row: Mapping[str, Any], run: Run) -> str:
    """The pair that a row of labels or examples is of, and the target where targets are told apart."""
    return f"{row['pair']}{on(row.get('target', ''), several(run))}"


def same_confusion(run: Run) -> list[tuple[str, dict[str, dict[str, int]]]]:
    """Confusion matrices, each once, with the pairs that share it."""
    found: list[tuple[list[str], dict[str, dict[str, int]]]] = []
    of = run.labels.get("pairs", [])
    for p in of:
        for names, confusion in found:
            if confusion == p["confusion"]:
                names.append(pair_of(p, run))
                break
        else:
            found.append(([pair_of(p, run)], p["confusion"]))
    every = len(found) == 1 and len(of) > 1
    return [("every pair" if every else ", ".join(names), confusion) for names, confusion in found]


def columns_of(confusion: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The labels of a confusion matrix: the truths, then what was answered beside them."""
    return list(dict.fromkeys([*confusion, *sorted({x for row in confusion.values() for x in row})]))


def by_label(labels: Mapping[str, str]) -> dict[str, list[str]]:
    """Pair -> label, turned round."""
    return {label: [p for p, x in labels.items() if x == label] for label in dict.fromkeys(labels.values())}
