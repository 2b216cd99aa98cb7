"""Which arrays of a run are kept, and what can be told from them again.

`arrays/` has a file a judged tap: `candidate`, `golden`, the ends `lo` and `hi` that it was held to, those that were
derived, before a policy widened them (`derived_lo`, `derived_hi`; just `derived` where nothing did; none of them where
nothing could be derived), of a quantized tensor `integers`, `scale` and `zero_point`; and `what` it is of. It is enough
to judge it again under another policy (see `parity.recheck`). `evidence/` has everything that was
computed for a few failing clips (see `parity.evidence`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np

from parity import evidence, records
from parity.errors import ConfigError
from parity.evidence import Evidence
from parity.judge import Judged
from parity.protocols import Array, Failure, JobResult, Outputs
from parity.records import Recorder, Verdict, severity
from parity.taps import LABEL, MODEL_INPUT

Keep = Literal["failing", "all", "none"]
MOST = 200
"""Files of failing taps that are kept of a run; beyond them those of the first failing clip of each pair, and what
decided its first flipped label, so that every pair's failure can be looked at."""


def _who(j: Judged) -> tuple[str, ...]:
    v = j.verdict
    return v.system, v.backend, v.runtime, v.precision, v.target, v.path, v.clip


def _stored(j: Judged) -> dict[str, Array]:
    arrays = dict(j.arrays or {})
    if "lo" in arrays and arrays.get("derived_lo") is arrays["lo"]:  # nothing widened it: once is enough
        del arrays["derived_lo"], arrays["derived_hi"]
        arrays["derived"] = np.array(True)
    return arrays


class Keeping:
    """Takes the verdicts of a run clip by clip, and keeps what is to be kept on the disk."""

    def __init__(self, record: Recorder, keep: Keep, source: str) -> None:
        """`source` is the tap that decides: without its arrays no label can be judged again."""
        self._record, self._keep, self._always = record, keep, (MODEL_INPUT, source)
        self._source = source
        self._shown: set[tuple[str, ...]] = set()
        self._flipped: set[tuple[str, ...]] = set()

    def job(self, judged: Iterable[Judged], result: JobResult) -> Iterator[Verdict]:
        """The verdicts of a job, each after what it was made from is kept; only a clip's arrays are held at a time."""
        numbers = {clip.name: i for i, clip in enumerate(result.job.clips)}
        wrong: set[tuple[str, str]] = set()
        for who, of in groupby(judged, _who):
            clip = list(of)
            failing = [j.verdict for j in clip if j.verdict.outcome in ("fail", "missing")]
            _, backend, *_, path, name = who
            if self._keep != "none":
                follows = path == "cumulative" and (backend, name) in wrong
                first = self._first(who[:-1], failing, follows) | self._flip(who[:-1], failing)
                self._arrays(clip, bool(failing), first)
            if path == "features" and failing:
                wrong.add((backend, name))
            if failing and not (path == "cumulative" and (backend, name) in wrong):
                self._evidence(failing, result, numbers[name])
            yield from (j.verdict for j in clip)

    def _first(self, pair: tuple[str, ...], failing: Sequence[Verdict], follows: bool) -> frozenset[str]:
        """The taps to be kept whatever else was: of the first clip of a pair that fails, where its failure starts.

        Of features all that fail, so that one has frequencies; less where the network was fed with wrong features.
        """
        if not failing or pair in self._shown:
            return frozenset()
        self._shown.add(pair)
        if follows:
            return frozenset(self._always)
        return (
            frozenset(v.tap for v in failing) if pair[-1] == "features" else frozenset({failing[0].tap, *self._always})
        )

    def _flip(self, pair: tuple[str, ...], failing: Sequence[Verdict]) -> frozenset[str]:
        """What decided a pair's first label that flips: that clip need not be the first that fails."""
        if pair in self._flipped or all(v.tap != LABEL for v in failing):
            return frozenset()
        self._flipped.add(pair)
        return frozenset({self._source})

    def _arrays(self, clip: Sequence[Judged], failing: bool, first: frozenset[str]) -> None:
        for j in clip:
            v = j.verdict
            # What a network was fed with, and what decided, go with any of its failures: they are small.
            kept = v.outcome == "fail" or (failing and v.tap in self._always)
            if j.arrays is not None and (kept or self._keep == "all"):
                every = self._keep == "all" or v.tap in first
                self._record.keep_arrays(v, _stored(j), None if every else MOST)

    def _evidence(self, failing: Sequence[Verdict], result: JobResult, i: int) -> None:
        v = max(failing, key=severity)
        ratio = severity(v)[1]
        group = (v.system, v.backend, v.runtime, v.precision, v.target, v.path)
        features = v.path == "features"
        outputs = result.features[v.backend] if features else result.activations[v.backend, v.runtime, v.precision]
        if isinstance(outputs, Failure):
            return
        taps = {tap: a for tap, a in outputs[i].taps.items() if tap != MODEL_INPUT}
        badness = 1e300 if not np.isfinite(ratio) else ratio
        if not self._record.evidence.wanted(group, len(taps), badness):
            return
        who = dict(zip(evidence.WHO, group, strict=True))
        kept = {"features": taps} if features else {"model": taps}
        fed = None if features else _fed(result, v.backend, i)
        self._record.evidence.add(Evidence(clip=result.job.clips[i], fed=fed, **kept, **who), badness)  # type: ignore[arg-type]


def _fed(result: JobResult, backend: str, i: int) -> Array | None:
    """What a network was fed with: the golden's features, or a backend's."""
    if not backend:
        return result.job.references[i] if result.job.references else None
    outputs: Outputs = result.features[backend]
    return None if isinstance(outputs, Failure) else outputs[i].taps.get(result.job.frontend.output)


def of_verdict(run: Path, v: Verdict) -> Mapping[str, Array] | None:
    """The arrays that a run kept of a verdict; None where it kept none. ConfigError for a file that can't be read."""
    what = "|".join(records.key_of(v))
    path = records.array_path(run, what)
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        if str(arrays.pop("what")) != what or not {"golden", "lo", "hi"} <= arrays.keys():
            raise ValueError("it isn't what its name says")
        return arrays
    except Exception as e:  # a damaged zip or header raises what it likes
        raise ConfigError(f"{path} can't be read: {e!r}", "make the run again") from None
