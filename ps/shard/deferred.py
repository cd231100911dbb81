"""`Deferred`: gradients that a shard keeps until a round ends; each is then a step of its own, in a fixed order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ps.slices import Slices


@dataclass(frozen=True, slots=True)
class Kept:
    """What a shard keeps of one push.

    Attributes:
        until: the client whose next push ends the round.
        client, sequence: of the push.
        gradients: of the tensors that wait for the end of the round.
        rates: the learning rates that came with the push.
    """

    until: str
    client: str
    sequence: int
    gradients: Slices
    rates: Mapping[str, float]

    @property
    def place(self) -> tuple[int, str, int]:
        """Where its step is among those of a round: that of `c.2` before that of `c.10`, a client's in their order."""
        return len(self.client), self.client, self.sequence


class Deferred:
    """What a shard keeps of the pushes of open rounds; a part of its state."""

    def __init__(self) -> None:
        self._kept: list[Kept] = []

    def add(self, one: Kept) -> None:
        """Keep a part of a push."""
        self._kept.append(one)

    def end_round(self, client: str) -> list[Kept]:
        """Remove and return what was kept until this client's push, in the order of the steps."""
        ended = sorted((one for one in self._kept if one.until == client), key=lambda one: one.place)
        self._kept = [one for one in self._kept if one.until != client]
        return ended

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the gradients by their keys in a shard's state."""
        return {_key(one, name): gradient for one in self._kept for name, gradient in one.gradients.items()}

    def to_json(self) -> dict[str, Any]:
        """Return plain data for the shard's metadata; nothing where nothing is kept, as in older files."""
        kept = [[one.until, one.client, one.sequence, dict(one.rates), list(one.gradients)] for one in self._kept]
        return {"deferred": kept} if kept else {}

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> "Deferred":
        """Return what was kept, from `tensors` (which are copied) and from what `to_json` returned."""
        deferred = cls()
        for until, client, sequence, rates, names in metadata.get("deferred", ()):
            empty = Kept(until, client, sequence, Slices.of({}), rates)
            gradients = Slices.of({name: tensors[_key(empty, name)] for name in names})
            deferred.add(Kept(until, client, sequence, gradients, rates))
        return deferred


def _key(one: Kept, name: str) -> str:
    return f"deferred/{one.client}/{one.sequence}/{name}"


def split(gradients: Slices, until: Mapping[str, str]) -> tuple[Slices, dict[str, Slices]]:
    """Return the gradients that are applied at once, and the others by the client until whose push they wait.

    Args:
        gradients: of one push.
        until: this client, by the names of the tensors that wait.
    """
    parts: dict[str | None, dict[str, Tensor]] = {None: {}}
    for name, gradient in gradients.items():
        parts.setdefault(until.get(name), {})[name] = gradient
    at_once = Slices.of(parts.pop(None))
    return at_once, {client: Slices.of(part) for client, part in parts.items() if client is not None}
