"""What every runtime must do."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity import plan, policy, registry, system
from parity.bounds import networks
from parity.compare import compare
from parity.errors import ConfigError, ModelError
from parity.protocols import Array, Artifact, Runtime, Tap, Taps, Unsupported
from parity.taps import MODEL_INPUT
from parity.targets.agent import from_output, to_input
from parity.testing.backends import same


class RuntimeConformance:
    """Set `spec` (or override `plugin`), and give an `artifact`."""

    spec: str = ""
    clip: str = ""
    """Whose rules the drawn features are held to, where rules name clips: drawn ones leave a calibrated range."""

    def plugin(self) -> Runtime:
        """The plugin under test."""
        made: Runtime = registry.create("runtime", self.spec)
        return made

    def artifact(self) -> Artifact:
        """A model that the runtime can run, with taps inside it."""
        raise NotImplementedError

    def features(self, seed: int = 0) -> Array:
        """Features that the model takes, float32 `[frames, bands]`: what logarithms of spectra look like."""
        a = self.artifact()
        frames, bands = a.shape
        shape = (a.frames or frames or 50, bands or 40)
        return np.random.default_rng(seed).uniform(-6.0, 1.0, shape).astype(np.float32)

    def run(self, session: Any, features: Array, taps: frozenset[Tap] | None = None) -> Taps:
        """The session's answer to features, at `taps` or all."""
        a = self.artifact()
        x = to_input(features, a, session.tensors.get(MODEL_INPUT))
        got: Taps = session.run({a.input.name: x}, frozenset(a.taps) if taps is None else taps)
        return got

    def test_versions(self) -> None:
        versions = self.plugin().versions()
        assert versions, "versions() is empty: say at least which library computes"
        assert all(isinstance(v, str) and v for v in versions.values()), f"versions are words: {dict(versions)}"

    def test_supports_its_own_format_only(self) -> None:
        plugin, mine = self.plugin(), self.artifact()
        assert plugin.supports(mine) is None, f"refuses the suite's own artifact: {plugin.supports(mine)}"
        other = plugin.supports(dataclasses.replace(mine, format="no-such-format"))
        assert isinstance(other, Unsupported), "doesn't refuse a format that doesn't exist"
        assert "no-such-format" in other.reason, f"the reason doesn't name the format: {other.reason}"

    def test_a_damaged_file_is_a_model_error(self, tmp_path: Path) -> None:
        mine = self.artifact()
        whole = Path(mine.path).read_bytes()
        noise = np.random.default_rng(0).bytes(4096)
        half, cut = whole[: len(whole) // 2], whole[:-1]
        damaged = {"empty": b"", "garbage": noise, "text": b"not a model\n", "half": half, "cut": cut}
        for name, data in damaged.items():
            path = tmp_path / f"{name}{Path(mine.path).suffix}"
            path.write_bytes(data)
            self.refuses(dataclasses.replace(mine, path=str(path)), name)
        self.refuses(dataclasses.replace(mine, path=str(tmp_path / f"absent{Path(mine.path).suffix}")), "absent")

    def refuses(self, artifact: Artifact, what: str) -> None:
        """`open` raises ModelError, and nothing else."""
        try:
            with self.plugin().open(artifact):
                pytest.fail(f"opened a file that is {what}")
        except ModelError as e:
            if Path(artifact.path).name not in e.message:
                pytest.fail(f"the message for a file that is {what} doesn't name it: {e.message}")
        except Exception as e:
            pytest.fail(f"a file that is {what} raises {type(e).__name__}, not ModelError: {e}")

    def test_gives_the_asked_taps_in_their_dtype(self) -> None:
        a = self.artifact()
        with self.plugin().open(a) as session:
            for asked in (frozenset(a.taps), *(frozenset({t}) for t in a.taps), frozenset[Tap]()):
                got = self.run(session, self.features(), asked)
                assert set(got) == asked, f"asked for {sorted(asked)}, got {sorted(got)}"
                for tap, array in got.items():
                    x = from_output(array, a.taps[tap], session.tensors.get(tap))  # ValueError: not its layout
                    assert x.dtype == a.taps[tap].dtype, f"{tap} is {x.dtype}, declared is {a.taps[tap].dtype}"

    def test_repeats_itself_and_keeps_its_inputs(self) -> None:
        a, x = self.artifact(), self.features()
        before = x.tobytes()
        with self.plugin().open(a) as session:
            native = to_input(x, a, session.tensors.get(MODEL_INPUT))
            sent = native.tobytes()
            first = session.run({a.input.name: native}, frozenset(a.taps))
            kept = {t: v.tobytes() for t, v in first.items()}
            self.run(session, self.features(1))
            assert {t: v.tobytes() for t, v in first.items()} == kept, "a later run changed what an earlier one gave"
            assert same(first, self.run(session, x)), "other bits the second time"
        assert (native.tobytes(), x.tobytes()) == (sent, before), "run() changed its inputs"

    def test_asking_for_layers_leaves_the_outputs_alone(self) -> None:
        a, x = self.artifact(), self.features()
        last = frozenset(list(a.taps)[-1:])
        with self.plugin().open(a) as session:
            alone = self.run(session, x, last)
            self.run(session, x)
            assert same(alone, self.run(session, x, last)), f"{last} has other bits once layers were read"

    def test_sessions_share_no_state(self) -> None:
        a, plugin = self.artifact(), self.plugin()
        with plugin.open(a) as one, plugin.open(a) as other:
            expected = {seed: self.run(one, self.features(seed)) for seed in (0, 1)}
            got = [self.run(session, self.features(seed)) for seed in (0, 1) for session in (other, one)]
        for seed, found in zip((0, 0, 1, 1), got, strict=True):
            assert same(found, expected[seed]), "two open sessions disturb each other"

    def test_agrees_with_the_trained_network(self) -> None:
        """Within the derived bound, or the declared tolerances; where the system's reference is installed."""
        a = self.artifact()
        spec, trained, rules = self.judge(a)
        bounded = self.bounded(a)
        exact = registry.create("runtime", spec)
        for seed in range(3):
            x = self.features(seed)
            with exact.open(trained) as session:
                right = session.run({trained.input.name: to_input(x, trained, None)}, frozenset(trained.taps))
            with self.plugin().open(a) as session:
                got = {t: from_output(v, a.taps[t], session.tensors.get(t)) for t, v in self.run(session, x).items()}
            halves = {} if bounded is None else self.half_widths(bounded, x, list(got), a.precision)
            for tap, array in got.items():
                value = from_output(right[tap], trained.taps[tap], None)
                if bounded is not None:
                    bound, why = networks.interval(value, halves[tap]), "derived"
                else:
                    asked = (a.system, self.spec.partition(":")[0], "isolated", a.precision, tap, self.clip)
                    rule = rules.require(*asked)
                    bound, why = policy.interval(rule, value), rule.why
                judged = compare(array, bound.value, bound.lo, bound.hi, a.taps[tap].dtype)
                assert judged.outcome == "pass", f"{tap}: {judged.message} (ratio {judged.ratio}; {why})"

    def bounded(self, a: Artifact) -> Artifact | None:
        """What the bounds of the artifact's activations are derived from, where they are."""
        with suppress(ConfigError):
            source = networks.source(system.load(Path(a.path).parent))
            if source is not None and registry.installed(networks.RUNTIME):
                return networks.bounded(source, [a.precision])
        return None

    def half_widths(self, bounded: Artifact, x: Array, taps: Sequence[Tap], precision: str) -> Taps:
        """How far each tap may move, by Monte Carlo arithmetic: the graph runs once for all of them."""
        names = {tap: networks.name(tap, precision, "isolated") for tap in taps}
        with registry.create("runtime", networks.RUNTIME).open(bounded) as session:
            given = session.run({bounded.input.name: to_input(x, bounded, None)}, frozenset(names.values()))
        return {tap: from_output(given[name], bounded.taps[name], None) for tap, name in names.items()}

    def judge(self, a: Artifact) -> tuple[str, Artifact, policy.Policy]:
        """The reference runtime and model of the artifact's system, and the rules that are declared for it."""
        folder = Path(a.path).parent
        with suppress(ConfigError):
            found = system.load(folder)
            spec, trained = plan.reference(plan.Plan(found), _supported)
            return spec, trained, policy.load(_rules(folder)).on(platform.machine())
        pytest.skip(f"no system.toml with an installed reference runtime beside {a.path}")


def _supported(spec: str, artifacts: Sequence[Artifact]) -> list[object]:
    plugin = registry.create("runtime", spec)
    return [plugin.supports(a) for a in artifacts]


def _rules(folder: Path) -> Sequence[Path]:
    return [p for parent in (folder, *folder.parents) for p in (parent / "golden", parent)]
