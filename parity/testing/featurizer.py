"""A featurizer of one's own, any callable, held to a recipe."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import hypothesis
import numpy as np
from hypothesis import strategies as st

from parity import audio, search, system
from parity import frontend as fe
from parity.compare import Comparison, compare
from parity.errors import ConfigError
from parity.evidence import Evidence
from parity.expected import bounds_of
from parity.explain import Explanation, explain, wording
from parity.parameters import Parameters, Sound, clip_of, to_plain
from parity.place import place
from parity.protocols import Arithmetic, Array, Clip, Tap

SECONDS = 5.0
"""How long a cause is looked for: a single wrong setting takes one, two that hide each other may take all."""

Featurizer = Callable[[Array], Any]
"""Samples, float32 `[n]` at full scale ±1.0 -> the recipe's features `[frames, bands]`, or arrays by tap."""


def clips(recipe: fe.Frontend | str | Path, recordings: str | Path | None = None) -> st.SearchStrategy[Clip]:
    """Clips that fit a recipe: a Frontend, or a system.toml or its folder. `recordings` is a folder to mix in."""
    return search.clips(_frontend(recipe), search.folder(recordings))


def assert_parity(
    features: Featurizer, recipe: fe.Frontend | str | Path, clip: Clip | Array | None = None, *, examples: int = 100,
    seed: int = 0, recordings: str | Path | None = None, arithmetic: Arithmetic = "float32",
) -> None:  # fmt: skip
    """AssertionError where `features` doesn't compute a recipe: on a clip, or on drawn ones, shrunk to the simplest.

    `recipe` is a Frontend, or a system.toml or its folder. `features` gives the recipe's last tap, or a dict of it and
    any before it by name, which tells where it parts; float64 is rounded to float32. `clip` may be an array: samples at
    the recipe's rate. How far the features may be is derived from the arithmetic (`float64-rounded`: window and FFT are
    in float64). `recordings` is a folder of clips to draw from as well. The message names the first tap, the worst
    element, its numbers, and the setting that explains them where one does. The same seed draws the same clips.
    ConfigError for arguments that nothing can be compared with.
    """
    frontend, folder = _frontend(recipe), search.folder(recordings)
    if not callable(features):
        raise ConfigError(f"features is a {type(features).__name__}, which can't be called: give the function itself")
    if arithmetic not in get_args(Arithmetic):
        raise ConfigError(f"arithmetic is {' or '.join(get_args(Arithmetic))}, not {arithmetic!r}")
    if not isinstance(examples, int) or examples < 1:
        raise ConfigError(f"examples={examples!r} compares nothing: give a whole number, 1 or more")
    if clip is not None:
        one = _clip(clip, frontend)
        _, found = _worst(features, frontend, one, arithmetic)
        if found is not None:
            raise AssertionError(_told(features, frontend, one, found, arithmetic))
        return
    failed: Parameters | None = None

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples, deadline=None, database=None, print_blob=False, report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck), verbosity=hypothesis.Verbosity.quiet,
        phases=set(hypothesis.Phase) - {hypothesis.Phase.explain},  # it would tell lines of parity's own
    )  # fmt: skip
    @hypothesis.given(search.parameters(frontend, folder))
    def drive(drawn: Parameters) -> None:
        nonlocal failed
        ratio, found = _worst(features, frontend, clip_of(drawn, folder), arithmetic)
        if found is not None:
            failed = drawn  # the simplest comes last
            raise AssertionError
        hypothesis.target(min(ratio, 1e6), label="error over bound")

    try:
        drive()
    except (AssertionError, hypothesis.errors.HypothesisException):
        if failed is None:
            raise
    if failed is not None:
        worst = clip_of(failed, folder)
        _, found = _worst(features, frontend, worst, arithmetic)
        raise AssertionError(f"{_told(features, frontend, worst, found, arithmetic)}\nagain: {_again(failed, folder)}")


def _frontend(recipe: fe.Frontend | str | Path) -> fe.Frontend:
    if isinstance(recipe, fe.Frontend):
        return recipe
    if not isinstance(recipe, str | Path):
        raise ConfigError(f"a recipe is a Frontend, or the path of a system.toml or its folder, not {recipe!r}")
    return system.load(Path(recipe)).frontend


def _clip(given: Clip | Array, frontend: fe.Frontend) -> Clip:
    """The clip, with samples as a featurizer gets them. ConfigError where the recipe isn't for it."""
    if not isinstance(given, Clip | np.ndarray):
        raise ConfigError(f"clip is a Clip or an array of samples, not a {type(given).__name__}")
    wanted, framing = frontend.input, frontend.framing
    rate = given.rate if isinstance(given, Clip) else wanted.rate
    samples = np.asarray(given.samples if isinstance(given, Clip) else given)
    if rate != wanted.rate:
        raise ConfigError(f"the clip is at {rate} Hz, the recipe at {wanted.rate} Hz: resample it first")
    if samples.ndim != 1:
        raise ConfigError(f"the clip's shape is {list(samples.shape)}: give the samples of one channel, [n]")
    if samples.dtype.kind != "f":
        raise ConfigError(f"the clip's samples are {samples.dtype.name}: give floats at full scale ±1.0")
    if not np.isfinite(samples).all():
        raise ConfigError("the clip holds NaN or infinite samples: nothing can be said of its features")
    least = 1 if wanted.length is not None or framing is None else framing.length  # a shorter one is padded, or isn't
    if len(samples) < least:
        raise ConfigError(f"the clip has {len(samples)} samples: give {least} or more")
    if wanted.fit == "refuse" and len(samples) != wanted.length:
        raise ConfigError(f"the clip has {len(samples)} samples: the recipe takes {wanted.length}, and no other length")
    if isinstance(given, Clip) and samples.dtype == np.float32:
        return given
    name = given.name if isinstance(given, Clip) else f"an array of {len(samples)} samples"
    samples = samples.astype(np.float32)
    return Clip(name, samples, rate, audio.digest(samples, rate))


def _again(failed: Parameters, folder: Path | None) -> str:
    """The expression that makes a drawn clip again, and where its names come from."""
    if folder is None or all(s.kind != "recording" for s in failed.sounds):
        return f"clip_of(from_plain({to_plain(failed)!r})), both of parity.parameters"
    return f"clip_of(from_plain({to_plain(failed)!r}), Path({str(folder)!r})), of parity.parameters and pathlib"


class _Unusable(Exception):
    """What the callable gave isn't a recipe's features."""


def _worst(
    features: Featurizer, frontend: fe.Frontend, clip: Clip, arithmetic: Arithmetic
) -> tuple[float, tuple[Tap, Comparison] | None]:
    """The largest error over bound on a clip, and the first tap that fails."""
    try:
        given = features(clip.samples.copy())  # it may scribble on its samples: they are its own
    except Exception as e:  # whatever their code raises is what was found
        return np.inf, (frontend.output, Comparison("error", f"it raised {type(e).__name__}: {e}"))
    try:
        got = _arrays(given, frontend)
    except _Unusable as e:
        return np.inf, (frontend.output, Comparison("error", str(e)))
    (exact,) = bounds_of(clip, frontend, (arithmetic,))[0].values()
    largest = 0.0
    for tap in (t for t in frontend.taps if t in got):
        x = exact[tap]
        judged = compare(got[tap], x.value, x.lo, x.hi, frontend.dtype(tap))
        if judged.outcome != "pass":
            return np.inf, (tap, judged)
        largest = max(largest, judged.ratio or 0.0)
    return largest, None


def _arrays(found: Any, frontend: fe.Frontend) -> dict[Tap, Array]:
    """What the callable gave, by tap: the recipe's output at least, for without it nothing is known of the features."""
    if found is None:
        raise _Unusable("it gives None: does it return its features?")
    given = dict(found) if isinstance(found, Mapping) else {frontend.output: found}
    if unknown := [k for k in given if k not in frontend.taps]:
        told = ", ".join(sorted(k if isinstance(k, str) else repr(k) for k in unknown))
        raise _Unusable(f"it gives {told}; the taps are {', '.join(frontend.taps)}")
    if frontend.output not in given:
        told = ", ".join(given) or "nothing"
        raise _Unusable(f"it gives {told}, without {frontend.output}, the recipe's features: give these too")
    return {tap: _array(a, tap, frontend.dtype(tap)) for tap, a in given.items()}


def _array(given: Any, tap: Tap, dtype: str) -> Array:
    try:
        a = np.asarray(given)
    except Exception as e:  # rows of different lengths; a tensor that is elsewhere or has a gradient
        raise _Unusable(f"it gives a {type(given).__name__} as {tap}, which NumPy makes no array of: {e}") from None
    if a.dtype.kind not in "biufc":
        what = f"an array of {a.dtype.name}" if isinstance(given, np.ndarray) else f"a {type(given).__name__}"
        raise _Unusable(f"it gives {what} as {tap}: give an array of {dtype}")
    return _declared(a, dtype)


def _declared(a: Array, dtype: str) -> Array:
    return a.astype(dtype) if a.dtype == np.float64 and dtype == "float32" else a


def _told(
    features: Featurizer, frontend: fe.Frontend, clip: Clip, found: tuple[Tap, Comparison] | None,
    arithmetic: Arithmetic,
) -> str:  # fmt: skip
    name = getattr(features, "__name__", type(features).__name__)
    if found is None:
        return f"{name} gives something else each time it is called, on the clip {clip.name!r}"
    tap, c = found
    lines = [f"{name} isn't the recipe: {tap} of the clip {clip.name!r}", c.message]
    if c.error is not None and c.bound is not None:
        at = place(frontend, tap, c.index) if c.index else {}
        where = ", ".join(f"{k} {v:.4g}" for k, v in at.items())
        lines.append(f"error {c.error:.3g}, bound {c.bound:.3g}: {c.ratio:.3g} times; at {where}")
    numbers = c.error is not None or c.message.endswith(("fewer", "more"))  # of another kind of array nothing is known
    if numbers and (why := _why(features, frontend, clip, arithmetic)):
        lines += ["why: " + "\n     ".join(why)]
    return "\n".join(lines)


def _why(features: Featurizer, frontend: fe.Frontend, clip: Clip, arithmetic: Arithmetic) -> list[str]:
    """What explains it on the clip, and on sounds that tell more settings apart; nothing where nothing does."""
    rate, length = frontend.input.rate, len(clip.samples)
    sounds = (Sound(kind="pink", level_dbfs=-12.0), Sound(kind="chirp", frequency=50.0, end_frequency=0.4 * rate))
    more = [clip_of(Parameters(sounds=(s,), rate=rate, length=max(length, rate))) for s in sounds]
    if frontend.input.fit == "refuse":
        more = [clip_of(Parameters(sounds=(s,), rate=rate, length=length)) for s in sounds]
    evidence = []
    for of in (clip, *more):
        try:
            evidence.append(Evidence(system="", clip=of, features=_arrays(features(of.samples.copy()), frontend)))
        except Exception:
            continue  # told already, or it is of another clip
    end, late = time.monotonic() + SECONDS, False

    def step(_what: str, _done: int, _total: int) -> None:
        nonlocal late
        if time.monotonic() > end:
            late = True
            raise KeyboardInterrupt  # ends the search with what it has

    try:
        found: Explanation = explain(frontend, evidence, arithmetic, step)
    except ValueError:
        return []
    if late and found.interrupted:
        found = dataclasses.replace(found, note=f"looked for a cause for {SECONDS:g} s")
    said = [line.strip() for line in wording.lines(found, most=2)[1:]]
    return said if any(f.alternatives for f in found.findings) else []


__all__ = ["Featurizer", "assert_parity", "clips"]
