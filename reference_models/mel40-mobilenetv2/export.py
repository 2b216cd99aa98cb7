"""Write mel40-mobilenetv2 as ONNX and as TensorFlow Lite, check both against PyTorch, list them in artifacts.json.

python export.py [--out DIR]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import twin

from parity.exporting import Export, main

FRAMES, BANDS = 32, 40


def features(count: int, seed: int) -> Sequence[npt.NDArray[np.float32]]:
    """Return inputs ``[32, 40]`` in dB below the clip's maximum: slow loudness, spectral tilt, a floor at -80.

    The last but one is digital silence (0 dB everywhere: the maximum is all there is), the last a single click.
    """
    rng = np.random.default_rng(seed)
    contour = np.cumsum(rng.normal(0.0, 4.0, (count, FRAMES, 1)), axis=1)
    x = contour + np.linspace(0.0, -30.0, BANDS) + rng.normal(0.0, 6.0, (count, FRAMES, BANDS))
    x = np.maximum(x - x.max(axis=(1, 2), keepdims=True), -80.0)
    x[-2], x[-1], x[-1, 10:14] = 0.0, -80.0, 0.0
    return list(x.astype(np.float32))


if __name__ == "__main__":
    main(Export(folder=Path(__file__).resolve().parent, features=features, twin=twin.build, torchscript=True))
