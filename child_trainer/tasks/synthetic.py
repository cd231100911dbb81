"""A task that trains nothing: a known function of the architecture answers at once. Standard library only.

For rehearsals: it shows a search, a cluster and its failures at thousands of children a second without PyTorch.
"""

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist

from child_trainer.architectures.architecture import Architecture, Node
from child_trainer.outcome import Budget, Measure
from child_trainer.seeding import BITS, derive
from child_trainer.tasks.fault_injection import check_faults, drawn_fault, strike
from child_trainer.tasks.synthetic_options import SyntheticOptions
from child_trainer.training.task import Progress

BEST_HEIGHT, BEST_WIDTH, BEST_FILTERS = 5, 3, 48
BEST_REACH = 2
"""A convolution should read just this many of the convolutions before it, the nearest ones."""

STEP_SECONDS = 0.05
"""The longest that a child pretends to train without asking whether it must leave."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticTask:
    """A score instead of a training; an epoch brings the metric half of the way that is left to it.

    The metric after epoch e is `score * (1 - 2^-e)`, whatever the seed, so that early epochs already rank the
    children as late ones do. Parameters and FLOPs are not reported: nothing is built.

    Attributes:
        child_seconds: how long a child pretends to train, spread evenly over its epochs. Such a child can be
            interrupted and continued; one that answers at once has nothing worth saving.
        child_spread: how much the children differ in that: the sigma of a log-normal distribution around
            `child_seconds`, the median. A child's seed alone determines how long it takes.
        faults: the probability of each of `fault_injection.FAULTS`; at most one strikes a child, after its first
            epoch, and its seed alone determines which.

    Raises:
        TaskError: a fault is unknown, or a probability is impossible.
    """

    child_seconds: float = 0.0
    child_spread: float = 0.0
    faults: Mapping[str, float] = field(default_factory=dict)
    name: str = "synthetic"

    def __post_init__(self) -> None:
        check_faults(self.faults)

    @property
    def measure(self) -> Measure:
        """The nearness to the best network."""
        return Measure.SCORE

    def seconds_of(self, seed: int) -> float:
        """Return the seconds that the child of this seed pretends to train."""
        if not self.child_spread:
            return self.child_seconds
        share = (derive(seed, "seconds") + 0.5) / 2**BITS  # above 0 and below 1
        return self.child_seconds * math.exp(self.child_spread * NormalDist().inv_cdf(share))

    def fit(
        self, architecture: Architecture, budget: Budget, progress: Progress, *, seed: int, device: str = "cpu"
    ) -> None:
        """Report the score's curve; see `Task.fit`."""
        goal = score(architecture)
        fault = drawn_fault(self.faults, seed) if self.faults else None
        if self.child_seconds:
            progress.resume()
        for epoch in range(len(progress.curve) + 1, budget.epochs + 1):
            # A continued child is past its first epoch, so the fault strikes it again.
            if fault and epoch > 1:
                strike(fault, budget)
            _pretend(self.seconds_of(seed) / budget.epochs, progress)
            if progress.finished_epoch(goal * (1 - 0.5**epoch)):
                return
        if fault and budget.epochs == 1:
            strike(fault, budget)


def check(name: str, data: Path | None, options: SyntheticOptions, *, download: bool) -> None:
    """Do nothing: the task has no data, and its options check themselves."""


def load(name: str, data: Path | None, options: SyntheticOptions, *, seed: int, device: str) -> SyntheticTask:
    """Return the task with these options."""
    return SyntheticTask(
        child_seconds=options.child_seconds, child_spread=options.child_spread, faults=options.faults, name=name
    )


def _pretend(seconds: float, progress: Progress) -> None:
    """Sleep through the rest of an epoch of this many seconds, in steps after each of which it may be left."""
    count = max(1, math.ceil(seconds / STEP_SECONDS))
    for step in range(progress.step, count):
        progress.before_step(step)
        if seconds:
            time.sleep(seconds / count)


def score(architecture: Architecture) -> float:
    """How near an architecture is to a known best one, in [0, 1]; what no output depends on does not count.

    Of a network the mean of four shares, over its convolutions: those 5 high, those 3 wide, those with 48 filters, and
    the pairs that are right about their skip connection (each convolution reads the two nearest before it and no
    others; what stands between two convolutions is looked through). 0 without convolutions; a uniformly random network
    gets about 0.3.

    Of a recurrent cell the mean of five: with a leaf for an operation that joins a linear map of x with something, and
    an inner one for any other that joins values, except c, the leaves that add, the leaves that only a sigmoid reads,
    the inner ones that multiply, those that only a tanh reads, and the operations on c that add. A share of none is 0;
    a uniformly random cell gets about 0.4.
    """
    return _cell_score(architecture) if architecture.kind == "recurrent" else _network_score(architecture)


def _network_score(network: Architecture) -> float:
    reads = _reads(network)
    convolutions = [n for n in _live(network) if n.op == "conv"]
    if not convolutions:
        return 0.0
    wishes = {"height": BEST_HEIGHT, "width": BEST_WIDTH, "filters": BEST_FILTERS}
    met = [sum(n.attribute(name) == best for n in convolutions) / len(convolutions) for name, best in wishes.items()]
    return (sum(met) + _right_skips([reads[n.name] for n in convolutions])) / 4


def _cell_score(cell: Architecture) -> float:
    live = _live(cell)
    readers: dict[str, set[str]] = defaultdict(set)
    for n in live:
        for source in n.inputs:
            readers[source].add(n.op)
    maps = {n.name for n in live if n.op == "linear" and n.inputs == ("x",)}
    joins = [n for n in live if len(n.inputs) > 1]
    leaves = [n for n in joins if maps.intersection(n.inputs)]
    inner = [n for n in joins if not maps.intersection(n.inputs) and "c" not in n.inputs]
    shares = (
        _share(n.op == "add" for n in leaves),
        _share(readers[n.name] == {"sigmoid"} for n in leaves),
        _share(n.op == "multiply" for n in inner),
        _share(readers[n.name] == {"tanh"} for n in inner),
        _share(n.op == "add" for n in live if "c" in n.inputs),
    )
    return sum(shares) / len(shares)


def _share(answers: Iterable[bool]) -> float:
    """Of those that are true; 0 of none."""
    known = list(answers)
    return sum(known) / len(known) if known else 0.0


def _live(architecture: Architecture) -> list[Node]:
    """The nodes that an output depends on, each after what it reads."""
    alive = set(architecture.outputs)
    found = []
    for n in reversed(architecture.ordered):
        if n.name in alive:
            alive.update(n.inputs)
            found.append(n)
    return found[::-1]


def _reads(architecture: Architecture) -> dict[str, frozenset[int]]:
    """For each live node, the convolutions (numbered in order) that reach it with no convolution between."""
    reads: dict[str, frozenset[int]] = {"image": frozenset()}
    gives = dict(reads)
    count = 0
    for n in _live(architecture):
        reads[n.name] = gives[n.name] = frozenset().union(*(gives[source] for source in n.inputs))
        if n.op == "conv":
            gives[n.name] = frozenset((count,))
            count += 1
    return reads


def _right_skips(reads: list[frozenset[int]]) -> float:
    """The share of pairs (earlier, later) whose connection is as the best network has it; 1 without pairs."""
    pairs = [(i, j) for j in range(len(reads)) for i in range(j)]
    right = sum((i in reads[j]) == (j - i <= BEST_REACH) for i, j in pairs)
    return right / len(pairs) if pairs else 1.0
