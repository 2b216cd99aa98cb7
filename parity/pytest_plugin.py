"""`pytest --parity`: a test a tap of each pair, from one run of everything that is compared.

Off until it is asked for, by `--parity` or by a table `[test]` in parity.toml; then what that table names is compared,
or everything committed and installed. The run is made once, before the tests are collected: under pytest-xdist by the
process that hands out the tests. Its folder goes to reports/; no golden and no baseline is written.
"""

from __future__ import annotations

import dataclasses
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from parity.records import Run, Skipped, TapSummary


@dataclasses.dataclass(frozen=True)
class Made:
    """A run, or why there is none."""

    run: Run | None
    folder: str
    refused: str = ""


_MADE: pytest.StashKey[Made] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """--parity and where its report goes."""
    group = parser.getgroup("parity")
    group.addoption("--parity", action="store_true", help="a test a tap that parity compares with the goldens")
    group.addoption("--parity-report", metavar="DIR", help="where the run's folder goes; default: reports/")


def asked(config: pytest.Config) -> bool:
    """Whether pytest was asked for it, by an option, or by the project where no file or folder is named."""
    if config.getoption("parity"):
        return True
    return config.args_source is not pytest.Config.ArgsSource.ARGS and _has_table(config.rootpath)


def _has_table(root: Path) -> bool:
    """Whether the project's settings have a table [test]; read without what reads them in full."""
    for path, keys in ((root / "parity.toml", ("test",)), (root / "pyproject.toml", ("tool", "parity", "test"))):
        if path.is_file():
            try:
                table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as e:
                raise pytest.UsageError(f"{path} can't be read: {e}") from None
            for key in keys:
                table = table.get(key) if isinstance(table, dict) else None
            if table is not None:
                return True
    return False


def make(config: pytest.Config) -> Made:
    """Compare what the project's settings name. A configuration that is wrong is told by the one test there is then."""
    from parity import pipeline, settings
    from parity.errors import ParityError
    from parity.plan import Selection
    from parity.targets.local import LocalTarget

    root = config.rootpath
    reports = Path(config.invocation_params.dir, config.getoption("parity_report") or root / "reports")
    try:
        wanted = settings.load(root).test or settings.Pytest()
        near = (root / name for name in wanted.systems)
        selection = Selection(
            systems=tuple(str(path) if path.is_dir() else path.name for path in near),
            backends=wanted.backends, runtimes=wanted.runtimes, precisions=wanted.precisions,
        )  # fmt: skip
        with LocalTarget() as target:
            run, folder = pipeline.run(
                selection, target, reports, shlex.join(["pytest", *config.invocation_params.args])
            )
    except ParityError as e:
        return Made(None, "", e.message + (f"\nhint: {e.hint}" if e.hint else ""))
    return Made(run, str(folder))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Under xdist: hand the run, which is made for the first worker, to each."""
    import msgspec

    config = node.config
    if not asked(config):
        return
    if _MADE not in config.stash:
        _announce(config)
        config.stash[_MADE] = make(config)
    made = config.stash[_MADE]
    run = None if made.run is None else msgspec.json.encode(made.run).decode()
    node.workerinput["parity"] = {"run": run, "folder": made.folder, "refused": made.refused}


def _made(config: pytest.Config) -> Made:
    if _MADE not in config.stash:
        given = getattr(config, "workerinput", {}).get("parity")
        if given is None:
            config.stash[_MADE] = make(config)
        else:
            import msgspec

            from parity.records import Run

            run = None if given["run"] is None else msgspec.json.decode(given["run"], type=Run)
            config.stash[_MADE] = Made(run, given["folder"], given["refused"])
    return config.stash[_MADE]


def _announce(config: pytest.Config) -> None:
    if (reporter := config.pluginmanager.get_plugin("terminalreporter")) is not None:
        reporter.write_line("parity: comparing with the goldens ...")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the tests of the run to those of the files."""
    if asked(config):
        items.extend(session.genitems(Comparison.from_parent(session, name="parity", nodeid="parity")))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say where the report is."""
    made = config.stash.get(_MADE, None)
    if made is not None and made.run is not None:
        from parity.report.wording import counts, judgement

        word, why = judgement(made.run)
        terminalreporter.section("parity")
        terminalreporter.write_line(f"{word}: {why}; {', '.join(counts(made.run))}.")
        terminalreporter.write_line(f"report: {Path(made.folder, 'index.html')}")


class Comparison(pytest.Collector):
    """The run: a collector a pair and path, and a test of the run as a whole."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        made = _made(self.config)
        yield Whole.from_parent(self, name="everything that was asked for is compared", made=made)
        if made.run is None:
            return
        from parity.localize import flow

        of: dict[tuple[str, ...], list[TapSummary]] = {}
        for s in made.run.summaries:
            of.setdefault((s.system, s.backend, s.runtime, s.precision, s.target, s.path), []).append(s)
        for key, summaries in sorted(of.items()):
            taps = flow(made.run, key[0])
            ordered = sorted(summaries, key=lambda s: taps.index(s.tap))
            yield Pair.from_parent(self, name=_name(*key), made=made, summaries=ordered)
        left: dict[str, list[str]] = {}
        for skipped in made.run.skipped:
            left.setdefault(_whose(skipped), []).append(skipped.reason)
        for name, reasons in sorted(left.items()):
            yield Left.from_parent(self, name=name, reasons=reasons)


def _name(*parts: str) -> str:
    return " ".join(part for part in parts if part not in ("", "local"))


class Pair(pytest.Collector):
    """The taps of a pair on one path, in flow order."""

    def __init__(self, *, made: Made, summaries: list[TapSummary], **more: Any) -> None:
        super().__init__(**more)
        self.made, self.summaries = made, summaries

    def collect(self) -> Iterator[pytest.Item]:
        for s in self.summaries:
            yield Tap.from_parent(self, name=s.tap, made=self.made, summary=s)


class OutOfBoundsError(Exception):
    """A tap, or a run, that isn't what the goldens say; its text is all there is to show."""


class _Item(pytest.Item):
    """A test that is shown by the text of its failure, without a traceback."""

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, OutOfBoundsError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, self.nodeid


class Tap(_Item):
    """One tap of a pair on one path, all its clips."""

    def __init__(self, *, made: Made, summary: TapSummary, **more: Any) -> None:
        super().__init__(**more)
        self.made, self.summary = made, summary
        if summary.worst.ratio is not None:
            self.user_properties.append(("error_over_bound", summary.worst.ratio))

    def runtest(self) -> None:
        from parity.localize import FAILED, NOT_COMPARED

        v = self.summary.worst
        if v.outcome in FAILED:
            raise OutOfBoundsError("\n".join(self._words()))
        if v.outcome in NOT_COMPARED:
            pytest.skip(v.message or v.outcome)
        if v.outcome == "gap":
            pytest.xfail(f"known gap: {v.gap}")

    def _words(self) -> Iterator[str]:
        from parity.localize import first_failures, follows_from, title_of
        from parity.report.wording import clean, details, made

        v, run = self.summary.worst, self.made.run
        assert run is not None
        yield clean(f"{v.outcome} at {v.tap}, {v.path}, of {title_of(v)}" + (f": {v.message}" if v.message else ""))
        yield from (f"  {clean(line)}" for line in details(self.summary))
        counts = self.summary.counts
        yield f"  clips: {', '.join(f'{n} {outcome}' for outcome, n in sorted(counts.items()))}"
        same = ("system", "backend", "runtime", "precision", "target", "path")
        firsts = [f for f in first_failures(run) if all(getattr(f, k) == getattr(v, k) for k in same)]
        if (cause := follows_from(run, v)) is not None:
            yield clean(f"  follows from {cause.tap} of {title_of(cause)}")
        elif firsts and firsts[0].tap != v.tap:
            yield f"  comes after {firsts[0].tap}, where this pair fails first"
        elif words := made(run, v):
            yield clean(f"  {words}")
        if run.evidence:
            yield f"why: parity explain {shlex.quote(self.made.folder)}"


class Whole(_Item):
    """Whether there was a run, everything that was asked for by name was compared, and each known gap still shows."""

    def __init__(self, *, made: Made, **more: Any) -> None:
        super().__init__(**more)
        self.made = made

    def runtest(self) -> None:
        from parity.report.wording import clean, compared

        run = self.made.run
        if run is None:
            raise OutOfBoundsError(clean(self.made.refused))
        wrong = [f"known gap that matched no failure: {gap}" for gap in run.gaps.get("unmet", ())]
        wrong += [f"asked for and not compared: {_whose(s)}: {s.reason}" for s in run.skipped if s.asked]
        if not compared(run):
            wrong.append("nothing was compared")
        if wrong:
            raise OutOfBoundsError(clean("\n".join(wrong)))


def _whose(s: Skipped) -> str:
    return _name(s.system, s.backend, s.runtime, s.precision)


class Left(_Item):
    """Something that wasn't compared, and why."""

    def __init__(self, *, reasons: list[str], **more: Any) -> None:
        super().__init__(**more)
        self.reasons = reasons

    def runtest(self) -> None:
        pytest.skip("; ".join(self.reasons))
