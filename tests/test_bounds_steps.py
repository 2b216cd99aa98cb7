"""What quantization steps allow, and what they can't hold."""

from __future__ import annotations

import numpy as np
import pytest

from parity.bounds import steps
from parity.protocols import Raw


@pytest.mark.parametrize(("value", "share"), [
    ([0.0, 25.5, 12.0, -0.04], 0.0), ([0.0, 25.6, 12.0, -0.06], 0.5), ([30.0] * 4, 1.0), ([], 0.0),
])  # fmt: skip
def test_the_share_of_right_values_that_the_integers_cant_hold(value: list[float], share: float) -> None:
    raw = Raw(np.zeros(4, np.int8), 0.1, -128)  # 0 to 25.5
    assert steps.saturated(np.array(value), raw) == share
