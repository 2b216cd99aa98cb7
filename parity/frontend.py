"""The recipe of feature extraction as frozen, typed stages.

One class a stage and kind; each stage's output is a tap (see `parity.taps`). Needs the standard library only: the
same classes describe the recipe on the machine that computes it. Reading TOML into them is `parity.system`'s job.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal


@dataclass(frozen=True, kw_only=True)
class Input:
    """Samples as the recipe wants them, `[samples]`. Order: scale, peak, pre-emphasis, length."""

    kind: ClassVar[str] = "input"
    rate: int
    """Sampling rate in Hz."""
    resample: Literal["refuse", "soxr-hq"] = "refuse"
    """What happens to a clip of another rate."""
    scale: Literal["unit", "int16"] = "unit"
    """Full scale is ±1.0, or ±32768."""
    peak_normalize: bool = False
    """Divide by the clip's largest sample (not its largest magnitude)."""
    pre_emphasis: float = 0.0
    """y[n] = x[n] - a·x[n-1], with x[-1] = 0."""
    length: int | None = None
    """Samples that the recipe works on; None takes a clip as long as it is."""
    fit: Literal["pad-or-cut", "refuse"] = "pad-or-cut"
    """A clip of another length gets zeros on the right or is cut, or is refused."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Overlapping frames, `[frames, length]`."""

    kind: ClassVar[str] = "frame"
    length: int
    """Samples in a frame."""
    hop: int
    """Samples from one frame's start to the next."""
    center: bool = False
    """Pad by length // 2 on both sides, so that frame t is centered on sample t·hop."""
    pad_mode: Literal["zero", "reflect", "edge"] = "zero"
    """What centering pads with."""
    last: Literal["drop", "pad"] = "drop"
    """A last frame that isn't full is dropped, or filled with zeros."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Frames times the window, `[frames, frame length]`."""

    kind: ClassVar[str] = "window"
    name: Literal["hann", "hamming", "rectangular"]
    periodic: bool = True
    """Divide the circle into `length` parts (DFT-even), not `length - 1` (symmetric)."""
    length: int | None = None
    """Samples in the window; the frame's length where None."""
    position: Literal["center", "left"] = "center"
    """Where a shorter window sits in its frame; zeros elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """(|FFT| · scaling) ** exponent, `[frames, bins]`; a frame shorter than `n_fft` gets zeros on the right."""

    kind: ClassVar[str] = "spectrum"
    n_fft: int
    exponent: Literal[1, 2] = 2
    """1: magnitude, 2: power."""
    scaling: Literal["none", "1/n_fft"] = "none"
    """`1/n_fft` divides the magnitude or the power by n_fft (ELL's power spectrum)."""
    nyquist: bool = True
    """Keep bin n_fft / 2."""


@dataclass(frozen=True, kw_only=True)
class Micro:
    """The microcontrollers' audio front end, whole and in fixed point, uint16 `[frames, bands]`.

    In its order: Hann window in 12 bits, int16 FFT, triangles straight in 1127·ln mel, square root, noise reduction by
    a running estimate of each band, PCAN (gain by that estimate), logarithm. It takes int16 samples. The estimate
    starts at 0 with every clip. Defaults are TensorFlow's, but for PCAN, which micro_speech switches on.
    """

    kind: ClassVar[str] = "micro"
    length: int
    """Samples in a frame; the FFT is the next power of two."""
    hop: int
    """Samples from one frame's start to the next."""
    bands: int
    fmin: float = 125.0
    """Hz."""
    fmax: float = 7500.0
    """Hz."""
    smoothing_bits: int = 10
    """Fraction bits of the noise estimate."""
    even_smoothing: float = 0.025
    """What a frame adds to the estimate of bands 0, 2, 4, ... (1 forgets the past)."""
    odd_smoothing: float = 0.06
    """The same for bands 1, 3, 5, ..."""
    min_signal_remaining: float = 0.05
    """Noise reduction leaves at least this part of a band."""
    pcan: bool = True
    """Per-channel amplitude normalization: a gain of (estimate + offset) ** -strength, then a soft square."""
    pcan_strength: float = 0.95
    pcan_offset: float = 80.0
    gain_bits: int = 21
    """Fraction bits of PCAN's gain."""
    log: bool = True
    """ln in fixed point; without it the value as it is."""
    log_shift: int = 6
    """Fraction bits of the logarithm."""


@dataclass(frozen=True, kw_only=True)
class Mel:
    """Spectrum times a bank of triangles, `[frames, bands]`."""

    kind: ClassVar[str] = "mel"
    bands: int
    fmin: float = 0.0
    """Hz."""
    fmax: float
    """Hz."""
    scale: Literal["htk", "slaney", "1127ln"]
    """htk: 2595·log10(1 + f/700); slaney: linear to 1 kHz, logarithmic above; 1127ln: 1127·ln(1 + f/700)."""
    norm: Literal["slaney", "none"]
    """slaney: each triangle's area in Hz is 1; none: its height is 1."""
    triangles: Literal["hz", "mel", "bins"] = "hz"
    """Straight in Hz (librosa), in mel (TensorFlow's own bank), or between whole bins (ELL, C code)."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Mean over every `size` bins, `[frames, ceil(bins / size)]` (tiny-conv)."""

    kind: ClassVar[str] = "pool"
    size: int


@dataclass(frozen=True, kw_only=True)
class Log:
    """log(max(x, floor) + offset), `[frames, bands]`."""

    kind: ClassVar[str] = "log"
    base: Literal["e", "10"]
    offset: float = 0.0
    floor: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Decibel:
    """10·log10(max(x, amin) / max(ref, amin)), floored at the clip's maximum minus top_db, `[frames, bands]`."""

    kind: ClassVar[str] = "db"
    ref: float | Literal["max"] = 1.0
    amin: float = 1e-10
    top_db: float | None = 80.0


@dataclass(frozen=True, kw_only=True)
class Cepstrum:
    """DCT over the bands, `[frames, count]`."""

    kind: ClassVar[str] = "dct"
    count: int
    norm: Literal["ortho", "none", "ortho-c0-sqrt2"] = "ortho"
    """none: 2·sum(x·cos); ortho-c0-sqrt2: orthonormal with coefficient 0 times sqrt(2) (TensorFlow, HTK)."""
    lifter: float = 0.0
    """1 + (lifter / 2)·sin(pi·(n + 1) / lifter) on coefficient n; 0 leaves them as they are."""


@dataclass(frozen=True, kw_only=True)
class Normalize:
    """(x - mean) / spread, `[frames, bands]`."""

    kind: ClassVar[str] = "fixed"
    mean: tuple[float, ...]
    """One a band, or one for all."""
    spread: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Quantize:
    """clip(round(x / scale) + zero_point) as integers, `[frames, bands]`."""

    kind: ClassVar[str] = "affine"
    dtype: Literal["uint8", "int8"]
    scale: float
    zero_point: int = 0
    rounding: Literal["half-even", "half-away", "floor"] = "half-even"


Stage = Input | Frame | Window | Spectrum | Micro | Mel | Pool | Log | Decibel | Cepstrum | Normalize | Quantize

# The name of a stage in TOML -> its kinds. A stage with one kind needs no `kind` key.
STAGES: Mapping[str, tuple[type[Stage], ...]] = {
    "input": (Input,),
    "frame": (Frame,),
    "window": (Window,),
    "spectrum": (Spectrum,),
    "micro": (Micro,),
    "filterbank": (Mel, Pool),
    "compress": (Log, Decibel),
    "cepstrum": (Cepstrum,),
    "normalize": (Normalize,),
    "quantize": (Quantize,),
}
REQUIRED = ("input",)
_TAP_OF = {
    "input": "features/audio",
    "frame": "features/frames",
    "window": "features/windowed",
    "spectrum": "features/spectrum",
    "micro": "features/micro",
    "filterbank": "features/filterbank",
    "compress": "features/compressed",
    "cepstrum": "features/cepstrum",
    "normalize": "features/normalized",
    "quantize": "features/quantized",
}


@dataclass(frozen=True, kw_only=True)
class Frontend:
    """A whole recipe: the stages in the order in which they run; the last one present makes the features.

    Three forms: from a spectrum (frame, window, spectrum and what follows); `micro`, a whole front end in one stage;
    raw audio for a model that holds its own front end (input alone: `[samples]`; with frame: `[frames, length]`).
    """

    input: Input
    frame: Frame | None = None
    window: Window | None = None
    spectrum: Spectrum | None = None
    micro: Micro | None = None
    filterbank: Mel | Pool | None = None
    compress: Log | Decibel | None = None
    cepstrum: Cepstrum | None = None
    normalize: Normalize | None = None
    quantize: Quantize | None = None
    tap_dtype: str = field(default="float32", init=False)
    """What a deployed backend must deliver at a tap (quantized features: their own integer type)."""

    def stages(self) -> dict[str, Stage]:
        """Tap -> stage, in flow order, of the stages that the recipe has."""
        return {_TAP_OF[name]: stage for name in STAGES if (stage := getattr(self, name)) is not None}

    @property
    def taps(self) -> tuple[str, ...]:
        """The taps of the recipe, in flow order."""
        return tuple(self.stages())

    @property
    def output(self) -> str:
        """The tap that a network is fed from."""
        return self.taps[-1]

    def dtype(self, tap: str) -> str:
        """The dtype declared for a tap."""
        if self.quantize is not None and tap == "features/quantized":
            return self.quantize.dtype
        return "uint16" if tap == "features/micro" else self.tap_dtype

    @property
    def stft(self) -> tuple[Frame, Window, Spectrum] | None:
        """The three stages of a short-time Fourier transform, in a recipe that starts from a spectrum."""
        if self.frame is None or self.window is None or self.spectrum is None:
            return None
        return self.frame, self.window, self.spectrum

    @property
    def framing(self) -> Frame | None:
        """How frames are cut, whichever stage cuts them; None where the features are the samples themselves."""
        if self.micro is not None:
            return Frame(length=self.micro.length, hop=self.micro.hop)
        return self.frame

    def samples(self, clip: int) -> int:
        """Samples that a clip of `clip` samples has after the input stage."""
        return clip if self.input.length is None else self.input.length

    def frames(self, clip: int) -> int:
        """Frames that a clip of `clip` samples gives; its samples where nothing frames them."""
        if (frame := self.framing) is None:
            return self.samples(clip)
        n = self.samples(clip) + (2 * (frame.length // 2) if frame.center else 0)
        if frame.last == "pad":
            return max(0, -(-n // frame.hop))
        return max(0, 1 + (n - frame.length) // frame.hop)

    @property
    def bins(self) -> int:
        """Bins of the spectrum; 0 where there is none."""
        if self.spectrum is None:
            return 0
        return self.spectrum.n_fft // 2 + (1 if self.spectrum.nyquist else 0)

    @property
    def bands(self) -> int:
        """Values in a frame of the features; 1 where they are samples."""
        if self.micro is not None:
            return self.micro.bands
        if self.spectrum is None:
            return 1 if self.frame is None else self.frame.length
        if self.cepstrum is not None:
            return self.cepstrum.count
        if isinstance(self.filterbank, Mel):
            return self.filterbank.bands
        if isinstance(self.filterbank, Pool):
            return -(-self.bins // self.filterbank.size)
        return self.bins

    @property
    def digest(self) -> str:
        """sha256 of the canonical form: every setting, defaults filled in, keys sorted."""
        text = json.dumps(to_plain(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def to_plain(frontend: Frontend) -> dict[str, dict[str, Any]]:
    """The recipe as JSON types, every default written out; numbers that are floats in the type are floats."""
    plain: dict[str, dict[str, Any]] = {}
    for name in STAGES:
        stage = getattr(frontend, name)
        if stage is None:
            continue
        values: dict[str, Any] = {"kind": stage.kind}
        for f in dataclasses.fields(stage):
            value = getattr(stage, f.name)
            if "float" in str(f.type):
                value = _floats(value)
            values[f.name] = list(value) if isinstance(value, tuple) else value
        plain[name] = values
    return plain


def _floats(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_floats(v) for v in value)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def from_plain(plain: Mapping[str, Mapping[str, Any]]) -> Frontend:
    """The inverse of `to_plain` for values that were validated when they were read from TOML."""
    stages: dict[str, Any] = {}
    for name, values in plain.items():
        kind: Any = next(k for k in STAGES[name] if k.kind == values["kind"])
        rest = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k != "kind"}
        stages[name] = kind(**rest)
    return Frontend(**stages)
