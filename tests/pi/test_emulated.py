"""Whole runs on emulated ARM: what right kernels compute there is within bounds, and a fault there is found there."""

from __future__ import annotations

import contextlib
import platform
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest

from parity import acceptance, gate, localize, pipeline, records, settings
from parity.plan import Selection
from parity.protocols import Target
from parity.records import Run
from parity.report import markdown
from parity.targets import named
from parity.targets.emulated_pi import EmulatedPi
from parity.targets.local import LocalTarget
from parity.targets.named import Address, Options
from tests.pi.servers import emulated, ssh
from tests.plugins_for_tests import rig

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pi")]


@contextlib.contextmanager
def targets(*devices: tuple[str, EmulatedPi], local: bool = False) -> Iterator[list[Target]]:
    """This machine, if wanted, and running devices under names of their own."""
    known = {name: Address(ssh=device.host, ssh_config=device.ssh_config) for name, device in devices}
    with contextlib.ExitStack() as stack:
        yield named.open_all([*(["local"] if local else []), *known], known, Options(), stack)


def run(on: Sequence[Target], golden: Path | None, reports: Path, **selection: object) -> tuple[Run, Path]:
    asked = {"systems": ("commands-cnn",), "backends": ("numpy",), "runtimes": ("onnxrt", "tflite")} | selection
    return pipeline.run(Selection(golden=golden, **asked), on, reports)  # type: ignore[arg-type]


def worst(done: Run, target: str) -> dict[tuple[str, str, str, str], float]:
    """The largest error over bound of each row of a target."""
    return {
        (s.runtime, s.precision, s.path, s.tap): s.worst.ratio
        for s in done.summaries
        if s.target == target and s.worst.ratio is not None
    }


def test_every_precision_is_within_bounds_on_64_bit_arm_beside_this_machine(
    emulated_pi: EmulatedPi, golden: Path, tmp_path: Path
) -> None:
    with targets(("pi", emulated_pi), local=True) as on:
        done, _ = run(on, golden, tmp_path)
    assert done.exit_code == 0, rig.messages(done, "fail")
    here, there = worst(done, "local"), worst(done, "pi")
    assert here.keys() == there.keys()
    assert {precision for _, precision, _, _ in there if precision} == {"float32", "float16", "dynamic", "int8"}
    assert here != there, "two architectures, the same to the last bit: was it computed there?"
    told = records.environment_of(done, "pi")
    assert (told["cpu"]["architecture"], told["emulated"], told["python"]) == ("aarch64", True, "3.11.2")
    assert told["fingerprint"] != records.environment_of(done, "local")["fingerprint"]
    assert told["link"]["connections"] == 1
    assert told["link"]["received"] + told["link"]["sent"] < 1.1 * told["link"]["arrays"]


# ---- Faults of that machine only ----

_PLANTED = """
import builtins, sys
{code}
real = builtins.__import__
def importing(*arguments, **more):
    module = real(*arguments, **more)
    found = sys.modules.get({module!r})
    if hasattr(found, {attribute!r}) and not hasattr(found, "planted"):
        found.planted = True
        setattr(found, {attribute!r}, planted(getattr(found, {attribute!r})))
    return module
builtins.__import__ = importing
"""
WINDOW = """
def planted(right):
    import dataclasses
    return lambda recipe, frame: right(dataclasses.replace(recipe, periodic=False), frame)
"""
OTHER_MODEL = """
def planted(right):
    was, now = bytes.fromhex({was!r}), bytes.fromhex({now!r})
    def opened(model, *more, **options):
        assert was in model
        return right(model.replace(was, now), *more, **options)
    return opened
"""
FLOAT16 = """
def planted(right):
    import numpy as np
    class Halves:
        def __init__(self, *more, **options):
            self.right = right(*more, **options)
        def run(self, names, feed, *more):
            return self.right.run(names, {k: v.astype(np.float16).astype(v.dtype) for k, v in feed.items()}, *more)
        def __getattr__(self, name):
            return getattr(self.right, name)
    return Halves
"""


@contextlib.contextmanager
def faulty(code: str, module: str, attribute: str) -> Iterator[EmulatedPi]:
    """A device whose Python puts something else in the place of a module's attribute, as soon as it is imported."""
    text = _PLANTED.format(code=code, module=module, attribute=attribute)
    site = ".local/lib/python3.11/site-packages"
    with emulated("emulated-pi") as device:
        command = f"mkdir -p {site} && cat > {site}/usercustomize.py"
        ssh(device.ssh_config, device.host, command, input=text).check_returncode()
        yield device


def other_model() -> str:
    """Opens commands-cnn with its fifth convolution's bias moved by a thousandth, whatever it is told to open."""
    from onnx import load, numpy_helper

    bias = next(i for i in reversed(load(rig.SYSTEM / "commands-cnn.onnx").graph.initializer) if len(i.dims) == 1)
    moved = numpy_helper.to_array(bias) + np.float32(1e-3)
    return OTHER_MODEL.format(was=bias.raw_data.hex(), now=moved.astype("<f4").tobytes().hex())


@pytest.mark.parametrize(
    ("code", "where", "runtime", "path", "first"),
    [
        (WINDOW, "parity.backends.reference:window", "tflite", "features", "features/windowed"),
        (OTHER_MODEL, "onnxruntime:InferenceSession", "onnxrt", "isolated", "model/relu5"),
        (FLOAT16, "onnxruntime:InferenceSession", "onnxrt", "isolated", "model/relu1"),
    ],
    ids=["window", "other-model", "float16"],
)
def test_a_fault_of_the_far_side_alone_is_placed_and_its_target_named(
    code: str, where: str, runtime: str, path: str, first: str, golden: Path, tmp_path: Path
) -> None:
    code = other_model() if code is OTHER_MODEL else code
    with faulty(code, *where.split(":")) as device, targets(("pi", device), local=True) as on:
        done, folder = run(on, golden, tmp_path, runtimes=(runtime,), precisions=("float32",))
    assert done.exit_code == 1
    assert {s.target for s in done.summaries if s.counts.get("fail")} == {"pi"}
    assert (path, first) in {(v.path, v.tap) for v in localize.first_failures(done)}
    assert {v.target for v in localize.first_failures(done)} == {"pi"}
    assert "on pi" in markdown.render(done)
    assert "on pi" in (folder / "junit.xml").read_text(encoding="utf-8")


# ---- 32-bit ----


def test_on_32_bit_arm_what_its_kernels_do_otherwise_is_known_and_new_files_are_not_compared(
    emulated_pi32: EmulatedPi, tmp_path: Path
) -> None:
    with targets(("pi32", emulated_pi32)) as on:
        gap, _ = run(
            on, None, tmp_path, systems=(str(rig.ROOT / "tests" / "gaps" / "arm-reciprocal"),), runtimes=("tflite",)
        )
        small, _ = run(on, None, tmp_path, systems=("tiny-conv",), runtimes=("tflite",))
    assert (gap.exit_code, gap.gaps["unmet"]) == (0, [])
    (met,) = gap.gaps["met"]
    assert met.startswith("arm-reciprocal · tflite on armv[78]*")
    assert [s.tap for s in gap.summaries if s.counts.get("gap") and s.path == "deployment"] == ["model/tanh"]
    assert gap.environment["targets"]["pi32"]["cpu"]["architecture"] == "armv7l"
    assert small.exit_code == 0
    assert {s.precision for s in small.summaries} == {"", "float32", "float16", "int8", "uint8"}
    (newer,) = [s for s in small.skipped if s.precision == "dynamic"]
    assert "tflite-runtime 2.14.0 lacks FULLY_CONNECTED of version" in newer.reason


def test_what_is_declared_for_32_bit_arm_is_not_owed_here(local: LocalTarget, tmp_path: Path) -> None:
    done, _ = run(
        [local], None, tmp_path, systems=(str(rig.ROOT / "tests" / "gaps" / "arm-reciprocal"),), runtimes=("tflite",)
    )
    assert (done.exit_code, done.gaps) == (0, {"met": [], "unmet": []})


# ---- The gate ----


def test_a_baseline_of_this_machine_is_not_taken_for_the_devices(emulated_pi: EmulatedPi, tmp_path: Path) -> None:
    golden = rig.goldens(tmp_path / "golden")
    selection = Selection(
        systems=("commands-cnn",),
        golden=golden,
        backends=("numpy",),
        runtimes=("tflite",),
        precisions=("float32", "int8"),
    )

    def gated(on: Sequence[Target], **limits: bool) -> tuple[Run, Path]:
        return gate.gate(selection, on, tmp_path / "reports", settings.Gate(**limits), "", lambda *_: None)

    with targets(("pi", emulated_pi), local=True) as (here, there):
        mine, folder = gated([here])
        for proposal in acceptance.proposals(mine, folder, None, afresh=False):
            acceptance.accept(proposal, mine, "measured")
        first, folder = gated([there])
        assert [(f["kind"], f["fails"]) for f in first.gate["findings"]] == [("baseline", False)]
        differs = first.gate["baselines"][0]["differs"]
        assert {f"architecture {platform.machine()} -> aarch64", "CPU real -> emulated"} <= set(differs)
        assert gated([there], require_baseline=True)[0].exit_code == 2
        for proposal in acceptance.proposals(first, folder, None, afresh=False):
            acceptance.accept(proposal, first, "measured")
        again, _ = gated([there], require_baseline=True)
    assert (again.exit_code, again.gate["findings"]) == (0, [])


# ---- As a user has it ----


@pytest.mark.usefixtures("emulated_pi")  # built, or a skip that says why not
def test_the_command_starts_a_device_and_leaves_none(tmp_path: Path) -> None:
    golden = rig.goldens(tmp_path / "golden", name="tiny-conv")
    temporary = Path(tempfile.mkdtemp(prefix="p"))  # short: sockets are put there
    done = rig.process(
        "run", "--target", "emulated-pi", "--system", "tiny-conv", "--precision", "int8", "--backend", "numpy",
        "--runtime", "tflite", "--golden", golden, "--report", tmp_path / "reports", TMPDIR=str(temporary),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "aarch64" in done.stdout
    assert "emulated: not a device's speed" in done.stdout
    temporary.rmdir()  # nothing is left in it
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(temporary) in " ".join(p.info["cmdline"] or [])]
