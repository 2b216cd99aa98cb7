"""The conformance suite: what every backend and runtime must do, inherited in three lines.

    from parity.testing import BackendConformance, RuntimeConformance

    class TestMine(BackendConformance):
        spec = "mine"                    # or override plugin()

    class TestMyRuntime(RuntimeConformance):
        spec = "mine"
        def artifact(self): return ...   # a small model that it can run

Plain pytest classes; `pip install 'parity[test]'`. A plugin is done when its class passes.
"""

from __future__ import annotations

from parity.search import clips, frontends, inputs
from parity.testing.backends import BackendConformance
from parity.testing.recipes import RECIPES, SOUNDS
from parity.testing.runtimes import RuntimeConformance

__all__ = ["RECIPES", "SOUNDS", "BackendConformance", "RuntimeConformance", "clips", "frontends", "inputs"]
