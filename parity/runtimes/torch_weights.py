"""A network's code and its weights, brought together without anything left over, left out or changed.

A checkpoint that almost fits is the quiet way to another network: PyTorch's own `strict=False` says nothing of what it
skips, and a module may override how it is loaded. So names and shapes are compared before, and values after.
"""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch

from parity.errors import ModelError, ParityError

_COUNTER = "num_batches_tracked"
"""Of batch normalization: counted in training, unused after it, and absent from older files."""
_STATISTICS = ("running_mean", "running_var")
_SHOWN = 4


def network_of(spec: str) -> torch.nn.Module:
    """What `path/to/file.py:callable`, or `package.module:callable` on the path, makes. ModelError where it can't."""
    where, _, attribute = spec.rpartition(":")
    try:
        if where.endswith(".py"):
            name = f"parity_network_{Path(where).parent.name.replace('-', '_')}"
            found = importlib.util.spec_from_file_location(name, where)
            if found is None or found.loader is None or not Path(where).is_file():
                raise ModelError(
                    f"no network at {where}", "network = 'model.py:build' in system.toml names a file and a callable"
                )
            module = importlib.util.module_from_spec(found)
            sys.modules[found.name] = module
            found.loader.exec_module(module)
        else:
            module = importlib.import_module(where)
    except ImportError as e:
        raise ModelError(
            f"the network's code {where} can't be imported: {e}", "put the folder that holds it on PYTHONPATH"
        ) from None
    except ParityError:
        raise
    except Exception as e:  # a slip in it, or whatever else it does when it is read
        raise ModelError(f"the network's code {where} can't be run: {_said(e)}", "mend it") from None
    if not hasattr(module, attribute):
        raise ModelError(f"{where} has no {attribute!r}", "network = 'file.py:callable' in system.toml")
    try:
        network = getattr(module, attribute)()
    except TypeError as e:
        raise ModelError(f"{spec} can't be called without arguments: {e}", "name a function that needs none") from None
    except ParityError:
        raise
    except Exception as e:  # of the network's own code
        raise ModelError(f"{spec} can't be called: {_said(e)}", "mend it") from None
    if not isinstance(network, torch.nn.Module):
        raise ModelError(f"{spec} gives a {type(network).__name__}, not a torch.nn.Module", "name what builds it")
    return network


def _said(e: Exception) -> str:
    return f"{type(e).__name__}: {(str(e).strip().splitlines() or [''])[0]}"


def state_of(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors file, or of what torch.save wrote, by name; no pickle beyond plain tensors is read.

    ModelError for anything else.
    """
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as e:  # safetensors and torch raise many types for a damaged or foreign file
        raise ModelError(
            f"PyTorch can't load {path} as a state dict: {_why(path, e)}",
            "save it again: torch.save(network.state_dict(), file)",
        ) from None
    if not isinstance(state, Mapping) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        inside = f"a dict of {_listed(list(map(str, state)))}" if isinstance(state, Mapping) else type(state).__name__
        raise ModelError(
            f"{path} holds {inside}, not a state dict: names and tensors",
            "save that alone, as in torch.save(checkpoint['state_dict'], file)",
        )
    return dict(state)


def _why(path: Path, e: Exception) -> str:
    """Why a file isn't read, in one line: PyTorch's own words for a pickle advise to trust it, or are a bare number."""
    if isinstance(e, pickle.UnpicklingError | KeyError | EOFError | IndexError) and path.suffix != ".safetensors":
        return "it isn't one, or holds more than plain tensors, which is not read"
    return " ".join(str(e).split()) or type(e).__name__


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _misfit(wanted: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> tuple[str, str] | None:
    """What doesn't fit between a network and a file, by name, and what to do about it."""
    missing = [n for n in wanted if n not in state and not n.endswith(_COUNTER)]
    unexpected = [n for n in state if n not in wanted and not n.endswith(_COUNTER)]
    shapes = [
        f"{n} is {list(state[n].shape)}, the network's {list(t.shape)}"
        for n, t in wanted.items() if n in state and state[n].shape != t.shape
    ]  # fmt: skip
    if not (missing or unexpected or shapes):
        return None
    said = [f"it lacks {_listed(missing)}"] * bool(missing) + [f"the network has no {_listed(unexpected)}"] * bool(
        unexpected
    )
    hint = "name the network that was trained (network = 'file.py:callable'), or save its state dict again"
    if missing and all(n.endswith(_STATISTICS) for n in missing):
        hint = "statistics of batch normalization are buffers, not parameters: save network.state_dict(), in full"
    for name in unexpected:
        head, _, rest = name.partition(".")
        if rest in wanted:
            hint = f"saved from a wrapper: take {head + '.'!r} off each name"
            break
    return "; ".join(said + [_listed(shapes)] * bool(shapes)), hint


def load_strictly(network: torch.nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> torch.nn.Module:
    """The network with exactly the tensors of `state`, in eval mode. ModelError names what doesn't fit or arrive."""
    if (misfit := _misfit(network.state_dict(), state)) is not None:
        what, hint = misfit
        raise ModelError(f"{path} doesn't fit its network: {what}", hint)
    try:
        network.load_state_dict({n: t for n, t in state.items() if n in network.state_dict()}, strict=True)
    except RuntimeError as e:
        raise ModelError(f"the network doesn't load {path}: {e}", "save its state dict again") from None
    network.eval()
    loaded = network.state_dict()
    changed = [n for n, t in state.items() if n in loaded and not _same(t, loaded[n])]
    if changed:
        raise ModelError(
            f"the network didn't keep what {path} holds: {_listed(changed)}",
            "does it load in a way of its own (strict=False), or in fewer bits than were saved?",
        )
    return network


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors hold the same numbers, NaN in the same places."""
    if a.shape != b.shape:
        return False
    x, y = a.double(), b.double()
    return bool(((x == y) | (x.isnan() & y.isnan())).all())
