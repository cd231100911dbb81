"""The networks of exports as programs: what they take, what they return, and how many examples they take at once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """A network that can be traced.

    Attributes:
        network: in evaluation mode, on the CPU.
        batch: the dimension of each input in which the examples are, by the input's name, in order; any number of them.
        outputs: the names of what it returns.
        example: returns inputs of so many examples.
    """

    network: nn.Module
    batch: Mapping[str, int]
    outputs: tuple[str, ...]
    example: Callable[[int], tuple[Tensor, ...]]

    @property
    def dynamic_shapes(self) -> dict[str, dict[int, torch.export.Dim]]:
        """The shapes that may vary, as PyTorch's exporters take them."""
        some = torch.export.Dim("examples", min=1)
        return {name: {dimension: some} for name, dimension in self.batch.items()}

    @torch.inference_mode()
    def difference(self, other: Callable[..., Tensor | tuple[Tensor, ...]], number: int) -> float:
        """Return how far another program's outputs of so many examples are from this one's, relative to the largest."""
        inputs = self.example(number)
        ours, theirs = _tuple(self.network(*inputs)), _tuple(other(*inputs))
        each = [
            (one - another).abs().max() / one.abs().max().clamp_min(1.0)
            for one, another in zip(ours, theirs, strict=True)
        ]
        return torch.stack(each).max().item()  # NaN if one is


def _tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else outputs
