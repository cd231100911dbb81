"""The protocol `ParameterStore` and its data types. Every store follows the seven rules in the protocol's docstring."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, Self

from ps.consistency import Consistency
from ps.identifiers import check_client, check_name, check_note, check_push_id, check_rates
from ps.optimizer_options import complete_options, options_to_json
from ps.status import ShardStatus

if TYPE_CHECKING:
    from torch import Tensor

MAX_RANK = 8
"""Most dimensions of one tensor."""

DEFAULT_MAX_BYTES = 256 * 2**20
"""Default limit on the bytes of tensors on one shard, and so on what any request has for it."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Named float32 tensors that share one update rule.

    Attributes:
        name: a label for people; unique in its layout.
        shapes: tensor name -> shape, in the order of the flattened vector.
        optimizer: `adam` (lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0), `sgd` (lr, momentum=0, nesterov=0,
            weight_decay=0), both as in `torch.optim`, or `average` (decay): `p <- decay * p + (1 - decay) * g`, where
            the pushed "gradient" g is the observed value.
        options: the optimizer's numeric options; the constructor fills in the defaults.
        accumulate: a tensor takes one step on the mean of every `accumulate` pushes that name it.
        deferred_to: the client whose pushes end rounds. Until then the tensors stay as they are. Then each push of
            the round that names them becomes a step of its own, in the order of the clients' names (shorter ones first)
            and of their numbers, whatever order they came in. `None`: each push is a step at once.

    Raises:
        ValueError: a field is invalid; the message names the field, the rule and the value.
    """

    name: str
    shapes: Mapping[str, tuple[int, ...]]
    optimizer: str
    options: Mapping[str, float]
    accumulate: int = 1
    deferred_to: str | None = None

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
        if self.deferred_to is not None:
            check_client(self.deferred_to)
            if self.accumulate > 1:
                raise ValueError(
                    f"`accumulate` of group {self.name!r} must be 1 with `deferred_to`, got {self.accumulate}"
                )
        object.__setattr__(self, "shapes", {name: tuple(shape) for name, shape in self.shapes.items()})
        object.__setattr__(self, "options", complete_options(self.optimizer, self.options))


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The tensors of a run, the number of shards and the consistency model. Clients and servers need equal layouts.

    Raises:
        ValueError: a field is invalid; the message names the field, the rule and the value.
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
        deferred = [group.name for group in self.groups if group.deferred_to is not None]
        if deferred and self.consistency.mode == "sync":
            raise ValueError(f"`deferred_to` must be left out where `mode` is sync, got one in {', '.join(deferred)}")

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape, in the order of the flattened vector."""
        return {name: shape for group in self.groups for name, shape in group.shapes.items()}

    @cached_property
    def elements(self) -> int:
        """The length of the flattened vector."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that are equal for equal layouts; every field counts, and the order of tensors."""
        return hashlib.sha256(json.dumps(self.to_json()).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`, from which `from_json` makes an equal layout."""
        groups = [
            {
                "name": group.name,
                "shapes": [[name, list(shape)] for name, shape in group.shapes.items()],
                "optimizer": group.optimizer,
                "options": options_to_json(group.optimizer, group.options),
                "accumulate": group.accumulate,
            }
            # The defaults are left out, so that layouts on disk that predate a field keep their fingerprint.
            | ({} if group.deferred_to is None else {"deferred_to": group.deferred_to})
            for group in self.groups
        ]
        data: dict[str, Any] = {"run": self.run, "shards": self.shards, "groups": groups}
        return data if self.consistency == Consistency() else data | {"consistency": self.consistency.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the layout that `to_json` wrote.

        Raises:
            ValueError: the data does not describe a valid layout.
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
        client: the pushing client's name, the same after it restarts (shards store one entry per client for ever).
        sequence: the number of the push. A client numbers its pushes increasing from 1, and sends the next only when
            the last is acked or abandoned: a number at or below the highest applied one counts as a duplicate.
        gradients: tensor name -> float32 tensor of the layout's shape. Tensors that are not named do not change, nor
            does their optimizer state.
        versions: each shard's version at the pull that the gradients were computed from.
        applied: `Snapshot.applied` of that pull or a later one, with which a shard that has lost pushes since then
            refuses this one; empty if the client does not know.
        rates: group -> the learning rate of this step, instead of the group's option `lr`. A retry must send the same.
            Where several pushes make one step, it takes the largest of their rates.
        note: what the shards' logs are to say of this push, such as what the gradients were computed from; one line of
            ASCII. Shards record the order of the pushes that have one.

    Raises:
        ValueError: the client's name is invalid, the sequence is outside 1 ... 2^63 - 1, a rate is not a finite number
            of at least 0, or the note is not printable or too long.
    """

    client: str
    sequence: int
    gradients: Mapping[str, Tensor]
    versions: tuple[int, ...]
    applied: tuple[int, ...] = ()
    rates: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        check_push_id(self.client, self.sequence)
        check_rates(self.rates)
        check_note(self.note)


@dataclass(frozen=True, slots=True)
class Ack:
    """The reply to a push that is done, and as durable as the store's snapshot interval allows.

    Attributes:
        versions: each shard's version after the push.
        incarnations: how often each shard has been started or restored; a change means that it was restarted.
        staleness: for each shard, its version when it applied the push minus the version that the push had seen
            (never below 0, even if a restart took the shard back).
        duplicate: every shard had applied this push before, in an earlier call or an earlier attempt of this one.
        dropped: the push was too stale (`Consistency.max_staleness`) for at least one shard, which did not change its
            values; `staleness` shows which shards. The push is done nevertheless, and never applied there.
    """

    versions: tuple[int, ...]
    incarnations: tuple[int, ...]
    staleness: tuple[int, ...]
    duplicate: bool
    dropped: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Pulled values, as copies that the caller may change, and each shard's version and incarnation.

    Attributes:
        applied: for each shard the highest sequence of the pulling client that it has applied, 0 if none; empty for a
            pull without a client. A shard below the others fell back to an older snapshot, or a push did not reach
            it; the client then repeats that push, which the other shards only ack.
    """

    values: dict[str, Tensor]
    versions: tuple[int, ...]
    incarnations: tuple[int, ...]
    applied: tuple[int, ...] = ()


class ParameterStore(Protocol):
    """Named tensors, partitioned over S shards; every implementation follows these seven rules.

    1. *An ack means done and durable.* A shard writes its state before it acks; pushes that wait meanwhile share
       one write. With `snapshot_interval_s` above 0, for large shared weights, a crash may lose acked pushes of
       the last `snapshot_interval_s` plus one write's time; each shard loses whole pushes, the newest ones.
    2. *A push is applied exactly once per shard,* however often it is sent, in every mode: the same snapshot holds
       the deduplication table of `(client, sequence)`, the weights and the sums of an open round.
    3. *A bad push changes nothing.* It is rejected as a whole with a named error of `ps.errors`.
    4. *Versions are visible.* Every reply carries each shard's version and incarnation.
    5. *Sharding does not change the mathematics.* Update rules are elementwise; pushes that come one after another
       give the same bits on any number of shards. (Sums are rounded in the order in which the pushes come.)
    6. *Requests are bounded and authenticated.* There is no pickle; sizes have limits and calls have deadlines; beyond
       the loopback a token is required.
    7. *A dead client never blocks the others.* Where the layout's `Consistency` makes a client wait, the store
       refuses its pull at once, and the client polls. Clients do not wait for a member that has left or whose lease
       has expired, until it pulls or pushes again. Which members have left, and a round that is open under `sync`,
       are as durable as the weights; leases are not, so a restarted shard starts a new lease for every member.

    Shards are independent: a pull concurrent with a push may show the push on some shards only, and a push that
    raises `StoreUnavailable` or `NotDurable` may have reached some shards. Sending it again with the same sequence
    completes it. All methods may be called from several threads.
    """

    def initialize(self, values: Mapping[str, Tensor]) -> None:
        """Set the initial values of all tensors; a shard that has values keeps them, so a resumed run calls this too.

        Clients that initialise concurrently must pass equal values, as each shard takes the first that arrive.

        Raises:
            UnknownParameter, ShapeMismatch, NonFinite, TooLarge: the values do not fit the layout.
            NotDurable, StoreUnavailable: some shards may have taken the values; calling again is safe.
        """
        ...

    def pull(self, names: Sequence[str] | None = None, *, client: str | None = None) -> Snapshot:
        """Return the named tensors, or all; with interval 0 never a state that a crash could lose.

        Args:
            names: which tensors; `None` for all.
            client: the client that pulls for its next push, which `ssp` and `sync` may refuse for now. They never
                refuse a client whose last push is missing on some shards, as it must first complete that push (see
                `Snapshot.applied`), nor `None`.

        Raises:
            NotInitialized: no values have been set.
            UnknownParameter: a name is not in the layout.
            ValueError: `client` is not a valid name.
            TooFarAhead: the client has to wait for slower ones; raised at once.
            StoreUnavailable: a shard cannot be reached.
            NotDurable: the shard could not write that the client has rejoined, or that a round has ended.
        """
        ...

    def push(self, push: Push) -> Ack:
        """Apply the gradients exactly once, and return when that is done.

        Raises:
            NotInitialized: no values have been set.
            UnknownParameter, ShapeMismatch, NonFinite, TooLarge: the push is bad; no shard has changed. A rate for a
                group that the layout lacks, or that has no learning rate, is an `UnknownParameter`.
            ValueError: `versions` is not one number per shard.
            LostPushes: a shard fell back since `push.applied` was seen; others may have applied the push.
            NotDurable, StoreUnavailable: not acked; sending it again with the same sequence is safe.
        """
        ...

    def leave(self, client: str) -> None:
        """Stop making others wait for this client, until it pulls or pushes again. Leaving twice changes nothing.

        Raises:
            ValueError: `client` is not a valid name.
            NotDurable, StoreUnavailable: some shards may have recorded it; leaving again is safe.
        """
        ...

    def status(self) -> list[ShardStatus]:
        """Return every shard's counters, in the order of the shards."""
        ...

    def close(self) -> None:
        """Write what is not yet durable and release everything; any later call raises `StoreUnavailable`.

        Raises:
            NotDurable: a shard's last periodic write failed; everything is closed nevertheless.
        """
        ...
