"""`AddressBook`: the shards' addresses, which may change, and one connection to each."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """A connection that can be closed, more than once."""

    def close(self) -> None:
        """Close the connection."""
        ...


_C = TypeVar("_C", bound=Closable)


@dataclass(frozen=True, slots=True)
class Address(Generic[_C]):
    """One shard's address (`host_port`), the connection to it, and the number of the lookup that it comes from."""

    host_port: str
    connection: _C
    lookup: int


class AddressUnknown(Exception):
    """No lookup has succeeded so far.

    Attributes:
        lookup: the number of the last lookup.
    """

    def __init__(self, reason: str, lookup: int) -> None:
        super().__init__(reason)
        self.lookup = lookup


class AddressBook(Generic[_C]):
    """The shards' addresses and one connection to each; may be used from several threads.

    Args:
        addresses: a fixed address for each shard; or a callable that looks them up. The threads that need a shard
            call it, one at a time, at the first use and whenever one of them does not find its shard. It may raise,
            and may return old addresses: a later attempt calls it again.
        shards: how many shards there are.
        connect: returns a connection to a `host:port`, without waiting until it is established.

    Raises:
        ValueError: fixed `addresses` are not one for each shard.
    """

    def __init__(
        self, addresses: Sequence[str] | Callable[[], Sequence[str]], shards: int, connect: Callable[[str], _C]
    ) -> None:
        self.is_dynamic = callable(addresses)
        """Whether addresses are looked up, so that a shard may move."""
        self._look_up = addresses if callable(addresses) else None
        self._shards = shards
        self._connect = connect
        self._lookup_lock = threading.Lock()  # held during a lookup, which may take long
        self._lock = threading.Lock()  # held for moments; guards the fields below
        self._lookups = 0
        self._lookup_error = "the addresses have not been looked up yet"
        self._addresses: tuple[str, ...] = ()
        self._connections: dict[str, _C] = {}
        self._closed = False
        if not callable(addresses):
            self._update(addresses)

    def find(self, shard: int) -> Address[_C]:
        """Return a shard's address.

        Raises:
            AddressUnknown: no lookup has succeeded so far.
        """
        if self._lookups == 0:
            self.refresh(0)
        with self._lock:
            if not self._addresses:
                raise AddressUnknown(self._lookup_error, self._lookups)
            host_port = self._addresses[shard]
            return Address(host_port, self._connections[host_port], self._lookups)

    def by_address(self, shards: Iterable[int]) -> list[list[int]]:
        """Return the shards in groups of one address, or all in one group if no address is known yet."""
        if self._lookups == 0:
            self.refresh(0)
        groups: dict[str, list[int]] = {}
        with self._lock:
            for shard in shards:
                groups.setdefault(self._addresses[shard] if self._addresses else "", []).append(shard)
        return list(groups.values())

    def refresh(self, lookup: int) -> None:
        """Look the addresses up again, unless another thread has since lookup number `lookup`.

        Fixed addresses stay as they are.
        """
        if self._look_up is None:
            return
        with self._lookup_lock:
            if self._lookups != lookup or self._closed:
                return
            try:
                self._update(self._look_up())
            except Exception as error:  # whatever the lookup raises, the next one may succeed
                with self._lock:
                    self._lookup_error = f"{type(error).__name__}: {error}"
            finally:
                with self._lock:
                    self._lookups += 1

    def is_current(self, address: Address[_C]) -> bool:
        """Return whether the address' connection is still in use; if not, it was closed because the shards moved."""
        with self._lock:
            return self._connections.get(address.host_port) is address.connection

    def close(self) -> None:
        """Close all connections, and make no more lookups."""
        with self._lock:
            self._closed = True
            connections = list(self._connections.values())
        for connection in connections:
            connection.close()

    def _update(self, addresses: Sequence[str]) -> None:
        if isinstance(addresses, str) or len(addresses) != self._shards:
            raise ValueError(f"`addresses` must be one for each of {self._shards} shards, got {len(addresses)}")
        with self._lock:
            if self._closed:
                return
            before = self._connections
            # Connections are reused, so that one moved shard does not disturb the calls to the others.
            self._connections = {a: before[a] if a in before else self._connect(a) for a in set(addresses)}
            self._addresses = tuple(addresses)
            outdated = [connection for a, connection in before.items() if a not in self._connections]
        for connection in outdated:
            connection.close()
