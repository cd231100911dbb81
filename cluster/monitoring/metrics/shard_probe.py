"""Callback types through which a runner exposes its shards' counters to the exporter. Standard library only."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from cluster.search.records import StoreName
from ps.status import ShardStatus

ShardProbe = Callable[[int], ShardStatus]
"""Returns the counters of the shard with an index; raises if the shard cannot be read."""


class Observe(Protocol):
    """Has the shards of a store polled."""

    def __call__(self, shards: int, probe: ShardProbe, store: StoreName = "policy") -> AbstractContextManager[object]:
        """Poll so many shards by the probe until the returned context manager exits."""
        ...


def unobserved(shards: int, probe: ShardProbe, store: StoreName = "policy") -> AbstractContextManager[object]:
    """Poll no shards: the run exports no metrics."""
    return nullcontext()
