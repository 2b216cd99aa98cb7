"""A dump in the place of a run's plugins: what it holds is the plan, and its arrays are what came back.

It is a target. What a dump can't say, the runtimes that a network is judged by where there is no golden and the kernels
that a file is held to, runs on another one.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec

from parity import audio, golden, plan, policy, registry, sources
from parity.dumps.dump import Dump, Expected, of_stage
from parity.errors import ConfigError, NothingCompared
from parity.expected import Expected as Right
from parity.expected import features_of
from parity.plan import Plan, Planned, Selection
from parity.protocols import Array, Artifact, ClipOutput, Description, Job, JobResult, Outputs, Raw, Tap, Target
from parity.records import Skipped, Verdict
from parity.sources import Source
from parity.system import System
from parity.taps import DECISION_TAPS, LABEL, MODEL_INPUT, REGENERATED_TAPS, is_feature

NAME = "recorded"
"""What stands in verdicts in a backend's and in a runtime's place."""


_BESIDE = frozenset({MODEL_INPUT, LABEL})
"""Taps of the network that no file maps: a label is told by its index."""


class DumpTarget:
    """The arrays of a dump as the results of jobs."""

    def __init__(self, inner: Target, found: System, dump: Dump) -> None:
        """ConfigError where the dump has a tap that the system hasn't got, or its file can't be told."""
        self._inner, self._system, self._dump = inner, found, dump
        said = dump.said
        self.name = said.device or "local"
        self._features = dump.taps & frozenset(found.frontend.taps)
        self._model = frozenset(t for t in dump.taps if not is_feature(t))
        known = {*found.frontend.taps, *_BESIDE, *found.taps}
        if strange := sorted(dump.taps - known):
            close = difflib.get_close_matches(strange[0], sorted(known), n=1)
            raise ConfigError(
                f"{found.name} has no tap {strange[0]!r}",
                f"did you mean {close[0]!r}?" if close else f"taps: {', '.join(sorted(known))}",
            )
        _files(found, said.precision, said.format)
        self._runtime = NAME if said.runtime == NAME else f"{said.runtime}:{NAME}"
        self._whole = _artifact(found, said.precision, said.format, self._model) if self._model else None
        self._own = said.fed == "own"
        kept = {} if self._whole is None else {t: p for t, p in self._whole.taps.items() if t in self._model}
        self._artifact = self._whole and dataclasses.replace(self._whole, taps=kept, state=(), frames=None)

    # ---- what it is in a run ----

    def planned(self) -> Planned:
        """The dump as a plan, what can't be compared, and its digest in place of versions."""
        p, skipped = Plan(self._system, on=self), list[Skipped]()
        if self._features or self._own:
            p.backends[NAME] = self._features
        if self._whole is not None and self._artifact is not None:
            p.models = [(self._runtime, self._whole)]
            if not self._own and self._whole.sha256:
                plan.add_kernels(p, self._inner, skipped)
            p.models = [(self._runtime, self._artifact)]
        return Planned([p], skipped, {self.trusted.name: {NAME: {"sha256": self._dump.sha256}}})

    def source(self, p: Plan, selection: Selection, skipped: list[Skipped]) -> Source:
        """The clips that the dump has, with what is right for them; what isn't on both sides is told.

        ConfigError for a runtime that neither parity nor a rule knows: nothing could be judged by its rules.
        """
        self._check_runtime(sources.rules_for(selection, self._system))
        folder = selection.audio or self._beside()
        return self._heard(p, folder, skipped) if folder is not None else self._golden(selection, skipped)

    def amended(self, v: Verdict) -> Verdict:
        """A verdict in the words of a dump: what it never held is unavailable, not missing."""
        absent = None
        if v.tap == MODEL_INPUT and v.outcome == "missing" and MODEL_INPUT not in self._model:
            absent = "not in the dump; taken to be " + ("the device's own" if self._own else "the golden's features")
        if v.tap in DECISION_TAPS and not {v.tap, self._system.decision.source} & self._model:
            absent = f"the dump holds no {self._system.decision.source}, which decides"
        if absent is not None:
            return msgspec.structs.replace(v, outcome="unavailable", message=absent)
        if v.outcome == "unavailable" and (v.message.endswith("maps no such tensor") or not v.runtime):
            return msgspec.structs.replace(v, message="not in the dump")
        if v.outcome == "missing":
            return msgspec.structs.replace(v, message="the dump has it of other clips, not of this one")
        if v.message.startswith("dtype is "):
            return msgspec.structs.replace(v, message=f"{v.message} (say `dtype` where the device computed in that)")
        return v

    def _check_runtime(self, rules: policy.Policy) -> None:
        name = registry.parse(self._dump.said.runtime)[0]
        known = [NAME, *registry.plugins("runtime")]
        declared = {r.candidate for r in rules.rules} - {"*"}
        if name in known or ":" in name or any(fnmatchcase(name, pattern) for pattern in declared):
            return
        close = difflib.get_close_matches(name, [*known, *declared], n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigError(
            f"unknown runtime {name!r}: its rules can't be told",
            f"{hint}runtimes: {', '.join(known)}, or a `candidate` of {rules.path or 'tolerances.toml'}",
        )

    def _beside(self) -> Path | None:
        return None if self._dump.said.audio is None else self._dump.root / self._dump.said.audio

    def _heard(self, p: Plan, folder: Path, skipped: list[Skipped]) -> Source:
        """Clips of a folder: features judged by the oracle, activations by the reference runtime."""
        every = list(audio.folder_clips(folder, p.system.frontend))
        clips = [c for c in every if self._dump.key(c.name, c.sha256) is not None]
        self._tell(((c.name, c.sha256) for c in every), [c.name for c in clips], f"wav in {folder}", skipped)
        anchor: dict[str, Any] = {"live": "features judged by the float64 oracle"}
        if not p.models:
            chunks = ([Right(c, *features_of(c, p.system.frontend)) for c in part]
                      for part in sources.chunked(clips, sources.CHUNK))  # fmt: skip
            return Source(len(clips), chunks, anchor)
        judge = plan.reference(p, plan.asking(self._inner))
        if judge[0] == self._runtime:
            raise ConfigError(
                f"nothing is installed that says what the network of {p.system.name} should compute",
                "compare with goldens (without --audio), or install its runtime: see `parity list`",
            )
        anchor["live"] += f", activations by {judge[0]}"
        live = sources.judged_live(p, clips, self._inner, len(clips), judge)
        return Source(len(clips), live, anchor, own_judge=judge)

    def _golden(self, selection: Selection, skipped: list[Skipped]) -> Source:
        whole = golden.load(sources.golden_root(selection, self._system), self._system)
        held = [e for e in whole.clips if self._dump.key(e["name"], e["samples_sha256"]) is not None]
        names = ((e["name"], e["samples_sha256"]) for e in whole.clips)
        self._tell(names, [e["name"] for e in held], "golden", skipped)
        kept = dataclasses.replace(whole, manifest={**whole.manifest, "clips": held})
        found = sources.from_goldens(kept, REGENERATED_TAPS & self._features)
        bare = sorted({t for e in held for t in self._model - e["model"]["arrays"].keys() - _BESIDE})
        found.unheld = [f"not every golden holds {tap}: compared where it does" for tap in bare]
        return found

    def _tell(self, known: Iterable[tuple[str, str]], held: Sequence[str], what: str, skipped: list[Skipped]) -> None:
        """What isn't on both sides. NothingCompared where nothing is."""
        known = list(known)
        extra, lacking = self._dump.extra(known), [name for name, _ in known if name not in held]
        if not held:
            close = difflib.get_close_matches(extra[0], [n for n, _ in known], n=1, cutoff=0.4)
            raise NothingCompared(f"no clip of the dump goes by the name of a {what}: it has {_some(extra)}",
                                  (f"did you mean {close[0]!r}? " if close else "")
                                  + "say which clips they are: --clip NAME, or `clips` in dump.toml")  # fmt: skip
        if extra:
            reason = f"the dump has what no {what} goes by: {_some(extra)}"
            skipped.append(Skipped(system=self._system.name, backend=NAME, reason=reason, asked=True))
        if lacking:
            reason = f"the dump has nothing of {len(lacking)} of {len(known)} clips: {_some(lacking)}"
            skipped.append(Skipped(system=self._system.name, backend=NAME, reason=reason))

    # ---- a target ----

    threads, apart = 1, False

    @property
    def timings(self) -> list[dict[str, Any]]:
        return self._inner.timings

    @property
    def trusted(self) -> Target:
        return self._inner

    def plugins(self, kind: registry.Kind) -> Mapping[str, str]:
        return self._inner.plugins(kind)

    def needs(self, kind: registry.Kind, name: str, lacks: str) -> ConfigError:
        return self._inner.needs(kind, name, lacks)

    def memory(self) -> list[dict[str, Any]]:
        return self._inner.memory()

    def facts(self, now: bool = False) -> dict[str, Any]:
        return self._inner.facts(now)

    def link(self) -> dict[str, Any]:
        return {}

    def load(self, plugins: Iterable[tuple[str, str]]) -> None:
        self._inner.load(plugins)

    def describe(self, kind: str, spec: str, questions: Sequence[Any]) -> Description:
        return self._inner.describe(kind, spec, questions)

    def release(self) -> None:
        self._inner.release()

    def run(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
        """Results in the order of the jobs."""
        for job in jobs:
            yield self._result(job)

    def _result(self, job: Job) -> JobResult:
        features: dict[str, Outputs] = {}
        activations: dict[tuple[str, str, str], Outputs] = {}
        kernels: Mapping[tuple[str, str], Outputs] = {}
        if job.kernels:
            (beside,) = self._inner.run([dataclasses.replace(job, backends=(), models=())])
            kernels = beside.kernels
        if self._features:
            features[NAME] = [self._output(c.name, c.sha256, self._features, self._stage) for c in job.clips]
        if self._artifact is not None:
            wanted = self._model | ({job.frontend.output} & self._features if self._own else frozenset())
            given = [self._output(c.name, c.sha256, wanted, self._tensor) for c in job.clips]
            if self._own and MODEL_INPUT not in self._model:
                given = [_fed(o, job.frontend.output) for o in given]
            activations[NAME if self._own else "", self._runtime, self._artifact.precision] = given
        return JobResult(job=job, features=features, activations=activations, kernels=kernels)

    def _output(self, clip: str, sha256: str, taps: frozenset[Tap], what: Callable[[Tap], Expected]) -> ClipOutput:
        key = self._dump.key(clip, sha256)
        arrays: dict[Tap, Array] = {}
        raw: dict[Tap, Raw] = {}
        for tap in sorted(taps) if key is not None else ():
            if key is not None and (got := self._dump.get(tap, key, what(tap))) is not None:
                arrays[tap] = got[0]
                if got[1] is not None:
                    raw[tap] = got[1]
                if tap == LABEL and not 0 <= got[0].item() < len(self._system.labels):
                    raise ConfigError(
                        f"the dump's label of {clip} is number {got[0].item()}, of {len(self._system.labels)} labels",
                        "the first of `labels` in system.toml is 0",
                    )
        return ClipOutput(arrays, 0.0, raw=raw)

    def _stage(self, tap: Tap) -> Expected:
        return of_stage(self._system.frontend, tap)

    def _tensor(self, tap: Tap) -> Expected:
        """What a tap of the network is: as the file's tensor says, without batch and axes of size one."""
        if is_feature(tap):
            return self._stage(tap)
        if tap == MODEL_INPUT:
            return self._stage(self._system.frontend.output)
        if tap == LABEL:
            return Expected("", "int64")
        assert self._artifact is not None
        port = self._artifact.taps[tap]
        return Expected("".join(a for a in "TFC" if a in port.layout), port.dtype)


def left_over(p: Plan, clips: Sequence[tuple[str, str]]) -> Iterator[Skipped]:
    """What the dumps among a plan's backends hold beyond the clips (name, sha256) that were judged."""
    for spec in p.backends:
        name, options = registry.parse(spec)
        if name == NAME:
            extra = Dump(Path(options["path"]), None, p.system.frontend.taps).extra(clips)
            if extra:
                reason = f"the dump has what no clip of this run goes by: {_some(extra)}"
                yield Skipped(system=p.system.name, backend=spec, reason=reason)


def _fed(output: ClipOutput, tap: Tap) -> ClipOutput:
    """The device's own features as what its network was fed with."""
    taps = {t: a for t, a in output.taps.items() if t != tap}
    return dataclasses.replace(output, taps=taps | ({MODEL_INPUT: output.taps[tap]} if tap in output.taps else {}))


def _files(found: System, precision: str | None, form: str | None) -> list[Artifact]:
    """The system's model files of a precision and a format, where they are said. ConfigError where it has none."""
    every = [*found.artifacts, *found.unbuilt]
    fits = [a for a in every if form in (None, a.format) and precision in (None, a.precision)]
    asked = " ".join(filter(None, (form, precision)))
    if asked and not fits:
        there = list(dict.fromkeys(f"{a.format} {a.precision}" for a in every))
        near = difflib.get_close_matches(precision or "", {a.precision for a in every}, n=1)
        hint = f"did you mean {near[0]!r}? " if near and near[0] != precision else ""
        raise ConfigError(f"{found.name} has no {asked} file", f"{hint}its files: {', '.join(there) or 'none'}")
    return fits


def _artifact(found: System, precision: str | None, form: str | None, taps: frozenset[Tap]) -> Artifact:
    """The model file that the device runs: as said, in float32 where it isn't, with a tensor for every tap."""
    fits = _files(found, precision, form)
    fits = [a for a in fits if a.precision == "float32"] or fits if precision is None else fits
    if not fits:
        raise ConfigError(f"{found.name} has no model file", "describe it in system.toml: [[artifacts]]")
    wanted = taps - _BESIDE
    best = max(fits, key=lambda a: len(wanted & a.taps.keys()))
    if absent := sorted(wanted - best.taps.keys()):
        raise ConfigError(f"the {best.format} {best.precision} file of {found.name} maps no {absent[0]}",
                          "say which file the device runs: --precision NAME, `format` in dump.toml")  # fmt: skip
    return best


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
