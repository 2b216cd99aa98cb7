"""Jobs in worker processes on this machine, one a plugin.

The parent imports no framework. A worker that aborts, is killed or doesn't answer within its limit costs its own pair
an `error` verdict and nothing else; none outlives the parent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

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
from parity.targets.worker import PluginRaisedError, Worker, WorkerDiedError

AHEAD = 2
"""Jobs that are computed while one is judged."""


class LocalTarget:
    """Worker processes here. `jobs` of them compute at a time; each reply may take `limit` seconds."""

    name = "local"

    def __init__(self, jobs: int | None = None, limit: float = 120.0, threads: int = 1) -> None:
        self._jobs = jobs or min(4, os.cpu_count() or 1)
        self._limit, self.threads = limit, threads
        self._workers: dict[tuple[str, str], Worker] = {}
        self._locks: defaultdict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()
        self._unloadable: dict[tuple[str, str], str] = {}
        self._closing = False
        self._failed: dict[tuple[str, str, str], Failure] = {}
        self._pool = ThreadPoolExecutor(self._jobs, thread_name_prefix="parity")
        # These threads only wait: for a job's features, then for its activations.
        self._flow = ThreadPoolExecutor(AHEAD + 1, thread_name_prefix="parity-job")
        self.timings: list[dict[str, Any]] = []

    def __enter__(self) -> LocalTarget:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every worker."""
        self._closing = True
        # Workers first: a thread that waits for an answer is freed by its worker's end. They hold nothing worth saving.
        for worker in list(self._workers.values()):
            worker.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._flow.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    @contextlib.contextmanager
    def _worker(self, kind: str, spec: str) -> Iterator[Worker]:
        """A plugin's worker, loaded, for the one who holds it; started anew where it is dead."""
        with self._lock(kind, spec):
            yield self._ready(kind, spec)

    def _lock(self, kind: str, spec: str) -> threading.Lock:
        with self._guard:
            return self._locks[kind, spec]

    def _ready(self, kind: str, spec: str) -> Worker:
        worker = self._workers.get((kind, spec))
        return worker if worker is not None and worker.alive else self._started((kind, spec), worker)

    def _started(self, key: tuple[str, str], dead: Worker | None) -> Worker:
        if dead is not None:
            dead.close()
        if key in self._unloadable:  # a load that hangs would take its limit each time
            raise WorkerDiedError(self._unloadable[key])
        start = time.perf_counter()
        fresh = self._workers[key] = Worker(*key, self._limit)
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
        self.timings.append({"stage": "load", "plugin": key[1], "seconds": time.perf_counter() - start})
        return fresh

    def describe(self, kind: str, spec: str, questions: Sequence[fe.Frontend | Artifact]) -> Description:
        """Versions and answers of a plugin, from its worker. ConfigError where it can't even be loaded."""
        asked = [
            {"frontend": fe.to_plain(q)} if isinstance(q, fe.Frontend) else {"artifact": dataclasses.asdict(q)}
            for q in questions
        ]
        try:
            with self._worker(kind, spec) as worker:
                answers = worker.request({"do": "describe", "questions": asked})["answers"]
                versions = worker.versions
        except WorkerDiedError as e:
            raise errors.ConfigError(f"{kind} {spec!r} can't be loaded: {e}", "see `parity doctor`") from None
        return Description(
            versions,
            [Unsupported(a["unsupported"]) if "unsupported" in a else frozenset(a["taps"]) for a in answers],
            [a.get("arithmetic", "float32") for a in answers],
        )

    def load(self, plugins: Iterable[tuple[str, str]]) -> None:
        """Start workers side by side: importing a framework takes seconds."""

        def start(kind: str, spec: str) -> None:
            # Said again by whoever needs it.
            with contextlib.suppress(WorkerDiedError, errors.ParityError), self._worker(kind, spec):
                pass

        for future in [self._pool.submit(start, *p) for p in plugins]:
            future.result()

    def run(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
        """Results in the order of the jobs; while one is judged the next two are computed."""
        ahead: deque[Future[JobResult]] = deque()
        for job in jobs:
            ahead.append(self._flow.submit(_Running(self, job).result))
            if len(ahead) > AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

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

    def _guarded(self, key: tuple[str, str, str], work: Callable[[Worker], list[ClipOutput]]) -> Outputs:
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

        def work(worker: Worker) -> list[ClipOutput]:
            clips = [{"name": c.name, "samples": c.samples, "rate": c.rate, "sha256": c.sha256} for c in job.clips]
            request: dict[str, Any] = {"do": "features", "frontend": fe.to_plain(job.frontend), "taps": sorted(taps)}
            if job.state is not None:
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

        def work(worker: Worker) -> list[ClipOutput]:
            if artifact.key not in worker.opened:
                threads = registry.threads(spec) or self.threads
                reply = worker.request({"do": "open", "artifact": dataclasses.asdict(artifact), "threads": threads})
                worker.opened.add(artifact.key)
                self.timings.append(
                    {"stage": "open", "plugin": spec, "system": job.system, "precision": artifact.precision}
                    | {"seconds": reply["seconds"]}
                )
            out: list[ClipOutput] = []
            request: dict[str, Any] = {
                "do": "run",
                "model": artifact.key,
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

    def __init__(self, target: LocalTarget, job: Job) -> None:
        self._target, self._job = target, job
        taps = job.stages or frozenset(job.frontend.taps)
        self._features = {spec: target.submit(target.features, spec, job, taps) for spec in job.backends}
        self._isolated: dict[tuple[str, str, str], Future[Outputs]] = {}
        if job.references:
            for spec, artifact in [*job.models, *job.kernels]:
                key = ("", spec, artifact.precision)
                if key in self._isolated:
                    continue  # the kernels were asked for by name as well
                self._isolated[key] = target.submit(target.activations, spec, artifact, job, job.references)

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
        return JobResult(job=job, features=features, activations=out)


def _culprit(worker: Worker, request: dict[str, Any], clips: Sequence[dict[str, Any]]) -> str:
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
