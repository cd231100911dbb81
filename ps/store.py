"""What a parameter store holds, what travels to and from it, and the rules that every store keeps."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, Self

from torch import Tensor

from ps.optimizers import complete_options

MAX_NAME_LENGTH = 200
"""Characters of a run's, group's, tensor's or client's name."""

MAX_RANK = 8
"""Dimensions of one tensor."""

MAX_SEQUENCE = 2**63 - 1
"""The largest sequence number of a push: it travels as a signed 64-bit integer."""

DEFAULT_MAX_BYTES = 256 * 2**20
"""Bytes of tensors in a layout, and so in any one message, unless a store is told otherwise."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Named float32 tensors that share one update rule.

    Attributes:
        name: for people; unique in its layout.
        shapes: tensor name -> shape, in the order in which they lie in the flattened vector.
        optimizer: `adam` (lr, beta1=0.9, beta2=0.999, eps=1e-8), `sgd` (lr, momentum=0) or `average` (decay):
            `p <- decay * p + (1 - decay) * g`, where the pushed "gradient" g is the observed value.
        options: the optimizer's numbers; the constructor fills in the defaults.
        accumulate: a tensor takes one step on the mean of every `accumulate` pushes that name it.

    Raises:
        ValueError: naming the field, the rule and the value.
    """

    name: str
    shapes: Mapping[str, tuple[int, ...]]
    optimizer: str
    options: Mapping[str, float]
    accumulate: int = 1

    def __post_init__(self) -> None:
        check_name("a group's name", self.name)
        if not self.shapes:
            raise ValueError(f"group {self.name!r} must hold at least one tensor, got none")
        for name, shape in self.shapes.items():
            check_name(f"a tensor's name in group {self.name!r}", name)
            if len(shape) > MAX_RANK or not all(type(size) is int and size >= 1 for size in shape):
                raise ValueError(
                    f"the shape of {name!r} must be up to {MAX_RANK} integers of at least 1, got {tuple(shape)}"
                )
        if type(self.accumulate) is not int or self.accumulate < 1:
            raise ValueError(
                f"`accumulate` of group {self.name!r} must be an integer of at least 1, got {self.accumulate!r}"
            )
        object.__setattr__(self, "shapes", {name: tuple(shape) for name, shape in self.shapes.items()})
        object.__setattr__(self, "options", complete_options(self.optimizer, self.options))


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which tensors a run keeps on how many shards. Both ends must hold an equal one.

    Raises:
        ValueError: naming the field, the rule and the value.
    """

    run: str
    groups: tuple[Group, ...]
    shards: int

    def __post_init__(self) -> None:
        check_name("`run`", self.run)
        object.__setattr__(self, "groups", tuple(self.groups))
        for what, names in (
            ("group", [group.name for group in self.groups]),
            ("tensor", [name for group in self.groups for name in group.shapes]),
        ):
            if repeated := sorted(name for name, times in Counter(names).items() if times > 1):
                raise ValueError(f"{what} names must be unique in a layout, got {', '.join(repeated)} more than once")
        if type(self.shards) is not int or not 1 <= self.shards <= self.elements:
            raise ValueError(f"`shards` must be from 1 to the number of elements ({self.elements}), got {self.shards}")

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape, in the order of the flattened vector."""
        return {name: shape for group in self.groups for name, shape in group.shapes.items()}

    @cached_property
    def elements(self) -> int:
        """Length of the flattened vector."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits, equal for equal layouts: tensors, order, optimizers, shards and run all count."""
        return hashlib.sha256(json.dumps(self.to_json()).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`; `from_json` gives back an equal layout."""
        groups = [
            {
                "name": group.name,
                "shapes": [[name, list(shape)] for name, shape in group.shapes.items()],
                "optimizer": group.optimizer,
                "options": dict(group.options),
                "accumulate": group.accumulate,
            }
            for group in self.groups
        ]
        return {"run": self.run, "shards": self.shards, "groups": groups}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The layout that `to_json` wrote.

        Raises:
            ValueError: the data describes no valid layout.
        """
        try:
            groups = tuple(
                Group(**(group | {"shapes": {name: tuple(shape) for name, shape in group["shapes"]}}))
                for group in data["groups"]
            )
            return cls(run=data["run"], groups=groups, shards=data["shards"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"a layout must be as `Layout.to_json` writes it, got {data!r}") from error


@dataclass(frozen=True, kw_only=True)
class Push:
    """One client's gradients.

    Attributes:
        client: who pushes; a name that survives the client's restarts (shards keep one entry for each, for ever).
        sequence: the client numbers its pushes increasing from 1, and sends the next only when it is done with
            the last: a number at or below the highest applied one counts as a repetition.
        gradients: tensor name -> float32 tensor of the layout's shape. Tensors that are not named stay as they
            are, their optimizer state included.
        versions: each shard's version at the pull that the gradients were computed from.

    Raises:
        ValueError: a client without a usable name, or a sequence outside 1 ... 2^63 - 1.
    """

    client: str
    sequence: int
    gradients: Mapping[str, Tensor]
    versions: tuple[int, ...]

    def __post_init__(self) -> None:
        check_push_id(self.client, self.sequence)


@dataclass(frozen=True, slots=True)
class Ack:
    """A push is done, and durable as far as the store's snapshot interval says.

    Attributes:
        versions: each shard's version after the push.
        incarnations: how often each shard has been started or restored; a change means that it was restarted.
        staleness: for each shard, its version when it applied the push minus the version that the push had seen
            (never below 0, even if a restart took the shard back).
        duplicate: every shard had applied this push before, in an earlier call or an earlier attempt of this one.
    """

    versions: tuple[int, ...]
    incarnations: tuple[int, ...]
    staleness: tuple[int, ...]
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Pulled values (copies: the caller may change them) and where each shard stood."""

    values: dict[str, Tensor]
    versions: tuple[int, ...]
    incarnations: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardStatus:
    """One shard's counters. `pushes` and `version` survive a restart; the others count since the last start.

    Attributes:
        index: which shard.
        version: optimizer steps taken.
        incarnation: starts so far, this one included.
        initialized: whether it has values.
        pushes: pushes applied.
        duplicates: pushes acked again without being applied.
        rejected: bad pushes that reached the shard (most are refused before anything is sent).
        elements: length of its range of the flattened vector.
        clients: clients in its deduplication table.
        writes: snapshots written.
    """

    index: int
    version: int
    incarnation: int
    initialized: bool
    pushes: int
    duplicates: int
    rejected: int
    elements: int
    clients: int
    writes: int = 0


class ParameterStore(Protocol):
    """Named tensors, cut over S shards; every implementation keeps these rules.

    1. *An ack means done and durable.* A shard writes its state before it acks; pushes that wait meanwhile share
       one write. With `snapshot_interval_s` above 0, for large shared weights, a crash may lose acked pushes of
       the last `snapshot_interval_s` plus one write's time; each shard loses whole pushes, the newest ones.
    2. *A push is applied exactly once per shard,* whatever is sent again: `(client, sequence)` is remembered in
       the same snapshot as the weights.
    3. *A bad push changes nothing.* It is rejected as a whole with a named error of `ps.errors`.
    4. *Versions are visible.* Every reply carries each shard's version and incarnation.
    5. *Sharding does not change the mathematics.* Update rules are elementwise; with one client, any number of
       shards gives the same bits.
    6. *Bounded and closed.* No pickle; limits on sizes, deadlines on calls, a token beyond the loopback.

    Shards are independent: a pull that meets a concurrent push may show it on some shards only, and a push that
    raises `StoreUnavailable` or `NotDurable` may have reached some shards. Sending it again with the same sequence
    completes it. All methods may be called from several threads.
    """

    def initialize(self, values: Mapping[str, Tensor]) -> None:
        """Set the initial values of all tensors; a shard that has values keeps them, so resuming is starting.

        Clients that initialise at the same time must offer equal values, as each shard takes the first it gets.

        Raises:
            UnknownParameter, ShapeMismatch, NonFinite, TooLarge: the values do not fit the layout.
            NotDurable, StoreUnavailable: some shards may have taken the values; calling again is safe.
        """
        ...

    def pull(self, names: Sequence[str] | None = None) -> Snapshot:
        """The named tensors, or all of them; never a state that a crash could take back (interval 0).

        Raises:
            NotInitialized: no values have been set.
            UnknownParameter: a name that is not in the layout.
            StoreUnavailable: a shard cannot be reached.
        """
        ...

    def push(self, push: Push) -> Ack:
        """Apply the gradients once, and say so when that is done.

        Raises:
            NotInitialized: no values have been set.
            UnknownParameter, ShapeMismatch, NonFinite, TooLarge: a bad push; nothing has changed anywhere.
            ValueError: `versions` is not one number per shard.
            NotDurable, StoreUnavailable: not acked; sending it again with the same sequence is safe.
        """
        ...

    def status(self) -> list[ShardStatus]:
        """Every shard's counters, in the order of the shards."""
        ...

    def close(self) -> None:
        """Write what is not yet durable and release everything; any later call raises `StoreUnavailable`.

        Raises:
            NotDurable: a last periodic write failed; everything is closed nevertheless.
        """
        ...


def check_name(what: str, name: object) -> None:
    """Raise `ValueError` unless `name` is a string of 1 to `MAX_NAME_LENGTH` printable characters."""
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME_LENGTH or not name.isprintable():
        raise ValueError(f"{what} must be 1 to {MAX_NAME_LENGTH} printable characters, got {name!r}")


def check_push_id(client: object, sequence: object) -> None:
    """Raise `ValueError` unless the pair can be remembered: a usable name, and a number that grows from 1."""
    check_name("`client`", client)
    if type(sequence) is not int or not 1 <= sequence <= MAX_SEQUENCE:
        raise ValueError(f"`sequence` must be an integer from 1 to 2^63 - 1, got {sequence!r}")
