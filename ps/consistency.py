"""The consistency model: how far clients may run ahead, and how stale pushes are applied. Standard library only."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

from ps.identifiers import check_name

Mode = Literal["async", "ssp", "sync"]
Stale = Literal["apply", "scale", "drop"]


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """When a client may pull for its next push, and how a stale push is applied.

    Attributes:
        mode: `async`: no client waits (Zoph & Le 2017, section 3.2). `ssp`: stale synchronous parallel (Ho et al.
            2013, section 2): a client may be `bound` pushes ahead of the slowest live member. `sync`: pushes are
            summed, and become one step on their mean when every live member has pushed since the last step; a member
            that has pushed waits for that step.
        bound: for `ssp`: how many pushes a client may be ahead.
        members: for `ssp` and `sync`: the clients that others wait for.
        lease_s: seconds without a request or heartbeat after which a member's lease expires and clients no longer wait
            for it. When it returns, the others wait until it has caught up; it may skip sequence numbers to catch up
            at once.
        stale: how a shard applies a push if it has taken steps since the push's pull. `apply`: in full (the paper).
            `scale`: the gradient is divided by max(1, staleness) (Zhang et al. 2016, staleness-aware async SGD,
            section 3); what goes to `average` groups is an observation and is not scaled. `drop`: above
            `max_staleness` the push changes no value, but is recorded as done.
        max_staleness: for `drop`: the largest staleness (steps, on that shard) that is still applied.

    Raises:
        ValueError: a field is invalid; the message names the field, the rule and the value.
    """

    mode: Mode = "async"
    bound: int = 0
    members: tuple[str, ...] = ()
    lease_s: float = 60.0
    stale: Stale = "apply"
    max_staleness: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ValueError(f"`mode` must be one of {', '.join(get_args(Mode))}, got {self.mode!r}")
        if self.stale not in get_args(Stale):
            raise ValueError(f"`stale` must be one of {', '.join(get_args(Stale))}, got {self.stale!r}")
        self._check_members()
        self._check_numbers()

    @property
    def waits(self) -> bool:
        """Whether this mode ever makes a client wait."""
        return self.mode != "async"

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`, from which `from_json` makes an equal object."""
        return asdict(self) | {"members": list(self.members)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the consistency that `to_json` wrote.

        Raises:
            ValueError: the data does not describe a valid consistency.
        """
        try:
            return cls(**data)
        except TypeError as error:
            raise ValueError(f"a consistency must be as `Consistency.to_json` writes it, got {data!r}") from error

    def _check_members(self) -> None:
        if isinstance(self.members, str) or not isinstance(self.members, Sequence):
            raise ValueError(f"`members` must be a tuple of names, got {self.members!r}")
        object.__setattr__(self, "members", tuple(self.members))
        for member in self.members:
            check_name("each of `members`", member)
        if len(set(self.members)) != len(self.members):
            raise ValueError(f"`members` must be unique, got {', '.join(self.members)}")
        if self.waits != bool(self.members):
            rule = "name the clients to wait for" if self.waits else "be empty"
            raise ValueError(f"`members` must {rule} where `mode` is {self.mode}, got {self.members}")

    def _check_numbers(self) -> None:
        if not _is_count(self.bound):
            raise ValueError(f"`bound` must be an integer of at least 0, got {self.bound!r}")
        if self.bound and self.mode != "ssp":
            raise ValueError(f"`bound` must be 0 where `mode` is {self.mode}, got {self.bound}")
        lease_s = self.lease_s
        if type(lease_s) not in (int, float) or not 0 < lease_s < math.inf:
            raise ValueError(f"`lease_s` must be a finite number above 0, got {lease_s!r}")
        object.__setattr__(self, "lease_s", float(lease_s))
        if self.stale == "drop" and not _is_count(self.max_staleness):
            raise ValueError(
                f"`max_staleness` must be an integer of at least 0 where `stale` is drop, got {self.max_staleness!r}"
            )
        if self.stale != "drop" and self.max_staleness is not None:
            raise ValueError(
                f"`max_staleness` must be left out where `stale` is {self.stale}, got {self.max_staleness!r}"
            )


def _is_count(number: object) -> bool:
    return type(number) is int and number >= 0
