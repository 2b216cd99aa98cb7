"""The corruption panel: what can go wrong with arrays and runs, each declared beforehand as must-fail or must-pass.

A case says what must become of it: the first tap in flow order that isn't right, and its outcome there; or the exit
code of a run that can't be judged. `tests/faults/test_panel.py` holds each case to it; `make proof` counts them.

Corruptions of arrays are made by the plugins that give them (`faulty.corrupted`, in a worker process), on committed
goldens or, where a scene needs other sounds, on the oracle's own answers for them; everything after that is the real
thing: pipe, judge, records, report. `tests/faults/scenes.py` sets the scenes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scene = Literal["spoken", "square", "quiet", "integers", "int8", "tie", "tail"]
AUDIO, FRAMES, WINDOWED = "features/audio", "features/frames", "features/windowed"
SPECTRUM, BANK, LOG = "features/spectrum", "features/filterbank", "features/compressed"
QUANTIZED, CEPSTRUM = "features/quantized", "features/cepstrum"
FAIL, MISSING, ERROR, PASS = "fail", "missing", "error", "pass"
REFUSED = "refused"
"""The run ends in a message and exit code 3: what system.toml says of the file doesn't fit what came."""


@dataclass(frozen=True)
class Case:
    """A corruption of arrays, and what it must come to."""

    how: str
    """Its name in `faulty.corrupted`."""
    at: str = ""
    """The tap that is spoiled: of the features, or of the network."""
    outcome: str = FAIL
    tap: str = ""
    """The first tap that must be wrong; the spoiled one unless said."""
    scene: Scene = "spoken"
    says: str = ""
    """Words that the message must have."""
    near_tie: bool = False
    """It passes as a near tie, which must be told."""
    of: Literal["features", "network"] | None = None
    """What is spoiled, where no tap says it."""

    @property
    def must(self) -> str:
        """must-fail or must-pass."""
        return "must-pass" if self.outcome == PASS else "must-fail"

    @property
    def first(self) -> str:
        """The first tap that must be wrong; '' where none may be."""
        return "" if self.outcome == PASS else self.tap or self.at

    @property
    def spoils_features(self) -> bool:
        """It is a backend that is spoiled, not a runtime."""
        return self.of == "features" or (self.of is None and self.at.startswith("features/"))

    @property
    def name(self) -> str:
        """`nan at features/spectrum`."""
        return f"{self.how} at {self.at}" if self.at else f"{self.how} of the {self.of}"

    @property
    def spec(self) -> str:
        """The plugin that does it."""
        plugin = "faulty.corrupted:" + ("Features" if self.spoils_features else "Network")
        return f"{plugin}:how={self.how}" + (f",tap={self.at}" if self.at else "")


@dataclass(frozen=True)
class RunCase:
    """A corruption of a whole run: what `scenes.RUNS` does by this name, and the exit code that it must end in."""

    name: str
    exit_code: int
    says: str

    @property
    def must(self) -> str:
        """must-fail: none of these may end in 0."""
        return "must-fail"


FEATURES = (
    # Not numbers.
    *(Case("nan", tap) for tap in (AUDIO, SPECTRUM, LOG)),
    Case("inf", BANK), Case("-inf", LOG), Case("inf", AUDIO), Case("all-nan", LOG),
    Case("nan-for-zero", AUDIO, says="nan at"), Case("nan-for-zero", WINDOWED, says="nan at"),
    # Lost and found.
    Case("empty", SPECTRUM, says="shape"), Case("empty", LOG),
    Case("lost", SPECTRUM, MISSING), Case("lost", LOG, MISSING), Case("renamed", BANK, MISSING),
    Case("capital", BANK, MISSING), Case("swapped", BANK), Case("another-tap", BANK), Case("swapped", FRAMES),
    # What isn't the array that was declared.
    Case("float64", SPECTRUM, says="float64"), Case("float16", LOG, says="float16"), Case("int32", BANK),
    Case("complex64", SPECTRUM), Case("bool", SPECTRUM), Case("bytes-swapped", AUDIO), Case("bytes-swapped", LOG),
    Case("batch-axis", LOG, says="shape"), Case("flat", SPECTRUM, says="shape"),
    Case("transposed", BANK, says="transposed?"), Case("transposed", CEPSTRUM, scene="square"),
    Case("one-frame", LOG, says="97 frames fewer"), Case("one-band", LOG, says="shape"), Case("one-number", SPECTRUM),
    Case("two-batches", LOG), Case("frame-more", SPECTRUM, says="1 frames more"), Case("frame-fewer", LOG),
    # Other numbers.
    *(Case("one-of-4000", tap) for tap in (AUDIO, WINDOWED, SPECTRUM, BANK, LOG)),
    Case("one-ulp-on-one", AUDIO), Case("one-ulp-on-one", FRAMES),
    *(Case("gain-1.001", tap) for tap in (AUDIO, WINDOWED, SPECTRUM, BANK, LOG)),
    Case("offset", AUDIO), Case("offset", LOG), Case("offset", SPECTRUM),
    Case("frame-late", FRAMES), Case("frame-late", LOG), Case("frame-twice", SPECTRUM),
    Case("time-reversed", LOG), Case("bands-reversed", BANK), Case("band-stuck", LOG),
    Case("zeros", LOG), Case("negated", WINDOWED), Case("mean-everywhere", LOG),
    Case("as-float16", WINDOWED), Case("as-float16", LOG), Case("as-bfloat16", LOG), Case("as-float16", AUDIO),
    # Integers.
    Case("one-step", QUANTIZED, scene="integers"), Case("wrapped", QUANTIZED, scene="integers"),
    Case("highest", QUANTIZED, scene="integers"), Case("lowest", QUANTIZED, scene="integers"),
    Case("int8-for-uint8", QUANTIZED, scene="integers", says="int8"),
    # Clips.
    Case("two-of-five", outcome=ERROR, tap=AUDIO, of="features", says="2 results for 5 clips"),
    Case("none", outcome=ERROR, tap=AUDIO, of="features", says="0 results for 5 clips"),
    Case("one-too-many", outcome=ERROR, tap=AUDIO, of="features", says="6 results for 5 clips"),
    Case("clips-turned", tap=AUDIO, of="features"), Case("first-for-all", tap=AUDIO, of="features"),
    # What is right, in another form.
    Case("nothing", LOG, PASS), Case("one-ulp", LOG, PASS), Case("one-ulp", SPECTRUM, PASS),
    *(Case("negative-zero", tap, PASS) for tap in (AUDIO, FRAMES, WINDOWED)),
    *(Case("denormals-flushed", tap, PASS, scene="quiet") for tap in (SPECTRUM, BANK)),
    Case("column-major", LOG, PASS), Case("big-endian", LOG, PASS), Case("read-only", LOG, PASS),
    Case("extra", BANK, PASS),
)  # fmt: skip
"""What a backend's arrays may look like."""

NETWORK = (
    Case("nan", "model/relu3"), Case("inf", "model/logits"), Case("-inf", "model/logits"),
    Case("all-nan", "model/pool5"), Case("nan-for-zero", "model/relu2", says="nan at"),
    Case("empty", "model/relu4", REFUSED, says="has size 0"),
    Case("lost", "model/logits", MISSING), Case("lost", "model/relu1", MISSING),
    Case("renamed", "model/relu2", MISSING), Case("swapped", "model/relu4"), Case("another-tap", "model/relu4"),
    Case("float64", "model/logits", says="float64"), Case("float16", "model/relu1"),
    Case("flat", "model/logits", REFUSED, says="layout"),
    Case("transposed", "model/relu1"), Case("transposed", "model/lstm1", scene="square"),
    Case("one-of-4000", "model/relu1"), Case("one-of-4000", "model/logits"), Case("gain-1.001", "model/relu5"),
    Case("offset", "model/logits"), Case("as-float16", "model/relu1"), Case("zeros", "model/logits"),
    Case("softmaxed", "model/logits"), Case("labels-turned", "model/logits"), Case("next-label", "model/logits"),
    Case("first-for-all", tap="model/logits", of="network"),
    Case("tail-lost", "model/probabilities", scene="tail"),
    Case("highest", "model/relu3", scene="int8"), Case("lowest", "model/relu5", scene="int8"),
    Case("wrapped", "model/relu3", scene="int8"), Case("wrapped", "model/relu1", scene="int8"),
    Case("one-step", "model/relu4", scene="int8"),
    Case("next-label", "model/logits", scene="int8"),
    Case("nothing", "model/logits", PASS), Case("one-ulp", "model/relu3", PASS),
    Case("negative-zero", "model/relu1", PASS), Case("extra", "model/relu3", PASS),
    Case("nothing", "model/logits", PASS, scene="tie"),
    Case("tie-broken", "model/logits", PASS, scene="tie", near_tie=True),
    Case("one-of-4000", "model/logits", scene="tie"),
)  # fmt: skip
"""What a runtime's arrays may look like."""

ARRAYS = FEATURES + NETWORK

RUNS = (
    RunCase("no clips in the goldens", 2, ""),
    RunCase("no sound in the folder", 2, "no audio in"),
    RunCase("no goldens", 5, "no goldens of commands-cnn"),
    RunCase("a golden's features altered", 5, "was altered"),
    RunCase("a golden's activations altered", 5, "was altered"),
    RunCase("a clip replaced", 5, "was altered"),
    RunCase("a golden of another recipe", 5, "are of another recipe"),
    RunCase("another recipe, the old digest", 5, "recipe"),
    RunCase("a network trained again since", 1, "model/relu1"),
    RunCase("labels in another order", 1, "labels are in another order"),
    RunCase("nothing that can be compared", 2, "nothing to compare"),
)
