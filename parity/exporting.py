"""From a trained reference model to the files that are deployed, each held to PyTorch before it replaces the old one.

A system's ``export.py`` says what is its own (network, Keras twin, example inputs) and calls `main`; taps, names and
axes are read from its system.toml, and each file is run by the runtime that will run it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import torch

from parity import layout, progress, registry, system
from parity.converting import (
    Dynamic,
    of_one,
    tensorflow,
    to_onnx,
    to_pt2,
    to_tflite,
    to_torchscript,
    versions,
    with_plain_names,
)
from parity.errors import ParityError
from parity.protocols import Array, Artifact, Tap, Taps
from parity.runtimes.torch_ import build
from parity.taps import MODEL_INPUT
from parity.targets.agent import Agent, from_output, to_input
from parity.training import write_atomically

TWIN_LIMIT = 1e-5
"""Largest difference allowed between the twin and PyTorch, of the tap's largest value where that is above one."""
ARTIFACT_LIMIT = 1e-4
"""A gross check only: judging the artifacts is what parity is for."""
SAME_LABELS = 0.9
"""Share of calibration clips on which a quantized file must say what PyTorch says: as gross a check."""

State = Mapping[str, Array]
Twin = Callable[[State], keras.Model]


@dataclass(frozen=True, kw_only=True)
class Export:
    """What a system's own ``export.py`` says."""

    folder: Path
    features: Callable[[int, int], Sequence[Array]]
    """(count, seed) -> so many features `[frames, bands]` as the frontend gives them; a file that is tied to a number
    of frames is held to those of that number."""
    twin: Twin
    """The same network in Keras, its layers named like the taps, from the weights; its input has a fixed shape."""
    dynamic: Dynamic = field(default_factory=lambda: {0: "batch"})
    """Axes of the network's input that may have any size in the ONNX file."""
    dynamic_output: Dynamic = field(default_factory=lambda: {0: "batch"})
    limit: float = TWIN_LIMIT
    torchscript: bool = False
    """Whether a traced file is written as well."""
    streams: Callable[[torch.nn.Module], Mapping[str, tuple[bytes, Sequence[str]]]] | None = None
    """The network with its weights -> by name the files of `[streaming]`, and the packages that made each."""


def artifact(of: system.System, form: str) -> Artifact:
    """The float32 file of a system in a format."""
    return next(a for a in of.artifacts if a.format == form and a.precision == "float32")


def runtime_of(form: str) -> str:
    """The runtime that runs a format."""
    return {"onnx": "onnxrt", "torchscript-int8": "torch-int8"}.get(form, form)


def run(of: Artifact, inputs: Sequence[Array]) -> Iterator[Taps]:
    """Arrays at all of an artifact's taps, time-major, for features `[frames, bands]`."""
    with registry.create("runtime", runtime_of(of.format)).open(of) as session:
        for x in inputs:
            native = to_input(x, of, session.tensors.get(MODEL_INPUT))
            got = session.run({of.input.name: native}, frozenset(of.taps))
            yield {t: from_output(got[t], port, session.tensors.get(t)) for t, port in of.taps.items()}


def run_stream(of: Artifact, tap: Tap, inputs: Sequence[Array], size: int = 3) -> Iterator[Taps]:
    """What a stream gives at `tap`, for features `[frames, bands]` that come `size` frames at a time."""
    far = Agent()
    list(far.handle({"do": "load", "kind": "runtime", "spec": runtime_of(of.format)}))
    list(far.handle({"do": "open", "artifact": asdict(of), "threads": 1}))
    for x in inputs:
        pieces = [x[i : i + size] for i in range(0, len(x), size)]
        request = {"do": "stream", "model": of.key, "inputs": pieces, "taps": [[tap]] * len(pieces), "state": {}}
        yield {tap: np.concatenate([reply["taps"][tap] for reply in far.handle(request)])}
    list(far.handle({"do": "close"}))


def run_twin(twin: keras.Model, of: Artifact, inputs: Sequence[Array]) -> Iterator[Taps]:
    """The same of the Keras twin: a layer a tap, in the axes of the file that it is converted to."""
    probe = keras.Model(twin.input, [twin.get_layer(t.rpartition("/")[2]).output for t in of.taps])
    # Keras has the batch first; the converter may write a layer's tensor with its time before a batch of one.
    axes = {t: "N" + port.layout.replace("N", "") for t, port in of.taps.items()}
    for x in inputs:
        outputs = probe(layout.native(x, of.input.layout))
        yield {t: layout.time_major(np.asarray(value), axes[t]) for t, value in zip(of.taps, outputs, strict=True)}


def hold(who: str, found: Iterator[Taps], expected: Sequence[Taps], limit: float) -> None:
    """Print the largest difference at each tap. SystemExit above `limit`."""
    largest: dict[Tap, float] = {}
    for a, b in zip(found, expected, strict=True):
        for t in a:
            if a[t].shape != b[t].shape:
                raise SystemExit(f"{who}: {t} has shape {a[t].shape}, PyTorch's is {b[t].shape}")
            scale = max(1.0, float(np.abs(b[t]).max()))
            difference = np.abs(a[t].astype(np.float64) - b[t]).max() / scale
            largest[t] = float(np.maximum(largest.get(t, 0.0), difference))  # max() would forget a NaN
    for t, most in largest.items():
        print(f"{who} against PyTorch, {t}: largest difference {most:.1e}")
        if not most <= limit:
            raise SystemExit(f"{who} is not the PyTorch network: {t} differs by {most:.1e}")


def hold_labels(who: str, found: Iterator[Taps], expected: Sequence[Taps], source: Tap) -> None:
    """Print on how many inputs a quantized file decides as PyTorch does. SystemExit below `SAME_LABELS`."""
    same, largest = 0, 0.0
    for a, b in zip(found, expected, strict=True):
        same += int(a[source].argmax() == b[source].argmax())
        largest = float(np.maximum(largest, np.abs(a[source] - b[source]).max()))
    print(
        f"{who} against PyTorch: {same} of {len(expected)} labels are the same, {source} moves by up to {largest:.2g}"
    )
    if not same >= SAME_LABELS * len(expected):
        raise SystemExit(f"{who} says something else than the PyTorch network")


Made = dict[str, tuple[bytes, Any]]
"""A file's name -> its bytes, and the versions of what made it."""


def _declared(folder: Path) -> list[dict[str, Any]]:
    """The files of a system.toml, built or not."""
    found: list[dict[str, Any]] = tomllib.loads((folder / system.FILE).read_text())["artifacts"]
    return [{"precision": "float32"} | a for a in found]


def _in_full(new: Path, how: Export, trained: Artifact, network: torch.nn.Module, inputs: Sequence[Array]) -> Made:
    """Write the float32 files into `new`, each held to PyTorch."""
    name, taps = how.folder.name, list(trained.taps)
    example = layout.native(inputs[0], trained.input.layout)
    made: Made = {}
    expected = list(run(trained, inputs))
    # First, and so in a process that has compiled nothing yet: class names in the file count what came before.
    if how.torchscript:
        made[f"{name}.pt"] = to_torchscript(network, example), versions(["torch"])
    exported = any(a["format"] == "torch-export" for a in _declared(new))
    if exported:
        made[f"{name}.pt2"] = to_pt2(network, example), versions(["torch"])
    output = taps[-1].rpartition("/")[2]
    made[f"{name}.onnx"] = (
        to_onnx(network, example, output, how.dynamic, how.dynamic_output),
        versions(["onnx", "torch"]),
    )
    twin = how.twin({key: tensor.numpy() for key, tensor in network.state_dict().items()})
    made[f"{name}.tflite"] = to_tflite(of_one(twin), taps), versions(["keras", tensorflow()])
    for file, (data, _) in made.items():
        write_atomically(new / file, data)
    of = system.load(new)
    deployed = [("onnx", "ONNX Runtime"), ("tflite", "LiteRT")]
    deployed += [("torchscript", "TorchScript")] * how.torchscript + [("torch-export", "torch.export")] * exported
    for form, who in deployed:
        made_of = artifact(of, form)
        fit = [i for i, x in enumerate(inputs) if made_of.frames in (None, len(x))]
        some, right = [inputs[i] for i in fit], [expected[i] for i in fit]
        if form == "tflite":
            hold("the Keras twin", run_twin(twin, made_of, some), right, how.limit)
        hold(who, run(made_of, some), right, ARTIFACT_LIMIT)
    return made


def _quantized(
    new: Path, how: Export, trained: Artifact, network: torch.nn.Module, float_onnx: bytes, data: Path | None
) -> tuple[Made, list[str]]:
    """Write the files of fewer bits that system.toml declares; also those kept, for want of speech to calibrate on."""
    from parity import calibration, quantizing, torch_quantizing

    formats = ("onnx", "tflite", "torchscript-int8")
    wanted = [a for a in _declared(new) if a["format"] in formats and a["precision"] != "float32"]
    if not wanted:
        return {}, []
    source, taps, axes = system.load(new).decision.source, list(trained.taps), trained.input.layout
    fixed = of_one(how.twin({key: tensor.numpy() for key, tensor in network.state_dict().items()}))
    real: list[Array] = []
    if data is not None:
        with progress.shown() as step:
            real = calibration.features(system.load(new), data, step)
    made: Made = {}
    kept: list[str] = []
    if (ranges := tomllib.loads((new / system.FILE).read_text())["model"].get("ranges")) is not None and not real:
        kept.append(ranges)
    elif ranges is not None:
        made[ranges] = calibration.taken(system.load(new), real), versions(["numpy", "onnx"])
    for a in wanted:
        by_torch = a["format"] == "torchscript-int8"
        calibrated = by_torch or a["precision"] in quantizing.CALIBRATED
        frames = a.get("frames")
        fit = [x for x in real or how.features(20, 0) if frames in (None, len(x))]
        if calibrated and not real:
            kept.append(a["file"])
            continue
        if a["format"] == "onnx":
            content, by = quantizing.to_onnx_int8(float_onnx, axes, fit), ["onnx", "onnxruntime"]
        elif by_torch:
            native = [layout.native(x, axes) for x in fit]
            modules = {tap: port.name for tap, port in trained.taps.items()}
            int8 = torch_quantizing.to_int8(network, a["precision"].removesuffix("-int8"), native, modules)
            content, by = to_torchscript(int8, native[0]), ["torch"]
        else:
            tflite_axes = artifact(system.load(new), "tflite").input.layout
            content = quantizing.to_tflite(fixed, a["precision"], tflite_axes, fit)
            content, by = with_plain_names(content, [t.rpartition("/")[2] for t in taps]), ["keras", tensorflow()]
        write_atomically(new / a["file"], content)
        made[a["file"]] = content, versions(by)
        built = next(b for b in system.load(new).artifacts if Path(b.path).name == a["file"])
        hold_labels(f"{a['format']} {a['precision']}", run(built, fit), list(run(trained, fit)), source)
    return made, kept


def _streamed(new: Path, how: Export, trained: Artifact, network: torch.nn.Module, inputs: Sequence[Array]) -> Made:
    """Write the files that a stream runs on into `new`, each held to PyTorch on whole clips, 3 frames at a time."""
    if how.streams is None:
        return {}
    made: Made = {name: (data, versions(by)) for name, (data, by) in how.streams(network).items()}
    for name, (data, _) in made.items():
        write_atomically(new / name, data)
    streaming = system.load(new).streaming
    assert streaming is not None
    right = [{streaming.tap: taps[streaming.tap]} for taps in run(trained, inputs)]
    for a in streaming.artifacts:
        hold(f"a stream on {a.format}", run_stream(a, streaming.tap, inputs), right, ARTIFACT_LIMIT)
    return made


def main(how: Export) -> None:
    """Run the command line of a system's export.py; what is wrong is said in a line, with parity's exit code."""
    try:
        _main(how)
    except ParityError as e:
        sys.stderr.write(f"{e.message}\n" + (f"hint: {e.hint}\n" if e.hint else ""))
        raise SystemExit(e.exit_code) from None


def _main(how: Export) -> None:
    parser = argparse.ArgumentParser(description=f"Write {how.folder.name} in every format it is deployed in.")
    parser.add_argument("--out", type=Path, default=how.folder, metavar="DIR", help="folder to write to")
    shared = os.environ.get("PARITY_DATA")
    parser.add_argument("--data", type=Path, default=Path(shared) / "speech_commands" if shared else None,
                        metavar="DIR", help="speech like Speech Commands, to calibrate int8 files on (default: "
                        "$PARITY_DATA/speech_commands); without it the committed int8 files are kept")  # fmt: skip
    arguments = parser.parse_args()
    out: Path = arguments.out
    if arguments.data is not None and not arguments.data.is_dir():
        raise SystemExit(f"{arguments.data} is not a folder\nhint: name a folder like Speech Commands: --data DIR")

    weights = how.folder / "weights.safetensors"
    training = json.loads((how.folder / "training.json").read_text())
    if training["weights_sha256"] != hashlib.sha256(weights.read_bytes()).hexdigest():
        raise SystemExit("training.json describes other weights\nhint: run train.py again")
    torch.set_num_threads(1)
    made: Made = {weights.name: (weights.read_bytes(), training["versions"])}
    with tempfile.TemporaryDirectory() as folder:
        # A copy of the system with the new files in it: the old ones are replaced when all is checked.
        new = Path(folder) / how.folder.name
        shutil.copytree(
            how.folder, new, ignore=shutil.ignore_patterns("*.onnx", "*.tflite", "*.pt", "*.pt2", "__pycache__")
        )
        trained = artifact(system.load(new), "torch")
        assert trained.network is not None
        network = build(trained.network, Path(trained.path))
        made |= _in_full(new, how, trained, network, how.features(20, 0))
        quantized, kept = _quantized(new, how, trained, network, made[f"{how.folder.name}.onnx"][0], arguments.data)
        made |= quantized
        made |= _streamed(new, how, trained, network, how.features(20, 0))
    out.mkdir(parents=True, exist_ok=True)
    listing = {}
    for name, (data, made_with) in made.items():
        if (out / name).resolve() != weights:
            write_atomically(out / name, data)
        listing[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "made_with": made_with}
    for name in kept:
        listing |= _as_before(name, how.folder, out)
    write_atomically(out / "artifacts.json", (json.dumps(listing, indent=2, sort_keys=True) + "\n").encode())


def _as_before(name: str, folder: Path, out: Path) -> dict[str, Any]:
    """The entry of a file that wasn't made anew, which goes to `out` as it is."""
    before = json.loads((folder / "artifacts.json").read_text()) if (folder / "artifacts.json").is_file() else {}
    if name not in before or not (folder / name).is_file():
        print(f"{name} isn't built: it needs speech to calibrate on (--data DIR)")
        return {}
    print(f"{name} is kept as it was: calibrating anew needs speech (--data DIR)")
    if out.resolve() != folder.resolve():
        write_atomically(out / name, (folder / name).read_bytes())
    return {name: before[name]}
