"""Write commands-cnn in every format and precision, check each against PyTorch, list them in artifacts.json.

python export.py [--data DIR] [--out DIR]

--data, a folder like Speech Commands, calibrates the int8 files ($PARITY_DATA/speech_commands by default); without it
those that are there are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import twin
from model import BANDS, FRAMES

from parity.exporting import Export, main


def features(count: int, seed: int) -> Sequence[npt.NDArray[np.float32]]:
    """Return inputs ``[98, 50]`` (log10 of power): half plain noise, half shaped like speech.

    The shaped half has a slow loudness contour, a spectral tilt and the floor of log10(0 + 1e-6); its last
    element is digital silence.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(0.0, 1.0, (count, FRAMES, BANDS))
    shaped = x[count // 2 :]
    contour = np.cumsum(rng.normal(0.0, 0.3, (len(shaped), FRAMES, 1)), axis=1)
    tilt = np.linspace(0.5, -1.5, BANDS)
    shaped[:] = np.clip(-3.0 + contour + tilt + 0.4 * shaped, -6.0, 3.0)
    shaped[-1] = -6.0
    return list(x.astype(np.float32))


if __name__ == "__main__":
    main(Export(folder=Path(__file__).resolve().parent, features=features, twin=twin.build, torchscript=True))
