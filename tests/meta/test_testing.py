"""The conformance suite itself: it sees each plugin that breaks one promise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from parity import frontend as fe
from parity.backends.numpy_ import NumpyBackend
from parity.protocols import Array, Artifact, Clip, Port, Tap, Taps, Tensor, Unsupported
from parity.testing import BackendConformance, RuntimeConformance

Results = list[dict[Tap, Array]]


class Spoilt(NumpyBackend):
    """NumPy's backend with one thing spoilt."""

    def __init__(self, spoil: Callable[[Results, Sequence[Clip], fe.Frontend], object]) -> None:
        self._spoil = spoil

    def features(self, clips: Sequence[Clip], frontend: fe.Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        results = [dict(r) for r in super().features(clips, frontend, taps)]
        self._spoil(results, clips, frontend)
        return results


def each(change: Callable[[Array], Array]) -> Callable[[Results, Sequence[Clip], fe.Frontend], None]:
    def spoil(results: Results, _clips: Sequence[Clip], _frontend: fe.Frontend) -> None:
        for r in results:
            r.update({t: change(a) for t, a in r.items() if not t.endswith(("audio", "frames"))})

    return spoil


def drift() -> Callable[[Results, Sequence[Clip], fe.Frontend], None]:
    count = iter(range(10**9))
    return each(lambda a: a + a.dtype.type(next(count) % 2) * np.spacing(a) if a.dtype.kind == "f" else a)


def scribble(_results: Results, clips: Sequence[Clip], _frontend: fe.Frontend) -> None:
    for clip in clips:
        clip.samples[:1] += np.float32(1e-3)


def batched(results: Results, _clips: Sequence[Clip], _frontend: fe.Frontend) -> None:
    if len(results) > 1:
        each(lambda a: np.nextafter(a, np.float32(9)) if a.dtype.kind == "f" else a)(results, _clips, _frontend)


def more(results: Results, clips: Sequence[Clip], frontend: fe.Frontend) -> None:
    for r in results:
        r["features/audio"] = np.zeros(frontend.samples(len(clips[0].samples)), np.float32)


DTYPE = "test_arrays_are_the_asked_ones_typed_contiguous_and_time_major"
BROKEN: dict[str, tuple[Callable[..., object], str]] = {
    "float64": (each(lambda a: a.astype(np.float64)), DTYPE),
    "bands first": (each(lambda a: np.ascontiguousarray(a.T)), DTYPE),
    "not contiguous": (each(np.asfortranarray), DTYPE),
    "a tap too many": (more, DTYPE),
    "a tap too few": (lambda r, c, f: [x.pop(f.output, None) for x in r], DTYPE),
    "a thousandth louder": (
        each(lambda a: a * a.dtype.type(1.001) if a.dtype.kind == "f" else a),
        "test_holds_the_derived_bounds",
    ),
    "lies about what it supports": (each(lambda a: a + a.dtype.type(1)), "test_what_it_supports_it_computes"),
    "other bits each time": (drift(), "test_inputs_stay_as_they_are_and_outputs_repeat"),
    "writes into its input": (scribble, "test_inputs_stay_as_they_are_and_outputs_repeat"),
    "other bits in a batch": (batched, "test_a_batch_gives_what_its_clips_give"),
    "NaN": (each(lambda a: a * np.float32(np.nan) if a.dtype.kind == "f" else a), "test_silence_gives_no_nan"),
    "a result too many": (lambda r, c, f: r.append({}), "test_no_clips_give_no_results"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_backend_that_breaks_a_promise_is_caught_by_the_test_of_that_promise(name: str) -> None:
    spoil, test = BROKEN[name]

    class Suite(BackendConformance):
        examples = 2

        def plugin(self) -> NumpyBackend:
            return Spoilt(spoil)

    from parity.testing import backends

    kept = [c.samples.copy() for c in backends.SOUNDS]
    try:
        with pytest.raises((AssertionError, ValueError)):
            getattr(Suite(), test)()
    finally:
        for clip, samples in zip(backends.SOUNDS, kept, strict=True):
            clip.samples[:] = samples


class Refuses(NumpyBackend):
    def supports(self, frontend: fe.Frontend) -> Unsupported | None:
        return Unsupported("not today")


class Wordless(NumpyBackend):
    def supports(self, frontend: fe.Frontend) -> Unsupported | None:
        return Unsupported(" ") if frontend.quantize else None

    def versions(self) -> Mapping[str, str]:
        return {"numpy": ""}

    def taps(self, frontend: fe.Frontend) -> frozenset[Tap]:
        return frozenset({"features/audio"})


@pytest.mark.parametrize(
    ("plugin", "test"),
    [(Refuses, "test_supports_something"), (Wordless, "test_supports_answers_for_any_recipe"),
     (Wordless, "test_versions"), (Wordless, "test_taps_are_the_recipes_and_hold_its_output")],
)  # fmt: skip
def test_a_backend_that_says_too_little_is_caught(plugin: type[NumpyBackend], test: str) -> None:
    class Suite(BackendConformance):
        def plugin(self) -> NumpyBackend:
            return plugin()

    with pytest.raises(AssertionError):
        getattr(Suite(), test)()


class Toy:
    """A runtime and its session in one: doubles its input. `flaw` names the promise it breaks."""

    def __init__(self, flaw: str = "") -> None:
        self.flaw, self.calls, self.buffer = flaw, 0, np.zeros((1, 3, 2), np.float32)
        self.tensors: Mapping[Tap, Tensor] = {}

    def versions(self) -> Mapping[str, str]:
        return {} if self.flaw == "no versions" else {"toy": "1"}

    def supports(self, artifact: Artifact) -> Unsupported | None:
        return None if artifact.format == "toy" or self.flaw == "any format" else Unsupported(f"no {artifact.format}")

    @contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Any:
        from pathlib import Path

        from parity.errors import ModelError

        path = Path(artifact.path)
        data = path.read_bytes() if path.is_file() or self.flaw == "foreign exception" else b""
        if data != b"TOY" and self.flaw != "opens anything":
            raise ModelError(f"{artifact.path} is no toy" if self.flaw != "nameless" else "no toy")
        yield self if self.flaw == "shared state" else Toy(self.flaw)

    def run(self, inputs: Mapping[str, Array], taps: frozenset[Tap]) -> Taps:
        (x,) = inputs.values()
        self.calls += 1
        if self.flaw == "writes into its input":
            x += 1
        y = x * np.float32(2)
        if self.flaw in ("other bits each time", "shared state"):
            y = y + np.float32(self.calls)
        if self.flaw == "layers change outputs" and len(taps) > 1:
            self.buffer = self.buffer + 1
        if self.flaw == "layers change outputs":
            y = y + self.buffer[0, 0, 0]
        if self.flaw == "one buffer":
            self.buffer[:] = y
            y = self.buffer
        if self.flaw == "float64":
            y = y.astype(np.float64)
        return dict.fromkeys(("model/a", "model/b") if self.flaw == "all taps always" else taps, y)


DAMAGED, TAPS = "test_a_damaged_file_is_a_model_error", "test_gives_the_asked_taps_in_their_dtype"
FLAWS = {
    "no versions": "test_versions", "any format": "test_supports_its_own_format_only", "opens anything": DAMAGED,
    "foreign exception": DAMAGED, "nameless": DAMAGED, "float64": TAPS, "all taps always": TAPS,
    "writes into its input": "test_repeats_itself_and_keeps_its_inputs",
    "other bits each time": "test_repeats_itself_and_keeps_its_inputs",
    "one buffer": "test_repeats_itself_and_keeps_its_inputs",
    "layers change outputs": "test_asking_for_layers_leaves_the_outputs_alone",
    "shared state": "test_sessions_share_no_state",
}  # fmt: skip


def suite(flaw: str, folder: Any) -> RuntimeConformance:
    (folder / "m.toy").write_bytes(b"TOY")
    port = Port(name="x", layout="NTF")

    class Suite(RuntimeConformance):
        spec = "toy"

        def plugin(self) -> Any:
            return Toy(flaw)

        def artifact(self) -> Artifact:
            return Artifact(
                system="toy", format="toy", precision="float32", path=str(folder / "m.toy"), sha256="", shape=(3, 2),
                input=port, taps={"model/a": port, "model/b": port},
            )  # fmt: skip

    return Suite()


def call(tests: RuntimeConformance, name: str, folder: Any) -> None:
    test = getattr(tests, name)
    test(folder) if name == DAMAGED else test()


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_runtime_that_breaks_a_promise_is_caught_by_the_test_of_that_promise(flaw: str, tmp_path: Any) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        call(suite(flaw, tmp_path), FLAWS[flaw], tmp_path)


@pytest.mark.parametrize("test", sorted(set(FLAWS.values())))
def test_a_runtime_that_keeps_its_promises_passes(test: str, tmp_path: Any) -> None:
    call(suite("", tmp_path), test, tmp_path)
