"""An edit, and short ways to write its patch down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnx import helper, numpy_helper

from parity.explain.surgery import Patch, chain
from parity.protocols import Array

Made = Iterator[tuple[str, str, Patch]]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Edit:
    """A mistake. `parameters` counts the numbers in it that were estimated from what the candidate computed."""

    key: str
    phrase: str
    patch: Patch
    where: str = ""
    parameters: int = 0

    @property
    def words(self) -> str:
        """For a person."""
        return f"{self.where}: {self.phrase}" if self.where else self.phrase


def one(node: Any) -> Patch:
    """A node in the place of the one that gave its output."""
    return Patch({node.output[0]: [node]})


def constant(name: str, value: Array) -> Any:
    """A Constant node."""
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


def chained(taken: str, given: str, kind: str, attributes: Mapping[str, Any], constants: Sequence[Array]) -> list[Any]:
    """One operator, from a tensor to another."""
    return chain(taken, given, (kind, attributes, constants))


def instead(node: Any, kind: str, attributes: Mapping[str, Any], constants: Sequence[Array]) -> Patch:
    """Another operator in the place of a node of one input."""
    return Patch({node.output[0]: chained(node.input[0], node.output[0], kind, attributes, constants)})


def only(node: Any, kept: str) -> Patch:
    """One of a node's inputs in its place."""
    return Patch({node.output[0]: chained(kept, node.output[0], "Identity", {}, [])})
