"""Where an element of a feature tap lies in the sound."""

from __future__ import annotations

from typing import Any

from parity import frontend as fe
from parity.backends import fixed_point, reference
from parity.protocols import Tap


def place(frontend: fe.Frontend, tap: Tap, index: tuple[int, ...]) -> dict[str, Any]:
    """Frame, time (s), band and frequency (Hz) of an element of a feature tap, as far as the recipe has them."""
    rate, framing = frontend.input.rate, frontend.framing
    if tap == "features/audio" or framing is None:
        return {"time": index[0] / rate}
    frame = index[0]
    center = 0 if framing.center else framing.length / 2
    where: dict[str, Any] = {"frame": frame, "time": (frame * framing.hop + center) / rate, "band": index[1]}
    if frontend.micro is not None:
        return where | {"frequency": float(fixed_point.centers(frontend.micro)[index[1]])}
    if tap in ("features/frames", "features/windowed") or frontend.spectrum is None:
        start = frame * framing.hop - (framing.length // 2 if framing.center else 0)
        return {"frame": frame, "time": (start + index[1]) / rate}
    if tap == "features/spectrum" or (frontend.filterbank is None and tap != "features/cepstrum"):
        where["frequency"] = index[1] * rate / frontend.spectrum.n_fft
    elif (tap != "features/cepstrum" and frontend.cepstrum is None) or tap in (
        "features/filterbank",
        "features/compressed",
    ):
        bank = frontend.filterbank
        if isinstance(bank, fe.Mel):
            where["frequency"] = float(reference.mel_edges(bank)[index[1] + 1])
        elif isinstance(bank, fe.Pool):
            where["frequency"] = (index[1] + 0.5) * bank.size * rate / frontend.spectrum.n_fft
    return where
