import threading
import time
from collections.abc import Sequence

import pytest

from ps.rpc.address_book import AddressBook, AddressUnknown


class Connection:
    def __init__(self, address: str) -> None:
        self.address = address
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Lookup:
    """A lookup that follows a script of answers and then repeats the last one."""

    def __init__(self, *answers: Sequence[str] | Exception) -> None:
        self.answers = list(answers)
        self.calls = 0

    def __call__(self) -> Sequence[str]:
        self.calls += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_fixed_addresses_are_not_looked_up():
    book = AddressBook(["p:1", "p:2"], 2, Connection)
    address = book.find(1)
    book.refresh(address.lookup)
    assert book.find(1) == address
    assert address.host_port == address.connection.address == "p:2"
    assert not book.is_dynamic


@pytest.mark.parametrize("addresses", [["p:1"], ["p:1"] * 3, "ab"])
def test_fixed_addresses_must_be_one_for_each_shard(addresses: Sequence[str]):
    with pytest.raises(ValueError, match=r"`addresses` must be one for each of 2 shards, got"):
        AddressBook(addresses, 2, Connection)


def test_addresses_are_looked_up_at_the_first_use_and_once_per_refresh():
    lookup = Lookup(["p:1", "p:2"], ["p:1", "q:2"])
    book = AddressBook(lookup, 2, Connection)
    assert lookup.calls == 0
    first = [book.find(shard) for shard in (0, 1)]
    assert lookup.calls == 1
    for address in first:
        book.refresh(address.lookup)
    assert lookup.calls == 2
    second = [book.find(shard) for shard in (0, 1)]
    assert [address.host_port for address in second] == ["p:1", "q:2"]
    assert second[0].connection is first[0].connection, "a shard that has not moved keeps its connection"
    assert [address.connection.closed for address in (*first, second[1])] == [False, True, False]
    assert [book.is_current(address) for address in (*first, *second)] == [True, False, True, True]


@pytest.mark.parametrize("bad", [RuntimeError("no luck"), ["p:1"], "pq", 3])
def test_a_failed_lookup_is_repeated_and_the_last_addresses_are_kept(bad: object):
    lookup = Lookup(bad, ["p:1", "p:1"], bad, ["q:1", "q:1"])  # pyright: ignore[reportArgumentType]
    book = AddressBook(lookup, 2, Connection)
    with pytest.raises(AddressUnknown, match=r"no luck|one for each of 2 shards|has no len") as caught:
        book.find(0)
    book.refresh(caught.value.lookup)
    address = book.find(0)
    book.refresh(address.lookup)
    kept = book.find(0)
    assert kept.connection is address.connection
    book.refresh(kept.lookup)
    assert book.find(0).host_port == "q:1"
    assert address.connection.closed


def test_close_closes_connections_and_ends_lookups():
    lookup = Lookup(["p:1"], ["q:1"])
    book = AddressBook(lookup, 1, Connection)
    address = book.find(0)
    book.close()
    book.refresh(address.lookup)
    assert address.connection.closed
    assert lookup.calls == 1


def test_many_threads_share_one_lookup():
    looking_up = threading.Lock()

    def slow() -> list[str]:
        assert looking_up.acquire(blocking=False), "two concurrent lookups"
        time.sleep(0.02)
        looking_up.release()
        return ["p:1"]

    book = AddressBook(slow, 1, Connection)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(book.find(0).host_port)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["p:1"] * 20
