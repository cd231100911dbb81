"""One shard as a pure state machine: no clock, no file, no lock. What goes in decides what comes out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ps.admission import check_names, check_tensors
from ps.errors import NotInitialized, StoreError, UnknownParameter
from ps.optimizers import build_optimizer
from ps.partition import partition
from ps.store import Group, Layout, ShardStatus, check_push_id


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardPush:
    """One shard's part of a push: 1-D float32 slices by tensor name, possibly none, and the version it had seen.

    Raises:
        ValueError: a client, a sequence or a version that no push can have.
    """

    client: str
    sequence: int
    gradients: Mapping[str, Tensor]
    seen_version: int

    def __post_init__(self) -> None:
        check_push_id(self.client, self.sequence)
        if self.seen_version < 0:
            raise ValueError(f"`seen_version` must be 0 or more, got {self.seen_version}")


@dataclass(frozen=True, slots=True)
class ShardAck:
    """One shard's part of an `Ack`."""

    version: int
    incarnation: int
    staleness: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class ShardValues:
    """One shard's part of a `Snapshot`: 1-D copies by tensor name."""

    values: dict[str, Tensor]
    version: int
    incarnation: int


@dataclass(frozen=True, slots=True)
class ShardState:
    """All that a shard knows, for a file: float32 tensors by key, and JSON data."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]


@dataclass(slots=True)
class _Mutable:
    """What changes: everything here travels in `ShardState`, and a bad push touches none of it."""

    initialized: bool = False
    version: int = 0
    incarnation: int = 1
    pushes: int = 0
    # client -> (the highest sequence applied, the staleness that it was acked with)
    clients: dict[str, tuple[int, int]] = field(default_factory=dict)
    # tensor name -> (the sum of the pushes since its last step, how many they are); only where accumulate > 1
    sums: dict[str, tuple[Tensor, int]] = field(default_factory=dict)


class Shard:
    """A range of the flattened vector, with its optimizers and its memory of who has pushed what.

    With `accumulate=N` pushes are counted for each tensor, not for the group: a push may name only some tensors,
    and a count for the group would depend on which of them lie on this shard.
    """

    def __init__(self, layout: Layout, index: int) -> None:
        if not 0 <= index < layout.shards:
            raise ValueError(f"a shard's index must be from 0 to {layout.shards - 1}, got {index}")
        self.layout = layout
        self.index = index
        self.shapes = {s.name: (s.size,) for s in partition(layout.shapes, layout.shards)[index]}
        """Tensor name -> shape of its slice here: always 1-D."""
        self._values = {name: torch.zeros(shape) for name, shape in self.shapes.items()}
        self._groups: list[tuple[Group, list[str]]] = []
        for group in layout.groups:
            if here := [name for name in group.shapes if name in self.shapes]:
                self._groups.append((group, here))
        self._optimizers = self._fresh_optimizers()
        self._state = _Mutable()
        self._duplicates = 0
        self._rejected = 0

    def initialize(self, values: Mapping[str, Tensor]) -> bool:
        """Take the initial values, unless there are some already; whether it took them.

        Raises:
            UnknownParameter, ShapeMismatch, NonFinite: the slices are not exactly this shard's.
        """
        if missing := [name for name in self.shapes if name not in values]:
            raise UnknownParameter(f"initial values must cover shard {self.index}, missing: {', '.join(missing)}")
        check_tensors(self.shapes, values)
        if self._state.initialized:
            return False
        for name, value in values.items():
            self._values[name].copy_(value)
        self._state.initialized = True
        return True

    def pull(self, names: Sequence[str] | None = None) -> ShardValues:
        """Copies of the named slices, or of all of them.

        Raises:
            NotInitialized, UnknownParameter: see `ParameterStore.pull`.
        """
        self._require_initialized()
        wanted = list(self.shapes) if names is None else list(dict.fromkeys(names))
        check_names(self.shapes, wanted)
        values = {name: self._values[name].clone() for name in wanted}
        return ShardValues(values, self._state.version, self._state.incarnation)

    def push(self, push: ShardPush) -> ShardAck:
        """Apply one client's slices once; an old sequence is acked again without being applied.

        The ack of a repetition carries the staleness of the client's newest applied push.

        Raises:
            NotInitialized, UnknownParameter, ShapeMismatch, NonFinite: nothing has changed.
        """
        try:
            self._require_initialized()
            check_tensors(self.shapes, push.gradients)
        except StoreError:
            self._rejected += 1
            raise
        state = self._state
        last, staleness = state.clients.get(push.client, (0, 0))
        if push.sequence <= last:
            self._duplicates += 1
            return ShardAck(state.version, state.incarnation, staleness, duplicate=True)
        staleness = max(0, state.version - push.seen_version)
        state.version += self._step(push.gradients)
        state.pushes += 1
        state.clients[push.client] = push.sequence, staleness
        return ShardAck(state.version, state.incarnation, staleness, duplicate=False)

    def restart(self, starts: int = 1) -> None:
        """Count a new incarnation, `starts` above the last."""
        self._state.incarnation += starts

    def status(self) -> ShardStatus:
        """The counters; `writes` is not this class's to know."""
        return ShardStatus(
            index=self.index,
            version=self._state.version,
            incarnation=self._state.incarnation,
            initialized=self._state.initialized,
            pushes=self._state.pushes,
            duplicates=self._duplicates,
            rejected=self._rejected,
            elements=sum(math.prod(shape) for shape in self.shapes.values()),
            clients=len(self._state.clients),
        )

    def state(self) -> ShardState:
        """A deep copy of all that the shard knows."""
        state = self._state
        tensors = {f"value/{name}": value.clone() for name, value in self._values.items()}
        for name, (total, _) in state.sums.items():
            tensors[f"sum/{name}"] = total.clone()
        for (_, here), optimizer in zip(self._groups, self._optimizers, strict=True):
            for name in here:
                for key, entry in optimizer.state.get(self._values[name], {}).items():
                    if entry is not None:  # SGD without momentum keeps an empty slot
                        tensors[f"optimizer/{key}/{name}"] = entry.clone()
        metadata = {
            "initialized": state.initialized,
            "version": state.version,
            "incarnation": state.incarnation,
            "pushes": state.pushes,
            "clients": {client: list(entry) for client, entry in state.clients.items()},
            "summed": {name: count for name, (_, count) in state.sums.items()},
        }
        return ShardState(tensors, metadata)

    def restore(self, saved: ShardState) -> None:
        """Become the shard that gave `saved`, which is copied; the layout and the index must be the same."""
        data = saved.metadata
        for name, value in self._values.items():
            value.copy_(saved.tensors[f"value/{name}"])
        self._optimizers = self._fresh_optimizers()
        for (_, here), optimizer in zip(self._groups, self._optimizers, strict=True):
            for key, tensor in saved.tensors.items():
                kind, _, rest = key.partition("/")
                slot, _, name = rest.partition("/")
                if kind == "optimizer" and name in here:
                    optimizer.state[self._values[name]][slot] = tensor.clone()
        self._state = _Mutable(
            initialized=data["initialized"],
            version=data["version"],
            incarnation=data["incarnation"],
            pushes=data["pushes"],
            clients={client: (sequence, staleness) for client, (sequence, staleness) in data["clients"].items()},
            sums={name: (saved.tensors[f"sum/{name}"].clone(), count) for name, count in data["summed"].items()},
        )

    def _require_initialized(self) -> None:
        if not self._state.initialized:
            raise NotInitialized(f"shard {self.index} of run {self.layout.run!r} has no values: initialize it first")

    def _fresh_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            build_optimizer(group.optimizer, group.options, [self._values[name] for name in here])
            for group, here in self._groups
        ]

    def _step(self, gradients: Mapping[str, Tensor]) -> bool:
        """Accumulate the gradients, and step the tensors that have enough; whether there were any."""
        stepped = False
        for (group, here), optimizer in zip(self._groups, self._optimizers, strict=True):
            for name in here:
                if name in gradients:
                    self._values[name].grad = self._accumulated(name, gradients[name], group.accumulate)
            if any(self._values[name].grad is not None for name in here):
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                stepped = True
        return stepped

    def _accumulated(self, name: str, gradient: Tensor, count: int) -> Tensor | None:
        """The mean of the last `count` gradients of a tensor once they are all here, else `None`."""
        if count == 1:
            return gradient  # optimizers only read it, and it is dropped after the step
        total, summed = self._state.sums.pop(name, (None, 0))
        total = gradient.clone() if total is None else total.add_(gradient)
        if summed + 1 == count:
            return total.div_(count)
        self._state.sums[name] = total, summed + 1
        return None
