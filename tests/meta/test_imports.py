"""What is imported when: by the modules that a fresh process ends with, never by a clock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FRAMEWORKS = {
    "torch",
    "tensorflow",
    "keras",
    "librosa",
    "onnxruntime",
    "ai_edge_litert",
    "onnx",
    "safetensors",
    "scipy",
    "numba",
}
LIBRARIES = FRAMEWORKS | {
    "numpy", "click", "msgspec", "rich", "jinja2", "soundfile", "soxr", "pandas", "hypothesis", "junitparser", "pytest",
}  # fmt: skip

LOADED = "\nimport sys; print('LOADED', *sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"


def loaded(code: str, folder: Path) -> set[str]:
    """Top-level modules in a fresh process after `code`."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code + LOADED], cwd=folder, capture_output=True, text=True, timeout=300,
        check=True, env=os.environ | {"COVERAGE_PROCESS_START": ""},
    )  # fmt: skip
    (line,) = [x for x in done.stderr.splitlines() if x.startswith("LOADED")]
    return set(line.split()[1:])


def command(*arguments: str) -> str:
    """Code that runs a command in its process and goes on."""
    return f"""
import sys
sys.argv = ["parity", *{list(arguments)!r}]
from parity.cli import main
try:
    main()
except SystemExit as e:
    assert e.code in (None, 0), e.code
"""


def test_a_process_starts_without_any_library(tmp_path: Path) -> None:
    assert not loaded("pass", tmp_path) & LIBRARIES, "the other tests here would prove nothing"


def test_import_parity_imports_no_library(tmp_path: Path) -> None:
    assert not loaded("import parity; parity.__version__", tmp_path) & LIBRARIES


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("golden", "record", "--help"), ("--version",)])
def test_help_imports_click_and_nothing_else(arguments: tuple[str, ...], tmp_path: Path) -> None:
    found = loaded(command(*arguments), tmp_path) & LIBRARIES
    assert found == {"click"}


def test_list_looks_at_what_is_installed_without_importing_it(tmp_path: Path) -> None:
    assert not loaded(command("list"), tmp_path) & FRAMEWORKS


def test_run_imports_no_framework_where_it_judges(project: Path, tmp_path: Path) -> None:
    arguments = ("run", "--system", "commands-cnn", "--backend", "numpy", "--backend", "librosa", "--runtime", "onnxrt",
                 "--runtime", "tflite", "--report", str(tmp_path))  # fmt: skip
    assert not loaded(command(*arguments), project) & FRAMEWORKS


@pytest.mark.parametrize(
    "module",
    ["targets.agent", "targets.wire", "backends.numpy_", "backends.reference", "backends.fixed_point",
     "backends.recorded", "backends.exec_", "dumps.files", "dumps.description", "dumps.dump", "protocols",
     "frontend", "taps", "layout", "registry", "errors"],
)  # fmt: skip
def test_the_far_side_needs_numpy_and_the_standard_library_only(module: str, tmp_path: Path) -> None:
    before = loaded("pass", tmp_path)  # what a virtual environment's own .pth files import
    found = loaded(f"import parity.{module}", tmp_path) - before - set(sys.stdlib_module_names)
    assert {name for name in found if not name.startswith("_")} <= {"parity", "numpy"}


@pytest.mark.parametrize("kind", ["backend", "runtime"])
def test_naming_plugins_imports_none(kind: str, tmp_path: Path) -> None:
    code = f"from parity import registry; [(p.missing, p.versions()) for p in registry.plugins({kind!r}).values()]"
    assert not loaded(code, tmp_path) & FRAMEWORKS


@pytest.mark.parametrize(
    ("plugin", "own"),
    [("backends.librosa_", "librosa"), ("runtimes.onnxrt", "onnxruntime"), ("runtimes.tflite", "ai_edge_litert"),
     ("runtimes.torch_", "torch"), ("backends.torch_", "torch"),
     ("runtimes.torchscript", "torch"), ("runtimes.onnx_reference", "onnx"), ("backends.microfrontend", "numpy")],
)  # fmt: skip
def test_a_plugin_imports_its_own_framework_and_no_other(plugin: str, own: str, tmp_path: Path) -> None:
    found = loaded(f"import parity.{plugin}", tmp_path)
    assert own in found
    assert not found & {"torch", "tensorflow", "librosa", "onnxruntime", "ai_edge_litert"} - {own}
