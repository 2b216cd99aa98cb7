"""`junit.xml` of a run, for continuous integration: a test case a tap of a pair, with its worst verdict.

Test suites are the pairs. Whatever a clip or a message is called, the file is well-formed.
"""

from __future__ import annotations

from pathlib import Path

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from parity.localize import NOT_COMPARED, flow, number, several, title
from parity.records import Run, TapSummary
from parity.report.wording import clean, details, judgement, outcome_of, pair_of, unanchored

_PATHS = ("features", "isolated", "deployment", "cumulative")


def write(folder: Path, run: Run, out: Path | None = None) -> None:
    """Write `folder/junit.xml`, or `out`: a test case each (system, backend, runtime, precision, path, tap)."""
    xml = JUnitXml("parity")
    suites: dict[str, TestSuite] = {}
    bare, named = unanchored(run), several(run)
    for summary in _ordered(run):
        s = summary
        name = clean(title(s.system, s.backend, s.runtime, s.precision, s.target, named))
        if name not in suites:
            suites[name] = TestSuite(name)
            if summary.system in bare:
                suites[name].add_property("anchor", "none: the goldens were recorded with --unanchored")
        suites[name].add_testcase(_case(summary))
    for suite in suites.values():
        xml.add_testsuite(suite)
    for name, cases in (("not compared", _skipped(run)), ("gate", _gate(run)), ("run", _whole(run, bool(suites)))):
        if cases:
            suite = TestSuite(name)
            for case in cases:
                suite.add_testcase(case)
            xml.add_testsuite(suite)
    xml.update_statistics()
    xml.time = run.seconds
    xml.write(str(out or folder / "junit.xml"), pretty=True)


def _ordered(run: Run) -> list[TapSummary]:
    taps = {system: flow(run, system) for system in {s.system for s in run.summaries}}
    return sorted(
        run.summaries,
        key=lambda s: (
            s.system, s.backend, s.runtime, s.precision, s.target, _PATHS.index(s.path), taps[s.system].index(s.tap),
        ),
    )  # fmt: skip


def _case(summary: TapSummary) -> TestCase:
    s, v = summary, summary.worst
    parts = (s.system, s.backend or "golden features" * bool(s.runtime), s.runtime, s.precision, s.target, s.path)
    case = TestCase(clean(s.tap), clean(".".join(filter(None, parts))))
    text = clean("\n".join(details(s)))
    message = clean(v.message) or f"error {number(v.error)}, bound {number(v.bound)}"
    if v.outcome in ("fail", "missing"):
        case.result = [Failure(message, v.outcome)]
    elif v.outcome == "error":
        case.result = [Error(message, v.outcome)]
    elif v.outcome in NOT_COMPARED:
        case.result = [Skipped(message if v.message else v.outcome, v.outcome)]
    for result in case.result:
        result.text = text
    case.system_out = "\n".join(_out(s))
    return case


def _out(s: TapSummary) -> list[str]:
    lines = ["clips: " + ", ".join(f"{n} {outcome}" for outcome, n in sorted(s.counts.items()))]
    if s.near_ties:
        lines.append(f"near ties: {s.near_ties} (another label, where the golden's lead is within the bound)")
        lines += [f"first near tie: {clean(s.tie)}"] if s.tie else []
    if s.worst.gap:
        lines.append(f"known gap: {clean(s.worst.gap)}")
    if s.worst.outcome not in ("fail", "missing", "error", *NOT_COMPARED):
        lines.append("worst:\n" + clean("\n".join(details(s))))
    return lines


def _skipped(run: Run) -> list[TestCase]:
    cases = []
    for s in sorted(run.skipped, key=lambda s: (s.system, s.backend, s.runtime, s.precision, s.target, s.reason)):
        name = " ".join(filter(None, (s.backend, s.runtime, s.precision))) or "system"
        case = TestCase(clean(name), clean(".".join(filter(None, (s.system, s.target)))))
        case.result = [Skipped(clean(s.reason), "asked for" if s.asked else "not asked for by name")]
        cases.append(case)
    return cases


def _gate(run: Run) -> list[TestCase]:
    """What the gate found beside the verdicts, and the baseline that each system was held to."""
    cases = []
    for found in run.gate.get("findings", ()):
        of = [found.get(k) for k in ("system", "backend", "runtime", "precision", "target", "path")]
        case = TestCase(clean(found.get("tap") or found["kind"]), clean(".".join(filter(None, ("gate", *of)))))
        if found["fails"]:
            case.result = [Failure(clean(found["text"]), found["kind"])]
        case.system_out = clean(f"{found['kind']}: {found['text']}")
        cases.append(case)
    for b in run.gate.get("baselines", ()):
        on = "" if b.get("target", "local") == "local" else f".{b['target']}"
        case = TestCase("baseline", clean(f"gate.{b['system']}{on}"))
        if b["state"] == "held":
            case.system_out = clean(f"accepted {b.get('accepted')}: {b.get('reason')}")
        else:
            differs = "; ".join(b.get("differs") or ())
            why = "no baseline was accepted" if b["state"] == "none" else f"none for this environment: {differs}"
            case.result = [Skipped(clean(f"judged by bounds alone, {why}"), b["state"])]
        cases.append(case)
    return cases


def _whole(run: Run, any_verdicts: bool) -> list[TestCase]:
    """What fails the run as a whole: known gaps that matched nothing, counter-examples, nothing compared."""
    cases = []
    for gap in run.gaps.get("unmet", ()):
        case = TestCase(clean(gap), "known gaps")
        case.result = [Failure("a known gap that matched no failure", "gap")]
        cases.append(case)
    for e in run.examples:
        case = TestCase(clean(pair_of(e, run)), "generated examples")
        if e.get("failed"):
            case.result = [Failure(clean(e.get("message") or e.get("worst") or "out of bounds"), "fail")]
        elif outcome_of(e) == "unsupported":
            case.result = [Skipped("no network was compared", "unsupported")]
        cases.append(case)
    word, why = judgement(run)
    if not any_verdicts or word == "NOTHING COMPARED":
        case = TestCase("compared", "run")
        case.result = [Error(f"nothing compared, {why}", "nothing")]
        cases.append(case)
    return cases
