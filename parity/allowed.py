"""How far each tap of a clip may move: what arithmetic allows, widened where tolerances.toml declares more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from parity import golden, policy
from parity.bounds import networks, steps
from parity.bounds.features import Interval
from parity.errors import ConfigError, GoldenError
from parity.expected import Expected
from parity.policy import Policy
from parity.protocols import Arithmetic, Array, Artifact, ClipOutput, Tap
from parity.system import System
from parity.taps import MODEL_INPUT


class Allowed:
    """What a system's taps may be under one policy: an interval, and by whose word (`derived`, or `declared: why`)."""

    def __init__(
        self, system: System, rules: Policy, arithmetic: Mapping[str, Arithmetic], root: Path | None = None
    ) -> None:
        """`arithmetic` is the class of each backend that isn't of float32's; `root` is where the goldens lie."""
        self._system, self._rules, self._arithmetic, self._root = system, rules, arithmetic, root

    def feature(self, tap: Tap, e: Expected, backend: str) -> tuple[Interval, str]:
        """The derived bound of a feature tap, widened where a rule declares more for this backend."""
        if tap not in e.features:
            raise GoldenError(
                f"the golden of {e.clip.name} has no {tap}",
                golden.how_to_record(self._root, self._system) if self._root else None,
            )
        x = e.interval(tap, self._arithmetic.get(backend, "float32"))
        wider = self._rules.rule(self._system.name, backend.partition(":")[0], "features", "", tap, e.clip.name)
        if wider is None:
            return x, "derived"
        return policy.widened(wider, x), f"declared: {wider.why}"

    def fed(
        self, e: Expected, output: ClipOutput, artifact: Artifact, runtime: str, backend: str
    ) -> tuple[Interval, str]:
        """What the network was fed with: the golden's features as they are, or the backend's within their bound.

        Where it takes integers: to half a step of its input, within what that can hold.
        """
        value = e.reference.astype(np.float64)
        x, source = Interval(value, value, value), "derived"
        if backend:
            x, source = self.feature(self._system.frontend.output, e, backend)
        raw = output.raw.get(MODEL_INPUT)
        if raw is not None and np.issubdtype(e.reference.dtype, np.floating):
            x = steps.rounded(x, raw)
        path, name = "cumulative" if backend else "isolated", runtime.partition(":")[0]
        rule = self._rules.rule(self._system.name, name, path, artifact.precision, MODEL_INPUT, e.clip.name)
        return (x, source) if rule is None else (policy.widened(rule, x), f"declared: {rule.why}")

    def half_width(self, e: Expected, tap: Tap, artifact: Artifact, path: str) -> Array | None:
        """How far arithmetic lets an activation move, where that can be derived."""
        return networks.half_of(e.halves, tap, artifact.precision, path)

    def derived(self, e: Expected, tap: Tap, value: Array, artifact: Artifact, path: str) -> Interval | None:
        """The derived bound of an activation before a policy widened it, where there is one."""
        half = self.half_width(e, tap, artifact, path)
        return None if half is None else networks.interval(value, half)

    def activation(
        self, e: Expected, tap: Tap, value: Array, output: ClipOutput, artifact: Artifact, runtime: str, path: str
    ) -> tuple[Interval, str]:
        """The derived bound of an activation, widened where a rule declares more; where none is derived, the rule's."""
        which = (self._system.name, runtime.partition(":")[0], path, artifact.precision, tap, e.clip.name)
        half = self.half_width(e, tap, artifact, path)
        rule = self._rules.require(*which) if half is None else self._rules.rule(*which)
        raw = output.raw.get(tap)
        if rule is None:
            assert half is not None
            return networks.interval(value, half), "derived"
        if rule.steps and raw is None and tap in output.taps:
            raise ConfigError(
                f"a rule counts steps at {tap} of {self._system.name}, but {runtime} {artifact.precision} gives floats",
                "use absolute, relative or of_rms there",
            )
        step, moved = (
            0.0 if raw is None else raw.scale,
            steps.moved(output.taps.get(MODEL_INPUT), e.reference) if path == "cumulative" else 0.0,
        )
        x = policy.interval(rule, value, step, moved)
        if half is not None:
            x = Interval(x.value, np.minimum(x.lo, x.value - half), np.maximum(x.hi, x.value + half))
        return x, f"declared: {rule.why}"
