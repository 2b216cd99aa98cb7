"""What stands in those fields of run.json that are plain objects to parity itself: their keys, for whoever reads them.

Nothing is read through these types: a key that they don't name is no error. `parity.report.schema` publishes them.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from parity.compare import Outcome


class Cpu(TypedDict):
    """A processor, as far as its system tells."""

    model: str
    architecture: str
    features_sha256: str
    cores: int


class _Where(TypedDict):
    cpu: Cpu
    os: str
    python: str
    parity: str
    numpy: str
    threads: int
    plugins: dict[str, dict[str, str]]
    fingerprint: str


class Link(TypedDict):
    """What went to a target and came back, in bytes; `arrays` of it are the arrays themselves."""

    sent: int
    received: int
    arrays: int
    connections: int
    reconnects: int


class Target(_Where, total=False):
    """Where a target computed; `emulated`: its CPU is another machine's program, whose times are nobody's.

    `temperature_c` is before and after the run, in degrees Celsius.
    """

    address: str
    release: str
    emulated: bool
    governor: str | None
    temperature_c: list[float | None] | None
    memory_bytes: int | None
    link: Link


class Environment(_Where, total=False):
    """Machine and versions; `fingerprint` is of what of them may change a number. `targets`: each one's, by name."""

    targets: dict[str, Target]


class Commit(TypedDict, total=False):
    """The git commit that was run, empty outside a checkout."""

    commit: str
    dirty: bool


class File(TypedDict, total=False):
    """A model file of a system."""

    format: str
    precision: str
    file: str
    sha256: str
    bytes: int


class Model(TypedDict, total=False):
    """A model file on a runtime; `tensors` are the file's own names of what its taps are read from."""

    runtime: str
    format: str
    precision: str
    file: str
    tensors: dict[str, str]


class System(TypedDict, total=False):
    """A system as it was run: its recipe, taps in flow order, number of clips, files, and what proves its goldens."""

    labels: list[str]
    frontend: dict[str, Any]
    frontend_digest: str
    taps: list[str]
    clips: int
    pairs: list[list[str]]
    artifacts: list[File]
    decision: dict[str, Any]
    anchor: dict[str, Any]
    arithmetic: dict[str, str]
    folder: str
    golden: str | None
    golden_labels: list[str]
    models: list[Model]
    kernels: list[Model]
    judge: Model | None


class Timing(TypedDict, total=False):
    """Seconds that a stage took in a plugin on a target.

    stage: `load` a plugin, `open` a model, `features`, `model`, `judge`; or `memory`, which has `peak_bytes` instead.
    Of `features` and `model`: `clip_ms` is the median and the 95th percentile, `frame_ms` the least of a frame, `rtf`
    the median share of a clip's own length; the first `warm_up` clips are left out.
    """

    stage: str
    plugin: str
    system: str
    precision: str
    target: str
    clips: int
    seconds: float
    clip_ms: list[float]
    frame_ms: float
    frame_median_ms: float
    frame_p95_ms: float
    rtf: float
    warm_up: int
    threads: int
    peak_bytes: int


class Kept(TypedDict):
    """A file of `evidence/`, of which candidate and clip it is."""

    file: str
    system: str
    backend: str
    runtime: str
    precision: str
    target: str
    path: str
    clip: str


class Accuracy(TypedDict):
    """Accuracy of a pair (0 to 1), and how often each truth was given which label."""

    pair: str
    target: str
    clips: int
    accuracy: float
    confusion: dict[str, dict[str, int]]


class Differing(TypedDict):
    """A clip whose label differs between pairs: pair -> label."""

    system: str
    clip: str
    truth: str | None
    labels: dict[str, str]


class Labels(TypedDict, total=False):
    """With --labels-from; empty without. `ignored`: clips by folder that names no label."""

    pairs: list[Accuracy]
    differ: list[Differing]
    ignored: dict[str, int]


class Example(TypedDict):
    """What drawn clips brought for a pair."""

    system: str
    pair: str
    target: str
    count: int
    worst_ratio: float | None
    worst: str
    worst_tap: str
    failed: bool
    outcome: str
    counterexample: str | None
    message: str


class Recheck(TypedDict, total=False):
    """The run whose arrays were judged again, and how many verdicts were judged, stand as they were, or are open."""

    of: str
    judged: int
    stand: int
    open: int


class Found(TypedDict):
    """A finding of the gate: what `was` accepted, what is `now`, and whether it fails the run."""

    kind: Literal["drift", "flips", "accuracy", "coverage", "size", "latency", "baseline"]
    system: str
    backend: str
    runtime: str
    precision: str
    target: str
    path: str
    tap: str
    text: str
    was: float | None
    now: float | None
    fails: bool


class Baseline(TypedDict):
    """What a system was held to: the accepted baseline of this environment, or none, and what differs from the
    closest."""

    system: str
    target: str
    fingerprint: str
    state: Literal["held", "new", "none"]
    accepted: str
    reason: str
    differs: list[str]


class Point(TypedDict):
    """A gate run of before: the pair's largest error over bound then."""

    when: str
    run: str
    fingerprint: str
    ratio: float | None
    outcome: Outcome


class History(TypedDict):
    """The last gate runs of a pair, the oldest first."""

    system: str
    backend: str
    runtime: str
    precision: str
    target: str
    points: list[Point]


class Gate(TypedDict, total=False):
    """With `parity gate`; empty without."""

    verdict: Literal["pass", "fail", "new"]
    findings: list[Found]
    baselines: list[Baseline]
    history: list[History]
    limits: dict[str, Any]


FIELDS: dict[str, Any] = {
    "environment": Environment, "commit": Commit, "systems": dict[str, System], "timings": list[Timing],
    "labels": Labels, "examples": list[Example], "evidence": list[Kept], "recheck": Recheck, "gate": Gate,
}  # fmt: skip
"""Field of a run -> what stands in it."""
