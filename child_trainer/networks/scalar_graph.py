"""Networks of single numbers, such as NEAT's, without PyTorch. Standard library only.

A network whose nodes take and give one number each runs much faster here than as a program of tensors. It computes what
`build.py`'s network computes, in double precision.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from child_trainer.architectures.architecture import INPUTS, Architecture, InvalidArchitecture, Node

SCALAR_OPERATIONS = ("split", "zero", "constant", "scale", "add", "logistic", "concat")
"""What a network of single numbers may do; `split` reads one number of an input, `concat` joins the outputs."""

MAX_EXPONENT = 700.0
"""The exponential of a larger number overflows."""


@dataclass(frozen=True, slots=True)
class Sum:
    """A weighted sum of values and a constant.

    Attributes:
        terms: the places of the values with their weights.
        constant: what is added.
    """

    terms: tuple[tuple[int, float], ...] = ()
    constant: float = 0.0

    def scaled(self, by: float) -> "Sum":
        """Return the sum times a number."""
        return Sum(tuple([(place, weight * by) for place, weight in self.terms]), self.constant * by)

    def of(self, values: Sequence[float]) -> float:
        """Return its value."""
        total = self.constant
        for place, weight in self.terms:
            total += weight * values[place]
        return total


class ScalarGraph:
    """A network of neurons, each of which squashes a weighted sum of the inputs and of other neurons.

    Args:
        architecture: of either kind; nodes that no output depends on are left out.
        sizes: how many numbers each of its inputs has, by name; one that is not named has none.

    Raises:
        InvalidArchitecture: it is not a network of single numbers; the message names a node.

    Attributes:
        num_outputs: how many numbers it gives.
        num_weights: how many numbers its `scale` nodes hold.
    """

    def __init__(self, architecture: Architecture, sizes: Mapping[str, int]) -> None:
        self._first: dict[str, int] = {}
        self._sizes = {name: sizes.get(name, 0) for name in INPUTS[architecture.kind]}
        self._num_values = 0
        for name, size in self._sizes.items():
            self._first[name] = self._num_values
            self._num_values += size
        self._sums: dict[str, tuple[Sum, ...]] = {}
        self._neurons: list[tuple[float, Sum]] = []
        live = architecture.live_nodes()
        for n in live:
            self._sums[n.name] = self._compile(n)
        self._outputs = tuple(each for name in architecture.outputs for each in self._read(name))
        self.num_outputs = len(self._outputs)
        self.num_weights = sum(n.op == "scale" for n in live)

    def __call__(self, *inputs: Sequence[float]) -> list[float]:
        """Return the outputs for the inputs of the architecture's kind, which have the sizes that were given."""
        values = [number for each in inputs for number in each]
        for slope, total in self._neurons:
            values.append(logistic(slope * total.of(values)))
        return [total.of(values) for total in self._outputs]

    def _compile(self, n: Node) -> tuple[Sum, ...]:
        """Return what a node computes: one sum, or for `concat` several."""
        read = [each for source in n.inputs for each in self._read(source)]
        return tuple(read) if n.op == "concat" else (self._compute(n, read),)

    def _compute(self, n: Node, read: Sequence[Sum]) -> Sum:
        if n.op == "split":
            return self._part(n)
        if n.op == "add":
            terms = tuple([term for each in read for term in each.terms])
            return Sum(terms, sum(each.constant for each in read))
        if n.op not in SCALAR_OPERATIONS:
            raise InvalidArchitecture(
                f"node {n.name!r} ({n.op}) is not of single numbers; use {', '.join(SCALAR_OPERATIONS)}"
            )
        single = self._single(n, read)
        if n.op == "logistic":
            self._neurons.append((float(n.attribute("slope")), single))
            self._num_values += 1
            return Sum(((self._num_values - 1, 1.0),))
        if n.op == "constant":
            return Sum(constant=float(n.attribute("value")))
        return single.scaled(n.attribute("by") if n.op == "scale" else 0.0)

    def _read(self, name: str) -> tuple[Sum, ...]:
        """Return the numbers that a node or an input of the network gives."""
        if name in self._sums:
            return self._sums[name]
        return tuple(Sum(((self._first[name] + i, 1.0),)) for i in range(self._sizes[name]))

    def _part(self, n: Node) -> Sum:
        numbers, parts, index = self._read(n.inputs[0]), n.attribute("parts"), n.attribute("index")
        if parts != len(numbers) or index >= parts:
            raise InvalidArchitecture(
                f"node {n.name!r} reads number {index} of {parts}, and {n.inputs[0]!r} has {len(numbers)}"
            )
        return numbers[index]

    def _single(self, n: Node, read: Sequence[Sum]) -> Sum:
        if len(read) != 1:
            raise InvalidArchitecture(f"node {n.name!r} ({n.op}) takes one number, got {len(read)}")
        return read[0]


def logistic(x: float) -> float:
    """Return 1 / (1 + exp(-x)), also where the exponential overflows."""
    return 1 / (1 + math.exp(-x)) if x > -MAX_EXPONENT else 0.0
