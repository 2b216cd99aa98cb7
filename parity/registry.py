"""Plugins by name: where each one's class is, what it needs, and how to install that.

Nothing is imported until a plugin is used, and then only where it works: `parity list` looks at what is installed
without importing it. Third parties add theirs by entry points; a class can also be named directly, `module:Class`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
from dataclasses import dataclass
from typing import Any, Literal

from parity.errors import ConfigError, MissingExtra

Kind = Literal["backend", "runtime"]


@dataclass(frozen=True)
class Plugin:
    """Where a plugin's class is (`module:Class`) and the packages it needs (import name -> distribution)."""

    name: str
    kind: Kind
    where: str
    needs: tuple[tuple[str, str], ...] = ()
    extra: str | None = None
    reads: str = ""
    """The format that a runtime reads; '' where it isn't known beforehand."""
    by_name: bool = False
    """Takes part in a run only when it is named."""
    internal: bool = False
    """Works for parity itself: it is neither listed nor compared."""
    any_of: bool = False
    """One of the packages it needs is enough."""
    takes: str = ""
    """The one option that all of the spec after the first colon is, whatever stands in it: a path, a command."""

    @property
    def missing(self) -> list[str]:
        """Import names that aren't installed."""
        absent = [module for module, _ in self.needs if importlib.util.find_spec(module) is None]
        return [] if self.any_of and len(absent) < len(self.needs) else absent

    @property
    def lacks(self) -> str:
        """The distributions of `missing`, in words; '' where it can be used."""
        return (" or " if self.any_of else ", ").join(d for m, d in self.needs if m in self.missing)

    @property
    def install(self) -> str:
        """What to type to get it."""
        return f"pip install 'parity[{self.extra}]'" if self.extra else f"pip install {self.needs[0][1]}"

    def versions(self) -> dict[str, str]:
        """Versions of what it needs, read from package metadata."""
        found = {}
        for _, distribution in self.needs:
            try:
                found[distribution] = importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:
                continue
        return found


_BUILTIN = (
    Plugin("reference", "backend", "parity.backends.reference:ReferenceBackend", (("numpy", "numpy"),),
           by_name=True),
    Plugin("numpy", "backend", "parity.backends.numpy_:NumpyBackend", (("numpy", "numpy"),)),
    Plugin("librosa", "backend", "parity.backends.librosa_:LibrosaBackend", (("librosa", "librosa"),), "librosa"),
    Plugin("tf_signal", "backend", "parity.backends.tf_signal:TfSignalBackend", (("tensorflow", "tensorflow"),), "tf"),
    Plugin("torch", "backend", "parity.backends.torch_:TorchBackend", (("torch", "torch"),), "torch"),
    Plugin("microfrontend", "backend", "parity.backends.microfrontend:MicrofrontendBackend",
           (("tensorflow", "tensorflow"), ("pymicro_features", "pymicro-features")), "microfrontend", any_of=True),
    Plugin("recorded", "backend", "parity.backends.recorded:RecordedBackend", (("numpy", "numpy"),), by_name=True,
           takes="path"),
    Plugin("exec", "backend", "parity.backends.exec_:ExecBackend", (("numpy", "numpy"),), by_name=True,
           takes="command"),
    Plugin("torch", "runtime", "parity.runtimes.torch_:TorchRuntime",
           (("torch", "torch"), ("safetensors", "safetensors")), "torch", reads="torch"),
    Plugin("torchscript", "runtime", "parity.runtimes.torchscript:TorchScriptRuntime", (("torch", "torch"),), "torch",
           reads="torchscript"),
    Plugin("torch-int8", "runtime", "parity.runtimes.torch_int8:TorchInt8Runtime", (("torch", "torch"),), "torch",
           reads="torchscript-int8"),
    Plugin("torch-export", "runtime", "parity.runtimes.torch_export:TorchExportRuntime", (("torch", "torch"),),
           "torch", reads="torch-export"),
    Plugin("onnxrt", "runtime", "parity.runtimes.onnxrt:OnnxRuntime", (("onnxruntime", "onnxruntime"),), "onnxrt",
           reads="onnx"),
    Plugin("tflite", "runtime", "parity.runtimes.tflite:TfliteRuntime",
           (("ai_edge_litert", "ai-edge-litert"), ("tflite_runtime", "tflite-runtime")), "tflite", reads="tflite",
           any_of=True),
    Plugin("tflm", "runtime", "parity.runtimes.tflm:TflmRuntime", (("tflite_micro", "tflite-micro"),), "tflm",
           reads="tflite"),
    Plugin("onnx-reference", "runtime", "parity.runtimes.onnx_reference:OnnxReferenceRuntime", (("onnx", "onnx"),),
           "onnx", reads="onnx", by_name=True),
    Plugin("monte-carlo", "runtime", "parity.runtimes.monte_carlo:MonteCarloRuntime", (("onnx", "onnx"),),
           "onnx", reads="onnx", internal=True),
)  # fmt: skip


FORMATS = tuple(dict.fromkeys(p.reads for p in _BUILTIN if p.reads))
"""Formats of model files that parity's own runtimes read."""


_TAKES = {p.name: p.takes for p in _BUILTIN if p.takes}


def plugins(kind: Kind) -> dict[str, Plugin]:
    """Every plugin of a kind by name: the built-in ones in their order, then entry points sorted by name."""
    found = {p.name: p for p in _BUILTIN if p.kind == kind and not p.internal}
    for point in sorted(importlib.metadata.entry_points(group=f"parity.{kind}s"), key=lambda p: p.name):
        module = point.value.partition(":")[0].partition(".")[0]
        needs = ((module, point.dist.name),) if point.dist is not None else ()
        found.setdefault(point.name, Plugin(point.name, kind, point.value, needs))
    return found


def lacking(kind: Kind) -> dict[str, str]:
    """Every plugin of a kind by name with what it lacks on this machine: '' where it can be used."""
    return {name: plugin.lacks for name, plugin in plugins(kind).items()}


def installed(name: str) -> bool:
    """Whether what a built-in plugin needs is here."""
    return not next(p for p in _BUILTIN if p.name == name).missing


def parse(spec: str) -> tuple[str, dict[str, str]]:
    """`onnxrt:opt=off,threads=2` -> name and options; `module:Class` stays a name; `exec:COMMAND` takes it all as one.

    ConfigError for an option without a value.
    """
    first, colon, rest = spec.partition(":")
    if first in _TAKES:
        return first, {_TAKES[first]: rest.strip()} if rest.strip() else {}
    name, colon, rest = spec.rpartition(":")
    if not colon or "=" not in rest:
        return spec, {}
    options = {}
    for part in rest.split(","):
        key, equals, value = part.partition("=")
        if not (key and equals and value):
            raise ConfigError(f"{spec!r}: {part!r} is not an option", f"write {name}:key=value,key=value")
        options[key.strip()] = value.strip()
    return name, dict(sorted(options.items()))


def threads(spec: str) -> int | None:
    """The option `threads` of a runtime's spec, which every runtime has; None where it isn't given."""
    given = parse(spec)[1].get("threads")
    if given is not None and not (given.isdecimal() and 1 <= int(given) <= 256):
        raise ConfigError(f"{spec!r}: threads is a number from 1 to 256, not {given!r}", "write threads=2")
    return None if given is None else int(given)


def named(kind: Kind, spec: str) -> Plugin:
    """The plugin that a spec names, installed or not. ConfigError for an unknown name."""
    name, _ = parse(spec)
    known = plugins(kind)
    known |= {p.name: p for p in _BUILTIN if p.internal and p.name == name}
    if name not in known:
        if (first := name.partition(":")[0]) in known and ":" in name:
            raise ConfigError(f"{spec!r} is no option of {kind} {first!r}", f"write {first}:key=value,key=value")
        if ":" in name:
            return Plugin(name, kind, name)
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigError(f"unknown {kind} {name!r}", f"{hint}{kind}s: {', '.join(known)} (see `parity list`)")
    return known[name]


def find(kind: Kind, spec: str) -> Plugin:
    """The plugin that a spec names, installed. ConfigError for an unknown name, MissingExtra for what it lacks."""
    plugin = named(kind, spec)
    if plugin.missing:
        raise needs(plugin, plugin.lacks, plugin.install)
    return plugin


def needs(plugin: Plugin, lacks: str, install: str, where: str = "") -> MissingExtra:
    """What a plugin lacks, and what to type; `where`: on which machine, if it isn't this one."""
    verb = "are" if ", " in lacks else "is"
    what = f"{plugin.kind} {plugin.name!r} needs {lacks}"
    return MissingExtra(f"{what}, which {verb} not installed{where and f' on {where}'}", install)


def create(kind: Kind, spec: str) -> Any:
    """An instance of the plugin, imported now. ConfigError where its class or its options are wrong."""
    plugin = find(kind, spec)
    module, _, attribute = plugin.where.partition(":")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as e:  # ValueError: an empty name
        hint = f"it is {plugin.where}; a module of your own must be on PYTHONPATH"
        raise ConfigError(f"{kind} {plugin.name!r} can't be imported: {e}", hint) from e
    options = parse(spec)[1]
    known = list(inspect.signature(cls).parameters)
    if plugin.takes and plugin.takes not in options:
        raise ConfigError(f"{kind} {plugin.name!r} needs a {plugin.takes}",
                          f"write {plugin.name}:{plugin.takes.upper()}")  # fmt: skip
    if kind == "runtime" and "threads" not in known and threads(spec) is not None:
        del options["threads"]  # what a session is opened with
    if unknown := [o for o in options if o not in known]:
        has = f"its options: {', '.join(known)}" if known else "it has none"
        raise ConfigError(f"{kind} {plugin.name!r} has no option {unknown[0]!r}", has)
    try:
        return cls(**options)
    except TypeError as e:
        raise ConfigError(f"{kind} {spec!r}: {e}", "see the plugin's options in the README") from None
