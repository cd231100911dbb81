import threading
import time
from collections.abc import Sequence

import pytest

from ps.errors import StoreUnavailable
from ps.rpc.address_book import Directory, NoRoute
from ps.rpc.heartbeat import Keeper
from ps.rpc.retry import Missed, persist


class Connection:
    def __init__(self, address: str) -> None:
        self.address = address
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Book:
    """What the directory asks: a script of answers, the last one for good."""

    def __init__(self, *answers: Sequence[str] | Exception) -> None:
        self.answers = list(answers)
        self.questions = 0

    def __call__(self) -> Sequence[str]:
        self.questions += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_fixed_addresses_are_never_asked_for():
    directory = Directory(["p:1", "p:2"], 2, Connection)
    route = directory.route(1)
    directory.refresh(route.asked)
    assert directory.route(1) == route
    assert route.address == route.connection.address == "p:2"
    assert not directory.moves


@pytest.mark.parametrize("addresses", [["p:1"], ["p:1"] * 3, "ab"])
def test_fixed_addresses_must_be_one_for_each_shard(addresses: Sequence[str]):
    with pytest.raises(ValueError, match=r"`addresses` must be one for each of 2 shards, got"):
        Directory(addresses, 2, Connection)


def test_it_asks_at_the_first_use_and_once_for_all_that_miss_the_same():
    book = Book(["p:1", "p:2"], ["p:1", "q:2"])
    directory = Directory(book, 2, Connection)
    assert book.questions == 0
    first = [directory.route(shard) for shard in (0, 1)]
    assert book.questions == 1
    for route in first:
        directory.refresh(route.asked)
    assert book.questions == 2
    second = [directory.route(shard) for shard in (0, 1)]
    assert [route.address for route in second] == ["p:1", "q:2"]
    assert second[0].connection is first[0].connection, "what has not moved is not disturbed"
    assert [route.connection.closed for route in (*first, second[1])] == [False, True, False]
    assert [directory.is_current(route) for route in (*first, *second)] == [True, False, True, True]


@pytest.mark.parametrize("bad", [RuntimeError("no luck"), ["p:1"], "pq", 3])
def test_what_cannot_be_answered_is_asked_again_and_the_last_answer_kept(bad: object):
    book = Book(bad, ["p:1", "p:1"], bad, ["q:1", "q:1"])  # pyright: ignore[reportArgumentType]
    directory = Directory(book, 2, Connection)
    with pytest.raises(NoRoute, match=r"no luck|one for each of 2 shards|has no len") as caught:
        directory.route(0)
    directory.refresh(caught.value.asked)
    route = directory.route(0)
    directory.refresh(route.asked)
    kept = directory.route(0)
    assert kept.connection is route.connection
    directory.refresh(kept.asked)
    assert directory.route(0).address == "q:1"
    assert route.connection.closed


def test_closing_hangs_up_and_asks_no_more():
    book = Book(["p:1"], ["q:1"])
    directory = Directory(book, 1, Connection)
    route = directory.route(0)
    directory.close()
    directory.refresh(route.asked)
    assert route.connection.closed
    assert book.questions == 1


def test_many_threads_ask_one_question_at_a_time():
    asking = threading.Lock()

    def slow() -> list[str]:
        assert asking.acquire(blocking=False), "two questions at once"
        time.sleep(0.02)
        asking.release()
        return ["p:1"]

    directory = Directory(slow, 1, Connection)
    routes: list[str] = []
    threads = [threading.Thread(target=lambda: routes.append(directory.route(0).address)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert routes == ["p:1"] * 20


def test_patience_makes_one_attempt_at_least_and_tells_the_reason():
    reason, asked = StoreUnavailable("shard 0 is away"), []

    def attempt() -> int:
        raise Missed(reason, 7)

    with pytest.raises(StoreUnavailable, match="shard 0 is away"):
        persist(attempt, 0.0, asked.append, threading.Event())
    assert asked == []
    with pytest.raises(StoreUnavailable, match="shard 0 is away"):
        persist(attempt, time.monotonic() + 0.1, asked.append, threading.Event())
    assert asked == [7]


def test_a_keeper_mentions_members_that_are_present():
    told: list[list[str]] = []
    event = threading.Event()

    def keep(clients: list[str]) -> None:
        told.append(clients)
        event.set()

    def next_told() -> list[str]:
        event.clear()
        assert event.wait(5)
        return told[-1]

    keeper = Keeper(("a", "b"), 0.01, keep)
    keeper.add("stranger")
    assert keeper._thread is None, "there is nothing to do yet"
    keeper.add("b")
    keeper.add("a")
    assert next_told()
    assert next_told() == ["a", "b"]
    keeper.remove("b")
    assert next_told()
    assert next_told() == ["a"]
    keeper.close()
    calls = len(told)
    time.sleep(0.05)
    assert len(told) == calls
    keeper.add("a")  # as a call that was under way when the store was closed
