"""The strengths of a supernet's options as tensors of a searcher, by the names of their gates. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_NOW, _BEFORE = "strengths/", "before/"


def strengths_name(gate: str) -> str:
    """Return the name of the tensor with a gate's strengths, one number for each option."""
    return _NOW + gate


def before_name(gate: str) -> str:
    """Return the name of the tensor with a gate's strengths as they were before the last step on them.

    A searcher whose steps move weights and strengths from one sample keeps it, so that a step of which only the
    strengths have arrived is finished with the strengths that it began with.
    """
    return _BEFORE + gate


def tensor_names(gates: Iterable[str], *, before: bool = False) -> list[str]:
    """Return the names of the tensors with the strengths of these gates, and with those before the last step too."""
    gates = list(gates)
    return [*map(strengths_name, gates), *(map(before_name, gates) if before else ())]


def strengths_in(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the strengths among a searcher's tensors, by gate."""
    return {name.removeprefix(_NOW): value for name, value in values.items() if name.startswith(_NOW)}


def strengths_before(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the strengths before the last step among a searcher's tensors, by gate."""
    return {name.removeprefix(_BEFORE): value for name, value in values.items() if name.startswith(_BEFORE)}
