"""How far clients may run ahead of each other, and what a late push is worth. Standard library only."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

from ps.identifiers import check_name

Mode = Literal["async", "ssp", "sync"]
Stale = Literal["apply", "scale", "drop"]


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """When a client may pull for its next push, and how a push is applied that was computed from old values.

    Attributes:
        mode: `async`: nobody waits for anybody (Zoph & Le 2017, section 3.2). `ssp`: stale synchronous parallel (Ho
            et al. 2013, section 2): a client may be `bound` pushes ahead of the slowest live member. `sync`: pushes
            are summed, and become one step on their mean when every live member has pushed since the last step; who
            has pushed waits for that step.
        bound: for `ssp`: pushes that a client may be ahead.
        members: the clients that are waited for; for `ssp` and `sync`.
        lease_s: seconds after which a member that was not heard from is waited for no more, until it comes back. Then
            the others wait until it has caught up; a client may leave numbers out to catch up at once.
        stale: what becomes of a push whose shard has taken steps since its pull. `apply`: it counts in full (the
            paper). `scale`: its gradient is divided by max(1, staleness) (Zhang et al. 2016, staleness-aware async
            SGD, section 3); what goes to `average` groups is an observation and is not scaled. `drop`: above
            `max_staleness` it changes no value, but is remembered as done.
        max_staleness: for `drop`: the largest staleness (steps, on the shard in question) that is still applied.

    Raises:
        ValueError: naming the field, the rule and the value.
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
        """Whether anybody may ever be waited for."""
        return self.mode != "async"

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`; `from_json` gives back an equal one."""
        return asdict(self) | {"members": list(self.members)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The consistency that `to_json` wrote.

        Raises:
            ValueError: the data describes none.
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
        if not _counts(self.bound):
            raise ValueError(f"`bound` must be an integer of at least 0, got {self.bound!r}")
        if self.bound and self.mode != "ssp":
            raise ValueError(f"`bound` must be 0 where `mode` is {self.mode}, got {self.bound}")
        lease = self.lease_s
        if type(lease) not in (int, float) or not 0 < lease < math.inf:
            raise ValueError(f"`lease_s` must be a finite number above 0, got {lease!r}")
        object.__setattr__(self, "lease_s", float(lease))
        if self.stale == "drop" and not _counts(self.max_staleness):
            raise ValueError(
                f"`max_staleness` must be an integer of at least 0 where `stale` is drop, got {self.max_staleness!r}"
            )
        if self.stale != "drop" and self.max_staleness is not None:
            raise ValueError(
                f"`max_staleness` must be left out where `stale` is {self.stale}, got {self.max_staleness!r}"
            )


def _counts(number: object) -> bool:
    return type(number) is int and number >= 0
