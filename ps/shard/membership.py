"""`Membership`: which clients the others wait for. Pure: no clock and no tensors; the caller passes expired leases."""

from collections.abc import Mapping, Set
from typing import Any

from ps.consistency import Consistency
from ps.errors import TooFarAhead

_MAX_NAMED = 3
"""How many of the slower members an error message names."""


class Membership:
    """The members that have left, and the progress of the rounds; one object for each shard.

    A client's *clock* is its highest sequence that the shard has applied. A member is *live* unless it has left or its
    lease has expired. Clocks alone decide whether a client may pull, and they are equal on all shards once pushes are
    complete: so the slowest member may pull everywhere, even if the shards disagree on leases, and no two clients can
    wait for each other.

    Under `sync` the *level* is the clock that every live member had at the last step. The next step is due when the
    slowest live member is above it. The late pushes of a member that returns go into the next step, and afterwards the
    shard has the same level as the others again.
    """

    def __init__(self, rules: Consistency) -> None:
        self._rules = rules
        self._left: set[str] = set()
        self._level = 0

    def check_pace(self, client: str, clocks: Mapping[str, int], expired: Set[str]) -> None:
        """Raise `TooFarAhead` if the client must wait for others before it pulls for its next push."""
        if not self._rules.waits:
            return
        clock = clocks.get(client, 0)
        live = {member: clocks.get(member, 0) for member in self._live(expired)}
        slower = {member: its_clock for member, its_clock in live.items() if clock - its_clock > self._rules.bound}
        if slower:
            raise TooFarAhead(
                f"{client!r} has pushed up to {clock}, and may be {self._rules.bound} ahead of the slowest member: "
                f"waiting for {_name_some(slower)}",
                applied=clock,
            )

    def rejoin(self, client: str) -> bool:
        """Make a member that had left a member again. Return whether that changed anything."""
        if client not in self._left:
            return False
        self._left.discard(client)
        return True

    def leave(self, client: str) -> bool:
        """Record that a member has left, until it rejoins. Return whether that changed anything."""
        if client not in self._rules.members or client in self._left:
            return False
        self._left.add(client)
        return True

    def end_round(self, clocks: Mapping[str, int], expired: Set[str], has_sums: bool) -> bool:
        """End the open round if its step is due. Return whether it is.

        Args:
            clocks: client -> the highest sequence applied.
            expired: the members whose lease has expired.
            has_sums: whether there are accumulated pushes; without live members, that alone decides.
        """
        if self._rules.mode != "sync":
            return False
        live = self._live(expired)
        if not live:
            return has_sums
        slowest = min(clocks.get(member, 0) for member in live)
        due = slowest > self._level
        self._level = max(slowest, self._level)
        return due

    def to_json(self) -> dict[str, Any]:
        """Return plain data for the shard's metadata."""
        return {"left": sorted(self._left), "level": self._level}

    def restore(self, data: Mapping[str, Any]) -> None:
        """Restore what `to_json` returned; a key that an older file lacks gets its initial value."""
        self._left = set(data.get("left", ()))
        self._level = data.get("level", 0)

    def _live(self, expired: Set[str]) -> list[str]:
        return [member for member in self._rules.members if member not in self._left and member not in expired]


def _name_some(clocks: Mapping[str, int]) -> str:
    named = ", ".join(f"{member!r} ({clock})" for member, clock in list(clocks.items())[:_MAX_NAMED])
    return named if len(clocks) <= _MAX_NAMED else f"{named} and {len(clocks) - _MAX_NAMED} more"
