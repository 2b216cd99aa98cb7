"""Defects that the goldens' clips don't show, planted in plugins: a search finds each, and says it in a few numbers.

The search knows nothing of them. All in `make search`; some in every run of the tests.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.plugins_for_tests import rig

SECONDS = 60.0


def _pre_emphasis(folder: Path) -> Path:
    return rig.system(folder, ("rate = 16000\n", "rate = 16000\npre_emphasis = 0.97\n"))


def _sharp(folder: Path) -> Path:
    """tiny-conv with weights five times as large: logits beyond 90, as a network without weight decay has them."""
    import onnx
    from onnx import numpy_helper

    made = rig.system(folder, ('reference = "torch:dtype=float64"', 'reference = "onnxrt"'), name="tiny-conv")
    file = made / "tiny-conv.onnx"
    model = onnx.load(file)
    (gemm,) = [n for n in model.graph.node if n.op_type == "Gemm"]
    for tensor in model.graph.initializer:
        if tensor.name in gemm.input:
            tensor.CopyFrom(numpy_helper.from_array(5.0 * numpy_helper.to_array(tensor), tensor.name))
    onnx.save(model, file)
    return made


@dataclasses.dataclass(frozen=True)
class Defect:
    """What is planted where, and where it must show first."""

    tap: str
    backend: str = ""
    runtime: str = ""
    system: str | Callable[[Path], Path] = "commands-cnn"
    more: tuple[str, ...] = ()
    """Options of the command."""
    only_after: bool = False
    """It needs a clip before it."""


DEFECTS = {
    "a frame more where one sample lacks": Defect(
        "features/frames", "hidden.backends:OneFrameMore", system="logmel-gru"
    ),
    "pre-emphasis forgets the first sample": Defect(
        "features/audio", "hidden.backends:ForgetsTheFirstSample", system=_pre_emphasis
    ),
    "a log floor below -90 dBFS": Defect("features/compressed", "hidden.backends:QuietIsSilent"),
    "int16 overflows at full scale": Defect(
        "features/audio", "hidden.backends:SignAndMagnitude", system="micro-speech"
    ),
    "softmax overflows above a logit of 90": Defect(
        "model/probabilities", "numpy", "hidden.runtimes:NaiveSoftmax", system=_sharp
    ),
    "a state isn't reset": Defect(
        "model/gru1", "numpy", "hidden.runtimes:NeverReset", system="logmel-gru", only_after=True
    ),
    "denormals are divided by": Defect("model/relu1", runtime="hidden.runtimes:ScalesByThePeak"),
    "the last frame is padded wrongly": Defect(
        "features/frames", "hidden.backends:LastFrameRepeated", system="mfcc-lstm"
    ),
    "a resampler rounds the length down": Defect(
        "features/audio", "hidden.backends:ThroughAnotherRate", system="logmel-gru"
    ),
    "top_db of each frame": Defect("features/compressed", "hidden.backends:TopDbOfEachFrame", system="mfcc-lstm"),
    # Beyond the ten.
    "a filter isn't reset": Defect(
        "features/audio", "hidden.backends:KeepsTheLastSample", system=_pre_emphasis, only_after=True
    ),
    "a segmentation fault": Defect(
        "model/logits", runtime="hidden.runtimes:Segfaults", more=("--for", "crash", "--examples", "200")
    ),
}
FAST = ("a frame more where one sample lacks", "top_db of each frame")


def _search(tmp_path: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = rig.process("search", *arguments, "--format", "json", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


def _found(name: str, tmp_path: Path) -> None:
    defect = DEFECTS[name]
    of = defect.system if isinstance(defect.system, str) else str(defect.system(tmp_path / "system"))
    pair = [x for option, value in (("--backend", defect.backend), ("--runtime", defect.runtime)) if value
            for x in (option, value)]  # fmt: skip
    begun = time.monotonic()
    code, told = _search(tmp_path, "--system", of, *pair, *defect.more)
    took = time.monotonic() - begun
    assert (code, told["failed"], told["confirmed"]) == (1, True, True), told
    assert told["failing"][0]["tap"] == defect.tap
    assert told["only_after_another"] == defect.only_after
    assert len(told["clip"].split(", ")) <= 5, told["clip"]
    assert took < SECONDS
    # And what was written down shows it again.
    (file,) = (tmp_path / "cache" / "parity" / "counterexamples").rglob("*.toml")
    more = [] if isinstance(defect.system, str) else ["--system", of]
    code, again = _search(tmp_path, "--replay", str(file), *more)
    assert (code, again["clip"], again["failing"][0]["tap"]) == (1, told["clip"], defect.tap)


@pytest.mark.nightly
@pytest.mark.parametrize("name", [n for n in DEFECTS if n not in FAST])
def test_a_hidden_defect_is_found(name: str, tmp_path: Path) -> None:
    _found(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAST)
def test_a_hidden_defect_is_found_soon(name: str, tmp_path: Path) -> None:
    _found(name, tmp_path)
