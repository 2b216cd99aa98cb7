"""Write commands-cnn as ONNX and as TensorFlow Lite, check both against PyTorch, list them in artifacts.json.

    python export.py [--out DIR]

Each file is written under a temporary name and renamed, so a reader never sees half of one.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import warnings
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import onnx
import onnxruntime
import safetensors.torch
import tensorflow as tf
import torch
import twin
from ai_edge_litert.interpreter import Interpreter
from model import BANDS, FRAMES, CommandsCNN, build
from numpy.typing import NDArray
from tensorflow.lite.tools import flatbuffer_utils

HERE = Path(__file__).resolve().parent
NAME = "commands-cnn"
TAPS = ("relu1", "relu2", "relu3", "relu4", "relu5", "pool5", "logits")
OPSET = 17
TWIN_LIMIT = 1e-5  # largest |difference| allowed between the twin and PyTorch, at every tap
ARTIFACT_LIMIT = 1e-4  # a gross check only: judging the artifacts is what parity is for

Float32 = NDArray[np.float32]


def trained(weights: Path) -> CommandsCNN:
    """Return the network with trained weights, in eval mode."""
    network = build()
    network.load_state_dict(safetensors.torch.load(weights.read_bytes()))
    return network.eval()


def random_inputs(count: int, seed: int) -> Float32:
    """Return inputs ``[count, 1, 98, 50]`` (log10 of power): half plain noise, half shaped like speech.

    The shaped half has a slow loudness contour, a spectral tilt and the floor of log10(0 + 1e-6); its last
    element is digital silence.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(0.0, 1.0, (count, 1, FRAMES, BANDS))
    shaped = x[count // 2 :]
    contour = np.cumsum(rng.normal(0.0, 0.3, (len(shaped), 1, FRAMES, 1)), axis=2)
    tilt = np.linspace(0.5, -1.5, BANDS)
    shaped[:] = np.clip(-3.0 + contour + tilt + 0.4 * shaped, -6.0, 3.0)
    shaped[-1] = -6.0
    return x.astype(np.float32)


@torch.inference_mode()
def torch_taps(network: CommandsCNN, x: Float32) -> dict[str, Float32]:
    """Run PyTorch; return the arrays at TAPS, axes batch, channel, time, band (logits: batch, class)."""
    taps: dict[str, Float32] = {}

    def keep(name: str) -> Any:
        return lambda _module, _inputs, output: taps.__setitem__(name, output.numpy().copy())

    hooks = [network.get_submodule(name).register_forward_hook(keep(name)) for name in TAPS[:-1]]
    try:
        taps["logits"] = network(torch.from_numpy(x)).numpy()
    finally:
        for hook in hooks:
            hook.remove()
    return taps


def twin_taps(model: keras.Model, x: Float32) -> dict[str, Float32]:
    """Run the Keras twin; return the arrays at TAPS with PyTorch's axes."""
    probe = keras.Model(model.input, [model.get_layer(name).output for name in TAPS])
    outputs = [np.asarray(value) for value in probe(np.moveaxis(x, 1, -1))]
    return {name: np.moveaxis(v, -1, 1) if v.ndim == 4 else v for name, v in zip(TAPS, outputs, strict=True)}


def largest_difference(a: Float32, b: Float32) -> float:
    """Return the largest |a - b|, computed in float64; refuses arrays of different shape."""
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max())


def to_onnx(network: CommandsCNN) -> bytes:
    """Export with the older exporter (input ``features``, output ``logits``, only the batch axis dynamic)."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network, (torch.zeros(1, 1, FRAMES, BANDS),), buffer, dynamo=False, opset_version=OPSET,
            input_names=["features"], output_names=["logits"],
            dynamic_axes={"features": {0: "batch"}, "logits": {0: "batch"}},
        )  # fmt: skip
    network.eval()  # the export may leave the network in training mode
    assert not any(module.training for module in network.modules())
    model = onnx.load_from_string(buffer.getvalue())
    for node in model.graph.node:
        node.doc_string = ""  # may hold source paths of this machine
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def to_tflite(model: keras.Model) -> bytes:
    """Convert the twin to float32 TensorFlow Lite with the fixed input shape ``[1, 98, 50, 1]``."""
    fixed = keras.models.clone_model(
        model, input_tensors=keras.Input(batch_shape=(1, FRAMES, BANDS, 1), name="features", dtype="float32")
    )
    fixed.set_weights(model.get_weights())
    # from_keras_model freezes the weights. from_saved_model and from_concrete_functions left variables
    # in the file that nothing sets (Keras 3.15, TensorFlow 2.21): LiteRT then answers NaN, without an error.
    with contextlib.redirect_stdout(io.StringIO()):  # Keras tells where its temporary folder is
        data = tf.lite.TFLiteConverter.from_keras_model(fixed).convert()
    return with_plain_names(data)


def with_plain_names(data: bytes) -> bytes:
    """Name the tensors at ``features`` and TAPS by their tap, and the signature's output ``logits``.

    The converter fuses convolution, batch normalization and ReLU into one operator; its output is the ReLU's.
    Its own name for that tensor strings together all that was fused, differs from the bias' name by one
    character, and may change with the versions of Keras and TensorFlow. Operators and weights are kept.
    """
    file = flatbuffer_utils.convert_bytearray_to_object(bytearray(data))
    (graph,) = file.subgraphs
    (signature,) = file.signatureDefs
    names = {int(graph.inputs[0]): "features", int(graph.outputs[0]): "logits"}
    for operator in graph.operators:
        (output,) = (int(index) for index in operator.outputs)
        # "commands_cnn_1/relu1_1/Relu;commands_cnn_1/bn1_1/batchnorm/add_1;..." -> {"relu1", "bn1", ...}
        paths = [path.split("/") for path in graph.tensors[output].name.decode().split(";")]
        layers = {path[1].removesuffix("_1") for path in paths if len(path) > 2}
        for tap in layers & set(TAPS):
            names.setdefault(output, tap)
    if sorted(names.values()) != sorted(("features", *TAPS)):
        raise SystemExit(f"the converter made other operators than expected: {sorted(names.values())}")
    for index, name in names.items():
        graph.tensors[index].name = name.encode()
    signature.outputs[0].name = b"logits"
    return bytes(flatbuffer_utils.convert_object_to_bytearray(file))


def onnx_logits(data: bytes, x: Float32) -> Float32:
    """Run ONNX Runtime on one thread; return logits ``[N, classes]``."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"features": x})[0])


def tflite_logits(data: bytes, x: Float32) -> Float32:
    """Run LiteRT with its default kernels, clip by clip; return logits ``[N, classes]``."""
    run = Interpreter(model_content=data, num_threads=1).get_signature_runner()
    return np.concatenate([run(features=np.moveaxis(clip[None], 1, -1))["logits"] for clip in x])


def write_atomically(path: Path, data: bytes) -> None:
    """Write to a temporary file beside ``path``, then rename."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def versions(names: Sequence[str]) -> dict[str, str]:
    """Return the installed versions of the named packages."""
    return {name: version(name) for name in names}


def main() -> None:
    """Run the command line."""
    verbatim = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=verbatim)
    parser.add_argument("--out", type=Path, default=HERE, metavar="DIR", help="folder to write to")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    weights = HERE / "weights.safetensors"
    training = json.loads((HERE / "training.json").read_text())
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if training["weights_sha256"] != digest:
        raise SystemExit("training.json describes other weights\nhint: run train.py again")
    torch.set_num_threads(1)
    network = trained(weights)
    model = twin.build({name: tensor.numpy() for name, tensor in network.state_dict().items()})

    x = random_inputs(20, seed=0)
    expected, twins = torch_taps(network, x), twin_taps(model, x)
    for tap in TAPS:
        difference = largest_difference(twins[tap], expected[tap])
        print(f"twin against PyTorch, {tap}: largest difference {difference:.1e}")
        if not difference <= TWIN_LIMIT:
            raise SystemExit(f"the Keras twin is not the PyTorch network: {tap} differs by {difference:.1e}")

    onnx_file, tflite_file = to_onnx(network), to_tflite(model)
    again = torch_taps(network, x)["logits"]
    assert np.array_equal(again, expected["logits"]), "the export changed the network"
    results = {"ONNX Runtime": onnx_logits(onnx_file, x), "LiteRT": tflite_logits(tflite_file, x)}
    for runtime, logits in results.items():
        difference = largest_difference(logits, expected["logits"])
        print(f"{runtime} against PyTorch, logits of {len(x)} inputs: largest difference {difference:.1e}")
        if not difference <= ARTIFACT_LIMIT:
            raise SystemExit(f"{runtime} does not compute the network")

    made = {
        weights.name: (weights.read_bytes(), training["versions"]),
        f"{NAME}.onnx": (onnx_file, versions(["onnx", "torch"])),
        f"{NAME}.tflite": (tflite_file, versions(["keras", _tensorflow()])),
    }
    listing = {}
    for name, (data, made_with) in made.items():
        if (out / name).resolve() != weights:
            write_atomically(out / name, data)
        sha256 = hashlib.sha256(data).hexdigest()
        listing[name] = {"sha256": sha256, "bytes": len(data), "made_with": made_with}
    text = json.dumps(listing, indent=2, sort_keys=True) + "\n"
    write_atomically(out / "artifacts.json", text.encode())


def _tensorflow() -> str:
    """Return the name TensorFlow is installed under."""
    try:
        version("tensorflow")
    except PackageNotFoundError:
        return "tensorflow-cpu"
    return "tensorflow"


if __name__ == "__main__":
    main()
