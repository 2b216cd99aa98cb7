"""Quantized files: two questions, conversion and deployment, each with its own faults at their own taps."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from parity import localize, registry
from parity.errors import ConfigError
from parity.records import Run
from parity.report import wording
from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig

pytestmark = pytest.mark.slow  # whole commands and worker processes
pytest.importorskip("ai_edge_litert")

FAULTY = "faulty.with_tflite:"


def ran(
    local: LocalTarget, golden: Path, reports: Path, *runtimes: str, precision: str = "int8", system: Path = rig.SYSTEM
) -> Run:
    return rig.run(local, golden, reports, systems=(str(system),), runtimes=runtimes, precisions=(precision,))


def rules(golden: Path, folder: Path, *more: str) -> Path:
    """The goldens with rules for plugins of the tests, which are held to what LiteRT is held to."""
    copy = rig.goldens(folder)
    text = (golden / "tolerances.toml").read_text().replace('candidate = "tfl*"', 'candidate = "*tfl*"')
    (copy / "tolerances.toml").write_text("\n".join(more) + text)
    return copy


@pytest.fixture
def held(golden: Path, tmp_path: Path) -> Path:
    return rules(golden, tmp_path / "held")


def test_a_quantized_file_is_held_to_the_network_and_to_its_kernels(
    local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    done = ran(local, golden, tmp_path, "tflite", "onnxrt")
    assert done.exit_code == 0
    for runtime in ("tflite", "onnxrt"):
        by_path = {p: [s.tap for s in done.summaries if (s.path, s.runtime) == (p, runtime)]
                   for p in ("isolated", "cumulative", "deployment")}  # fmt: skip
        assert set(by_path["deployment"]) == set(by_path["isolated"]) - {"model/input", "decision/margin"}
        assert set(by_path["isolated"]) == set(by_path["cumulative"])
    assert {"model/relu1", "model/logits", "decision/label"} <= set(by_path["deployment"])
    verdicts = [s.worst for s in done.summaries if s.path == "deployment" and s.tap != "decision/label"]
    assert verdicts
    for v in verdicts:
        assert v.step is not None
        assert v.integer is not None
        assert v.zero_point is not None
        assert v.candidate is not None
        assert v.candidate == pytest.approx(v.step * (v.integer - v.zero_point), rel=1e-6)
        assert v.error is not None
        assert v.error / v.step == pytest.approx(round(v.error / v.step), abs=1e-3)


def test_the_reference_kernels_themselves_are_only_held_to_the_network(
    local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    done = ran(local, golden, tmp_path, "tflite:resolver=reference")
    assert done.exit_code == 0
    assert {s.path for s in done.summaries if s.runtime} == {"isolated", "cumulative"}


@pytest.mark.parametrize(
    ("plugin", "tap"), [("ZeroPointOff", "model/relu1"), ("KernelOff", "model/relu3"), ("Turned", "model/logits")]
)
def test_a_deployment_that_computes_something_else_starts_at_its_own_tap(
    plugin: str, tap: str, local: LocalTarget, held: Path, tmp_path: Path
) -> None:
    done = ran(local, held, tmp_path, FAULTY + plugin)
    assert done.exit_code == 1
    assert rig.failing(done, path="deployment")[0] == (tap, "fail")
    first = localize.first_failures(done)[0]
    assert (first.path, first.tap) == ("deployment", tap)
    assert "against the reference kernels: first at" in wording.failure(done, first)[0]


def test_a_kernel_that_fails_keeps_its_integers(local: LocalTarget, held: Path, tmp_path: Path) -> None:
    done = ran(local, held, tmp_path / "reports", FAULTY + "KernelOff")
    kept = [np.load(p) for p in (tmp_path / "reports" / done.name / "arrays").glob("*.npz")]
    (arrays,) = [a for a in kept if "deployment|model/relu3" in str(a["what"])][:1]
    value = arrays["scale"] * (arrays["integers"].astype(np.float64) - arrays["zero_point"])
    np.testing.assert_allclose(value, arrays["candidate"], rtol=1e-6)


def test_the_faulty_runtime_without_its_fault_passes(local: LocalTarget, held: Path, tmp_path: Path) -> None:
    assert ran(local, held, tmp_path, FAULTY + "_Faulty").exit_code == 0


def converted_wrong(folder: Path) -> Path:
    """int8 commands-cnn whose last bias is far off."""
    flatbuffer_utils = pytest.importorskip("tensorflow.lite.tools.flatbuffer_utils")
    rig.system(folder, formats=(), fewer_bits=True)
    file = flatbuffer_utils.convert_bytearray_to_object(
        bytearray((rig.SYSTEM / "commands-cnn.int8.tflite").read_bytes())
    )
    (graph,) = file.subgraphs
    buffer = file.buffers[graph.tensors[graph.operators[-1].inputs[2]].buffer]
    buffer.data = (np.frombuffer(bytes(buffer.data), np.int32) + np.int32(200_000)).view(np.uint8)
    (folder / "commands-cnn.int8.tflite").write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(file)))
    return folder


def test_a_wrong_conversion_fails_against_the_network_only(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    folder = converted_wrong(tmp_path / "system")
    done = ran(local, golden, tmp_path, "tflite", system=folder)
    assert done.exit_code == 1
    assert rig.failing(done, path="isolated")[0] == ("model/logits", "fail")
    assert rig.failing(done, path="deployment") == []


LABEL = '[[tolerance]]\ntap = "decision/label"\nprecision = "{}"\nabsolute = {}\nwhy = "planted"\n\n'


def test_a_label_may_flip_up_to_the_declared_lead(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    wide = '[[tolerance]]\ntap = "model/*"\nprecision = "int8"\nof_rms = 100\nwhy = "planted"\n\n'
    for absolute, exit_code in (("0.001", 1), ("1000", 0)):
        held = rules(golden, tmp_path / absolute, wide, LABEL.format("int8", absolute))
        done = ran(local, held, tmp_path / f"reports-{absolute}", FAULTY + "Turned")
        assert done.exit_code == exit_code
        labels = [s for s in done.summaries if s.tap == "decision/label" and s.path == "isolated"]
        assert [s.near_ties > 0 for s in labels] == [exit_code == 0]
    assert all("declared margin" in s.worst.message or not s.near_ties for s in labels)


def test_no_label_of_full_precision_may_be_declared_to_flip(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    for precision in ("*", "float32", "float*"):
        held = rules(golden, tmp_path / precision.strip("*"), LABEL.format(precision, 0.1))
        with pytest.raises(ConfigError, match="only a quantized model's label may flip"):
            ran(local, held, tmp_path, "tflite")


def test_steps_are_counted_of_integers_only(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    steps = '[[tolerance]]\ntap = "model/*"\nprecision = "float16"\nsteps = 2\nwhy = "planted"\n\n'
    with pytest.raises(ConfigError, match=r"counts steps at model/logits .* tflite float16 gives floats"):
        ran(local, rules(golden, tmp_path / "held", steps), tmp_path, "tflite", precision="float16")


def only_int8(folder: Path, *changes: tuple[str, str], file: str = "commands-cnn.int8.onnx") -> Path:
    """commands-cnn with its int8 file only, and other words in system.toml."""
    rig.system(folder, formats=(), fewer_bits=True)
    (folder / file).write_bytes((rig.SYSTEM / file).read_bytes())
    text = (folder / "system.toml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "system.toml").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("kernels", "words"),
    [
        ("tflite", "the kernels of 'tflite' can't say what its onnx int8 file computes: TFLite doesn't read onnx"),
        ("onnxrrt", "unknown runtime 'onnxrrt'"),
        ("onnxrt:opt=banana", "onnxrt has no optimization level 'banana'"),
    ],
)
def test_kernels_that_cannot_run_the_file_are_refused(
    kernels: str, words: str, local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    folder = only_int8(tmp_path / "system", ('kernels = "onnxrt:opt=off"', f'kernels = "{kernels}"'))
    if "banana" in kernels:  # installed, but nothing to run with: told, for nobody named it
        done = ran(local, golden, tmp_path / "reports", "onnxrt", system=folder)
        assert [s.reason for s in done.skipped if words in s.reason]
        return
    with pytest.raises(ConfigError, match=re.escape(words)):
        ran(local, golden, tmp_path / "reports", "onnxrt", system=folder)


def test_kernels_that_are_not_installed_are_told(
    local: LocalTarget, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = registry.Plugin("onnx-reference", "runtime", "no:where", (("no_such_module", "onnx"),), "onnx")
    kept = [p for p in registry._BUILTIN if p.name != gone.name]
    monkeypatch.setattr(registry, "_BUILTIN", [*kept, gone])
    folder = only_int8(tmp_path / "system", ('kernels = "onnxrt:opt=off"', 'kernels = "onnx-reference"'))
    done = ran(local, golden, tmp_path / "reports", "onnxrt", system=folder)
    (said,) = [s.reason for s in done.skipped if "held to" in s.reason]
    assert said == (
        "onnx int8 can't be held to the kernels of onnx-reference: runtime 'onnx-reference' needs onnx, which is not "
        "installed"
    )


def test_two_files_of_one_precision_are_not_held_to_one_of_them(
    local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    both = "faulty.at_work:ReadsAll"
    changes = [(f'kernels = "{k}"', f'kernels = "{both}"') for k in ("onnxrt:opt=off", "tflite:resolver=reference")]
    folder = only_int8(tmp_path / "system", *changes)
    tflite = "commands-cnn.int8.tflite"
    (folder / tflite).write_bytes((rig.SYSTEM / tflite).read_bytes())
    done = ran(local, golden, tmp_path / "reports", "onnxrt", "tflite", system=folder)
    assert done.exit_code != 0
    assert [s.asked for s in done.skipped if "another file in int8" in s.reason] == [True]


def test_steps_that_are_not_the_kernels_fail(local: LocalTarget, held: Path, tmp_path: Path) -> None:
    done = ran(local, held, tmp_path, FAULTY + "Coarse")
    assert done.exit_code == 1
    assert ("model/logits", "fail") in rig.failing(done, path="deployment")
    assert "where the kernels have" in rig.messages(done, "fail", path="deployment")


def test_a_scale_of_another_tensor_is_refused(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    slip = ('scale = "logits_scale"', 'scale = "features_scale"')
    folder = only_int8(tmp_path / "system", slip)
    with pytest.raises(ConfigError, match="logits is not made of steps of"):
        ran(local, golden, tmp_path / "reports", "onnxrt", system=folder)


def test_an_output_of_half_the_scale_fails(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    flatbuffer_utils = pytest.importorskip("tensorflow.lite.tools.flatbuffer_utils")
    folder = rig.system(tmp_path / "system", formats=(), fewer_bits=True)
    data = (rig.SYSTEM / "commands-cnn.int8.tflite").read_bytes()
    file = flatbuffer_utils.convert_bytearray_to_object(bytearray(data))
    (graph,) = file.subgraphs
    last = graph.operators[-1]
    # What the last layer puts out, and the weights and bias that it is made from: only the answer is half.
    for tensor in (graph.tensors[last.outputs[0]], graph.tensors[last.inputs[1]], graph.tensors[last.inputs[2]]):
        tensor.quantization.scale = np.asarray(tensor.quantization.scale, np.float32) / np.float32(2)
    (folder / "commands-cnn.int8.tflite").write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(file)))
    done = ran(local, golden, tmp_path, "tflite", system=folder)
    assert done.exit_code == 1
    assert rig.failing(done, path="isolated")[0] == ("model/logits", "fail")


def test_a_gap_for_labels_covers_flips_and_no_other_order(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    copy = rules(golden, tmp_path / "held")
    (copy / "known_gaps.toml").write_text(
        '[[gap]]\nkind = "quantizer"\nreason = "planted"\noutcome = "fail"\nsystem = "*"\ntap = "decision/label"\n'
    )
    turned = ('"unknown", "yes", "no"', '"unknown", "no", "yes"')
    folder = only_int8(tmp_path / "system", turned)
    done = ran(local, copy, tmp_path / "reports", "onnxrt", system=folder)
    assert done.exit_code == 1
    assert ("decision/label", "fail") in rig.failing(done)


def test_threads_are_part_of_the_pair(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    done = ran(local, golden, tmp_path, "onnxrt:threads=2", "tflite:resolver=builtin,threads=2", precision="float32")
    assert done.exit_code == 0
    assert {s.runtime for s in done.summaries} == {"", "onnxrt:threads=2", "tflite:resolver=builtin,threads=2"}
    with pytest.raises(ConfigError, match="threads is a number from 1 to 256"):
        ran(local, golden, tmp_path, "onnxrt:threads=many", precision="float32")


def columns(page: str) -> Sequence[str]:
    return [line for line in page.splitlines() if ">kernels<" in line]


def test_the_page_and_junit_have_the_third_path(local: LocalTarget, held: Path, tmp_path: Path) -> None:
    done = ran(local, held, tmp_path / "reports", FAULTY + "KernelOff")
    folder = tmp_path / "reports" / done.name
    page = (folder / "index.html").read_text()
    assert columns(page)
    assert "reference kernels" in page
    assert "deployment" in (folder / "junit.xml").read_text()
    assert any(
        json.loads(line)["path"] == "deployment" for line in (folder / "verdicts.jsonl").read_text().splitlines()
    )
