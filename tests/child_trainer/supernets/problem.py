"""Small image problems and random gates for tests of supernets."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """An image task's shapes."""

    input_shape: tuple[int, int, int] = (3, 8, 8)
    num_classes: int = 10

    def images(self, count: int, seed: int = 0) -> Tensor:
        return torch.randn(count, *self.input_shape, generator=torch.Generator().manual_seed(seed))

    def labels(self, count: int, seed: int = 0) -> Tensor:
        return torch.randint(self.num_classes, (count,), generator=torch.Generator().manual_seed(seed))


def one_hot(sizes: Mapping[str, int], seed: int) -> dict[str, Tensor]:
    """Return one option for each gate."""
    generator = torch.Generator().manual_seed(seed)
    chosen = {name: int(torch.randint(size, (), generator=generator)) for name, size in sizes.items()}
    return {name: torch.eye(size)[chosen[name]] for name, size in sizes.items()}


def several(sizes: Mapping[str, int], seed: int) -> dict[str, Tensor]:
    """Return none, one or several options for each gate."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randint(2, (size,), generator=generator).float() for name, size in sizes.items()}
