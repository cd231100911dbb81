"""The store contracts for `LocalStore` in memory and on disk, and for `GrpcStore`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ps.local import LocalStore
from ps.rpc.client import GrpcStore
from ps.rpc.server import ShardServer
from ps.store import DEFAULT_MAX_BYTES, Layout
from tests.contracts.consistency import ConsistencyContract, DurableConsistencyContract
from tests.contracts.parameter_store import DurableStoreContract, OpenStore, ParameterStoreContract


class TestLocalStoreInMemory(ParameterStoreContract, ConsistencyContract):
    @pytest.fixture
    def open_store(self) -> OpenStore:
        def open_store(layout: Layout, *, separate: str = "store", **options: int) -> LocalStore:
            return LocalStore(layout, **options)  # nothing is written, so all are separate

        return open_store


class TestLocalStoreOnDisk(DurableStoreContract, DurableConsistencyContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        def open_store(layout: Layout, *, separate: str = "store", **options: int) -> LocalStore:
            return LocalStore(layout, tmp_path / separate, **options)  # not closing the last one is the crash

        return open_store


@contextmanager
def grpc_stores(folder: Path) -> Iterator[OpenStore]:
    """Yield what opens stores, each on two servers with a snapshot folder below this one; stop them afterwards."""
    opened: dict[str, list[GrpcStore | ShardServer]] = {}

    def stop(separate: str) -> None:
        for one in opened.pop(separate, []):
            one.close() if isinstance(one, GrpcStore) else one.stop(grace_s=0)

    def open_store(layout: Layout, *, separate: str = "store", max_bytes: int = DEFAULT_MAX_BYTES) -> GrpcStore:
        stop(separate)
        limits = {"max_bytes": max_bytes, "token": "secret"}
        servers = [
            ShardServer(layout, range(start, layout.shards, 2), folder / separate, **limits)
            for start in range(min(2, layout.shards))
        ]
        addresses = [servers[index % 2].address for index in range(layout.shards)]
        store = GrpcStore(layout, addresses, retry_timeout_s=5, **limits)
        opened[separate] = [store, *servers]
        return store

    try:
        yield open_store
    finally:
        for separate in list(opened):
            stop(separate)


class TestGrpcStore(DurableStoreContract, DurableConsistencyContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Iterator[OpenStore]:
        with grpc_stores(tmp_path) as open_store:
            yield open_store
