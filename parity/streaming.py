"""Streaming: features and network a few frames at a time, with the state carried over, held to the whole clip's.

`Stream` is a target that cuts the clips of a job into chunks, runs them in order on another target, and puts the pieces
together again: what comes back is judged like any other result, so that every frame of a stream is compared with the
whole clip's. On the way it says what it detects.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from parity import frontend as fe
from parity.expected import Expected
from parity.plan import Plan
from parity.protocols import (
    Array,
    Artifact,
    Clip,
    ClipOutput,
    Description,
    Failure,
    Job,
    JobResult,
    Outputs,
    Tap,
    Target,
)
from parity.records import Skipped, Verdict
from parity.schema import Streaming
from parity.system import System
from parity.taps import MODEL_INPUT

SEGMENT = 50
"""Frames, about, that are sent at a time: half a second at a hop of 10 ms, so that detections come as they are made."""

ONE = "one chunk: nothing is carried over"
AUDIO = "features/audio"
Key = tuple[str, str, str]
"""Backend ('' for the golden's features), runtime, precision."""
_PAIR = ("backend", "runtime", "precision")


@dataclass(frozen=True)
class Detection:
    """A word that was heard: where the first frame ends whose smoothed posterior is above the threshold, in seconds."""

    label: str
    time: float
    confidence: float
    clip: str
    pair: Key


class Detector:
    """Posteriors, frame by frame: softmax, averaged over the last frames; a word counts once until another is heard."""

    def __init__(self, of: System, s: Streaming) -> None:
        self._labels, self._rules, self._frame_of = of.labels, s, _frame(of.frontend)
        self._rate = of.frontend.input.rate
        frames = round(s.smoothing * self._rate / self._frame_of.hop)
        self._last: deque[Array] = deque(maxlen=max(1, frames))
        self._frame, self._heard = 0, ""

    def hear(self, logits: Array) -> Iterator[tuple[str, float, float]]:
        """(label, time in s, confidence) of the words that begin to be heard in frames `[frames, labels]`."""
        for row in np.asarray(logits, np.float64):
            with np.errstate(invalid="ignore", over="ignore"):
                e = np.exp(row - row.max())
                self._last.append(e / e.sum())
            mean = np.sum(list(self._last), axis=0) / (self._last.maxlen or 1)
            best = int(mean.argmax())
            sure = mean[best] > self._rules.threshold and self._labels[best] not in self._rules.ignored
            label = self._labels[best] if sure else ""
            if label and label != self._heard:
                f = self._frame_of
                yield label, (self._frame * f.hop + f.length) / self._rate, float(mean[best])
            self._heard = label
            self._frame += 1


@dataclass
class Spent:
    """Frames of a pair in chunks of one size, and the seconds that its features and its network took."""

    frames: int = 0
    features: float = 0.0
    network: float = 0.0


@dataclass
class _Pieces:
    """What the chunks of one clip gave so far."""

    features: dict[str, list[ClipOutput]] = field(default_factory=lambda: defaultdict(list))
    activations: dict[Key, list[ClipOutput]] = field(default_factory=lambda: defaultdict(list))
    failed: dict[Any, Failure] = field(default_factory=dict)


def _frame(frontend: fe.Frontend) -> fe.Frame:
    assert frontend.frame is not None  # [streaming] is refused where a recipe has none
    return frontend.frame


def chunks(frontend: fe.Frontend, clip: Clip, size: int) -> Iterator[tuple[slice, Clip]]:
    """Frames `size` at a time, each with the samples that they are made from and no more."""
    hop, length = _frame(frontend).hop, _frame(frontend).length
    frames = frontend.frames(len(clip.samples))
    for start in range(0, frames, size):
        end = min(start + size, frames)
        samples = np.ascontiguousarray(clip.samples[start * hop : (end - 1) * hop + length])
        yield slice(start, end), Clip(f"{clip.name}, frames {start} to {end - 1}", samples, clip.rate, "")


class Stream:
    """A target that streams the clips of a plan's jobs through another; `heard` is told of each detection."""

    def __init__(self, target: Target, p: Plan, heard: Callable[[Detection], None]) -> None:
        assert p.system.streaming is not None
        self.name = target.name
        self._target, self._system, self._rules, self._heard = target, p.system, p.system.streaming, heard
        self._size: dict[str, tuple[int, str]] = {}
        self.spent: dict[tuple[Key, int], Spent] = defaultdict(Spent)
        self._single: set[str] = set()
        self._apart: dict[tuple[Key, str, Tap], str] = {}

    def load(self, plugins: Iterable[tuple[str, str]]) -> None:
        """Get plugins ready."""
        self._target.load(plugins)

    def describe(self, kind: str, spec: str, questions: Sequence[fe.Frontend | Artifact]) -> Description:
        """Ask a plugin."""
        return self._target.describe(kind, spec, questions)

    def release(self) -> None:
        """Close every open model."""
        self._target.release()

    def each_size(self, parts: Iterator[list[Expected]]) -> Iterator[list[Expected]]:
        """Every clip once a size of chunks, which its name then says."""
        for part in parts:
            out = []
            for e in part:
                for size in self._rules.chunks:
                    name = f"{e.clip.name} in chunks of {size}"
                    self._size[name] = size, e.clip.name
                    if self._system.frontend.frames(len(e.clip.samples)) <= size:
                        self._single.add(name)
                    out.append(dataclasses.replace(e, clip=dataclasses.replace(e.clip, name=name)))
            yield out

    def run(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
        """Results of whole clips, put together from their chunks."""
        for job in jobs:
            whole = [self._streamed(job, i) for i in range(len(job.clips))]
            yield JobResult(
                job=job,
                features={spec: _together([w.features[spec] for w in whole]) for spec in whole[0].features},
                activations={key: _together([w.activations[key] for w in whole]) for key in whole[0].activations},
            )

    def _streamed(self, job: Job, i: int) -> JobResult:
        """One clip: segments of chunks, one after another, each from the state that the last one left."""
        clip, reference = job.clips[i], job.references[i]
        size, name = self._size[clip.name]
        cut = list(chunks(job.frontend, clip, size))
        at_once = max(1, SEGMENT // size)
        pieces = _Pieces()
        detectors: dict[Key, Detector] = {}
        state: dict[Key, Mapping[str, Array]] = {}
        for first in range(0, len(cut), at_once):
            part = cut[first : first + at_once]
            sub = dataclasses.replace(
                job, clips=[c for _, c in part], references=[reference[s] for s, _ in part], kernels=(),
                taps=[frozenset({self._rules.tap, MODEL_INPUT})] * len(part), state=state,
            )  # fmt: skip
            (result,) = self._target.run([sub])
            _keep(pieces.features, pieces.failed, result.features)
            _keep(pieces.activations, pieces.failed, result.activations)
            state = {k: o[-1].state for k, o in result.activations.items() if not isinstance(o, Failure)}
            for key, outputs in result.activations.items():
                if key[0] and size == self._rules.chunks[0] and key not in pieces.failed:
                    detector = detectors.setdefault(key, Detector(self._system, self._rules))
                    self._tell(detector, outputs, name, key)
        return self._whole(job, pieces, size, clip.name, len(reference))

    def amended(self, verdict: Verdict) -> Verdict:
        """A verdict in the light of the chunks: what doesn't fit together fails, and one chunk proves nothing."""
        v = verdict
        key = ((v.backend, v.runtime, v.precision), v.clip, v.tap)
        if v.outcome == "missing" and key in self._apart:
            return msgspec.structs.replace(v, outcome="fail", message=self._apart[key])
        if v.clip in self._single and v.outcome in ("pass", "gap"):
            same = {k: getattr(v, k) for k in ("system", *_PAIR, "target", "path", "tap", "clip")}
            return Verdict(**same, outcome="unsupported", message=ONE)
        return v

    def unproved(self, asked: bool) -> Iterator[Skipped]:
        """Which of the streams were one chunk, told once; `asked` for where none was more and the system was named."""
        if n := len(self._single):
            every = n == len(self._size)
            reason = f"{n} of {len(self._size)} clips and sizes are {ONE}"
            yield Skipped(system=self._system.name, reason=reason, asked=every and asked)

    def _tell(self, detector: Detector, outputs: Outputs, clip: str, key: Key) -> None:
        assert not isinstance(outputs, Failure)
        for o in outputs:
            logits = o.taps.get(self._rules.tap)
            if logits is None or logits.shape[1:] != (len(self._system.labels),):
                continue  # judged, where it is put together
            for label, time, confidence in detector.hear(logits):
                self._heard(Detection(label, time, confidence, clip, key))

    def _joined(self, key: Key, clip: str, outputs: Sequence[ClipOutput]) -> ClipOutput:
        """The taps of chunks one after another; the samples of chunks overlap and are left out.

        A tap that a chunk doesn't have is missing in the whole, and so is one whose chunks don't fit together.
        """
        taps: dict[Tap, Array] = {}
        every = frozenset[Tap]().union(*(o.taps for o in outputs)) - {AUDIO}
        for tap in sorted(t for t in every if all(t in o.taps for o in outputs)):
            found = [o.taps[tap] for o in outputs]
            apart = list(dict.fromkeys((a.ndim, *a.shape[1:]) for a in found))
            if len(apart) == 1 and apart[0][0] > 0:
                taps[tap] = np.concatenate(found)
            else:
                shapes = " and ".join(str(list(s)) for s in list(dict.fromkeys(a.shape for a in found))[:3])
                self._apart[key, clip, tap] = f"chunks of shape {shapes} don't make a clip"
        return ClipOutput(taps, sum(o.seconds for o in outputs))

    def _whole(self, job: Job, pieces: _Pieces, size: int, clip: str, frames: int) -> JobResult:
        """What the chunks of a clip gave, as the clip's; the last frame's logits stand where a whole clip's would."""
        features: dict[str, Outputs] = {}
        for spec in job.backends:
            features[spec] = pieces.failed.get(spec) or [self._joined((spec, "", ""), clip, pieces.features[spec])]
        activations: dict[Key, Outputs] = {}
        for key in [(b, spec, a.precision) for b in ("", *job.backends) for spec, a in job.models]:
            if (failed := pieces.failed.get(key)) is not None:
                activations[key] = failed
                continue
            joined = self._joined(key, clip, pieces.activations[key])
            taps = dict(joined.taps)
            logits = taps.get(self._rules.tap)
            if logits is not None and len(logits):
                taps[self._system.decision.source] = logits[-1]
            activations[key] = [dataclasses.replace(joined, taps=taps)]
            spent = self.spent[key, size]
            spent.frames += frames
            spent.network += joined.seconds
            if key[0]:
                spent.features += sum(o.seconds for o in pieces.features[key[0]])
        return JobResult(job=job, features=features, activations=activations)

    def rows(self) -> list[dict[str, Any]]:
        """Mean time a frame and real-time factor of each pair and size of chunks."""
        f = self._system.frontend
        rows = []
        for ((backend, runtime, precision), size), s in sorted(self.spent.items()):
            if backend and s.frames:
                mean = (s.features + s.network) / s.frames
                rows.append(
                    {
                        "system": self._system.name, "pair": " ".join((backend, runtime, precision)),
                        "target": self.name, "chunk": size, "frames": s.frames,
                        "features_ms": 1e3 * s.features / s.frames,
                        "network_ms": 1e3 * s.network / s.frames, "frame_ms": 1e3 * mean,
                        "real_time_factor": mean * f.input.rate / _frame(f).hop,
                    }
                )  # fmt: skip
        return rows


def _keep(into: dict[Any, list[ClipOutput]], failed: dict[Any, Failure], found: Mapping[Any, Outputs]) -> None:
    for key, outputs in found.items():
        if isinstance(outputs, Failure):
            failed.setdefault(key, outputs)
        else:
            into[key] += outputs


def _together(of: Sequence[Outputs]) -> Outputs:
    """One entry a clip, or the first failure."""
    failed = next((o for o in of if isinstance(o, Failure)), None)
    return failed or [clip for o in of if not isinstance(o, Failure) for clip in o]
