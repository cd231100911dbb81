"""One shard's part of pushes, acks and snapshots, and the state that a shard saves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ps.identifiers import check_note, check_push_id, check_rates
from ps.slices import Slices


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardPush:
    """One shard's part of a `Push`.

    Attributes:
        gradients: tensor name -> 1-D float32 slice; possibly empty. `Slices` must be in the layout's order.
        seen_version: the shard's version at the client's pull.
        seen_applied: the client's highest sequence that the shard had applied at the pull.
        rates: the rates of all groups in the `Push`, whether or not the shard has a part of them.
        note: that of the `Push`.

    Raises:
        ValueError: a field is invalid.
    """

    client: str
    sequence: int
    gradients: Mapping[str, Tensor]
    seen_version: int
    seen_applied: int = 0
    rates: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        check_push_id(self.client, self.sequence)
        check_rates(self.rates)
        check_note(self.note)
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
    """One shard's part of a `Snapshot`: 1-D copies by tensor name.

    `applied` has the highest sequence applied of each client that shares the pull; it is empty if there is none.
    """

    values: Slices
    version: int
    incarnation: int
    applied: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ShardState:
    """The whole state of a shard, for a file: float32 tensors by key, and JSON data."""

    tensors: Mapping[str, Tensor]
    metadata: dict[str, Any]
