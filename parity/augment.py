"""Ways in which a recording may differ and still be the same word: for training, and for clips that try a recipe.

Each takes float32 samples `[n]` at full scale ±1.0 and returns new ones; nothing is drawn here, so that who calls
decides, and can write down, what was done. ValueError where a number is impossible.

    play_speed(gain(samples, 0.5), 1.3)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


def time_shift(samples: Float32, share: float) -> Float32:
    """Shift by `share` of the clip's length, -1 to 1 (positive: later). Same length; zeros where nothing is left.

    What leaves at one end doesn't come back at the other.
    """
    _require(abs(share) <= 1.0, f"a shift is -1 to 1 of the clip's length, not {share:g}")
    by, out = round(share * len(samples)), np.zeros(len(samples), np.float32)
    if by >= 0:
        out[by:] = samples[: len(samples) - by]
    else:
        out[:by] = samples[-by:]
    return out


def zero_pad(samples: Float32, before: int = 0, after: int = 0) -> Float32:
    """Put so many zeros (samples, not seconds) before and after: `[before + n + after]`."""
    _require(before >= 0 and after >= 0, f"padding is 0 samples or more, not {before} and {after}")
    return np.pad(samples, (before, after)).astype(np.float32, copy=False)


def gain(samples: Float32, factor: float) -> Float32:
    """Multiply by `factor` (0.5: 6 dB quieter) and clip at full scale ±1.0, as a converter would."""
    _require(factor >= 0.0, f"a gain is 0 or more, not {factor:g}")
    return np.clip(samples * np.float32(factor), -1.0, 1.0).astype(np.float32, copy=False)


def play_speed(samples: Float32, speed: float) -> Float32:
    """Play `speed` times as fast, pitch and all: round(n / speed) samples, one at least, at the same rate.

    Linear between samples, computed in float64 and rounded once. There is no filter: played faster, what lies above
    rate / (2 · speed) Hz is folded back, and the highest frequencies get quieter.
    """
    _require(speed > 0.0, f"a speed is more than 0, not {speed:g}")
    if len(samples) == 0:
        return samples.astype(np.float32)
    at = np.arange(max(1, round(len(samples) / speed))) * speed
    return np.interp(at, np.arange(len(samples)), samples).astype(np.float32)


def add_noise(samples: Float32, noise: Float32, amount: float, start: int = 0) -> Float32:
    """Add `amount` times a recording of noise, from its sample `start` on, and clip at full scale ±1.0.

    Noise shorter than the clip begins again; its own level is left as it is (an amount of 1 adds it as recorded).
    """
    _require(amount >= 0.0, f"an amount of noise is 0 or more, not {amount:g}")
    _require(len(noise) > 0, "the noise has no samples")
    heard = noise[(start + np.arange(len(samples))) % len(noise)]
    return np.clip(samples + np.float32(amount) * heard, -1.0, 1.0).astype(np.float32, copy=False)


def _require(condition: bool, text: str) -> None:
    # A NaN fails every comparison, so that it is refused too.
    if not condition:
        raise ValueError(text)


__all__ = ["add_noise", "gain", "play_speed", "time_shift", "zero_pad"]
