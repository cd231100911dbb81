"""What a forward pass of a supernet computes, given its gates. Standard library only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import reduce
from operator import and_, or_

from child_trainer.architectures.architecture import INPUTS, Architecture


class Use(IntEnum):
    """What a mix does with one of its inputs."""

    NONE = 0
    """The gate is 0 and constant: the input does not count, and is not computed for it."""
    PLAIN = 1
    """The gate is 1 and constant: the input is taken as it is."""
    WEIGHED = 2
    """The input is multiplied by its gate."""
    DETACHED = 3
    """The gate is 0 and has a gradient: the input counts only for that, and no gradient passes through it."""


@dataclass(frozen=True, slots=True)
class Step:
    """A node to compute.

    Attributes:
        index: its place in the supernet's order.
        sources: the places of what it reads, the inputs of a mix that do not count left out. Those of the graph's
            inputs are below 0: -1 is the image or x, -2 is h, -3 is c.
        differentiated: whether gradients pass through it.
        freed: the places of values that no later step reads.
    """

    index: int
    sources: tuple[int, ...]
    differentiated: bool
    freed: tuple[int, ...]


class Planner:
    """Plans forward passes of one supernet.

    Args:
        supernet: its nodes are numbered in its own order; the first output counts.
    """

    def __init__(self, supernet: Architecture) -> None:
        inputs = INPUTS[supernet.kind]
        place = {name: -1 - i for i, name in enumerate(inputs)} | {n.name: i for i, n in enumerate(supernet.ordered)}
        self._num_inputs = len(inputs)
        self._sources = [tuple([place[source] for source in n.inputs]) for n in supernet.ordered]
        self._gates = [n.attribute("gate") if n.op == "mix" else None for n in supernet.ordered]
        self._output = place[supernet.outputs[0]]

    def plan(self, uses: Mapping[str, Sequence[Use]]) -> list[Step]:
        """Return the nodes on which the output depends, in order, when gates are used as given."""
        count = len(self._sources)
        # 0: not computed; 1: without gradients; 2: with gradients. The inputs, below 0, are always there.
        levels = [0] * count + [2] * self._num_inputs
        levels[self._output] = 2
        steps: list[Step] = []
        seen = {self._output, *range(-self._num_inputs, 0)}
        for index in range(count - 1, -1, -1):
            level = levels[index]
            if not level:
                continue
            sources, gate = self._sources[index], self._gates[index]
            if gate is not None:
                used = [(source, use) for source, use in zip(sources, uses[gate], strict=True) if use]
                sources = tuple([source for source, _ in used])
                for source, use in used:
                    levels[source] = max(levels[source], 1 if use == Use.DETACHED else level)
            else:
                for source in sources:
                    levels[source] = max(levels[source], level)
            freed = tuple([source for source in dict.fromkeys(sources) if source not in seen])
            seen.update(sources)
            steps.append(Step(index, sources, level == 2, freed))
        return steps[::-1]

    def always(self) -> list[int]:
        """Return the places of the nodes that every path computes, if each mix has at least one of its inputs."""
        # A bit for each node: those that any path from the inputs to it computes.
        needed = [0] * (len(self._sources) + self._num_inputs)
        for index, (sources, gate) in enumerate(zip(self._sources, self._gates, strict=True)):
            parts = [needed[source] for source in sources]
            joined = reduce(and_ if gate is not None else or_, parts) if parts else 0
            needed[index] = joined | 1 << index
        return [index for index in range(len(self._sources)) if needed[self._output] >> index & 1]
