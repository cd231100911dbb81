"""The partition of the flattened parameter vector into contiguous ranges, one for each shard.

It uses ranges and not hashes of names: every shard gets the same number of elements to within one, whatever the
tensors' sizes, and the layout alone determines the shard of an element.
"""

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ps.slices import Slices


@dataclass(frozen=True, slots=True)
class Segment:
    """The elements `start` to `stop` (exclusive) of the flattened tensor `name`."""

    name: str
    start: int
    stop: int

    @property
    def size(self) -> int:
        """The number of elements, at least 1."""
        return self.stop - self.start


Partition = tuple[tuple[Segment, ...], ...]
"""Each shard's segments, in the order of the flattened vector; at most one segment of each tensor."""


def partition(shapes: Mapping[str, Sequence[int]], shards: int) -> Partition:
    """Cut the tensors, laid end to end in the mapping's order, into `shards` ranges balanced to one element.

    Raises:
        ValueError: `shards` is below 1 or above the number of elements.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    total = sum(sizes.values())
    if not 1 <= shards <= total:
        raise ValueError(f"`shards` must be from 1 to the number of elements ({total}), got {shards}")
    bounds = [total * index // shards for index in range(shards + 1)]
    parts: list[list[Segment]] = [[] for _ in range(shards)]
    shard, offset = 0, 0
    for name, size in sizes.items():
        end = offset + size
        start = offset
        while start < end:
            stop = min(end, bounds[shard + 1])
            parts[shard].append(Segment(name, start - offset, stop - offset))
            shard += stop == bounds[shard + 1]
            start = stop
        offset = end
    return tuple(tuple(segments) for segments in parts)


def sizes_of(parts: Partition, names: Container[str]) -> list[dict[str, int]]:
    """Return for each shard the named tensors that it has a part of, and the elements of that part."""
    return [{s.name: s.size for s in segments if s.name in names} for segments in parts]


def split(parts: Partition, tensors: Slices) -> list[Slices]:
    """Return views of each shard's slices of the `tensors`, which are in the order of the flattened vector."""
    sizes = sizes_of(parts, tensors.sizes)
    pieces = tensors.flat.split([sum(part.values()) for part in sizes])
    return [Slices(part, piece, is_finite=tensors.is_finite) for part, piece in zip(sizes, pieces, strict=True)]


@torch.no_grad()
def join(shapes: Mapping[str, Sequence[int]], pieces: Sequence[Slices]) -> dict[str, Tensor]:
    """Return the tensors of `shapes` as copies, joined from each shard's slices of them; the inverse of `split`.

    Each has memory of its own, aligned as PyTorch does it: some kernels round differently where it is not.

    Args:
        shapes: the tensors, in the order of the flattened vector.
        pieces: each shard's slices of these tensors alone.
    """
    if not shapes:
        return {}
    sizes = [math.prod(shape) for shape in shapes.values()]
    flat = torch.cat([piece.flat for piece in pieces])
    # Its stub says that it returns nothing.
    copies: Sequence[Tensor] = torch.split_with_sizes_copy(flat, sizes)  # pyright: ignore[reportAssignmentType]
    return {
        name: copy if len(shape) == 1 else copy.view(tuple(shape))
        for (name, shape), copy in zip(shapes.items(), copies, strict=True)
    }
