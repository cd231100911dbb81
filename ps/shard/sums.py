"""`Sums`: the pushes that wait for one step together, added up for each tensor."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sum:
    """The sum of a tensor's pushes since its last step.

    Attributes:
        total: the sum.
        count: how many pushes it has.
        rate: the largest learning rate that one of them came with, so that it is the same in whatever order they come;
            `None` if none came with one.
    """

    total: Tensor
    count: int
    rate: float | None

    @property
    def mean(self) -> Tensor:
        """The mean, which takes the place of the sum."""
        return self.total.div_(self.count)


class Sums:
    """The open sums by tensor name; a part of a shard's state."""

    def __init__(self) -> None:
        self._sums: dict[str, Sum] = {}

    def __len__(self) -> int:
        return len(self._sums)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._sums))

    def add(self, name: str, gradient: Tensor, rate: float | None) -> int:
        """Add a gradient and its learning rate to a tensor's sum. Return how many pushes the sum has now."""
        before = self._sums.get(name)
        if before is None:
            self._sums[name] = Sum(gradient.clone(), 1, rate)
        else:
            rates = [one for one in (before.rate, rate) if one is not None]
            self._sums[name] = Sum(before.total.add_(gradient), before.count + 1, max(rates, default=None))
        return self._sums[name].count

    def pop(self, name: str) -> Sum:
        """Remove and return a tensor's sum."""
        return self._sums.pop(name)

    def tensors(self) -> dict[str, Tensor]:
        """Return the sums by their keys in a shard's state."""
        return {f"sum/{name}": one.total for name, one in self._sums.items()}

    def to_json(self) -> dict[str, Any]:
        """Return plain data for the shard's metadata; without rates where there are none, as in older files."""
        counts = {name: one.count for name, one in self._sums.items()}
        rates = {name: one.rate for name, one in self._sums.items() if one.rate is not None}
        return {"summed": counts} | ({"rates": rates} if rates else {})

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> "Sums":
        """Return the sums of `tensors` (keys `sum/NAME`, which are copied) and of what `to_json` returned."""
        sums = cls()
        rates = metadata.get("rates", {})
        sums._sums = {
            name: Sum(tensors[f"sum/{name}"].clone(), count, rates.get(name))
            for name, count in metadata["summed"].items()
        }
        return sums
