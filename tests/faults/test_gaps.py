"""Known gaps: each minimal model in tests/gaps still shows its divergence, and no gap hides a worse failure."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity import sources, system
from parity.plan import Selection
from parity.protocols import Array
from parity.records import Run
from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig

pytestmark = pytest.mark.slow  # whole commands and worker processes
litert = pytest.importorskip("ai_edge_litert.interpreter")

GAPS = rig.ROOT / "tests" / "gaps"
NAMES = sorted(p.parent.name for p in GAPS.glob("*/system.toml"))
RESOLVERS = {
    "xnnpack": litert.OpResolverType.AUTO,
    "builtin": litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference": litert.OpResolverType.BUILTIN_REF,
}


def ran(local: LocalTarget, reports: Path, name: str | Path, runtime: str) -> Run:
    return rig.run(local, None, reports, systems=(str(GAPS / name),), runtimes=(runtime,), precisions=())


def needs(runtime: str) -> None:
    if runtime == "tflm":
        pytest.importorskip("tflite_micro")


def of(done: Run) -> Mapping[str, Any]:
    """The worst verdict at each tap, of the path deployment."""
    return {s.tap: s.worst for s in done.summaries if s.path == "deployment"}


# ---- The minimal models ----


@pytest.mark.parametrize(
    ("name", "runtime", "tap", "steps"),
    [
        ("int8-rounding", "tflite", "model/narrow", 1),
        ("int8-rounding", "tflite", "model/logits", 2),
        ("int8-rounding", "tflite:resolver=builtin", "model/narrow", 1),
        ("int8-rounding", "tflite:resolver=builtin", "model/logits", 2),
        ("int8-mean", "tflite", "model/logits", 1),
        ("int8-mean", "tflite:resolver=builtin", "model/logits", 1),
        ("int8-sum", "tflite", "model/logits", 129),
        ("int8-sum", "tflite:resolver=builtin", "model/logits", 129),
        ("int8-sum", "tflm", "model/logits", 129),
    ],
)
def test_kernels_disagree_by_so_many_steps(
    name: str, runtime: str, tap: str, steps: int, local: LocalTarget, tmp_path: Path
) -> None:
    needs(runtime)
    done = ran(local, tmp_path, name, runtime)
    assert done.gaps["unmet"] == [], f"{name} passes: take the gap out, and the row of golden/README.md"
    assert done.exit_code == 0
    worst = of(done)[tap]
    assert worst.outcome == "gap"
    assert worst.error / worst.step == pytest.approx(steps, abs=1e-3)


def test_tflite_micro_computes_no_depthwise_convolution_whose_field_is_left_out(
    local: LocalTarget, tmp_path: Path
) -> None:
    needs("tflm")
    done = ran(local, tmp_path, "micro-depthwise", "tflm")
    assert (done.exit_code, done.gaps["unmet"]) == (0, [])
    worst = of(done)["model/logits"]
    assert worst.outcome == "gap"
    assert worst.error / worst.step > 20


@pytest.mark.parametrize("runtime", ["onnxrt", "onnxrt:opt=basic"])
def test_the_optimizer_takes_zeros_from_a_max_pool(runtime: str, local: LocalTarget, tmp_path: Path) -> None:
    done = ran(local, tmp_path, "pad-maxpool", runtime)
    assert (done.exit_code, done.gaps["unmet"]) == (0, [])
    worst = of(done)["model/logits"]
    assert worst.outcome == "gap"
    assert (worst.golden, worst.candidate < -10) == (0, True)


@pytest.mark.parametrize(
    ("name", "runtime"),
    [
        ("pad-maxpool", "onnxrt:opt=off"),
        ("pad-maxpool", "onnx-reference"),
        ("int8-rounding", "tflm"),
        ("int8-rounding", "tflite:resolver=reference"),
        ("int8-mean", "tflm"),
        ("int8-mean", "tflite:resolver=reference"),
        ("micro-depthwise", "tflite"),
        ("micro-depthwise", "tflite:resolver=builtin"),
    ],
)
def test_what_computes_as_written_meets_no_gap(name: str, runtime: str, local: LocalTarget, tmp_path: Path) -> None:
    needs(runtime)
    done = ran(local, tmp_path, name, runtime)
    assert (done.exit_code, done.gaps) == (0, {"met": [], "unmet": []})


# ---- Why: each from its own arithmetic ----


def answers(name: str, resolver: str, tensor: int, inputs: Array) -> Array:
    """A tensor of a minimal model for each of some int8 inputs."""
    found = opened(name, resolver)
    (given,) = found.get_input_details()
    out = []
    for x in inputs:
        found.set_tensor(given["index"], x.reshape(given["shape"]))
        found.invoke()
        out.append(found.get_tensor(tensor).reshape(-1))
    return np.stack(out).astype(np.int64)


@pytest.mark.filterwarnings("ignore:.*preserve_all_tensors:UserWarning")
def opened(name: str, resolver: str) -> Any:
    found = litert.Interpreter(
        model_path=str(GAPS / name / "model.tflite"), experimental_op_resolver_type=RESOLVERS[resolver],
        experimental_preserve_all_tensors=True,
    )  # fmt: skip
    found.allocate_tensors()
    return found


def drawn(count: int) -> Array:
    return np.random.default_rng(0).integers(-128, 128, (count, 5, 9)).astype(np.int8)


def named(found: Any, part: str) -> Mapping[str, Any]:
    return next(d for d in found.get_tensor_details() if d["name"] == part)


def twice(total: Array, factor: float, halves: Callable[[Array, int], Array]) -> Array:
    """A sum times a factor in fixed point: rounded to 2^-n of a step, then to a step."""
    mantissa, exponent = np.frexp(factor)
    assert exponent <= 0
    nearly = (total * round(mantissa * 2**31) + 2**30) >> 31
    return halves(nearly, -exponent)


def away(x: Array, shift: int) -> Array:
    """x / 2^shift, halves away from zero."""
    return np.sign(x) * ((np.abs(x) + (1 << shift >> 1)) >> shift)


def up(x: Array, shift: int) -> Array:
    """x / 2^shift, halves upwards."""
    return (x + (1 << shift >> 1)) >> shift


def once(total: Array, factor: float) -> Array:
    """In float32, halves to even."""
    return np.rint(total.astype(np.float32) * np.float32(factor)).astype(np.int64)


@pytest.mark.filterwarnings("ignore:.*preserve_all_tensors:UserWarning")
def test_kernels_round_a_sum_once_or_twice_and_halves_otherwise() -> None:
    x, found = drawn(4000), opened("int8-rounding", "reference")
    weights = named(found, "functional_1/narrow_1/convolution")
    narrow = named(found, "functional_1/narrow_1/convolution1")
    w = found.get_tensor(weights["index"]).reshape(2, 9).astype(np.int64)
    (step, zero), (out, offset) = found.get_input_details()[0]["quantization"], narrow["quantization"]
    total = (x.astype(np.int64) - zero) @ w.T
    factors = [float(step) * float(s) / float(out) for s in weights["quantization_parameters"]["scales"]]
    by = {
        "reference": lambda t, f: twice(t, f, away),
        "builtin": lambda t, f: twice(t, f, up),
        "xnnpack": once,
    }
    got = {r: answers("int8-rounding", r, narrow["index"], x).reshape(-1, 5, 2) for r in by}
    for resolver, rounded in by.items():
        want = np.stack([rounded(total[..., c], f) for c, f in enumerate(factors)], -1) + offset
        np.testing.assert_array_equal(got[resolver], np.clip(want, -128, 127), err_msg=resolver)
    assert 0 < np.mean(got["xnnpack"] != got["reference"]) < 0.02
    assert 0 < np.mean(got["builtin"] != got["reference"]) < 0.02


def exact(name: str, x: Array, combine: Callable[..., Array], kept: type[np.integer[Any]] = np.int8) -> Array:
    """What a sum or a mean over frames is, in steps of the answer, within what `kept` holds, not rounded."""
    found, held = opened(name, "builtin"), np.iinfo(kept)
    (step, zero), (out, offset) = (d["quantization"] for d in (*found.get_input_details(), *found.get_output_details()))
    return np.clip(combine(x.astype(np.float64) - zero, axis=1) * step / out + offset, held.min, held.max)


@pytest.mark.filterwarnings("ignore:.*preserve_all_tensors:UserWarning")
def test_the_built_in_mean_is_low_and_xnnpacks_is_the_nearest() -> None:
    x = drawn(500)
    tensor = opened("int8-mean", "builtin").get_output_details()[0]["index"]
    off = {r: answers("int8-mean", r, tensor, x) - exact("int8-mean", x, np.mean) for r in RESOLVERS}
    assert np.abs(off["xnnpack"]).max() < 0.51
    assert abs(off["xnnpack"].mean()) < 0.02
    assert off["builtin"].mean() < -0.05
    assert np.abs(off["builtin"]).max() > 0.55


@pytest.mark.filterwarnings("ignore:.*preserve_all_tensors:UserWarning")
def test_the_reference_sum_takes_int8_for_uint8() -> None:
    x = drawn(500)
    tensor = opened("int8-sum", "builtin").get_output_details()[0]["index"]
    got = {r: answers("int8-sum", r, tensor, x) for r in RESOLVERS}
    right = exact("int8-sum", x, np.sum)
    for resolver in ("xnnpack", "builtin"):
        assert np.abs(got[resolver] - right).max() < 0.51, resolver
    assert np.abs(got["reference"] - right).max() > 100
    unsigned = exact("int8-sum", x.view(np.uint8), np.sum, np.uint8).round().astype(np.uint8).view(np.int8)
    around = (got["reference"] - unsigned + 128) % 256 - 128  # its own rounding may turn 127 into -128
    assert np.abs(around).max() <= 1


# ---- What a gap doesn't hide ----


def changed(folder: Path, file: str, old: str, new: str) -> Path:
    shutil.copytree(GAPS / "int8-rounding", folder)
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new), encoding="utf-8")
    return folder


def test_a_gap_that_starts_to_pass_fails(local: LocalTarget, tmp_path: Path) -> None:
    done = ran(local, tmp_path, changed(tmp_path / "system", "tolerances.toml", "steps = 0.5", "steps = 3"), "tflite")
    assert rig.failing(done) == []
    assert done.exit_code == 1
    (gap,) = done.gaps["unmet"]
    assert gap.startswith("int8-rounding · tflite deployment · model/*: ")


def test_a_gap_that_grows_fails_where_it_does(local: LocalTarget, tmp_path: Path) -> None:
    done = ran(
        local, tmp_path, changed(tmp_path / "system", "known_gaps.toml", "max_ratio = 8", "max_ratio = 3"), "tflite"
    )
    assert done.exit_code == 1
    assert rig.failing(done) == [("model/wide", "fail"), ("model/logits", "fail")]


def test_other_clips_need_not_show_a_gap(local: LocalTarget, tmp_path: Path) -> None:
    quiet = changed(tmp_path / "system", "tolerances.toml", "steps = 0.5", "steps = 3")
    clips = quiet / "golden" / "clips"
    done = rig.run(local, None, tmp_path, systems=(str(quiet),), runtimes=("tflite",), precisions=(), audio=clips)
    assert (done.exit_code, done.gaps) == (0, {"met": [], "unmet": []})


@pytest.fixture(scope="module")
def mel40(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Goldens of mel40-mobilenetv2 whose rules and known gaps hold for plugins of the tests too."""
    root = rig.goldens(tmp_path_factory.mktemp("mel40"), (*rig.CLIPS, "impulse.flac"), "mel40-mobilenetv2")
    for file in ("tolerances.toml", "known_gaps.toml"):
        text = (rig.ROOT / "golden" / file).read_text(encoding="utf-8")
        (root / file).write_text(text.replace('"tfl', '"*tfl'), encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("runtime", "first"),
    [("tflite", None), ("tflite:resolver=builtin", None), ("faulty.with_tflite:StemOff", "model/stem"),
     ("faulty.with_tflite:BlockOff", "model/block5"), ("faulty.with_tflite:Turned", "model/logits")],
)  # fmt: skip
def test_a_fault_shows_beyond_the_known_gaps(
    runtime: str, first: str | None, mel40: Path, local: LocalTarget, tmp_path: Path
) -> None:
    folder = str(rig.MODELS / "mel40-mobilenetv2")
    done = rig.run(local, mel40, tmp_path, systems=(folder,), runtimes=(runtime,), precisions=("int8",))
    failing = rig.failing(done, path="deployment")
    assert (done.exit_code, failing[:1]) == ((0, []) if first is None else (1, [(first, "fail")]))
    if first is None:
        assert len(done.gaps["met"]) == 4


def test_every_minimal_model_declares_its_gaps() -> None:
    assert NAMES
    for name in NAMES:
        found = system.load(GAPS / name)
        gaps = sources.rules_for(Selection(), found).gaps
        assert gaps, name
        assert {g.system for g in gaps} == {name}
        assert f"tests/gaps/{name}" in (rig.ROOT / "golden" / "README.md").read_text(encoding="utf-8")
