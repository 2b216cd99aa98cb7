from __future__ import annotations

import importlib.metadata
import sys

import pytest

from parity import registry
from parity.backends.numpy_ import NumpyBackend
from parity.errors import ConfigError, MissingExtra


@pytest.mark.parametrize(
    ("spec", "name", "options"),
    [
        ("onnxrt", "onnxrt", {}),
        ("onnxrt:opt=off", "onnxrt", {"opt": "off"}),
        ("onnxrt:threads=2,opt=off", "onnxrt", {"opt": "off", "threads": "2"}),
        ("mod.ule:Class", "mod.ule:Class", {}),
        ("mod.ule:Class:a=b=c", "mod.ule:Class", {"a": "b=c"}),
        ("onnxrt: opt = off ", "onnxrt", {"opt": "off"}),
    ],
)
def test_a_spec_is_a_name_and_options(spec: str, name: str, options: dict[str, str]) -> None:
    assert registry.parse(spec) == (name, options)


@pytest.mark.parametrize("spec", ["onnxrt:opt=", "onnxrt:=off", "onnxrt:opt=off,", "onnxrt:opt=off,x"])
def test_an_option_without_a_name_or_value_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="is not an option") as e:
        registry.parse(spec)
    assert "onnxrt:key=value" in (e.value.hint or "")


def test_an_unknown_name_is_refused_with_the_likely_one() -> None:
    with pytest.raises(ConfigError, match="unknown backend 'libros'") as e:
        registry.find("backend", "libros")
    assert "did you mean 'librosa'?" in (e.value.hint or "")
    with pytest.raises(ConfigError, match="unknown runtime 'numpy'"):
        registry.find("runtime", "numpy")


def test_a_plugin_whose_framework_is_missing_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    real = registry.importlib.util.find_spec
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda n: None if n == "tensorflow" else real(n))
    with pytest.raises(MissingExtra, match="backend 'tf_signal' needs tensorflow, which is not installed") as e:
        registry.create("backend", "tf_signal")
    assert e.value.hint == "pip install 'parity[tf]'"
    assert registry.plugins("backend")["tf_signal"].missing == ["tensorflow"]


def test_one_of_several_packages_is_enough_where_a_plugin_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real, absent = registry.importlib.util.find_spec, {"pymicro_features"}
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda n: None if n in absent else real(n))
    assert registry.plugins("backend")["microfrontend"].missing == []
    absent.add("tensorflow")
    with pytest.raises(MissingExtra, match="needs tensorflow or pymicro-features, which is not installed") as e:
        registry.find("backend", "microfrontend")
    assert e.value.hint == "pip install 'parity[microfrontend]'"


def test_every_extra_that_a_plugin_names_is_declared(project: object) -> None:
    declared = importlib.metadata.metadata("parity").get_all("Provides-Extra") or []
    for kind in ("backend", "runtime"):
        for plugin in registry.plugins(kind).values():  # type: ignore[arg-type]
            assert plugin.extra is None or plugin.extra in declared, plugin.name


def test_a_class_can_be_named_directly() -> None:
    assert isinstance(registry.create("backend", "parity.backends.numpy_:NumpyBackend"), NumpyBackend)


@pytest.mark.parametrize(
    "spec",
    ["no.such.module:Class", "parity.backends.numpy_:Absent", ":Class", "parity.backends.numpy_:", ".relative:Class"],
)
def test_a_class_that_isnt_there_is_a_configuration_error(spec: str) -> None:
    with pytest.raises(ConfigError, match="can't be imported"):
        registry.create("backend", spec)


def test_options_that_a_plugin_doesnt_know_are_refused() -> None:
    with pytest.raises(ConfigError, match="backend 'numpy' has no option 'speed'") as e:
        registry.create("backend", "numpy:speed=high")
    assert e.value.hint == "it has none"
    with pytest.raises(ConfigError, match="runtime 'torch' has no option 'speed'") as e:
        registry.create("runtime", "torch:speed=high")
    assert e.value.hint == "its options: dtype"


def test_an_entry_point_is_a_plugin_and_cant_replace_a_built_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    where = "parity.backends.numpy_:NumpyBackend"
    points = [importlib.metadata.EntryPoint(n, where, "parity.backends") for n in ("zebra", "mine", "librosa")]
    monkeypatch.setattr(
        registry.importlib.metadata, "entry_points", lambda group: points if group == "parity.backends" else []
    )
    found = registry.plugins("backend")
    assert list(found)[-2:] == ["mine", "zebra"]
    assert found["librosa"].where != where
    assert isinstance(registry.create("backend", "mine"), NumpyBackend)


def test_versions_are_read_without_an_import() -> None:
    assert registry.plugins("backend")["numpy"].versions() == {"numpy": importlib.metadata.version("numpy")}
    assert registry.Plugin("x", "backend", "x:X", (("nope", "no-such-distribution"),)).versions() == {}


def test_an_option_without_a_value_after_a_known_name_says_how_to_write_it() -> None:
    with pytest.raises(ConfigError) as e:
        registry.find("runtime", "onnxrt:opt")
    assert e.value.hint == "write onnxrt:key=value,key=value"
