"""A featurizer of one's own, any callable, held to a recipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np

from parity import frontend as fe
from parity import system
from parity.compare import Comparison, compare
from parity.evidence import Evidence
from parity.expected import bounds_of
from parity.explain import Explanation, explain, wording
from parity.parameters import Parameters, Sound, clip_of, to_plain
from parity.place import place
from parity.protocols import Arithmetic, Array, Clip, Tap
from parity.search import parameters

SECONDS = 5.0
"""How long a cause is looked for: a single wrong setting takes one, two that hide each other may take all."""

Featurizer = Callable[[Array], Any]
"""Samples, float32 `[n]` at full scale ±1.0 -> the recipe's features `[frames, bands]`, or arrays by tap."""


def assert_parity(
    features: Featurizer, recipe: fe.Frontend | str | Path, clip: Clip | None = None, *, examples: int = 100,
    seed: int = 0, recordings: Path | None = None, arithmetic: Arithmetic = "float32",
) -> None:  # fmt: skip
    """AssertionError where `features` doesn't compute a recipe: on a clip, or on drawn ones, shrunk to the simplest.

    `recipe` is a Frontend, or a system.toml or its folder. `features` gives the recipe's last tap, or any of its taps
    by name, which tells where it parts; float64 is rounded to float32. How far it may be is derived from the arithmetic
    (`float64-rounded`: window and FFT are in float64). `recordings` is a folder of clips to draw from as well. The
    message names the first tap, the worst element, its numbers, and the setting that explains them where one does. The
    same seed draws the same clips.
    """
    frontend = recipe if isinstance(recipe, fe.Frontend) else system.load(Path(recipe)).frontend
    if clip is not None:
        _, found = _worst(features, frontend, clip, arithmetic)
        if found is not None:
            raise AssertionError(_told(features, frontend, clip, found, arithmetic))
        return
    failed: Parameters | None = None

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples, deadline=None, database=None, print_blob=False, report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck), verbosity=hypothesis.Verbosity.quiet,
    )  # fmt: skip
    @hypothesis.given(parameters(frontend, recordings))
    def drive(drawn: Parameters) -> None:
        nonlocal failed
        ratio, found = _worst(features, frontend, clip_of(drawn, recordings), arithmetic)
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
        worst = clip_of(failed, recordings)
        _, found = _worst(features, frontend, worst, arithmetic)
        again = f"again: clip_of(from_plain({to_plain(failed)!r})), both of parity.parameters"
        raise AssertionError(_told(features, frontend, worst, found, arithmetic) + f"\n{again}")


def _worst(
    features: Featurizer, frontend: fe.Frontend, clip: Clip, arithmetic: Arithmetic
) -> tuple[float, tuple[Tap, Comparison] | None]:
    """The largest error over bound on a clip, and the first tap that fails."""
    try:
        got = _arrays(features, frontend, clip)
    except Exception as e:  # whatever their code raises is what was found
        return np.inf, (frontend.output, Comparison("error", f"it raised {type(e).__name__}: {e}"))
    (exact,) = bounds_of(clip, frontend, (arithmetic,))[0].values()
    largest = 0.0
    for tap in (t for t in frontend.taps if t in got):
        x = exact[tap]
        judged = compare(got[tap], x.value, x.lo, x.hi, frontend.dtype(tap))
        if judged.outcome != "pass":
            return np.inf, (tap, judged)
        largest = max(largest, judged.ratio or 0.0)
    return largest, None


def _arrays(features: Featurizer, frontend: fe.Frontend, clip: Clip) -> dict[Tap, Array]:
    """What the callable gives, by tap. It may scribble on its samples: they are its own."""
    found = features(clip.samples.copy())
    if found is None:
        raise ValueError("it gives nothing: does it return its features?")
    given = dict(found) if isinstance(found, Mapping) else {frontend.output: found}
    if not given or not set(given) <= set(frontend.taps):
        raise ValueError(f"it gives {', '.join(sorted(given)) or 'nothing'}; the taps are {', '.join(frontend.taps)}")
    return {tap: _declared(np.asarray(a), frontend.dtype(tap)) for tap, a in given.items()}


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
            evidence.append(Evidence(system="", clip=of, features=_arrays(features, frontend, of)))
        except Exception:
            continue  # told already, or it is of another clip
    end = time.monotonic() + SECONDS

    def step(_what: str, _done: int, _total: int) -> None:
        if time.monotonic() > end:
            raise KeyboardInterrupt  # ends the search with what it has

    try:
        found: Explanation = explain(frontend, evidence, arithmetic, step)
    except ValueError:
        return []
    said = [line.strip() for line in wording.lines(found, most=2)[1:]]
    return said if any(f.alternatives for f in found.findings) else []


__all__ = ["Featurizer", "assert_parity"]
