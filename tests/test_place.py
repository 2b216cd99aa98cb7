"""Where an element lies, in recipes that have no spectrum."""

from __future__ import annotations

import pytest

from parity.place import place
from parity.testing import RECIPES


@pytest.mark.parametrize(
    ("recipe", "tap", "index", "where"),
    [
        ("raw audio", "features/audio", (16000,), {"time": 1.0}),
        ("raw audio in chunks", "features/frames", (3, 2), {"frame": 3, "time": (3 * 512 + 2) / 16000}),
        ("micro-speech", "features/micro", (2, 0), {"frame": 2, "time": 0.055, "band": 0, "frequency": 172.53}),
        ("micro-speech", "features/quantized", (0, 39), {"frame": 0, "time": 0.015, "band": 39, "frequency": 7053.32}),
    ],
)
def test_where_an_element_is_in_recipes_without_a_spectrum(
    recipe: str, tap: str, index: tuple[int, ...], where: dict[str, float]
) -> None:
    assert place(RECIPES[recipe], tap, index) == pytest.approx(where, rel=1e-4)
