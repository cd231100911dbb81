"""The lease of a run in an object store: one driver at a time, and never two for long."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster.storage.errors import RunFolderError
from cluster.storage.object_store.driver_lease import (
    LEASE_TIMEOUT_S,
    DriverLease,
    HeldLease,
    LeaseLost,
    acquire_lease,
    is_alive,
    newest_lease,
)
from cluster.storage.object_store.object_names import STOP, start_name
from cluster.storage.object_store.store import Storage, open_storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(f"file://{tmp_path}/store")


class Time:
    """A clock that `sleep` moves, with events that happen at given times."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events: dict[float, object] = {}

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        event = self.events.pop(self.now, None)
        if callable(event):
            event()


def held(storage: Storage, lease: DriverLease, happened: list[object]) -> HeldLease:
    return HeldLease(storage, lease, on_stop=lambda: happened.append("stop"), on_lost=happened.append)


def test_starts_are_counted(storage: Storage) -> None:
    assert newest_lease(storage) is None
    first = acquire_lease(storage, None, "a")
    second = acquire_lease(storage, first, "b")
    assert (first.number, second.number) == (1, 2)
    assert newest_lease(storage) == second


def test_one_of_many_drivers_acquires_the_lease(storage: Storage) -> None:
    def race(owner: str) -> str | None:
        try:
            return acquire_lease(storage, None, owner).owner
        except RunFolderError as error:
            assert "started first" in str(error)
            return None

    with ThreadPoolExecutor(8) as threads:
        winners = [owner for owner in threads.map(race, "abcdefgh") if owner]
    found = newest_lease(storage)
    assert found is not None
    assert winners == [found.owner]


def test_a_driver_without_heartbeats_times_out_and_not_before(storage: Storage) -> None:
    time = Time()
    lease = acquire_lease(storage, None, "a")
    assert not is_alive(storage, lease, LEASE_TIMEOUT_S, time, time.sleep)
    assert time.now == LEASE_TIMEOUT_S


def test_a_heartbeat_at_the_last_moment_counts(storage: Storage) -> None:
    time = Time()
    lease = acquire_lease(storage, None, "a")
    time.events[LEASE_TIMEOUT_S] = held(storage, lease, []).heartbeat
    assert is_alive(storage, lease, LEASE_TIMEOUT_S, time, time.sleep)
    assert time.now == LEASE_TIMEOUT_S


def test_a_released_lease_is_not_waited_for(storage: Storage) -> None:
    time = Time()
    keeper = held(storage, acquire_lease(storage, None, "a"), [])
    before = keeper.lease
    time.events[1.0] = lambda: keeper.end(release=True)
    assert not is_alive(storage, before, LEASE_TIMEOUT_S, time, time.sleep)
    assert time.now == 1.0
    found = newest_lease(storage)
    assert found is not None
    assert found.released
    assert not is_alive(storage, found, LEASE_TIMEOUT_S, time, time.sleep)
    assert time.now == 1.0


def test_a_torn_lease_has_an_unknown_driver(storage: Storage) -> None:
    time = Time()
    storage.write(start_name(3), b'{"number": 3, "ow')
    found = newest_lease(storage)
    assert found is not None
    assert (found.number, found.released) == (3, False)
    assert not is_alive(storage, found, LEASE_TIMEOUT_S, time, time.sleep)
    assert acquire_lease(storage, found, "a").number == 4


def test_a_lost_lease_is_reported_once_and_not_renewed(storage: Storage) -> None:
    happened: list[object] = []
    first = held(storage, acquire_lease(storage, None, "a"), happened)
    first.heartbeat()
    first.check()
    assert happened == []
    other = acquire_lease(storage, first.lease, "b")
    before = storage.read(start_name(1))
    for _ in range(3):
        first.heartbeat()
    (error,) = happened
    assert isinstance(error, LeaseLost)
    assert f"the driver on {other.host} (process {other.pid})" in str(error)
    with pytest.raises(LeaseLost):
        first.check()
    first.end(release=True)
    assert storage.read(start_name(1)) == before
    assert newest_lease(storage) == other


@pytest.mark.parametrize("again", [False, True])
def test_a_driver_whose_run_was_removed_writes_nothing_back(again: bool, storage: Storage) -> None:
    """It was suspended meanwhile. Another run may have been launched with the same name since."""
    happened: list[object] = []
    sleeper = held(storage, acquire_lease(storage, None, "a"), happened)
    storage.remove([start_name(1)])
    second = acquire_lease(storage, None, "b") if again else None
    before = storage.read_all(storage.names())
    sleeper.end(release=True)
    assert storage.read_all(storage.names()) == before
    sleeper.heartbeat()
    (error,) = happened
    assert isinstance(error, LeaseLost)
    assert ("another driver" if second else "the run was removed from its object store") in str(error)
    assert storage.read_all(storage.names()) == before


def test_a_lease_that_a_failed_heartbeat_has_torn_is_written_again(storage: Storage) -> None:
    keeper = held(storage, acquire_lease(storage, None, "a"), [])
    storage.write(start_name(1), b'{"number": 1, "ow')
    keeper.heartbeat()
    assert newest_lease(storage) == keeper.lease
    assert keeper.lost is None


def test_a_lease_is_lost_to_a_start_whose_predecessors_are_gone(storage: Storage) -> None:
    first = held(storage, acquire_lease(storage, None, "a"), [])
    second = acquire_lease(storage, first.lease, "b")
    acquire_lease(storage, second, "c")
    storage.remove([start_name(1), start_name(2)])
    first.heartbeat()
    assert first.lost is not None


def test_a_stop_request_reaches_the_driver_once(storage: Storage) -> None:
    happened: list[object] = []
    keeper = held(storage, acquire_lease(storage, None, "a"), happened)
    storage.write(STOP, b"{}")
    keeper.heartbeat()
    keeper.heartbeat()
    assert happened == ["stop"]
    assert storage.read(STOP) is None
