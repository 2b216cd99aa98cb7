"""A featurizer that isn't the oracle: float32 throughout, SciPy's FFT and DCT, a mel bank of its own.

`settings(frontend)` says in its own words what a recipe wants; a mutant is the same with other words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
import scipy.signal
from numpy.typing import NDArray

from parity import frontend as fe

Array = NDArray[Any]
F = np.float32


def settings(f: fe.Frontend) -> dict[str, Any]:
    """What a recipe from a spectrum on wants."""
    assert f.frame is not None
    assert f.window is not None
    assert f.spectrum is not None
    s: dict[str, Any] = {
        "rate": f.input.rate, "length": f.input.length, "frame": f.frame.length, "hop": f.frame.hop,
        "center": f.frame.pad_mode if f.frame.center else None, "window": f.window.name,
        "periodic": f.window.periodic, "n_fft": f.spectrum.n_fft, "power": f.spectrum.exponent,
    }  # fmt: skip
    if isinstance(b := f.filterbank, fe.Mel):
        s |= {"bands": b.bands, "fmin": b.fmin, "fmax": b.fmax, "scale": b.scale, "norm": b.norm, "at": b.triangles}
    elif isinstance(b, fe.Pool):
        s |= {"pool": b.size}
    if isinstance(c := f.compress, fe.Log):
        s |= {"log": c.base, "offset": c.offset, "floor": c.floor}
    elif isinstance(c, fe.Decibel):
        s |= {"log": "dB", "ref": c.ref, "amin": c.amin, "top_db": c.top_db}
    if (d := f.cepstrum) is not None:
        s |= {"count": d.count, "dct": d.norm, "lifter": d.lifter}
    if (q := f.quantize) is not None:
        s |= {"q": q.scale, "zero": q.zero_point, "dtype": q.dtype, "round": q.rounding}
    return s


def features(x: Array, s: dict[str, Any]) -> dict[str, Array]:
    """Samples float32 `[n]` at ±1.0 -> tap -> float32 `[frames, ...]`."""
    x = x.astype(F) * F(s.get("gain", 1.0)) + F(s.get("dc", 0.0))
    if s.get("int16"):
        x = x * F(32768)
    if a := s.get("emphasis"):
        x = np.append(x[:1], x[1:] - F(a) * x[:-1]).astype(F)
    if (n := s["length"]) is not None:
        x = x[:n]
        x = np.pad(x, (n - len(x), 0) if s.get("left") else (0, n - len(x)))
    out = {"features/audio": x}
    if shift := s.get("shift", 0):
        x = np.append(x[shift:], np.zeros(shift, F)) if shift > 0 else np.append(np.zeros(-shift, F), x)[: len(x)]
        out["features/audio"] = x
    if s["center"] is not None:
        mode = {"zero": "constant", "reflect": "reflect", "edge": "edge"}[s["center"]]
        x = np.pad(x, s["frame"] // 2, mode=mode)
    count = 1 + (len(x) - s["frame"]) // s["hop"]
    x = np.stack([x[i * s["hop"] : i * s["hop"] + s["frame"]] for i in range(count)])
    x = x[s.get("first", 0) : len(x) - s.get("lost", 0)]
    out["features/frames"] = x
    name = {"rectangular": "boxcar"}.get(s["window"], s["window"])
    width = s.get("width", s["frame"])
    w = scipy.signal.get_window(name, width, fftbins=s["periodic"])
    w = np.pad(w, ((s["frame"] - width) // 2, s["frame"] - width - (s["frame"] - width) // 2)).astype(F)
    w = w.astype(np.float16).astype(F) if s.get("w16") else w
    x = out["features/windowed"] = x * w
    z = scipy.fft.rfft(x, n=s["n_fft"])
    x = np.abs(z) if s["power"] == 1 else (z.real**2 + z.imag**2)
    x = x * F(s.get("fft", 1.0))
    if s.get("no_dc"):
        x = x.copy()
        x[:, 0] = 0
    if s.get("no_nyquist"):
        x = x.copy()
        x[:, -1] = 0
    out["features/spectrum"] = x
    if "bands" in s:
        bank = _bank(s, x.shape[1])
        x = out["features/filterbank"] = x @ bank.T
    elif "pool" in s:
        ends = np.arange(0, x.shape[1], s["pool"])
        x = np.stack([x[:, i : i + s["pool"]].mean(axis=1, dtype=F) for i in ends], axis=1)
        out["features/filterbank"] = x
    if "log" in s:
        x = out["features/compressed"] = _compress(x, s)
    if "count" in s:
        x = out["features/cepstrum"] = _dct(x, s)
    if "q" in s:
        x = out["features/quantized"] = _quantize(x, s)
    if s.get("transposed"):
        out[list(out)[-1]] = x.T.copy()
    if s.get("half"):
        out[list(out)[-1]] = x.astype(np.float16).astype(F)
    return {tap: np.ascontiguousarray(a) for tap, a in out.items()}


def _mel(hz: Array, scale: str) -> Array:
    if scale == "slaney":
        return np.where(hz < 1000, hz / (200 / 3), 15 + np.log(np.maximum(hz, 1) / 1000) / (np.log(6.4) / 27))
    return 1127.0 * np.log(1.0 + hz / 700.0)


def _hertz(mel: Array, scale: str) -> Array:
    if scale == "slaney":
        return np.where(mel < 15, mel * (200 / 3), 1000 * np.exp((np.log(6.4) / 27) * (mel - 15)))
    return 700.0 * (np.exp(mel / 1127.0) - 1.0)


def _bank(s: dict[str, Any], bins: int) -> Array:
    """Triangles, a loop a band."""
    rate = s.get("bank_rate", s["rate"])
    ends = _mel(np.array([s["fmin"], s["fmax"]], float), s["scale"])
    mels = np.linspace(ends[0], ends[1], s["bands"] + 2)
    hz = _hertz(mels, s["scale"])
    f = np.arange(bins) * rate / s["n_fft"]
    corners, at = hz, f
    if s["at"] == "mel":
        corners, at = mels, _mel(f, s["scale"])
    if s["at"] == "bins":
        corners, at = np.floor((s["n_fft"] + 1) * hz / rate), np.arange(bins)
    bank = np.zeros((s["bands"], bins))
    for b in range(s["bands"]):
        left, center, right = corners[b : b + 3]
        for k in range(bins):
            if left <= at[k] < center:
                bank[b, k] = (at[k] - left) / (center - left)
            elif center <= at[k] < right:
                bank[b, k] = (right - at[k]) / (right - center)
        if s["norm"] == "slaney":
            bank[b] *= 2.0 / (hz[b + 2] - hz[b])
    if s["at"] == "mel":
        bank[:, 0] = 0
    bank = bank.astype(np.float16) if s.get("b16") else bank
    return bank.astype(F)


def _compress(x: Array, s: dict[str, Any]) -> Array:
    if s["log"] != "dB":
        x = np.maximum(x, F(s["floor"])) + F(s["offset"])
        with np.errstate(divide="ignore"):
            return {"e": np.log, "10": np.log10, "2": np.log2}[s["log"]](x)
    ref = x.max() if s["ref"] == "max" else F(s["ref"])
    db = F(s.get("factor", 10)) * (np.log10(np.maximum(x, F(s["amin"]))) - np.log10(np.maximum(ref, F(s["amin"]))))
    if s["top_db"] is None:
        return db
    top = db.max(axis=1, keepdims=True) if s.get("by_frame") else db.max()
    return np.maximum(db, top - F(s["top_db"]))


def _dct(x: Array, s: dict[str, Any]) -> Array:
    norm = None if s["dct"] == "none" else "ortho"
    start = 1 if s.get("no_c0") else 0
    y = scipy.fft.dct(x, type=s.get("type", 2), norm=norm, axis=1)[:, start : start + s["count"]]
    if s["dct"] == "ortho-c0-sqrt2":
        y = y * np.where(np.arange(s["count"]) == 0, F(np.sqrt(2)), F(1))
    if n := s["lifter"]:
        y = y * (1 + F(n / 2) * np.sin(np.pi * np.arange(1, s["count"] + 1) / n)).astype(F)
    return y.astype(F)


def _quantize(x: Array, s: dict[str, Any]) -> Array:
    y = x / F(s["q"])
    y = {"half-even": np.rint(y), "half-away": np.sign(y) * np.floor(np.abs(y) + F(0.5)), "floor": np.floor(y)}[
        s["round"]
    ]
    y = y + s["zero"]
    info = np.iinfo(s["dtype"])
    if s.get("wrap"):
        return y.astype(np.int64).astype(s["dtype"])
    return np.clip(y, info.min, info.max).astype(s["dtype"])
