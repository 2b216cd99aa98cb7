"""Jobs on worker processes, one a plugin: the same code wherever the processes are.

A `Place` starts them: here, under another Python, on a device. This side imports no framework. A worker that aborts, is
killed or doesn't answer within its limit costs its own pair an `error` verdict and nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import shlex
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, Self

from parity import errors, registry
from parity import frontend as fe
from parity.protocols import (
    Array,
    Artifact,
    ClipOutput,
    Description,
    Failure,
    Job,
    JobResult,
    Outputs,
    Raw,
    Tap,
    Unsupported,
)
from parity.targets.worker import PluginRaisedError, WorkerDiedError

AHEAD = 2
"""Jobs that are computed while one is judged."""


class Held(Protocol):
    """A process with one plugin in it, as `parity.targets.worker.Worker` is one; it answers one request at a time."""

    opened: set[str]
    versions: Mapping[str, str]

    @property
    def alive(self) -> bool: ...
    def load(self) -> None: ...
    def request(self, message: dict[str, Any]) -> Any: ...
    def requests(self, message: dict[str, Any], replies: int) -> Iterator[Any]: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...


class Place(Protocol):
    """Where worker processes are."""

    name: str
    apart: bool
    """Clips one by one, as they come on a device, so that the time of each is known; else in batches."""

    def worker(self, kind: str, spec: str) -> Held:
        """A new process for a plugin, which isn't loaded yet."""
        ...

    def artifact(self, artifact: Artifact) -> Artifact:
        """A model file as it is there: brought there first, where that is elsewhere."""
        ...

    def plugins(self, kind: registry.Kind) -> Mapping[str, str]:
        """The plugins known by name: '' for one that can be used there, else what it lacks."""
        ...

    def how_to_install(self, plugin: registry.Plugin) -> str:
        """What to type, so that a plugin can be used there."""
        ...

    def facts(self, now: bool) -> dict[str, Any]:
        """What the machine says of itself: see `parity.targets.machine`; `now`, or as it was at first."""
        ...

    def link(self) -> dict[str, Any]:
        """How it is reached, and bytes sent and received; empty for here."""
        ...

    def close(self) -> None:
        """Leave nothing behind."""
        ...


class WorkersTarget:
    """Worker processes of a place. `jobs` of them compute at a time.

    `trusted` is the target that says what is right: this machine's, unless this is it.
    """

    def __init__(self, place: Place, jobs: int, threads: int = 1, trusted: WorkersTarget | None = None) -> None:
        self.place, self.name, self.threads = place, place.name, threads
        self.trusted = trusted or self
        self._workers: dict[tuple[str, str], Held] = {}
        self._locks: defaultdict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()
        self._unloadable: dict[tuple[str, str], str] = {}
        self._closing = False
        self._failed: dict[tuple[str, str, str], Failure] = {}
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="parity")
        # These threads only wait: for a job's features, then for its activations.
        self._flow = ThreadPoolExecutor(AHEAD + 1, thread_name_prefix="parity-job")
        self.timings: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every worker."""
        self._closing = True
        # Workers first: a thread that waits for an answer is freed by its worker's end. They hold nothing worth saving.
        for worker in list(self._workers.values()):
            worker.kill()
        self.place.close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._flow.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    @contextlib.contextmanager
    def _worker(self, kind: str, spec: str) -> Iterator[Held]:
        """A plugin's worker, loaded, for the one who holds it; started anew where it is dead."""
        with self._lock(kind, spec):
            yield self._ready(kind, spec)

    def _lock(self, kind: str, spec: str) -> threading.Lock:
        with self._guard:
            return self._locks[kind, spec]

    def _ready(self, kind: str, spec: str) -> Held:
        worker = self._workers.get((kind, spec))
        return worker if worker is not None and worker.alive else self._started((kind, spec), worker)

    def _started(self, key: tuple[str, str], dead: Held | None) -> Held:
        if dead is not None:
            dead.close()
        if key in self._unloadable:  # a load that hangs would take its limit each time
            raise WorkerDiedError(self._unloadable[key])
        start = time.perf_counter()
        fresh = self._workers[key] = self.place.worker(*key)
        try:
            if self._closing:
                raise WorkerDiedError("stopped")
            fresh.load()
        except BaseException as e:
            del self._workers[key]
            fresh.close()
            if isinstance(e, WorkerDiedError):
                self._unloadable[key] = str(e)
            raise
        self._took("load", key[1], time.perf_counter() - start)
        return fresh

    def _took(self, stage: str, plugin: str, seconds: float, **more: str) -> None:
        self.timings.append({"stage": stage, "plugin": plugin, "target": self.name, **more, "seconds": seconds})

    @property
    def apart(self) -> bool:
        """Whether features are computed clip by clip."""
        return self.place.apart

    def facts(self, now: bool = False) -> dict[str, Any]:
        """What the machine says of itself: see `parity.targets.machine`."""
        return self.place.facts(now)

    def link(self) -> dict[str, Any]:
        """How it is reached, and bytes sent and received."""
        return self.place.link()

    def memory(self) -> list[dict[str, Any]]:
        """The most memory that each plugin's process has had."""
        found = []
        for (_, spec), worker in sorted(self._workers.items()):
            with contextlib.suppress(WorkerDiedError, errors.ParityError):
                if worker.alive and (peak := worker.request({"do": "memory"})["peak_bytes"]) is not None:
                    found.append({"stage": "memory", "plugin": spec, "target": self.name, "peak_bytes": peak})
        return found

    def plugins(self, kind: registry.Kind) -> Mapping[str, str]:
        """Every plugin by name, with what it lacks there: '' where it can be used."""
        return self.place.plugins(kind)

    def needs(self, kind: registry.Kind, name: str, lacks: str) -> errors.MissingExtra:
        """What a plugin lacks there, and what to type."""
        plugin = registry.named(kind, name)
        return registry.needs(plugin, lacks, self.place.how_to_install(plugin), self.name)

    def describe(self, kind: str, spec: str, questions: Sequence[fe.Frontend | Artifact]) -> Description:
        """Versions and answers of a plugin, from its worker. ConfigError where it can't even be loaded."""
        known = registry.plugins("runtime").get(registry.parse(spec)[0])
        asked = [
            {"frontend": fe.to_plain(q)} if isinstance(q, fe.Frontend) else {"artifact": self._plain(q, known)}
            for q in questions
        ]
        try:
            with self._worker(kind, spec) as worker:
                answers = worker.request({"do": "describe", "questions": asked})["answers"]
                versions = worker.versions
        except WorkerDiedError as e:
            here = self.trusted is self
            where = "" if here else f" on {self.name}"
            hint = "see `parity doctor`" if here else f"see `parity target check {shlex.quote(self.name)}`"
            raise errors.ConfigError(f"{kind} {spec!r} can't be loaded{where}: {e}", hint) from None
        return Description(
            versions,
            [Unsupported(a["unsupported"]) if "unsupported" in a else frozenset(a["taps"]) for a in answers],
            [a.get("arithmetic", "float32") for a in answers],
        )

    def _plain(self, artifact: Artifact, runtime: registry.Plugin | None) -> dict[str, Any]:
        """An artifact as it is asked about; only a file that the runtime may read is brought to where it is."""
        reads = runtime is None or runtime.reads in ("", artifact.format)
        return dataclasses.asdict(self.place.artifact(artifact) if reads else artifact)

    def load(self, plugins: Iterable[tuple[str, str]]) -> None:
        """Start workers side by side: importing a framework takes seconds."""

        def start(kind: str, spec: str) -> None:
            # Said again by whoever needs it.
            with contextlib.suppress(WorkerDiedError, errors.ParityError), self._worker(kind, spec):
                pass

        for future in [self._pool.submit(start, *p) for p in plugins]:
            future.result()

    def run(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
        """Results in the order of the jobs; while one is judged the next two are computed. Begins at once."""
        coming = (self._flow.submit(_Running(self, job).result) for job in jobs)
        return self._results(coming, deque(itertools.islice(coming, AHEAD + 1)))

    def _results(self, coming: Iterator[Future[JobResult]], ahead: deque[Future[JobResult]]) -> Iterator[JobResult]:
        while ahead:
            yield ahead.popleft().result()
            ahead.extend(itertools.islice(coming, 1))

    def release(self) -> None:
        """Close every open model; the plugins stay loaded."""
        for key, worker in list(self._workers.items()):
            with self._locks[key], contextlib.suppress(WorkerDiedError):
                if worker.opened and worker.alive:
                    worker.request({"do": "close"})
                    worker.opened.clear()

    def forgive(self) -> None:
        """Start again what died, where it is asked for."""
        self._failed.clear()

    def submit(self, work: Callable[..., Outputs], *arguments: Any) -> Future[Outputs]:
        """Queue work on the pool."""
        return self._pool.submit(work, *arguments)

    def _guarded(self, key: tuple[str, str, str], work: Callable[[Held], list[ClipOutput]]) -> Outputs:
        """The outputs of `work`, or the failure that it ends in; what died once isn't tried again."""
        kind, spec, _ = key
        with self._lock(kind, spec):
            if key not in self._failed:
                try:
                    return work(self._ready(kind, spec))
                except PluginRaisedError as e:  # by what it was given, perhaps: the next may do
                    return Failure(spec, str(e))
                except WorkerDiedError as e:
                    self._failed[key] = Failure(spec, str(e))
            return self._failed[key]

    def features(self, spec: str, job: Job, taps: frozenset[Tap]) -> Outputs:
        """A backend's arrays for the clips of a job."""

        def work(worker: Held) -> list[ClipOutput]:
            clips = [{"name": c.name, "samples": c.samples, "rate": c.rate, "sha256": c.sha256} for c in job.clips]
            request: dict[str, Any] = {"do": "features", "frontend": fe.to_plain(job.frontend), "taps": sorted(taps)}
            if job.state is not None or self.place.apart:
                request["apart"] = True
            try:
                reply = worker.request(request | {"clips": clips})
            except PluginRaisedError as e:
                raise PluginRaisedError(f"{e} {_culprit(worker, request, clips)}") from None
            if len(reply["clips"]) != len(job.clips):
                raise WorkerDiedError(f"gave {len(reply['clips'])} results for {len(job.clips)} clips")
            return [ClipOutput(r["taps"], r["seconds"]) for r in reply["clips"]]

        return self._guarded(("backend", spec, job.system), work)

    def activations(
        self, spec: str, artifact: Artifact, job: Job, inputs: Sequence[Array], backend: str = ""
    ) -> Outputs:
        """A runtime's arrays for the clips of a job, fed with `inputs`, one a clip, of a backend or the golden's."""

        def work(worker: Held) -> list[ClipOutput]:
            there = self.place.artifact(artifact)
            if there.key not in worker.opened:
                threads = registry.threads(spec) or self.threads
                reply = worker.request({"do": "open", "artifact": dataclasses.asdict(there), "threads": threads})
                worker.opened.add(there.key)
                self._took("open", spec, reply["seconds"], system=job.system, precision=artifact.precision)
            out: list[ClipOutput] = []
            request: dict[str, Any] = {
                "do": "run",
                "model": there.key,
                "inputs": list(inputs),
                "taps": [sorted(t) for t in job.taps],
            }
            if job.moved and registry.parse(spec)[0] == "monte-carlo":
                request["moved"] = list(job.moved)
            if job.state is not None:
                state = job.state.get((backend, spec, artifact.precision), {})
                request |= {"do": "stream", "state": dict(state)}
            try:
                for reply in worker.requests(request, len(inputs)):
                    if "unsupported" in reply:
                        out.append(ClipOutput({}, 0.0, reply["unsupported"]))
                    else:
                        raw = {tap: Raw(**integers) for tap, integers in reply["raw"].items()}
                        state = reply.get("state", {})
                        out.append(ClipOutput(reply["taps"], reply["seconds"], raw=raw, state=state))
            except WorkerDiedError as e:
                raise type(e)(f"{e} (at clip {job.clips[len(out)].name})") from None
            return out

        return self._guarded(("runtime", spec, artifact.key), work)


class _Running:
    """A job on its way: backends first, then each runtime on the golden's features and on each backend's."""

    def __init__(self, target: WorkersTarget, job: Job) -> None:
        self._target, self._job = target, job
        taps = job.stages or frozenset(job.frontend.taps)
        self._features = {spec: target.submit(target.features, spec, job, taps) for spec in job.backends}
        self._isolated: dict[tuple[str, str, str], Future[Outputs]] = {}
        self._kernels: dict[tuple[str, str], Future[Outputs]] = {}
        if job.references:
            for spec, artifact in job.models:
                self._isolated["", spec, artifact.precision] = self._alone(target, spec, artifact)
            for spec, artifact in job.kernels:
                asked = self._isolated.get(("", spec, artifact.precision)) if target is target.trusted else None
                self._kernels[spec, artifact.precision] = asked or self._alone(target.trusted, spec, artifact)

    def _alone(self, where: WorkersTarget, spec: str, artifact: Artifact) -> Future[Outputs]:
        """A network on the golden's features."""
        return where.submit(where.activations, spec, artifact, self._job, self._job.references)

    def result(self) -> JobResult:
        job, target = self._job, self._target
        features = {spec: future.result() for spec, future in self._features.items()}
        later: dict[tuple[str, str, str], Future[Outputs]] = {}
        out: dict[tuple[str, str, str], Outputs] = {}
        for backend, got in features.items():
            for spec, artifact in job.models:
                key = (backend, spec, artifact.precision)
                if isinstance(got, Failure):
                    out[key] = got
                    continue
                missing = [c.name for c, o in zip(job.clips, got, strict=True) if job.frontend.output not in o.taps]
                if missing:
                    out[key] = Failure(backend, f"gave no {job.frontend.output} for {missing[0]}")
                    continue
                inputs = [o.taps[job.frontend.output] for o in got]
                if (strange := _strange(job, inputs)) is not None:
                    out[key] = Failure(backend, strange)
                    continue
                later[key] = target.submit(target.activations, spec, artifact, job, inputs, backend)
        out |= {key: future.result() for key, future in {**self._isolated, **later}.items()}
        kernels = {key: future.result() for key, future in self._kernels.items()}
        return JobResult(job=job, features=features, activations=out, kernels=kernels)


def _culprit(worker: Held, request: dict[str, Any], clips: Sequence[dict[str, Any]]) -> str:
    """Which clip of a batch a backend raises at, in words."""
    for clip in clips:
        try:
            worker.request(request | {"clips": [clip]})
        except PluginRaisedError:
            return f"(at clip {clip['name']})"
    return f"(in a batch of {len(clips)} clips, none of them alone)"


def _strange(job: Job, inputs: Sequence[Array]) -> str | None:
    """Why a backend's features can't feed a network that takes the golden's, or None."""
    for clip, given, reference in zip(job.clips, inputs, job.references, strict=False):
        if given.shape != reference.shape:
            tap = job.frontend.output
            return f"gave {tap} of shape {list(given.shape)} for {clip.name}, the golden's is {list(reference.shape)}"
    return None
