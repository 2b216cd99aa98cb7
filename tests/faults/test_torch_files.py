"""PyTorch's files: a trace that lost statistics, an int8 file with a range too small, and a kernel that is wrong."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from parity import registry  # noqa: E402 - they need torch
from parity import system as systems  # noqa: E402
from parity.runtimes.torch_ import build  # noqa: E402
from parity.targets.local import LocalTarget  # noqa: E402
from tests.plugins_for_tests import rig  # noqa: E402

pytestmark = [
    pytest.mark.slow,  # whole commands and worker processes
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
]
NAME = "mel40-mobilenetv2"
GAP = rig.MODELS / "known-gaps" / "qnnpack-clamp"


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed goldens of three clips; not to be changed."""
    return rig.goldens(tmp_path_factory.mktemp("golden"), name=NAME)


def copied(folder: Path, *files: str, source: Path = rig.MODELS / NAME) -> Path:
    folder.mkdir()
    for file in ("system.toml", *files):
        shutil.copyfile(source / file, folder / file)
    return folder


def rewritten(path: Path, change: Callable[[str, bytes], bytes]) -> None:
    """Change what TorchScript's archive holds, record by record."""
    read, out = torch._C.PyTorchFileReader(io.BytesIO(path.read_bytes())), io.BytesIO()
    write = torch._C.PyTorchFileWriter(out)
    for name in read.get_all_records():
        if name not in ("version", "byteorder", ".data/serialization_id"):
            data = change(name, read.get_record(name))
            write.write_record(name, data, len(data))
    write.write_end_of_file()
    path.write_bytes(out.getvalue())


def test_statistics_that_a_traced_network_lost_fail_at_their_own_block(
    local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    folder = copied(tmp_path / "system")
    trained = next(a for a in systems.load(rig.MODELS / NAME).artifacts if a.format == "torch")
    assert trained.network is not None
    network = build(trained.network, Path(trained.path))
    network.get_submodule("block9.depthwise.bn").reset_running_stats()
    torch.jit.save(torch.jit.trace(network, (torch.zeros(1, 1, 40, 32),)), folder / f"{NAME}.pt")
    done = rig.run(local, golden, tmp_path, systems=(str(folder),), runtimes=("torchscript",))
    assert done.exit_code == 1
    assert rig.failing(done, path="isolated")[0] == ("model/block9", "fail")


def scales(folder: Path) -> dict[str, float | None]:
    """The scale of each tap of the x86 file in a folder."""
    artifact = next(a for a in systems.load(folder).artifacts if a.precision == "x86-int8")
    with registry.create("runtime", "torch-int8").open(artifact) as session:
        return {tap: session.tensors[tap].scale for tap in artifact.taps}


def test_a_range_too_small_fails_where_it_stands_and_no_kernel_is_blamed(
    local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    file = f"{NAME}.x86-int8.pt"
    folder = copied(tmp_path / "system", file, "weights.safetensors", "model.py")
    before, changed = scales(folder), list[str]()

    def change(name: str, data: bytes) -> bytes:
        # The sum that a block ends in: an eighth of its scale holds an eighth of its values.
        text = data.decode() if name.endswith(".py") else ""
        sums = re.findall(r"ops\.quantized\.add\([^()]*, ([0-9.]+), \d+\)", text)
        if not sums or changed:
            return data
        changed.append(sums[0])
        return text.replace(sums[0], str(float(sums[0]) / 8), 1).encode()

    rewritten(folder / file, change)
    (tap,) = [t for t, scale in scales(folder).items() if scale != before[t]]
    done = rig.run(local, golden, tmp_path, systems=(str(folder),), runtimes=("torch-int8",), precisions=())
    assert done.exit_code == 1
    assert rig.failing(done, path="isolated")[0] == (tap, "fail")
    assert rig.failing(done, path="deployment") == []


def test_the_clamp_of_qnnpack_is_a_known_gap_and_the_kernel_is_to_blame(local: LocalTarget, tmp_path: Path) -> None:
    known = rig.run(local, GAP / "golden", tmp_path, systems=(str(GAP),), runtimes=("torch-int8",), precisions=())
    assert known.exit_code == 0
    assert len(known.gaps["met"]) == 1
    unknown = shutil.copytree(GAP / "golden", tmp_path / "golden")
    (unknown / "known_gaps.toml").write_text("")
    done = rig.run(local, unknown, tmp_path, systems=(str(GAP),), runtimes=("torch-int8",), precisions=())
    assert done.exit_code == 1
    assert rig.failing(done, path="deployment", precision="qnnpack-int8")[0] == ("model/relu6", "fail")
    assert rig.failing(done, precision="x86-int8") == []
