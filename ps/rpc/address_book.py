"""Where the shards are, as far as a client knows: addresses that may change, and a connection to each."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """A connection that can be hung up; more than once."""

    def close(self) -> None:
        """Hang up."""
        ...


_C = TypeVar("_C", bound=Closable)


@dataclass(frozen=True, slots=True)
class Route(Generic[_C]):
    """The way to one shard, as known at the time of the `asked`-th question."""

    address: str
    connection: _C
    asked: int


class NoRoute(Exception):
    """The addresses are not known yet; why, and at which question."""

    def __init__(self, why: str, asked: int) -> None:
        super().__init__(why)
        self.asked = asked


class Directory(Generic[_C]):
    """The shards' addresses and one connection to each; may be used from several threads.

    Args:
        addresses: one for each shard, fixed; or what gives them. It is asked from the threads that need a shard, one
            at a time, at the first use and whenever one reports that it does not find its shard. It may raise, and
            may be behind the times: then it is asked again later.
        shards: how many there are.
        connect: address -> a connection, made without waiting.

    Raises:
        ValueError: fixed addresses that are not one for each shard.
    """

    def __init__(
        self, addresses: Sequence[str] | Callable[[], Sequence[str]], shards: int, connect: Callable[[str], _C]
    ) -> None:
        self.moves = callable(addresses)
        """Whether a shard may be somewhere else the next time."""
        self._ask = addresses if callable(addresses) else None
        self._shards = shards
        self._connect = connect
        self._asking = threading.Lock()  # held while the question is under way, which may take long
        self._lock = threading.Lock()  # held for moments; guards what follows
        self._asked = 0
        self._problem = "nobody has asked yet"
        self._addresses: tuple[str, ...] = ()
        self._connections: dict[str, _C] = {}
        self._closed = False
        if not callable(addresses):
            self._take(addresses)

    def route(self, shard: int) -> Route[_C]:
        """The way to a shard.

        Raises:
            NoRoute: the addresses are not known.
        """
        if self._asked == 0:
            self.refresh(0)
        with self._lock:
            if not self._addresses:
                raise NoRoute(self._problem, self._asked)
            address = self._addresses[shard]
            return Route(address, self._connections[address], self._asked)

    def refresh(self, asked: int) -> None:
        """Ask for the addresses, unless somebody has done so since the `asked`-th question. Fixed ones stay."""
        if self._ask is None:
            return
        with self._asking:
            if self._asked != asked or self._closed:
                return
            try:
                self._take(self._ask())
            except Exception as error:  # whatever the question runs into, the next one may be answered
                with self._lock:
                    self._problem = f"{type(error).__name__}: {error}"
            finally:
                with self._lock:
                    self._asked += 1

    def is_current(self, route: Route[_C]) -> bool:
        """Whether the route's connection is still in use: else it was closed because the shards have moved."""
        with self._lock:
            return self._connections.get(route.address) is route.connection

    def close(self) -> None:
        """Hang up all connections, and ask no more."""
        with self._lock:
            self._closed = True
            connections = list(self._connections.values())
        for connection in connections:
            connection.close()

    def _take(self, addresses: Sequence[str]) -> None:
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
