"""Who is waited for, pure: no clock and no tensors. Whose lease has ended comes in from outside, as `lapsed`."""

from collections.abc import Mapping, Set
from typing import Any

from ps.consistency import Consistency
from ps.errors import TooFarAhead

_NAMED = 3
"""How many of those who are waited for a message names."""


class Membership:
    """Which members have left, and how far the rounds are; one for each shard.

    A client's *clock* is the highest sequence that the shard has applied of it. A member is *live* unless it has left
    or its lease has ended. Whether a client may go on is decided by clocks alone, which are the same on every shard
    once pushes are complete: so the slowest member may go on everywhere, whatever the shards think of leases, and
    no two clients can wait for each other.

    Under `sync` the *level* is the clock that every live member had at the last step. The next step is due when the
    slowest live member is above it. What a member pushes that comes back late goes into the next step, and the shard
    is in step again with the others afterwards.
    """

    def __init__(self, rules: Consistency) -> None:
        self._rules = rules
        self._left: set[str] = set()
        self._level = 0

    def check_pace(self, client: str, clocks: Mapping[str, int], lapsed: Set[str]) -> None:
        """Raise `TooFarAhead` if the client must wait for others before it pulls for its next push."""
        if not self._rules.waits:
            return
        clock = clocks.get(client, 0)
        awaited = {member: clocks.get(member, 0) for member in self._live(lapsed)}
        awaited = {member: their for member, their in awaited.items() if clock - their > self._rules.bound}
        if awaited:
            raise TooFarAhead(
                f"{client!r} has pushed up to {clock}, and may be {self._rules.bound} ahead of the slowest member: "
                f"waiting for {_name_some(awaited)}",
                applied=clock,
            )

    def welcome(self, client: str | None) -> bool:
        """Count a member that had left as a member again; whether that changed anything."""
        if client not in self._left:
            return False
        self._left.discard(client)
        return True

    def dismiss(self, client: str) -> bool:
        """Wait for a member no more, until it comes back; whether that changed anything."""
        if client not in self._rules.members or client in self._left:
            return False
        self._left.add(client)
        return True

    def end_round(self, clocks: Mapping[str, int], lapsed: Set[str], summed: bool) -> bool:
        """Whether the step of the open round is due, which ends the round.

        Args:
            clocks: client -> the highest sequence applied.
            lapsed: the members whose lease has ended.
            summed: whether there is anything to step on; with nobody left to wait for, that alone decides.
        """
        if self._rules.mode != "sync":
            return False
        live = self._live(lapsed)
        if not live:
            return summed
        slowest = min(clocks.get(member, 0) for member in live)
        due = slowest > self._level
        self._level = max(slowest, self._level)
        return due

    def to_json(self) -> dict[str, Any]:
        """Plain data for the shard's metadata."""
        return {"left": sorted(self._left), "level": self._level}

    def restore(self, data: Mapping[str, Any]) -> None:
        """Become what gave `data`; what an older file does not know yet is as at the start."""
        self._left = set(data.get("left", ()))
        self._level = data.get("level", 0)

    def _live(self, lapsed: Set[str]) -> list[str]:
        return [member for member in self._rules.members if member not in self._left and member not in lapsed]


def _name_some(clocks: Mapping[str, int]) -> str:
    named = ", ".join(f"{member!r} ({clock})" for member, clock in list(clocks.items())[:_NAMED])
    return named if len(clocks) <= _NAMED else f"{named} and {len(clocks) - _NAMED} more"
