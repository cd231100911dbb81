"""`Vector`: a shard's range of the flattened vector, with the update rules of its groups. Pure arithmetic."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ps.optimizers import Piece, UpdateRule, step
from ps.partition import partition
from ps.slices import Slices
from ps.store import Group, Layout


@dataclass(frozen=True, slots=True)
class GroupRange:
    """The part of a group that is on the shard: its tensors' names, and its elements `start` to `stop` (exclusive)."""

    group: Group
    names: list[str]
    start: int
    stop: int


class Vector:
    """The values and optimizer state of one shard, in one buffer for each kind, so that a step is one kernel's call."""

    def __init__(self, layout: Layout, index: int) -> None:
        self.sizes = {s.name: s.size for s in partition(layout.shapes, layout.shards)[index]}
        """Tensor name -> number of elements of its slice here, in the buffer's order."""
        self._values = Slices(self.sizes, torch.zeros(sum(self.sizes.values())))
        self.groups: list[GroupRange] = []
        for group in layout.groups:
            if names := [name for name in group.shapes if name in self.sizes]:
                start = self._values.offsets[names[0]]
                self.groups.append(GroupRange(group, names, start, start + sum(self.sizes[name] for name in names)))
        self._rules = self._new_rules()
        self._waiting: list[tuple[Slices, Mapping[str, float]]] = []
        self._numbers = {name: number for part in self.groups for number, name in enumerate(part.names)}
        self._state_sizes: dict[tuple[object, ...], dict[str, int]] = {}

    def set(self, values: Mapping[str, Tensor]) -> None:
        """Set all values, in place."""
        for name, value in values.items():
            self._values[name].copy_(value)

    def get(self, names: Sequence[str] | None) -> Slices:
        """Return copies of the named slices in this order, or of all."""
        take_steps([self])
        if names is None or list(names) == list(self.sizes):
            return Slices(self.sizes, self._values.flat.clone())
        return Slices.of({name: self._values[name] for name in names})

    def step(self, gradients: Slices, rates: Mapping[str, float]) -> None:
        """Step the tensors that have a gradient; the others and their optimizer state stay as they are.

        The step is taken when `take_steps` is called, or the vector is read.

        Args:
            gradients: in this shard's order; they are only read, and must not change before the step is taken.
            rates: group -> the learning rate of this step, where it is not the group's own.
        """
        self._waiting.append((gradients, rates))

    def next_step(self) -> Iterator[Piece]:
        """Yield the pieces of the first step that waits, which then waits no longer; nothing if none does."""
        if not self._waiting:
            return
        gradients, rates = self._waiting.pop(0)
        for part, rule in zip(self.groups, self._rules, strict=True):
            rate = rates.get(part.group.name)
            if len(gradients) == len(self.sizes):
                gradient = gradients.flat[part.start : part.stop]
                yield from rule.pieces(gradient, 0, len(part.names), rate)
                continue
            for first, last in self._runs(part, gradients):
                begin = gradients.offsets[part.names[first]]
                length = sum(self.sizes[name] for name in part.names[first:last])
                yield from rule.pieces(gradients.flat[begin : begin + length], first, last, rate)

    @property
    def is_behind(self) -> bool:
        """Whether a step waits."""
        return bool(self._waiting)

    def state(self, more: Mapping[str, Tensor]) -> Slices:
        """Return a copy of all values and slots, and of `more` 1-D tensors, in one buffer, each tensor with its key."""
        take_steps([self])
        slots = [part for rule in self._rules for part in rule.state()]
        buffers = [self._values.flat, *(vector for *_, vector in slots), *more.values()]
        # The keys are built once for each structure, as a shard writes its state after every push.
        structure = (tuple(slot for slot, *_ in slots), tuple(more))
        sizes = self._state_sizes.get(structure)
        if sizes is None:
            sizes = {f"value/{name}": size for name, size in self.sizes.items()}
            sizes |= {f"optimizer/{slot}/{name}": size for slot, its, _ in slots for name, size in its.items()}
            sizes |= {key: len(tensor) for key, tensor in more.items()}
            self._state_sizes = {structure: sizes}
        return Slices(sizes, torch.cat(buffers))

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a copy of what `state` returned; keys of other kinds are left alone."""
        slots: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            kind, _, rest = key.partition("/")
            if kind == "optimizer":
                slot, _, name = rest.partition("/")
                slots.setdefault(slot, {})[name] = tensor
        self._waiting.clear()
        self.set({name: tensors[f"value/{name}"] for name in self.sizes})
        self._rules = self._new_rules()
        for part, rule in zip(self.groups, self._rules, strict=True):
            for slot, saved in slots.items():
                rule.restore(slot, {name: saved[name] for name in part.names if name in saved})

    def _runs(self, part: GroupRange, gradients: Slices) -> Iterator[tuple[int, int]]:
        """Yield the ranges of consecutive tensors of a group, as numbers in it, that have a gradient."""
        numbers = [self._numbers[name] for name in part.names if name in gradients.sizes]
        start = 0
        for end in range(1, len(numbers) + 1):
            if end == len(numbers) or numbers[end] != numbers[end - 1] + 1:
                yield numbers[start], numbers[end - 1] + 1
                start = end

    def _new_rules(self) -> list[UpdateRule]:
        return [
            UpdateRule(
                part.group.optimizer,
                part.group.options,
                {name: self.sizes[name] for name in part.names},
                self._values.flat[part.start : part.stop],
            )
            for part in self.groups
        ]


def take_steps(vectors: Sequence[Vector]) -> None:
    """Take all steps that wait: the first of each vector together, then the second of each, and so on."""
    while behind := [vector for vector in vectors if vector.is_behind]:
        step(piece for vector in behind for piece in vector.next_step())
