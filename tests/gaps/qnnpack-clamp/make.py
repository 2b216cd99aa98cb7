"""Write weights.safetensors and the int8 files, calibrated on the goldens' clips. python make.py"""

from __future__ import annotations

from pathlib import Path

import torch
from model import build

from parity import audio, layout, system, torch_quantizing
from parity.converting import to_torchscript
from parity.expected import features_of
from parity.training import save, write_atomically

HERE = Path(__file__).resolve().parent
CLIPS = HERE.parents[2] / "golden" / "clips"

if __name__ == "__main__":
    network = build().eval()
    save(network, HERE / "weights.safetensors")
    of = system.load(HERE)
    clips = [audio.read(path, path.name, of.frontend) for path in sorted(CLIPS.glob("*.flac"))]
    inputs = [torch.from_numpy(layout.native(features_of(clip, of.frontend)[1], "N1FT").copy()) for clip in clips]
    taps = {"model/relu6": "relu6", "model/logits": "fc"}
    for engine in ("qnnpack", "x86"):
        # As PyTorch converts it: ReLU6 stays an operator of its own.
        int8 = torch_quantizing.quantized(network, engine, inputs)
        whole = torch_quantizing.in_parts(int8, network, taps)
        write_atomically(HERE / f"{engine}-int8.pt", to_torchscript(whole, inputs[0].numpy()))
