"""The page to read first: what parity's plugins are, and the values that pass between them.

A plugin is any object with these methods (structural types: nobody inherits). To add one: write the class (about 30
lines; see `parity/backends/librosa_.py` or `parity/runtimes/onnxrt.py`), name it in `parity/registry.py` or in an
entry point (`parity.backends`, `parity.runtimes`), and run the conformance suite (`parity.testing`) on it.

Data flows one way:

    system.toml -> Job -> Target[ FeatureBackend -> features -> Runtime -> activations ] -> arrays at taps
        -> compare(golden, arrays, bounds) -> Verdict -> reports/<run>/

This module, `frontend`, `taps`, `layout`, the plugins and `targets/agent.py` run where the computing happens: they need
NumPy (1.24 and up) and the standard library only, beside the one framework that a plugin wraps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast, get_args

import numpy.typing as npt

from parity.errors import ConfigError
from parity.frontend import Frontend

Array = npt.NDArray[Any]
Tap = str
Taps = Mapping[Tap, Array]
Arithmetic = Literal["float32", "float64-rounded"]
"""How window and FFT are computed: in float32, or in float64 and rounded once to complex64. float32 all else."""


@dataclass(frozen=True, eq=False)
class Clip:
    """Mono sound: `samples` float32 `[n]` at full scale ±1.0, `rate` in Hz; `sha256` of rate and samples."""

    name: str
    samples: Array
    rate: int
    sha256: str


@dataclass(frozen=True)
class Unsupported:
    """Why a plugin can't honour a recipe or an artifact exactly."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Port:
    """A tensor of a model under the framework's own name.

    `layout` names its axes, one letter each: N batch, T time, F band, C channel, and `1` for an axis of size one:
    `N1TF` is a PyTorch image of time by band. See `parity.layout`.
    """

    name: str
    layout: str
    dtype: str = "float32"
    """At the tap: float32 for integers too, which come dequantized (and raw beside it)."""
    scale: str | None = None
    """Tensor of the file that holds an integer tensor's scale, where the file doesn't say it of the tensor (ONNX)."""
    zero_point: str | None = None


@dataclass(frozen=True, kw_only=True)
class State:
    """A tensor that a recurrent network hands on from one chunk of frames to the next: an input, and a tap.

    What came out at `tap` goes in at `name` with the next chunk; zeros of `shape`, in the framework's axes, at first.
    """

    name: str
    tap: Tap
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A model file: `path` on the machine where it runs, what feeds it, and where its taps are."""

    system: str
    format: str
    """onnx, tflite, torch, ... : a runtime's `supports` goes by it."""
    precision: str
    path: str
    sha256: str
    input: Port
    taps: Mapping[Tap, Port]
    """Explicit map, in flow order."""
    shape: tuple[int | None, int | None]
    """[frames, bands] of the features that the network takes; None where any number will do."""
    frames: int | None = None
    """Frames that this file alone is tied to, where the network takes any: clips of others are `unsupported` for it."""
    kernels: str | None = None
    """Runtime whose kernels say what this file computes: other runtimes are held to it (the path `deployment`)."""
    network: str | None = None
    """`path/to/file.py:callable` that builds the network (formats that hold weights only)."""
    state: tuple[State, ...] = ()
    """Where a network takes and gives its memory; each clip starts from zeros.

    With `frames` a clip is run through it piece by piece, in order. In a job with a `state` the clips are chunks of one
    sound.
    """
    context: int = 0
    """Values of the frame before that a file of raw audio wants in front of each frame; zeros before the first."""
    constants: Mapping[str, int | float] = field(default_factory=dict)
    """More inputs, by name: the same number for every piece."""
    ranges: str | None = None
    """What each tensor of a float network ranged over while its files of integers were calibrated: a ranges.json."""
    reset: str | None = None
    """Method by which a file that keeps its memory to itself forgets (TorchScript)."""

    @property
    def key(self) -> str:
        """One artifact of one system; two may share a file."""
        return "|".join((self.system, self.format, self.precision, self.path))


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """What a session says of a tensor: shape (None: any), dtype, and for integers the affine scale and zero point."""

    shape: tuple[int | None, ...]
    dtype: str
    scale: float | None = None
    zero_point: int = 0


class FeatureBackend(Protocol):
    """Clip + Frontend -> arrays at the taps of the frontend."""

    def versions(self) -> Mapping[str, str]:
        """Library -> version, as found on this machine."""
        ...

    def supports(self, frontend: Frontend) -> Unsupported | None:
        """Why this recipe can't be honoured *exactly*, or None; asked before any work."""
        ...

    def taps(self, frontend: Frontend) -> frozenset[Tap]:
        """The taps that it can give for this recipe; the last stage is always among them."""
        ...

    # Optional: def arithmetic(self, frontend: Frontend) -> Arithmetic. Without it, `float32`.

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        """For each clip the arrays at `taps`, C-contiguous, time-major, of the dtype that the recipe declares."""
        ...


def arithmetic_of(backend: Any, frontend: Frontend) -> Arithmetic:
    """The class of arithmetic that a backend declares for a recipe. ConfigError where there is no such class."""
    told: Any = backend.arithmetic(frontend) if hasattr(backend, "arithmetic") else "float32"
    if told not in get_args(Arithmetic):
        raise ConfigError(f"the plugin's arithmetic() gave {told!r}", f"give {' or '.join(get_args(Arithmetic))}")
    return cast(Arithmetic, told)


class Session(Protocol):
    """An open model. Inputs and taps are in the framework's own layout and dtype; the caller turns them."""

    tensors: Mapping[Tap, Tensor]
    """What is known of `model/input` and of each tap before running (a tap may be left out)."""

    def run(self, inputs: Mapping[str, Array], taps: frozenset[Tap]) -> Taps:
        """One clip: named inputs in, arrays at `taps` out: all of them, for system.toml maps what the file has.

        The features come first; where the artifact has `state` or `constants`, those follow by name.
        """
        ...


class Runtime(Protocol):
    """Artifact + features -> arrays at the taps of the artifact."""

    def versions(self) -> Mapping[str, str]:
        """Library -> version, as found on this machine."""
        ...

    def supports(self, artifact: Artifact) -> Unsupported | None:
        """Why this artifact can't be run, or None; asked before any work, without loading it."""
        ...

    def open(self, artifact: Artifact, threads: int = 1) -> AbstractContextManager[Session]:
        """Load the model. Raises `ModelError` for a file that can't be read."""
        ...


@dataclass(frozen=True)
class Failure:
    """A plugin that died, hung or raised at work: becomes an `error` verdict of its pair."""

    plugin: str
    reason: str


@dataclass(frozen=True, eq=False)
class Raw:
    """A quantized tensor as the file has it, in the tap's layout: value = scale · (integers - zero_point)."""

    integers: Array
    scale: float
    zero_point: int


@dataclass(frozen=True)
class ClipOutput:
    """Arrays at taps for one clip, and the seconds that they took."""

    taps: Taps
    seconds: float
    unsupported: str = ""
    """Why the model can't take this clip, where system.toml says so beforehand; then there are no taps."""
    raw: Mapping[Tap, Raw] = field(default_factory=dict)
    """The integers behind those taps that are quantized."""
    state: Mapping[str, Array] = field(default_factory=dict)
    """By name, what a network with `state` handed on."""


Outputs = Sequence[ClipOutput] | Failure
"""One entry a clip of the job, in its order."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A few clips of one system through every plugin that was asked for.

    `references` holds the golden's features of each clip (what the isolated runs are fed with), or is empty;
    `taps` the taps of the model that are wanted of each clip.
    """

    system: str
    frontend: Frontend
    clips: Sequence[Clip]
    backends: Sequence[str] = ()
    models: Sequence[tuple[str, Artifact]] = ()
    kernels: Sequence[tuple[str, Artifact]] = ()
    """Runtimes that are only run on the golden's features, to hold those in `models` to."""
    references: Sequence[Array] = ()
    moved: Sequence[Array] = ()
    """How far each value of `references` may move, for the runtime that derives bounds."""
    taps: Sequence[frozenset[Tap]] = ()
    stages: frozenset[Tap] = frozenset()
    """The taps that are wanted of backends, the recipe's last among them; empty: all that they have."""
    state: Mapping[tuple[str, str, str], Mapping[str, Array]] | None = None
    """Of a stream, whose clips are chunks of one sound, in order: by backend, runtime and precision the state to go on
    from, zeros where there is none yet. None: clips are whole, and each starts from nothing."""


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What came back: features by backend; activations by backend ('' for isolated), runtime and precision."""

    job: Job
    features: Mapping[str, Outputs] = field(default_factory=dict)
    activations: Mapping[tuple[str, str, str], Outputs] = field(default_factory=dict)
    kernels: Mapping[tuple[str, str], Outputs] = field(default_factory=dict)
    """By runtime and precision what those in `job.kernels` gave, on this machine."""


@dataclass(frozen=True)
class Description:
    """What a plugin says of itself where it runs: versions, and for each question its taps or why not."""

    versions: Mapping[str, str]
    answers: Sequence[frozenset[Tap] | Unsupported]
    arithmetic: Sequence[Arithmetic] = ()
    """Of a backend, for each question: the class whose bounds it is held to. Empty: float32."""


class Target(Protocol):
    """A place where jobs run: worker processes here, another Python, an SSH host."""

    name: str
    threads: int
    """With how many a runtime computes, where its spec doesn't say."""

    @property
    def apart(self) -> bool:
        """Whether features are computed clip by clip, so that the time of each is known."""
        ...

    @property
    def timings(self) -> list[dict[str, Any]]:
        """Seconds to load plugins and to open models, as they come."""
        ...

    @property
    def trusted(self) -> Target:
        """The target on this machine whose answers this one's are held to; itself, where it is that."""
        ...

    def plugins(self, kind: Literal["backend", "runtime"]) -> Mapping[str, str]:
        """Every plugin by name, with what it lacks there: '' where it can be used."""
        ...

    def needs(self, kind: Literal["backend", "runtime"], name: str, lacks: str) -> ConfigError:
        """What a plugin lacks there, as an error that says what to type."""
        ...

    def facts(self, now: bool = False) -> dict[str, Any]:
        """What the machine says of itself; `now`: not what it said at first."""
        ...

    def link(self) -> dict[str, Any]:
        """How it is reached, and bytes sent and received; empty for this machine."""
        ...

    def memory(self) -> list[dict[str, Any]]:
        """The most memory that each plugin's process has had."""
        ...

    def load(self, plugins: Iterable[tuple[str, str]]) -> None:
        """Get plugins (kind, spec) ready, side by side where that saves time."""
        ...

    def describe(self, kind: str, spec: str, questions: Sequence[Frontend | Artifact]) -> Description:
        """Ask a plugin, where it would run, for its versions and what it supports."""
        ...

    def run(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
        """Results in the order of the jobs; begins at once, and memory holds only a few jobs at a time."""
        ...

    def release(self) -> None:
        """Close every open model; the plugins stay loaded."""
        ...
