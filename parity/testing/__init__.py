"""What tests of other people's code use: a check of any featurizer, strategies, and the conformance suite of plugins.

    from parity.testing import assert_parity

    def test_mine():
        assert_parity(my_features, "my-kws/system.toml")     # samples in, features out

What every backend and runtime must do is inherited in three lines:

    from parity.testing import BackendConformance, RuntimeConformance

    class TestMine(BackendConformance):
        spec = "mine"                    # or override plugin()

    class TestMyRuntime(RuntimeConformance):
        spec = "mine"
        def artifact(self): return ...   # a small model that it can run

Plain pytest classes; `pip install 'parity[test]'`. A plugin is done when its class passes.
"""

from __future__ import annotations

from parity.search import frontends, inputs
from parity.testing.backends import BackendConformance
from parity.testing.featurizer import assert_parity, clips
from parity.testing.recipes import RECIPES, SOUNDS
from parity.testing.runtimes import RuntimeConformance

__all__ = [
    "RECIPES", "SOUNDS", "BackendConformance", "RuntimeConformance", "assert_parity", "clips", "frontends", "inputs",
]  # fmt: skip
