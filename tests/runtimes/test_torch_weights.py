"""A user's own checkpoint: what fits its network is loaded, what only almost fits is refused by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import safetensors.torch  # noqa: E402 - they need torch

from parity import registry, system  # noqa: E402
from parity.errors import ModelError  # noqa: E402
from parity.protocols import Artifact  # noqa: E402
from parity.runtimes.torch_weights import load_strictly  # noqa: E402
from tests.plugins_for_tests import rig  # noqa: E402

State = dict[str, Any]


@pytest.fixture
def state() -> State:
    return dict(safetensors.torch.load_file(rig.SYSTEM / "weights.safetensors"))


def brought(folder: Path, content: Any, network: str = "model.py:build") -> Artifact:
    """commands-cnn as somebody brings it: their code, and what torch.save wrote."""
    if not folder.exists():
        rig.system(
            folder,
            ('file = "weights.safetensors"', 'file = "mine.pt"'),
            ('"model.py:build"', f'"{network}"'),
            formats=(),
        )
        shutil.copyfile(rig.SYSTEM / "model.py", folder / "model.py")
    torch.save(content, folder / "mine.pt")
    return next(a for a in system.load(folder).artifacts if a.format == "torch")


def run(artifact: Artifact) -> Any:
    x = np.random.default_rng(0).uniform(-6.0, 1.0, (1, 1, 98, 50)).astype(np.float32)
    with registry.create("runtime", "torch").open(artifact) as session:
        return session.run({"features": x}, frozenset(artifact.taps))


def refused(artifact: Artifact, *words: str) -> None:
    with pytest.raises(ModelError) as e:
        run(artifact)
    said = f"{e.value.message}\n{e.value.hint}"
    for word in words:
        assert word in said


def test_a_state_dict_that_torch_saved_gives_what_the_committed_weights_give(state: State, tmp_path: Path) -> None:
    mine = run(brought(tmp_path / "mine", state))
    committed = run(next(a for a in system.load(rig.SYSTEM).artifacts if a.format == "torch"))
    assert all((mine[tap] == committed[tap]).all() for tap in committed)


def test_counters_of_batch_normalization_may_be_absent(state: State, tmp_path: Path) -> None:
    run(brought(tmp_path / "mine", {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("conv2.weight"), ["lacks conv2.weight"]),
        (lambda s: s.update(extra=torch.ones(1)), ["the network has no extra"]),
        (lambda s: s.update({"fc.bias": torch.ones(12)}), ["fc.bias is [12], the network's [11]"]),
        (lambda s: [s.pop(n) for n in list(s) if "running_" in n],
         ["lacks bn1.running_mean", "and 6 more", "statistics of batch normalization", "network.state_dict()"]),
    ],
    ids=["missing", "unexpected", "shape", "statistics"],
)  # fmt: skip
def test_what_does_not_fit_is_named(
    change: Callable[[State], Any], words: list[str], state: State, tmp_path: Path
) -> None:
    change(state)
    refused(brought(tmp_path / "mine", state), "mine.pt", *words)


def test_a_wrapper_s_names_are_told_from_others(state: State, tmp_path: Path) -> None:
    refused(brought(tmp_path / "mine", {f"module.{n}": t for n, t in state.items()}), "take 'module.' off each name")


def test_a_whole_checkpoint_is_not_a_state_dict(state: State, tmp_path: Path) -> None:
    refused(brought(tmp_path / "mine", {"epoch": 3, "state_dict": state}), "a dict of epoch, state_dict", "torch.save")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "touched",)

    refused(brought(tmp_path / "mine", Trap()), "mine.pt")
    assert not (tmp_path / "touched").exists()


LENIENT = """
import importlib.util
from pathlib import Path
found = importlib.util.spec_from_file_location("as_trained", Path(__file__).with_name("model.py"))
trained = importlib.util.module_from_spec(found)
found.loader.exec_module(trained)


class Lenient(trained.CommandsCNN):
    def load_state_dict(self, state, strict=True, **more):
        kept = {n: t for n, t in state.items() if not n.startswith("bn3.running_")}
        return super().load_state_dict(kept, strict=False, **more)
"""


def test_a_network_that_loads_with_strict_false_is_caught(state: State, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    artifact = brought(folder, state, "lenient.py:Lenient")
    (folder / "lenient.py").write_text(LENIENT)
    refused(artifact, "didn't keep", "bn3.running_mean, bn3.running_var", "strict=False")
    # Where its own build() loaded something leniently before, the file's tensors take their place: that is the network.
    (folder / "lenient.py").write_text(LENIENT + "\n\ndef build():\n    made = trained.CommandsCNN()\n"
                                       "    made.load_state_dict({}, strict=False)\n    return made\n")  # fmt: skip
    toml = folder / "system.toml"
    toml.write_text(toml.read_text().replace("lenient.py:Lenient", "lenient.py:build"))
    run(brought(folder, state))


def test_a_module_path_names_code_elsewhere(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "code" / "my_kws").mkdir(parents=True)
    shutil.copyfile(rig.SYSTEM / "model.py", tmp_path / "code" / "my_kws" / "network.py")
    artifact = brought(tmp_path / "mine", state, "my_kws.network:CommandsCNN")
    refused(artifact, "my_kws.network can't be imported", "PYTHONPATH")
    monkeypatch.syspath_prepend(tmp_path / "code")
    run(artifact)


def test_code_that_gives_no_network_is_refused(state: State, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    artifact = brought(folder, state, "odd.py:build")
    for code, words in (
        ("def build(size):\n    return size\n", "without arguments"),
        ("build = dict\n", "gives a dict, not a torch.nn.Module"),
        ("import no_such_module\n", "no_such_module"),
    ):  # fmt: skip
        (folder / "odd.py").write_text(code)
        refused(artifact, words)


def test_no_number_is_not_zero() -> None:
    """A module that makes NaN zero when it is loaded has changed what was saved."""

    class Mends(torch.nn.Module):
        def __init__(self, really: bool) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(2))
            self._really = really

        def _load_from_state_dict(self, state: Any, prefix: str, *_: Any) -> None:
            saved = state[prefix + "w"]
            self.w.data = torch.nan_to_num(saved) if self._really else saved

    state = {"w": torch.tensor([float("nan"), 1.0])}
    load_strictly(Mends(really=False), state, Path("w.pt"))
    with pytest.raises(ModelError, match="didn't keep"):
        load_strictly(Mends(really=True), state, Path("w.pt"))
