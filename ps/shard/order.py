"""`Order`: which pushes a shard has applied, in which order; the part of a shard's state from which a replay starts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple


class Applied(NamedTuple):
    """A push that a shard has applied, or has dropped as too stale.

    Attributes:
        number: counts the shard's recorded pushes from 1.
        version: the shard's version after it.
        client, sequence, note: of the push.
    """

    number: int
    version: int
    client: str
    sequence: int
    note: str


@lru_cache(maxsize=64)  # the shards of a process have the same lines
def _line(*applied: int | str) -> str:
    """Return the line of an `Applied` in a log."""
    return json.dumps(applied)


@dataclass(slots=True)
class Order:
    """The recorded pushes of a shard: how many there are, and those that its log does not have for certain.

    Attributes:
        count: of all of them.
        tail: the last ones, each as its line in the log, which is made once. They are in the shard's snapshot until the
            log is on the disk, so that no crash loses any.
    """

    count: int = 0
    tail: list[str] = field(default_factory=list)

    def add(self, version: int, client: str, sequence: int, note: str) -> None:
        """Add a push that was applied."""
        self.count += 1
        self.tail.append(_line(self.count, version, client, sequence, note))

    @property
    def pushes(self) -> list[Applied]:
        """The pushes of the tail."""
        return [Applied(*json.loads(line)) for line in self.tail]

    def since(self, number: int) -> list[str]:
        """Return the lines of the tail after the push with this number."""
        return self.tail[max(0, number - self.count + len(self.tail)) :]

    def forget(self, number: int) -> None:
        """Remove the pushes up to this one from the tail, as the log has them for certain."""
        self.tail = self.since(number)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for the shard's metadata; nothing where nothing was recorded, as in older files."""
        return {"order": {"count": self.count, "tail": "\n".join(self.tail)}} if self.count else {}

    @classmethod
    def restored(cls, metadata: Mapping[str, Any]) -> "Order":
        """Return what `to_json` returned."""
        data = metadata.get("order", {"count": 0, "tail": ""})
        return cls(data["count"], data["tail"].splitlines())


@dataclass(frozen=True, slots=True)
class Start:
    """A start of a shard.

    Attributes:
        incarnation: the shard's since then.
        before: that of the state that it started from.
        count: how many recorded pushes that state has.
        tail: the last ones of them.
    """

    incarnation: int
    before: int
    count: int
    tail: Sequence[Applied] = ()
