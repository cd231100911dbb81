"""What the options of the two stores have in common: how clients wait for each other, and what becomes of stale pushes.

The options of the searcher's parameters (`Topology`) and those of the weights that children share (`WeightsOptions`)
have names and defaults of their own, and one meaning.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from ps.consistency import Consistency


@dataclass(frozen=True, kw_only=True, slots=True)
class StalenessRule:
    """The values of one store's options; see `ps.consistency.Consistency`.

    Attributes:
        consistency: how clients wait for each other; causal as async, as its order is that in which children begin.
        staleness_bound: with ssp, pushes allowed ahead of the slowest.
        on_stale: treatment of a stale push.
        max_staleness: with drop, the largest staleness still applied.
    """

    consistency: Literal["async", "ssp", "sync", "causal"]
    staleness_bound: int
    on_stale: Literal["apply", "scale", "drop"]
    max_staleness: int | None

    @classmethod
    def of(cls, options: Any, prefix: str = "") -> Self:
        """Return the rule of options whose names begin with a prefix.

        Raises:
            ValueError: their values do not fit together; the message names the option.
        """
        rule = cls(**{field.name: getattr(options, prefix + field.name) for field in fields(cls)})
        rule._check(prefix)
        return rule

    def _check(self, prefix: str) -> None:
        bound, most = f"`{prefix}staleness_bound`", f"`{prefix}max_staleness`"
        if self.staleness_bound < 0:
            raise ValueError(f"{bound} must be 0 or more, got {self.staleness_bound}")
        if self.staleness_bound and self.consistency != "ssp":
            raise ValueError(f"{bound} must be 0 unless `{prefix}consistency` is ssp, got {self.staleness_bound}")
        if (self.on_stale == "drop") != (self.max_staleness is not None):
            raise ValueError(f"{most} must be given with `{prefix}on_stale` drop, and with nothing else")
        if self.max_staleness is not None and self.max_staleness < 0:
            raise ValueError(f"{most} must be 0 or more, got {self.max_staleness}")

    @property
    def waits(self) -> bool:
        """Whether clients may wait for others."""
        return self.consistency in ("ssp", "sync")

    def store_consistency(self, members: Sequence[str]) -> Consistency:
        """Return the shards' consistency between these clients."""
        return Consistency(
            mode="async" if self.consistency == "causal" else self.consistency,
            bound=self.staleness_bound,
            members=tuple(members) if self.waits else (),
            stale=self.on_stale,
            max_staleness=self.max_staleness,
        )
