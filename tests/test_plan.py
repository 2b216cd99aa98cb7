"""What a run will compare, and what it says of the rest; plugins answer here as the tests tell them to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from parity import plan, registry
from parity import system as systems
from parity.errors import ConfigError
from parity.plan import Plan, Selection
from parity.protocols import Artifact, Description, Job, JobResult, Unsupported
from parity.records import Skipped
from tests.plugins_for_tests import rig

Answer = Callable[[Any], "frozenset[str] | Unsupported"]


class Told:
    """A target whose plugins answer as told."""

    name = "told"
    threads, apart = 1, False
    timings: list[dict[str, Any]] = []  # noqa: RUF012

    def __init__(self, answers: dict[str, Answer]) -> None:
        self._answers = answers

    @property
    def trusted(self) -> Any:
        return self

    def plugins(self, kind: Any) -> Mapping[str, str]:
        return registry.lacking(kind)

    def needs(self, kind: Any, name: str, lacks: str) -> ConfigError:
        raise NotImplementedError

    def facts(self, now: bool = False) -> dict[str, Any]:
        raise NotImplementedError

    def link(self) -> dict[str, Any]:
        return {}

    def memory(self) -> list[dict[str, Any]]:
        return []

    def load(self, plugins: Iterable[tuple[str, str]]) -> None:
        pass

    def describe(self, kind: str, spec: str, questions: Sequence[Any]) -> Description:
        return Description({}, [self._answers[spec](q) for q in questions])

    def run(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
        raise NotImplementedError

    def release(self) -> None:
        pass


def gives_all(question: Any) -> frozenset[str]:
    return frozenset(question.taps)


def refuses(_: Any) -> Unsupported:
    return Unsupported("not here")


def reads(*formats: str) -> Answer:
    return lambda a: gives_all(a) if a.format in formats else Unsupported(f"can't read {a.format}")


INT8 = ('format = "tflite"\nprecision = "float32"', 'format = "tflite"\nprecision = "int8"')
PLUGINS: dict[str, Answer] = {"numpy": gives_all, "onnxrt": reads("onnx"), "tflite": reads("tflite")}


def selected(**more: Any) -> Selection:
    return Selection(**({"backends": ("numpy",), "runtimes": ("onnxrt",)} | more))


def made(selection: Selection, **answers: Answer) -> tuple[list[Plan], list[Skipped]]:
    plans, skipped, _ = plan.make(selection, Told(PLUGINS | answers))
    return plans, [s for s in skipped if "isn't there" not in s.reason]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of our own: the systems in its `reference_models` are all there are."""
    (tmp_path / "reference_models").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "reference_models"


def add(here: Path, name: str, *changes: tuple[str, str], formats: Sequence[str] = ("onnx",)) -> str:
    return str(rig.system(here / name, ('name = "commands-cnn"', f'name = "{name}"'), *changes, formats=formats))


# ---- What backends declare ----


@pytest.mark.parametrize(
    ("taps", "said"),
    [
        (frozenset(), "declares no taps"),
        (frozenset({"features/spectrum"}), "declares features/spectrum for"),
        (frozenset({"features/compressed", "features/cepstrum"}), "features/cepstrum, features/compressed"),
        (frozenset({"features/compressed", "features/mel"}), "features/compressed, features/mel"),
    ],
)
def test_a_backend_must_give_the_features_and_stages_of_the_recipe_only(
    taps: frozenset[str], said: str, here: Path
) -> None:
    folder = add(here, "one")
    with pytest.raises(ConfigError, match=said) as error:
        made(selected(systems=(folder,)), numpy=lambda _: taps)
    assert "'numpy'" in error.value.message
    assert "features/compressed among them" in str(error.value.hint)


def test_a_backend_may_keep_stages_to_itself(here: Path) -> None:
    taps = frozenset({"features/compressed"})
    (one,), skipped = made(selected(systems=(add(here, "one"),)), numpy=lambda _: taps)
    assert one.backends == {"numpy": taps}
    assert skipped == []


# ---- What was asked for and isn't compared ----


def test_a_named_plugin_that_is_compared_nowhere_was_asked_for(here: Path) -> None:
    add(here, "one")
    add(here, "two")
    _, skipped = made(selected(backends=("numpy", "librosa"), runtimes=("onnxrt", "tflite")), librosa=refuses)
    assert {(s.system, s.backend or s.runtime, s.asked) for s in skipped} == {
        (system, plugin, True) for system in ("one", "two") for plugin in ("librosa", "tflite")
    }


def test_a_named_plugin_that_is_compared_somewhere_may_be_skipped_elsewhere(here: Path) -> None:
    add(here, "one")
    add(here, "two", formats=("onnx", "tflite"))
    _, skipped = made(selected(runtimes=("onnxrt", "tflite")))
    assert [(s.system, s.runtime, s.asked) for s in skipped] == [("one", "tflite", False)]


def test_what_was_not_named_was_not_asked_for(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(here, "one")
    monkeypatch.setattr(registry, "_BUILTIN", [p for p in registry._BUILTIN if p.name in PLUGINS])
    _, skipped = made(Selection())
    assert [(s.runtime, s.asked) for s in skipped] == [("tflite", False)]


def test_a_backend_of_the_same_name_doesnt_speak_for_a_runtime(here: Path) -> None:
    add(here, "one")
    both = selected(backends=("torch",), runtimes=("onnxrt", "torch"))

    def features_only(question: Any) -> frozenset[str] | Unsupported:
        return refuses(question) if isinstance(question, Artifact) else gives_all(question)

    (one,), skipped = made(both, torch=features_only)
    assert one.pairs == [("torch", "onnxrt", "float32")]
    assert [(s.backend, s.runtime, s.asked) for s in skipped] == [("", "torch", True)]
    # The runtime of that name wasn't asked for, nor is the backend compared.
    add(here, "two")
    _, skipped = made(selected(backends=("numpy", "torch")), torch=refuses)
    assert {(s.backend, s.runtime, s.asked) for s in skipped} == {("torch", "", True)}


def test_a_named_runtime_whose_only_system_no_backend_supports_is_compared_nowhere(here: Path) -> None:
    add(here, "one")
    add(here, "two", ("rate = 16000", 'rate = 16000\nscale = "int16"'), formats=("onnx", "tflite"))

    def floats_only(frontend: Any) -> frozenset[str] | Unsupported:
        return gives_all(frontend) if frontend.input.scale == "unit" else Unsupported("no int16")

    plans, skipped = made(selected(runtimes=("onnxrt", "tflite")), numpy=floats_only)
    assert [p.system.name for p in plans if p.pairs] == ["one"]
    assert {(s.system, s.runtime or s.backend, s.asked) for s in skipped} == {
        ("one", "tflite", True),
        ("two", "numpy", False),
    }


def test_a_precision_that_no_model_has_was_asked_for_beside_one_that_does(here: Path) -> None:
    selection = selected(systems=(add(here, "one"),), precisions=("float32", "int4"))
    (one,), skipped = made(selection)
    assert one.pairs == [("numpy", "onnxrt", "float32")]
    assert [(s.precision, s.asked) for s in skipped] == [("int4", True)]
    assert "int4" in skipped[0].reason


def test_a_precision_of_which_nothing_is_compared_was_asked_for(here: Path) -> None:
    add(here, "one")
    add(here, "two", ("rate = 16000", 'rate = 16000\nscale = "int16"'), INT8, formats=("tflite",))

    def floats_only(frontend: Any) -> frozenset[str] | Unsupported:
        return gives_all(frontend) if frontend.input.scale == "unit" else Unsupported("no int16")

    selection = selected(backends=(), runtimes=(), precisions=("float32", "int8"))
    _, skipped = made(
        selection,
        numpy=floats_only,
        **dict.fromkeys(registry.plugins("backend").keys() - {"numpy"}, refuses),
        **dict.fromkeys(registry.plugins("runtime").keys() - {"torch", "onnxrt", "tflite"}, refuses),
    )
    assert [(s.precision, s.asked) for s in skipped if s.precision] == [("int8", True)]


def test_every_precision_that_was_found_is_compared(here: Path) -> None:
    folder = add(here, "one", INT8, formats=("onnx", "tflite"))
    selection = selected(systems=(folder,), runtimes=("onnxrt", "tflite"), precisions=("float32", "int8"))
    (one,), skipped = made(selection)
    assert one.pairs == [("numpy", "onnxrt", "float32"), ("numpy", "tflite", "int8")]
    assert skipped == []


def test_a_second_file_of_one_precision_is_skipped_and_counts_as_asked_for(here: Path) -> None:
    folder = add(here, "one", formats=("onnx", "tflite"))
    (one,), (second,) = made(selected(systems=(folder,)), onnxrt=reads("onnx", "tflite"))
    assert [(r, a.format) for r, a in one.models] == [("onnxrt", "onnx")]
    assert (second.system, second.runtime, second.precision, second.asked) == ("one", "onnxrt", "float32", True)
    assert second.reason == "onnxrt already runs the onnx file in float32, so not tflite"


def test_files_of_two_precisions_and_two_runtimes_of_one_file_are_all_compared(here: Path) -> None:
    folder = add(here, "one", INT8, formats=("onnx", "tflite"))
    both = reads("onnx", "tflite")
    (one,), skipped = made(selected(systems=(folder,), runtimes=("onnxrt", "tflite")), onnxrt=both, tflite=both)
    assert [(r, a.precision) for r, a in one.models] == [
        (runtime, precision) for runtime in ("onnxrt", "tflite") for precision in ("float32", "int8")
    ]
    assert skipped == []


# ---- Whom activations are judged by without goldens ----

ALL = ("onnx", "tflite", "torch", "torchscript", "torch-export")


def planned(folder: Path, *runtimes: str, changes: Sequence[tuple[str, str]] = (), formats: Sequence[str]) -> Plan:
    """A plan whose own models are those that these runtimes can run."""
    system = systems.load(rig.system(folder, *changes, formats=formats))
    runs = [(r, a) for r in runtimes for a in system.artifacts]
    return Plan(system, {}, [(r, a) for r, a in runs if not isinstance(PLUGINS[r](a), Unsupported)])


def asked(answer: Answer) -> plan.Ask:
    return lambda _, artifacts: [answer(a) for a in artifacts]


def test_the_reference_is_the_one_that_is_named(tmp_path: Path) -> None:
    spec, artifact = plan.reference(planned(tmp_path / "s", "onnxrt", formats=ALL), asked(reads("torch")))
    assert (spec, artifact.format) == ("torch:dtype=float64", "torch")


def test_a_named_reference_runs_the_file_that_it_says_it_can_and_float32_first(tmp_path: Path) -> None:
    int8 = ('format = "torch"\nprecision = "float32"', 'format = "torch"\nprecision = "int8"')
    system = systems.load(rig.system(tmp_path / "s", int8, formats=ALL))
    assert [a.precision for a in system.artifacts] == ["int8", "float32", "float32", "float32", "float32"]
    assert plan.reference(Plan(system), asked(reads("tflite")))[1].format == "tflite"
    assert plan.reference(Plan(system), asked(gives_all))[1].format == "torchscript"
    assert plan.reference(Plan(system), asked(reads("torch")))[1].precision == "int8"


def test_a_named_reference_that_can_run_no_file_is_refused_where_all_are_built(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'torch:dtype=float64', which can run no file of commands-cnn"):
        plan.reference(planned(tmp_path / "s", "onnxrt", formats=ALL), asked(refuses))


def test_a_named_reference_whose_file_is_not_built_gives_way_to_the_runs_own(tmp_path: Path) -> None:
    one = planned(tmp_path / "s", "tflite", "onnxrt", formats=("onnx", "tflite"))
    assert plan.reference(one, asked(reads("torch"))) == one.models[0]


def test_a_named_reference_that_is_not_installed_gives_way_to_the_runs_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = registry.Plugin("torch", "runtime", "parity.runtimes.torch_:TorchRuntime", (("no_such_module", "torch"),))
    monkeypatch.setattr(registry, "_BUILTIN", [torch, *(p for p in registry._BUILTIN if p.name != "torch")])
    one = planned(tmp_path / "s", "onnxrt", formats=ALL)

    def ask(spec: str, _: Sequence[Artifact]) -> Sequence[object]:
        raise AssertionError(f"{spec} isn't there to be asked")

    assert plan.reference(one, ask) == one.models[0]


def test_the_runs_own_reference_is_a_float32_one_where_there_is_one(tmp_path: Path) -> None:
    unnamed = ('reference = "torch:dtype=float64"\n', "")
    one = planned(tmp_path / "s", "tflite", "onnxrt", changes=(unnamed, INT8), formats=ALL)
    assert [a.precision for _, a in one.models] == ["int8", "float32"]
    assert plan.reference(one, asked(refuses)) == one.models[1]
    one.models = one.models[:1]
    assert plan.reference(one, asked(refuses)) == one.models[0]
    one.models = []
    with pytest.raises(ConfigError, match="no model to judge by"):
        plan.reference(one, asked(refuses))


def test_an_unknown_reference_is_refused(tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "s", ('reference = "torch:dtype=float64"', 'reference = "tortch"'))
    with pytest.raises(ConfigError, match="unknown runtime 'tortch'"):
        plan.reference(Plan(systems.load(folder)), asked(refuses))


def test_a_format_that_nothing_reads_is_refused(here: Path) -> None:
    folder = add(here, "one", ('format = "onnx"', 'format = "onnxx"'), formats=("onnx",))
    with pytest.raises(ConfigError, match=r"nothing reads the format .onnxx. of commands-cnn\.onnx") as refused:
        made(selected(systems=(folder,)))
    assert refused.value.hint == "did you mean 'onnx'?"


def test_the_trained_network_judges_where_none_is_named(tmp_path: Path) -> None:
    one = planned(tmp_path / "s", "onnxrt", formats=("onnx", "torch"))
    nobody = dataclasses.replace(one.system, reference=None)
    spec, artifact = plan.reference(dataclasses.replace(one, system=nobody), asked(reads("torch")))
    assert (spec, artifact.format) == ("torch:dtype=float64", "torch")


@pytest.mark.parametrize(
    ("facts", "machine"),
    [
        ({"machine": "x86_64", "bits": 64}, "x86_64"),
        ({"machine": "aarch64", "bits": 64}, "aarch64"),
        ({"machine": "aarch64", "bits": 32}, "armv8l"),  # a 32-bit Raspberry Pi OS on its 64-bit kernel
        ({"machine": "armv7l", "bits": 32}, "armv7l"),
        ({}, ""),
        ({"machine": None}, ""),
    ],
)
def test_the_architecture_is_what_the_programs_there_have(facts: dict[str, object], machine: str) -> None:
    target: Any = SimpleNamespace(facts=lambda: facts)
    assert plan.machine_of(target) == machine
