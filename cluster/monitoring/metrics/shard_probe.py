"""Callback types through which a runner exposes its shards' counters to the exporter. Standard library only."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from ps.status import ShardStatus

ShardProbe = Callable[[int], ShardStatus]
"""Returns the counters of the shard with an index; raises if the shard cannot be read."""

Observe = Callable[[int, ShardProbe], AbstractContextManager[object]]
"""Takes the number of shards and a probe; polls the shards until the returned context manager exits."""


def unobserved(shards: int, probe: ShardProbe) -> AbstractContextManager[object]:
    """Poll no shards: the run exports no metrics."""
    return nullcontext()
