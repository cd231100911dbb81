"""Who drives a run in an object store: one driver at a time, and never two for long."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster.storage.errors import RunFolderError
from cluster.storage.object_store.driver_lease import (
    DEAD_S,
    Claim,
    HeldClaim,
    TakenOver,
    claim_start,
    is_alive,
    newest_claim,
)
from cluster.storage.object_store.object_names import STOP, start_name
from cluster.storage.object_store.store import Storage, open_storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(f"file://{tmp_path}/store")


class Time:
    """A clock that moves when somebody sleeps, and something that happens then."""

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


def held(storage: Storage, claim: Claim, happened: list[object]) -> HeldClaim:
    return HeldClaim(storage, claim, on_stop=lambda: happened.append("stop"), on_taken=happened.append)


def test_starts_are_counted(storage: Storage) -> None:
    assert newest_claim(storage) is None
    first = claim_start(storage, None, "a")
    second = claim_start(storage, first, "b")
    assert (first.number, second.number) == (1, 2)
    assert newest_claim(storage) == second


def test_of_many_racers_one_gets_the_start(storage: Storage) -> None:
    def race(owner: str) -> str | None:
        try:
            return claim_start(storage, None, owner).owner
        except RunFolderError as error:
            assert "was faster" in str(error)
            return None

    with ThreadPoolExecutor(8) as threads:
        winners = [owner for owner in threads.map(race, "abcdefgh") if owner]
    found = newest_claim(storage)
    assert found is not None
    assert winners == [found.owner]


def test_a_silent_driver_is_dead_after_its_time_and_not_before(storage: Storage) -> None:
    time = Time()
    claim = claim_start(storage, None, "a")
    assert not is_alive(storage, claim, DEAD_S, time, time.sleep)
    assert time.now == DEAD_S


def test_a_sign_of_life_at_the_last_moment_counts(storage: Storage) -> None:
    time = Time()
    claim = claim_start(storage, None, "a")
    time.events[DEAD_S] = held(storage, claim, []).beat
    assert is_alive(storage, claim, DEAD_S, time, time.sleep)
    assert time.now == DEAD_S


def test_a_driver_that_said_that_it_ended_is_not_waited_for(storage: Storage) -> None:
    time = Time()
    keeper = held(storage, claim_start(storage, None, "a"), [])
    before = keeper.claim
    time.events[1.0] = lambda: keeper.end(release=True)
    assert not is_alive(storage, before, DEAD_S, time, time.sleep)
    assert time.now == 1.0
    found = newest_claim(storage)
    assert found is not None
    assert found.released
    assert not is_alive(storage, found, DEAD_S, time, time.sleep)
    assert time.now == 1.0


def test_a_torn_claim_is_somebodys(storage: Storage) -> None:
    time = Time()
    storage.write(start_name(3), b'{"number": 3, "ow')
    found = newest_claim(storage)
    assert found is not None
    assert (found.number, found.released) == (3, False)
    assert not is_alive(storage, found, DEAD_S, time, time.sleep)
    assert claim_start(storage, found, "a").number == 4


def test_who_was_replaced_says_so_once_and_writes_no_more(storage: Storage) -> None:
    happened: list[object] = []
    first = held(storage, claim_start(storage, None, "a"), happened)
    first.beat()
    first.check()
    assert happened == []
    other = claim_start(storage, first.claim, "b")
    before = storage.read(start_name(1))
    for _ in range(3):
        first.beat()
    (error,) = happened
    assert isinstance(error, TakenOver)
    assert f"the driver on {other.host} (process {other.pid})" in str(error)
    with pytest.raises(TakenOver):
        first.check()
    first.end(release=True)
    assert storage.read(start_name(1)) == before
    assert newest_claim(storage) == other


def test_a_driver_that_was_away_learns_of_a_start_whose_predecessors_are_gone(storage: Storage) -> None:
    first = held(storage, claim_start(storage, None, "a"), [])
    second = claim_start(storage, first.claim, "b")
    claim_start(storage, second, "c")
    storage.remove([start_name(1), start_name(2)])
    first.beat()
    assert first.taken is not None


def test_a_wish_to_stop_reaches_the_driver_once(storage: Storage) -> None:
    happened: list[object] = []
    keeper = held(storage, claim_start(storage, None, "a"), happened)
    storage.write(STOP, b"{}")
    keeper.beat()
    keeper.beat()
    assert happened == ["stop"]
    assert storage.read(STOP) is None
