"""What is drawn of a failure: golden, candidate and difference over time and frequency; a cut through the worst frame.

Plain dicts, packed as numbers; `templates/charts.js` hands them to plotly.js. Everything comes from the arrays that a
run kept (`parity.kept`), of the worst failing clip of a tap that has any.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parity import frontend as fe
from parity import kept
from parity.errors import ParityError
from parity.localize import flow, hertz, number
from parity.place import place
from parity.protocols import Array
from parity.records import Run, Verdict
from parity.report.tallies import Tallies, key
from parity.taps import MODEL_INPUT, is_feature

BUDGET = 1_600_000
"""Bytes of all pictures of a page, before they are packed."""
SMALL = 64_000
"""Bytes that a picture may always have, while the budget lasts."""
FRAMES, BANDS = 200, 260
"""A picture's largest size: of longer clips the part around the worst element is shown."""
SAMPLES = frozenset({"features/audio", "features/frames", "features/windowed"})
"""Taps that have no frequency."""
POWERS = frozenset({"features/spectrum", "features/filterbank"})
"""Taps whose colours are in decibels: they span many powers of ten."""

Figure = dict[str, Any]


def packed(x: Array, dtype: str = "<f4") -> str:
    """The bytes of an array in base64: float32 is as close as a picture can show."""
    with np.errstate(over="ignore", invalid="ignore"):
        return base64.b64encode(np.ascontiguousarray(x, dtype).tobytes()).decode()


def plain(text: str) -> str:
    """A text for plotly.js, which would read tags and entities in it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def over_bound(candidate: Array, golden: Array, lo: Array, hi: Array) -> tuple[Array, Array]:
    """Each element's allowed error on its side of the golden, and error over it: as `parity.compare` counts them."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        room = np.where(candidate > golden, hi - golden, golden - lo)
        ratio = np.where(candidate == golden, 0.0, np.abs(candidate - golden) / room)
    return room, np.where(np.isnan(ratio), np.inf, ratio)


class Drawing:
    """Draws the failures of a run, as long as its budget lasts."""

    def __init__(self, run: Run, folder: Path, tallies: Tallies, budget: int = BUDGET) -> None:
        """`tallies` were read for the taps of `taps`."""
        self._run, self._folder, self._tallies, self._left = run, folder, tallies, budget

    def of(self, v: Verdict, others: int) -> dict[str, Figure | str]:
        """`picture` and `cut` of a first failure, as far as its arrays were kept; `lost` says why there is none.

        `others` failures are still to be drawn: they share what is left.
        """
        share = max(self._left / (others + 1), SMALL)
        found: dict[str, Figure | str] = {}
        try:
            own = self._arrays(v, v.tap)
            if own is not None and (cut := self._cut(*own)) is not None:
                found["cut"] = cut
            for tap in sorted(taps(self._run, v), key=lambda tap: tap in SAMPLES):
                kept_of = own if tap == v.tap else self._arrays(v, tap)
                picture = None if kept_of is None else self._picture(*kept_of)
                if picture is not None and picture["bytes"] <= min(share, self._left):
                    self._left -= picture["bytes"]
                    found["picture"] = picture
                    break
        except ParityError as e:
            return {"lost": str(e)}
        return found or {"lost": _lost(self._run)}

    def _arrays(self, v: Verdict, tap: str) -> tuple[Verdict, Mapping[str, Array]] | None:
        """A failing clip of a tap whose arrays were kept: the one that `v` is of, else the worst."""
        failing = self._tallies.failing.get((*key(v)[:-1], tap), [])
        for w in sorted(failing, key=lambda w: w.clip != v.clip):
            arrays = kept.of_verdict(self._folder, w)
            if arrays is not None and "candidate" in arrays:
                return w, arrays
        return None

    def _axis(self, v: Verdict, size: int, axis: int, fixed: int) -> tuple[str, list[float], list[str]]:
        """Name, values and texts of an axis of a feature tap; of a network's tap the indices."""
        if not is_feature(v.tap) and v.tap != MODEL_INPUT:
            return (("time step", "band")[axis], [float(i) for i in range(size)], [])
        recipe = fe.from_plain(self._run.systems[v.system]["frontend"])
        tap = recipe.output if v.tap == MODEL_INPUT else v.tap
        at = [place(recipe, tap, (i, fixed) if axis == 0 else (fixed, i)) for i in range(size)]
        if axis == 0:
            return "time (s)", [float(p["time"]) for p in at], []
        if tap in SAMPLES:
            return "sample of the frame", [float(i) for i in range(size)], []
        if all("frequency" in p for p in at):
            return "frequency (Hz)", [float(p["frequency"]) for p in at], [hertz(p["frequency"]) for p in at]
        return ("coefficient" if tap == "features/cepstrum" else "band", [float(i) for i in range(size)], [])

    def _picture(self, v: Verdict, arrays: Mapping[str, Array]) -> Figure | None:
        """Two dimensions of a tap around its worst element: all of features, the worst channel of a layer."""
        golden, candidate = (np.asarray(arrays[k], np.float64) for k in ("golden", "candidate"))
        same = golden.shape == candidate.shape
        index = v.index if same and v.index else (0,) * golden.ndim
        channel = ""
        if golden.ndim == 3 and same:
            channel = f", channel {index[2]}"
        elif golden.ndim != 2 or candidate.ndim != 2 or v.tap in ("features/audio",):
            return None

        def part(x: Array) -> Array:
            x = x[:, :, index[2]] if x.ndim == 3 else x
            return x[_around(index[0], x.shape[0], FRAMES), _around(index[1], x.shape[1], BANDS)]

        size, rows = part(golden).shape, _around(index[0], golden.shape[0], FRAMES)
        columns = _around(index[1], golden.shape[1], BANDS)
        try:
            xname, x, _ = self._axis(v, golden.shape[0], 0, 0)
            yname, y, words = self._axis(v, golden.shape[1], 1, 0)
        except (KeyError, ParityError, IndexError, ValueError):
            xname, yname, words = "frame", "element", []
            x, y = list(map(float, range(golden.shape[0]))), list(map(float, range(golden.shape[1])))
        figure: Figure = {
            "kind": "picture", "tap": v.tap, "clip": plain(v.clip), "unit": plain(v.unit if v.unit != "1" else ""),
            "title": f"{v.tap}{channel}", "power": v.tap in POWERS, "shape": list(size),
            "x": {"name": xname, "values": x[rows]},
            "y": {"name": yname, "values": y[columns], "words": words[columns]},
            "cut": _words(rows, columns, golden.shape), "candidate": packed(part(candidate)),
            "golden": packed(part(golden), "<f8"), "worst": None, "other": None,
        }  # fmt: skip
        if same:
            _, ratio = over_bound(candidate, golden, *(np.asarray(arrays[k], np.float64) for k in ("lo", "hi")))
            figure["ratio"] = packed(part(ratio))
            if v.index:
                figure["worst"] = [index[0] - rows.start, index[1] - columns.start]
        else:
            figure["other"] = list(part(candidate).shape)
        figure["bytes"] = sum(len(figure[k]) for k in ("candidate", "golden", "ratio") if k in figure) * 3 // 4
        return figure

    def _cut(self, v: Verdict, arrays: Mapping[str, Array]) -> Figure | None:
        """Golden, candidate, error and bound along the last axis but channels, through the worst element."""
        golden, candidate, lo, hi = (np.asarray(arrays[k], np.float64) for k in ("golden", "candidate", "lo", "hi"))
        if golden.shape != candidate.shape or golden.ndim == 0 or not v.index:
            return None
        axis = min(1, golden.ndim - 1)
        along = _around(v.index[axis], golden.shape[axis], 512)
        at = tuple(along if i == axis else n for i, n in enumerate(v.index))
        room, _ = over_bound(candidate, golden, lo, hi)
        name, values, words = "index", [float(i) for i in range(golden.shape[axis])], list[str]()
        if golden.ndim == 1 and golden.size == len(labels := self._run.systems[v.system].get("labels", [])):
            name, words = "label", [plain(str(label)) for label in labels]
        elif golden.ndim == 1 and is_feature(v.tap):
            name = "sample"
        elif golden.ndim > 1:
            try:
                name, values, words = self._axis(v, golden.shape[axis], axis, v.index[0])
            except (KeyError, ParityError, IndexError, ValueError):
                name = "element"
        through = {0: "", 1: f"frame {v.index[0]}", 2: f"time step {v.index[0]}, channel {v.index[-1]}"}
        return {
            "kind": "cut", "tap": v.tap, "clip": plain(v.clip), "unit": plain(v.unit if v.unit != "1" else ""),
            "through": through[golden.ndim - 1] if golden.ndim <= 3 else "", "worst": v.index[axis] - along.start,
            "x": {"name": name, "values": values[along], "words": words[along]},
            "golden": packed(golden[at]), "candidate": packed(candidate[at]),
            "error": packed(np.abs(candidate - golden)[at]), "bound": packed(room[at]),
        }  # fmt: skip


def taps(run: Run, v: Verdict) -> list[str]:
    """The taps that may be pictured of a first failure: itself, and of features those after it with a frequency."""
    order = flow(run, v.system)
    later = order[order.index(v.tap) :] if v.tap in order else [v.tap]
    if v.path != "features":
        return [v.tap]
    found = [tap for tap in later if is_feature(tap) and tap not in SAMPLES]
    return list(dict.fromkeys([v.tap, *found])) if v.tap in SAMPLES else found


def _around(i: int, size: int, most: int) -> slice:
    start = max(0, min(i - most // 2, size - most))
    return slice(start, min(size, start + most))


def _words(rows: slice, columns: slice, shape: Sequence[int]) -> str:
    """Which part of a larger array is shown; nothing where it is all."""
    said = []
    if rows.stop - rows.start < shape[0]:
        said.append(f"frames {rows.start} to {rows.stop - 1} of {shape[0]}")
    if columns.stop - columns.start < shape[1]:
        said.append(f"elements {columns.start} to {columns.stop - 1} of {shape[1]}")
    return ", ".join(said)


def _lost(run: Run) -> str:
    if run.keep == "none":
        return "no arrays were kept (--keep none)"
    if run.recheck.get("of"):
        return f"a recheck keeps no arrays: the page of {run.recheck['of']} has the pictures"
    return "its arrays weren't kept: there was nothing to keep, or others came first (--keep all keeps every array)"


def flip(run: Run, folder: Path, v: Verdict) -> dict[str, Any] | None:
    """The posteriors of a flipped label: a row a label with the golden's and the candidate's, and which tap says so.

    Logits are turned into probabilities by a softmax; what already is a distribution stays as it is.
    """
    about = run.systems.get(v.system, {})
    labels = list(about.get("labels", []))
    source = about.get("decision", {}).get("source", "model/logits")
    arrays = kept.of_verdict(folder, _at(v, source))
    if arrays is None or "candidate" not in arrays or not labels:
        return None
    golden, candidate = (np.asarray(arrays[k], np.float64).reshape(-1) for k in ("golden", "candidate"))
    if golden.size != len(labels) or candidate.size != len(labels):
        return None
    both = [posteriors(golden), posteriors(candidate)]
    rows = [(label, float(both[0][i]), float(both[1][i])) for i, label in enumerate(labels)]
    return {"source": source, "rows": rows, "says": [labels[int(p.argmax())] for p in both]}


def _at(v: Verdict, tap: str) -> Verdict:
    return Verdict(
        system=v.system, backend=v.backend, runtime=v.runtime, precision=v.precision, target=v.target, path=v.path,
        tap=tap, clip=v.clip, outcome=v.outcome,
    )  # fmt: skip


def posteriors(x: Array) -> Array:
    """`[labels]` probabilities of logits; probabilities stay as they are."""
    if (x >= 0).all() and abs(float(x.sum()) - 1.0) < 0.01:
        return x
    e = np.exp(x - x.max())
    return e / e.sum()


def described(picture: Figure) -> str:
    """What a picture shows, for those who don't see it."""
    x, y = picture["x"]["values"], picture["y"]["values"]
    ends = f"{number(x[0])} to {number(x[-1])}" if x else "nothing"
    across = f"{number(y[0])} to {number(y[-1])}" if y else "nothing"
    return f"{picture['title']}: {picture['x']['name']} {ends}, {picture['y']['name']} {across}"
