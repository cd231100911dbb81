"""`Slices`: named 1-D tensors that lie end to end in one buffer, so that the common steps need no loop over them."""

from collections.abc import Iterator, Mapping, Sequence, ValuesView
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor


def flattened(tensors: Sequence[Tensor]) -> Tensor:
    """Return copies of the tensors, of any shape and on one device, end to end."""
    return _flattened(tensors) if tensors else torch.empty(0)


# One call, which takes a third of the time of those that make each tensor flat.
_flattened = torch._C._nn.flatten_dense_tensors  # pyright: ignore


class Slices(Mapping[str, Tensor]):
    """A mapping of tensor name to its 1-D slice of one float32 buffer; the slices are views.

    Args:
        sizes: tensor name -> number of its elements, in the buffer's order. It must not change; two objects that share
            it hold the same tensors.
        flat: the buffer, as long as the sizes together.
        is_finite: whether the elements are known to be as `ps.validation` wants them, so that no shard looks again.
    """

    def __init__(self, sizes: Mapping[str, int], flat: Tensor, *, is_finite: bool = False) -> None:
        self.sizes = sizes
        self.flat = flat
        self.is_finite = is_finite

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Slices":
        """Return copies of the tensors, of any shape and on any one device, in the mapping's order, on the CPU."""
        sizes = {name: tensor.numel() for name, tensor in tensors.items()}
        return cls(sizes, flattened(list(tensors.values())).detach().to("cpu"))

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Tensor name -> where its slice begins."""
        return dict(zip(self.sizes, accumulate(self.sizes.values(), initial=0), strict=False))

    @cached_property
    def _views(self) -> dict[str, Tensor]:
        return dict(zip(self.sizes, self.flat.split(list(self.sizes.values())), strict=True)) if self.sizes else {}

    def __getitem__(self, name: str) -> Tensor:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.sizes)

    def values(self) -> ValuesView[Tensor]:
        """Return the slices."""
        return self._views.values()

    def __len__(self) -> int:
        return len(self.sizes)


def as_slices(tensors: Mapping[str, Tensor]) -> Slices:
    """Return the tensors themselves if they are slices of one buffer, else copies that are."""
    return tensors if isinstance(tensors, Slices) else Slices.of(tensors)
