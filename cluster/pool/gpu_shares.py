"""Which part of which GPU a child gets with `--gpus-per-child auto`: pure functions. Standard library only.

Ray reserves an equal part of a GPU for each worker's process (`workers_per_gpu`), so that it packs as many of them on a
GPU as may train there at once. How many really do, the pool decides: a child begins only where the parts of the
children in training on that GPU leave room for its own (`assign_to_gpus`). Its part follows from the memory that its
training is predicted to take, from what ended children of the run took (`correction`), and from the parts in which it
has run out of memory.
"""

import math
from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.pool.supervision import Begin, Gpu, Nodes, Waiting, WorkerState
from cluster.search.records import GpuUse

MOST_PER_GPU = 8
"""Children that train on one GPU at once, at most: more processes only take turns on it."""

MOST_PER_UNKNOWN_GPU = 4
"""The same where the driver does not know the GPU's memory."""

CONTEXT_BYTES = 600_000_000
"""Memory of a GPU that each process on it holds besides PyTorch's: its CUDA context, with the kernels of PyTorch and
cuDNN. An assumption on the safe side; it depends on the driver and on the GPU."""

MAX_CONTEXTS = 0.25
"""The part of a GPU's memory that the contexts of all its processes may hold."""

HEADROOM = 1.25
"""Memory that a child may take, relative to what it is expected to allocate: PyTorch keeps gaps between its blocks."""

MIN_ENDED = 8
"""Ended children from which on their memory may lower a prediction; before, it can only raise it."""

QUANTILE = 0.9
"""Of the ratios of used to predicted memory, the one by which predictions are corrected."""

TOLERANCE = 1e-9
"""The sum of the parts of a GPU may exceed it by rounding."""


def workers_per_gpu(wanted: int, gpus: float, gpu_bytes: int | None) -> int:
    """Return how many workers share a GPU: a power of two.

    Args:
        wanted: the workers that the search can use.
        gpus: of the cluster; 0 while an autoscaler is yet to add them.
        gpu_bytes: memory of a GPU; `None` if unknown.
    """
    most = MOST_PER_UNKNOWN_GPU
    if gpu_bytes is not None:
        most = min(MOST_PER_GPU, int(gpu_bytes * MAX_CONTEXTS) // CONTEXT_BYTES)
    if gpus:
        most = min(most, 2 ** math.ceil(math.log2(max(1.0, wanted / gpus))))
    return 2 ** int(math.log2(max(1, most)))


@dataclass(frozen=True, slots=True)
class GpuSharing:
    """The parts into which each GPU is divided.

    Attributes:
        workers: how many workers' processes are on a GPU, a power of two; the smallest part is one by this.
    """

    workers: int

    def usable_bytes(self, gpu: Gpu) -> int:
        """Return the memory that children may allocate on a GPU, all together."""
        return max(0, gpu.size_bytes - self.workers * CONTEXT_BYTES)

    def limit_bytes(self, gpu: Gpu, share: float) -> int:
        """Return the memory that the process of a child with this part of a GPU may allocate."""
        return int(self.usable_bytes(gpu) * share)

    def share_of(self, gpu: Gpu, expected_bytes: float | None, too_small: float = 0.0) -> float:
        """Return a child's part of a GPU: the smallest class that holds it, and else the whole.

        Args:
            gpu: on which it would train.
            expected_bytes: memory that its training is expected to allocate; `None` if that is unknown.
            too_small: the largest part in which it ran out of memory.
        """
        needed = math.inf if expected_bytes is None else expected_bytes * HEADROOM
        share = 1.0 / self.workers
        while share < 1.0 and (self.limit_bytes(gpu, share) < needed or share <= too_small + TOLERANCE):
            share *= 2
        return min(share, 1.0)


@dataclass(slots=True)
class MemoryUses:
    """What ended children of a run took of a GPU's memory, relative to what was predicted."""

    ratios: list[float] = field(default_factory=list)

    def add(self, predicted: int | None, used: int | None) -> None:
        """Take account of a child that ended well; nothing is learnt where one of the numbers is unknown."""
        if predicted and used:
            insort(self.ratios, used / predicted)

    def correction(self) -> float:
        """Return the factor by which predictions are corrected."""
        if not self.ratios:
            return 1.0
        ratio = self.ratios[math.ceil(QUANTILE * len(self.ratios)) - 1]
        return ratio if len(self.ratios) >= MIN_ENDED else max(1.0, ratio)


def memory_uses(ended: Iterable[tuple[int, int]]) -> MemoryUses:
    """Return the uses of ended children, each with its predicted and used bytes, in any order."""
    return MemoryUses(sorted(used / predicted for predicted, used in ended))


def assign_to_gpus(
    idle: Sequence[WorkerState],
    waiting: Iterable[Waiting],
    nodes: Nodes,
    in_use: Mapping[str, float],
    sharing: GpuSharing,
    correction: float,
) -> list[Begin]:
    """Assign children to workers, first come, first served, each to the GPU of which the largest part is free.

    A child for which no GPU has room yet keeps the one with the largest free part to itself: no later child begins
    there, so that children that need a whole GPU do not wait for ever. Among the workers of a GPU, one at which the
    child has not failed is preferred.

    Args:
        idle: the free workers, in the order in which they are used.
        waiting: the children, in the order in which they came.
        nodes: those that are being drained get no child.
        in_use: the parts in use of each GPU, by its name.
        sharing: the parts.
        correction: see `MemoryUses`.
    """
    workers: dict[Gpu, list[WorkerState]] = {}
    for worker in idle:
        if worker.gpu is not None and worker.node not in nodes.draining:
            workers.setdefault(worker.gpu, []).append(worker)
    free = {gpu: 1.0 - in_use.get(gpu.name, 0.0) for gpu in workers}
    begun: list[Begin] = []
    for child in waiting:
        if not free:
            break
        predicted = child.gpu_bytes
        expected = None if predicted is None else predicted * correction
        by_room = sorted(free, key=lambda gpu: -free[gpu])
        shares = {gpu: sharing.share_of(gpu, expected, child.out_of_memory_at) for gpu in by_room}
        gpu = next((gpu for gpu in by_room if shares[gpu] <= free[gpu] + TOLERANCE), None)
        if gpu is None:
            del free[by_room[0]]
            continue
        there = workers[gpu]
        worker = next((one for one in there if one.slot not in child.avoid), there[0])
        there.remove(worker)
        use = GpuUse(gpu=gpu.name, share=shares[gpu], predicted_bytes=predicted)
        limit = sharing.limit_bytes(gpu, use.share)
        begun.append(
            Begin(slot=worker.slot, child_id=child.child_id, gpu=use, gpu_limit_bytes=limit, others=child.others)
        )
        free[gpu] -= use.share
        if not there or free[gpu] < 1.0 / sharing.workers - TOLERANCE:
            del free[gpu]
    return begun
