"""What happens to an array at any tap: axes swapped, elements in another order, rounded, scaled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from parity import frontend as fe
from parity.explain.catalogue.changes import brain, factor, half, hooked, offset, shown
from parity.explain.definition import Hook
from parity.explain.settings import GENERIC, PLAUSIBLE, RARE, USUAL, Knob, Setting
from parity.protocols import Array, Tap


def entries(frontend: fe.Frontend) -> list[Setting | Knob]:
    """What may happen to the array of each stage, at its tap alone or for the stages after it too."""
    found: list[Setting | Knob] = []
    for tap, stage in frontend.stages().items():
        whole = isinstance(stage, fe.Quantize | fe.Micro)
        if tap == "features/audio":
            found.append(_at(tap, "layout.reversed", "samples in reverse order", lambda x: x[::-1], RARE))
        else:
            found += _orders(tap, last=tap == frontend.output)
        if not whole:
            found += [
                Setting("tap.float16", f"{_name(tap)} rounded to float16", tap, hooked(Hook(tap, after=half)),
                        PLAUSIBLE),
                Setting("tap.bfloat16", f"{_name(tap)} rounded to bfloat16", tap, hooked(Hook(tap, after=brain)), RARE),
            ]  # fmt: skip
    output = frontend.output
    if not isinstance(frontend.stages()[output], fe.Quantize | fe.Micro) and output != "features/audio":
        found += _affine(output)
    return found


def _name(tap: Tap) -> str:
    return tap.removeprefix("features/")


def _at(tap: Tap, key: str, words: str, f: Callable[[Array], Array], rank: int, view: bool = False) -> Setting:
    return Setting(key, words, tap, hooked(Hook(tap, after=f, index=True, view=view)), rank)


def _orders(tap: Tap, last: bool) -> list[Setting | Knob]:
    """Wrong orders, seen at the tap alone (an array handed over wrongly) and, but at the last one, by what follows."""
    found: list[Setting | Knob] = []
    name = _name(tap)
    ways: tuple[tuple[str, str, Callable[[Array], Array], int], ...] = (
        ("layout.transposed", f"axes of {name} swapped", lambda x: x.T, USUAL),
        ("layout.order", f"{name} in the order of swapped axes (reshaped, not transposed)",
         lambda x: np.reshape(x.T, x.shape), PLAUSIBLE),
        ("layout.order", f"swapped axes of {name} in the order of the others",
         lambda x: np.reshape(x, x.shape[::-1]), PLAUSIBLE),
        ("layout.order", f"{name} read as if its axes were swapped",
         lambda x: np.reshape(x, x.shape[::-1]).T, PLAUSIBLE),
        ("layout.reversed", f"bands of {name} in reverse order", lambda x: x[:, ::-1], PLAUSIBLE),
        ("layout.reversed", f"frames of {name} in reverse order", lambda x: x[::-1], PLAUSIBLE),
    )  # fmt: skip
    for key, words, f, rank in ways:
        found.append(_at(tap, key, words, f, rank))
        if not last:
            found.append(_at(tap, key, f"{words}, at this tap only", f, rank, view=True))
    return found


def _affine(tap: Tap) -> list[Setting | Knob]:
    """What any scale or unit comes down to; named when nothing of the recipe says it."""
    return [
        Knob("output.scale", lambda x: f"features times {shown(x)}", tap, lambda d, x: d.with_hook(factor(tap, x)),
             (0.5, 2.0, 0.1, 10.0, -1.0), neutral=1.0, rank=GENERIC),
        Knob("output.offset", lambda x: f"{shown(x)} added to the features", tap,
             lambda d, x: d.with_hook(offset(tap, x)), (1.0, -1.0, 0.1, -0.1), neutral=0.0, rank=GENERIC),
    ]  # fmt: skip
