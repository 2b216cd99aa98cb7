"""What a far side may answer. Nothing from there is believed: its form is looked at before its content is used.

Text loses its control characters, for it goes to terminals and pages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

import numpy as np

from parity.protocols import Arithmetic
from parity.targets import machines
from parity.targets.wire import WireError

_LONGEST = 4000
"""Characters of a text that are kept."""
_LARGEST = 1 << 63
"""No whole number is as large; a float can be made of each that is smaller."""
_YEAR = 366 * 86400.0


def plain(value: Any) -> Any:
    """A message with every text in it printable, and not too long. WireError for a number beyond 64 bits."""
    if isinstance(value, str):
        return value if value.isprintable() and len(value) <= _LONGEST else _printable(value)
    if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        raise WireError(f"a number of {value.bit_length()} bits")
    if isinstance(value, dict):
        return {plain(k): plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text[:_LONGEST])


def reply(request: Mapping[str, Any], answer: Any) -> dict[str, Any]:
    """The answer of a worker to `request`; WireError where it hasn't the form that such an answer has."""
    try:
        _FORMS[request["do"]](request, answer)
    except (LookupError, TypeError, AttributeError, ValueError) as e:
        raise WireError(f"no answer to {request['do']!r}: {str(e)[:200]}") from None
    return dict(answer)


def texts(value: Any) -> dict[str, str]:
    """A table of texts. WireError for anything else."""
    if not (isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, str) for k, v in value.items())):
        raise WireError("no table of texts")
    return value


def machine(value: Any) -> dict[str, Any]:
    """What a machine says of itself (see `parity.targets.machine`). WireError where what is used of it isn't that."""
    try:
        machines.checked(value)
        _is(value["numpy"], str)
        _is(value["cpu"], dict)  # what an environment is known by
    except (KeyError, TypeError, ValueError) as e:
        raise WireError(f"no facts of a machine: {str(e)[:200]}") from None
    return dict(value)


def _is(value: Any, kind: type | tuple[type, ...]) -> None:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{type(value).__name__} where {kind} belongs")


def _seconds(value: Any) -> None:
    _is(value, (int, float))
    if not 0 <= value <= _YEAR:
        raise ValueError(f"{value} seconds")


def _arrays(value: Any, asked: Any) -> None:
    _is(value, dict)
    for tap, array in value.items():
        if tap not in asked:
            raise ValueError(f"{tap!r} was not asked for")
        _is(array, np.ndarray)


def _load(_request: Mapping[str, Any], answer: Any) -> None:
    texts(answer["versions"])


def _describe(request: Mapping[str, Any], answer: Any) -> None:
    if len(answer["answers"]) != len(request["questions"]):
        raise ValueError("another number of answers than of questions")
    for told in answer["answers"]:
        if "unsupported" in told:
            _is(told["unsupported"], str)
            continue
        _is(told["taps"], list)
        for tap in told["taps"]:
            _is(tap, str)
        if told.get("arithmetic", "float32") not in get_args(Arithmetic):
            raise ValueError("an arithmetic that there isn't")


def _features(request: Mapping[str, Any], answer: Any) -> None:
    _is(answer["clips"], list)
    for clip in answer["clips"]:
        _arrays(clip["taps"], request["taps"])
        _seconds(clip["seconds"])


def _opened(_request: Mapping[str, Any], answer: Any) -> None:
    _seconds(answer["seconds"])


def _run(request: Mapping[str, Any], answer: Any) -> None:
    if "unsupported" in answer:
        _is(answer["unsupported"], str)
        return
    asked = frozenset().union(*request["taps"])
    _arrays(answer["taps"], asked)
    _seconds(answer["seconds"])
    _is(answer["raw"], dict)
    for tap, raw in answer["raw"].items():
        if tap not in answer["taps"] or raw.keys() != {"integers", "scale", "zero_point"}:
            raise ValueError(f"integers of {tap!r}")
        _is(raw["integers"], np.ndarray)
        _is(raw["scale"], float)
        _is(raw["zero_point"], int)
        if raw["integers"].shape != answer["taps"][tap].shape or not np.issubdtype(raw["integers"].dtype, np.integer):
            raise ValueError(f"the integers of {tap!r} don't fit it")
    if "state" in answer:
        _is(answer["state"], dict)
        for array in answer["state"].values():
            _is(array, np.ndarray)


def _memory(_request: Mapping[str, Any], answer: Any) -> None:
    _is(answer["peak_bytes"], (int, type(None)))
    if answer["peak_bytes"] is not None and answer["peak_bytes"] < 0:
        raise ValueError(f"{answer['peak_bytes']} bytes")


def _closed(_request: Mapping[str, Any], answer: Any) -> None:
    _is(answer, dict)


_FORMS: dict[str, Callable[[Mapping[str, Any], Any], None]] = {
    "load": _load, "describe": _describe, "features": _features, "open": _opened, "run": _run, "stream": _run,
    "memory": _memory, "close": _closed,
}  # fmt: skip
