"""Every backend that says it supports a recipe, on one clip, held to the bounds derived around the oracle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from parity import frontend as fe
from parity import registry
from parity.compare import compare
from parity.expected import bounds_of
from parity.protocols import Arithmetic, Array, Clip, Failure, Job, Tap, Unsupported, arithmetic_of
from parity.targets.local import LocalTarget


class Differential:
    """NumPy in this process, the rest in workers, so that one that crashes is a finding like another."""

    def __init__(self, backends: Sequence[str], limit: float = 60.0) -> None:
        self._here = {spec: registry.create("backend", spec) for spec in backends if spec == "numpy"}
        self._there = [spec for spec in backends if spec not in self._here]
        self._limit, self._target = limit, LocalTarget(1, limit)
        self.compared: Counter[str] = Counter()
        """Recipes by backend."""

    def close(self) -> None:
        """End the workers."""
        self._target.close()

    def require(self, others: int = 2) -> None:
        """AssertionError unless NumPy and so many more backends were compared: one alone agrees with itself."""
        more = sum(count > 0 for spec, count in self.compared.items() if spec != "numpy")
        enough = self.compared["numpy"] > 0 and more >= others
        assert enough, (
            f"compared with too few backends: numpy and {others} more are asked for, not {dict(self.compared)}"
        )

    def check(self, frontend: fe.Frontend, clip: Clip) -> None:
        """AssertionError names the backend and the first tap that is out of bounds."""
        for spec, plugin in self._here.items():
            if plugin.supports(frontend) is None:
                (got,) = plugin.features([clip], frontend, plugin.taps(frontend))
                self._hold(spec, frontend, clip, got, arithmetic_of(plugin, frontend))
        classes: dict[str, Arithmetic] = {}
        for spec in self._there:
            said = self._target.describe("backend", spec, [frontend])
            if not isinstance(said.answers[0], Unsupported):
                classes[spec] = said.arithmetic[0] if said.arithmetic else "float32"
        if not classes:
            return
        job = Job(system="drawn", frontend=frontend, clips=[clip], backends=list(classes))
        (result,) = self._target.run([job])
        for spec, outputs in result.features.items():
            if isinstance(outputs, Failure):
                self._target.close()
                self._target = LocalTarget(1, self._limit)
                raise AssertionError(f"{spec}: {outputs.reason}, on {clip.name}; {frontend}")
            self._hold(spec, frontend, clip, dict(outputs[0].taps), classes[spec])

    def _hold(
        self, spec: str, frontend: fe.Frontend, clip: Clip, got: dict[Tap, Array], arithmetic: Arithmetic
    ) -> None:
        self.compared[spec] += 1
        (exact,) = bounds_of(clip, frontend, (arithmetic,))[0].values()
        assert frontend.output in got, f"{spec} gives no {frontend.output} of {frontend}"
        for tap in (t for t in frontend.taps if t in got):
            x = exact[tap]
            judged = compare(got[tap], x.value, x.lo, x.hi, frontend.dtype(tap))
            text = f"{spec}: {tap} of {clip.name}: {judged.message} (error over bound {judged.ratio}); {frontend}"
            assert judged.outcome == "pass", text
