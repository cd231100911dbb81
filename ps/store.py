"""What a parameter store holds, what travels to and from it, and the rules that every store keeps."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, Self

from torch import Tensor

from ps.consistency import Consistency
from ps.identifiers import check_name, check_push_id
from ps.optimizers import complete_options
from ps.status import ShardStatus

MAX_RANK = 8
"""Dimensions of one tensor."""

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
    """Which tensors a run keeps on how many shards, and who waits for whom. Both ends must hold an equal one.

    Raises:
        ValueError: naming the field, the rule and the value.
    """

    run: str
    groups: tuple[Group, ...]
    shards: int
    consistency: Consistency = field(default_factory=Consistency)

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
        summing = [group.name for group in self.groups if group.accumulate > 1]
        if summing and self.consistency.mode == "sync":
            raise ValueError(f"`accumulate` must be 1 where `mode` is sync, got more in {', '.join(summing)}")

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
        """16 hexadecimal digits, equal for equal layouts: tensors, their order, update rules and all else count."""
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
        data: dict[str, Any] = {"run": self.run, "shards": self.shards, "groups": groups}
        # Left out where it is the default, so that layouts on disk from before it existed keep their fingerprint.
        return data if self.consistency == Consistency() else data | {"consistency": self.consistency.to_json()}

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
            consistency = Consistency.from_json(data.get("consistency", {}))
            return cls(run=data["run"], groups=groups, shards=data["shards"], consistency=consistency)
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
        applied: `Snapshot.applied` of that pull or a later one, so that a shard which has lost pushes since refuses;
            empty if the client does not know.

    Raises:
        ValueError: a client without a usable name, or a sequence outside 1 ... 2^63 - 1.
    """

    client: str
    sequence: int
    gradients: Mapping[str, Tensor]
    versions: tuple[int, ...]
    applied: tuple[int, ...] = ()

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
        dropped: at least one shard found the push too stale (`Consistency.max_staleness`) and left its values as they
            were; which ones follows from `staleness`. The push is done all the same, and never applied there.
    """

    versions: tuple[int, ...]
    incarnations: tuple[int, ...]
    staleness: tuple[int, ...]
    duplicate: bool
    dropped: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Pulled values (copies: the caller may change them) and where each shard stood.

    Attributes:
        applied: for each shard the highest sequence of the pulling client that it has applied, 0 if none; empty for a
            pull without a client. A shard below the others fell back to an older snapshot, or a push did not reach
            it; the client pushes that sequence again, and shards that have it only ack it.
    """

    values: dict[str, Tensor]
    versions: tuple[int, ...]
    incarnations: tuple[int, ...]
    applied: tuple[int, ...] = ()


class ParameterStore(Protocol):
    """Named tensors, cut over S shards; every implementation keeps these rules.

    1. *An ack means done and durable.* A shard writes its state before it acks; pushes that wait meanwhile share
       one write. With `snapshot_interval_s` above 0, for large shared weights, a crash may lose acked pushes of
       the last `snapshot_interval_s` plus one write's time; each shard loses whole pushes, the newest ones.
    2. *A push is applied exactly once per shard,* whatever is sent again, in every mode: `(client, sequence)` is
       remembered in the same snapshot as the weights and the sums of an open round.
    3. *A bad push changes nothing.* It is rejected as a whole with a named error of `ps.errors`.
    4. *Versions are visible.* Every reply carries each shard's version and incarnation.
    5. *Sharding does not change the mathematics.* Update rules are elementwise; pushes that come one after another
       give the same bits on any number of shards. (Sums are rounded in the order in which the pushes come.)
    6. *Bounded and closed.* No pickle; limits on sizes, deadlines on calls, a token beyond the loopback.
    7. *Nobody is blocked by the dead, or for ever.* Where the layout's `Consistency` makes clients wait, the store
       refuses a pull at once, and the client asks again. A member that has left, or was not heard from for a lease,
       is waited for no more, until it pulls or pushes again. Who has left, and a round that is open under `sync`,
       are as durable as the weights; leases are not, so a restarted shard gives everybody a fresh one.

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

    def pull(self, names: Sequence[str] | None = None, *, client: str | None = None) -> Snapshot:
        """The named tensors, or all of them; never a state that a crash could take back (interval 0).

        Args:
            names: which tensors; `None` for all.
            client: who pulls for its next push, under `ssp` and `sync` only when it may. A client whose last push
                is missing on some shards always may, as it must complete that push first (see `Snapshot.applied`).
                `None` never waits.

        Raises:
            NotInitialized: no values have been set.
            UnknownParameter: a name that is not in the layout.
            ValueError: nobody can have this client's name.
            TooFarAhead: the client has to wait for slower ones; raised at once.
            StoreUnavailable: a shard cannot be reached.
            NotDurable: that the client is a member again, or the end of a round, could not be written.
        """
        ...

    def push(self, push: Push) -> Ack:
        """Apply the gradients once, and say so when that is done.

        Raises:
            NotInitialized: no values have been set.
            UnknownParameter, ShapeMismatch, NonFinite, TooLarge: a bad push; nothing has changed anywhere.
            ValueError: `versions` is not one number per shard.
            LostPushes: a shard fell back since `push.applied` was seen; others may have taken the push.
            NotDurable, StoreUnavailable: not acked; sending it again with the same sequence is safe.
        """
        ...

    def leave(self, client: str) -> None:
        """The client is done: nobody waits for it until it pulls or pushes again. Leaving twice changes nothing.

        Raises:
            ValueError: nobody can have this client's name.
            NotDurable, StoreUnavailable: some shards may know already; leaving again is safe.
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
