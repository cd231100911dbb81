"""One shard's part of what travels between a store and its shards, and of what a shard writes down."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ps.identifiers import check_push_id


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardPush:
    """One shard's part of a push: 1-D float32 slices by tensor name, possibly none, and what it had seen.

    Attributes:
        seen_version, seen_applied: the shard's version, and the client's highest sequence there, at the pull.

    Raises:
        ValueError: a client, a sequence, a version or a count that no push can have.
    """

    client: str
    sequence: int
    gradients: Mapping[str, Tensor]
    seen_version: int
    seen_applied: int = 0

    def __post_init__(self) -> None:
        check_push_id(self.client, self.sequence)
        if self.seen_version < 0:
            raise ValueError(f"`seen_version` must be 0 or more, got {self.seen_version}")
        if self.seen_applied < 0:
            raise ValueError(f"`seen_applied` must be 0 or more, got {self.seen_applied}")


@dataclass(frozen=True, slots=True)
class ShardAck:
    """One shard's part of an `Ack`."""

    version: int
    incarnation: int
    staleness: int
    duplicate: bool
    dropped: bool


@dataclass(frozen=True, slots=True)
class ShardValues:
    """One shard's part of a `Snapshot`: 1-D copies by tensor name; `applied` is `None` for a pull without a client."""

    values: dict[str, Tensor]
    version: int
    incarnation: int
    applied: int | None


@dataclass(frozen=True, slots=True)
class ShardState:
    """All that a shard knows, for a file: float32 tensors by key, and JSON data."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]
