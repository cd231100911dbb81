"""The partition of the flattened parameter vector into contiguous ranges, one for each shard.

It uses ranges and not hashes of names: every shard gets the same number of elements to within one, whatever the
tensors' sizes, and the layout alone determines the shard of an element.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


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


def split(parts: Partition, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return each shard's 1-D slices of the `tensors`, views where possible; leave out tensors it has no part of."""
    flat = {name: tensor.detach().to("cpu").reshape(-1) for name, tensor in tensors.items()}
    return [{s.name: flat[s.name][s.start : s.stop] for s in segments if s.name in flat} for segments in parts]


def join(
    parts: Partition, shapes: Mapping[str, Sequence[int]], pieces: Sequence[Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Return the tensors of `shapes`, joined from each shard's 1-D `pieces`; the inverse of `split`."""
    joined = {name: torch.empty(tuple(shape)) for name, shape in shapes.items()}
    for segments, slices in zip(parts, pieces, strict=True):
        for segment in segments:
            if segment.name in joined:
                joined[segment.name].view(-1)[segment.start : segment.stop] = slices[segment.name]
    return joined
