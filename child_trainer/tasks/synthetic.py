"""A task that trains nothing: a known function of the architecture gives the metric. Standard library only.

For rehearsals: it exercises a search, a cluster and its failures at thousands of children a second without PyTorch.
"""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist, fmean

from child_trainer.architectures.architecture import INPUTS, Architecture, Label, Node
from child_trainer.outcome import Budget, Measure
from child_trainer.seeding import BITS, derive
from child_trainer.tasks.fault_injection import check_faults, drawn_fault, strike
from child_trainer.tasks.synthetic_options import SyntheticOptions
from child_trainer.training.task import Progress

BEST_HEIGHT, BEST_WIDTH, BEST_FILTERS = 5, 3, 48
BEST_REACH = 2
"""In the best network each convolution reads this many convolutions before it, the nearest ones."""

STACK_OPERATIONS = frozenset({"conv", "concat", "max_pool", "avg_pool", "batch_norm", "local_contrast_norm", "relu"})
"""A feed-forward network of these operations alone is a stack of convolutions."""

TREE_OPERATIONS = frozenset({"linear", "add", "multiply", "maximum", "identity", "tanh", "sigmoid", "relu", "sin"})
"""A recurrent cell of these operations alone may be a tree."""

STEP_SECONDS = 0.05
"""The longest that a child pretends to train without checking whether it must stop."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticTask:
    """A score instead of a training; each epoch halves what the metric still lacks.

    The metric after epoch e is `score * (1 - 2^-e)`, whatever the seed, so that early epochs already rank the
    children as late ones do. Parameters and FLOPs are not reported: nothing is built.

    Attributes:
        child_seconds: how long a child pretends to train, spread evenly over its epochs. Such a child can be
            interrupted and resumed; a child of 0 seconds has nothing worth saving.
        child_spread: how much these seconds vary: the sigma of a log-normal distribution around `child_seconds`, the
            median. A child's seed alone determines how long it takes.
        faults: the probability of each of `fault_injection.FAULTS`; a child has at most one, after its first epoch,
            and its seed alone determines which.

    Raises:
        TaskError: a fault is unknown, or the values are not probabilities.
    """

    child_seconds: float = 0.0
    child_spread: float = 0.0
    faults: Mapping[str, float] = field(default_factory=dict)
    name: str = "synthetic"

    def __post_init__(self) -> None:
        check_faults(self.faults)

    @property
    def measure(self) -> Measure:
        """The score, at most 1."""
        return Measure.SCORE

    def seconds_of(self, seed: int) -> float:
        """Return how long the child of this seed pretends to train, in seconds."""
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
            # A resumed child is past its first epoch, so that its fault occurs again.
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
    """Sleep through the rest of an epoch of this many seconds, in steps between which the child may be stopped."""
    count = max(1, math.ceil(seconds / STEP_SECONDS))
    for step in range(progress.step, count):
        progress.before_step(step)
        if seconds:
            time.sleep(seconds / count)


def score(architecture: Architecture) -> float:
    """Return the score of an architecture, in [0, 1]; only nodes on which an output depends count.

    Which of three formulas applies depends on the live nodes:

    1. A stack of convolutions: a feed-forward network of `STACK_OPERATIONS` alone, as the convolutional space has
       them. The score is the mean of four shares, over its convolutions: those 5 high, those 3 wide, those with 48
       filters, and the pairs that are right about their skip connection (each convolution reads the two nearest before
       it and no others; what stands between two convolutions is looked through). 0 without convolutions; a uniformly
       random network gets about 0.3. Convolutions are numbered in the architecture's own order, so that two isomorphic
       stacks whose parallel convolutions are listed in different orders may differ in their score.
    2. A tree cell: a recurrent cell of `TREE_OPERATIONS` alone in which every `linear` reads x or h and no other node
       is read more than once, as the recurrent space has them. A leaf is an operation that joins a linear map of x
       with something; an inner one is any other that joins values, except c. The score is the mean of five shares: the
       leaves that add, the leaves that only a sigmoid reads, the inner ones that multiply, those that only a tanh
       reads, and the operations on c that add. A share of none is 0; a uniformly random cell gets about 0.4.
    3. Every other graph: the mean worth m of its nodes, its edges and its outputs, spread out as m^3 / (m^3 + (1-m)^3).
       A node's worth is a fixed pseudo-random number in [0, 1] for its operation with its attributes; an edge's is one
       for what it reads and what reads it, an output's one for the node and the place among the outputs. Isomorphic
       networks have equal scores; hyperparameters do not count.
    """
    live = architecture.live_nodes()
    if architecture.kind == "feedforward" and STACK_OPERATIONS.issuperset(n.op for n in live):
        return _stack_score(live)
    if architecture.kind == "recurrent" and _is_tree(live):
        return _tree_score(live)
    return _graph_score(architecture, live)


def _is_tree(cell: Sequence[Node]) -> bool:
    """Return whether these live nodes form a tree cell."""
    inner = {n.name for n in cell if n.op != "linear"}
    readers = Counter(source for n in cell for source in n.inputs if source in inner)
    return (
        TREE_OPERATIONS.issuperset(n.op for n in cell)
        and all(n.inputs in (("x",), ("h",)) for n in cell if n.op == "linear")
        and all(count == 1 for count in readers.values())
    )


def _graph_score(architecture: Architecture, live: Sequence[Node]) -> float:
    # Of labels alone, and summed without rounding (`fmean`): neither names nor the order of nodes can move it.
    labels = {n.name: n.label() for n in live} | {name: (name, ()) for name in INPUTS[architecture.kind]}
    nodes = [_worth(labels[n.name]) for n in live]
    edges = [_worth(labels[source], labels[n.name]) for n in live for source in n.inputs]
    outputs = [_worth(labels[name], (f"output {place}", ())) for place, name in enumerate(architecture.outputs)]
    mean = fmean(nodes + edges + outputs)
    # Means of many worths all lie near 1/2; this spreads them out and keeps their order.
    gained, missed = mean * mean * mean, (1 - mean) * (1 - mean) * (1 - mean)
    return gained / (gained + missed)


@lru_cache(maxsize=65_536)
def _worth(*labels: Label) -> float:
    """Return the worth of a node (one label) or of an edge (two), the same on every machine and in every version."""
    return derive(0, f"worth of {labels!r}") / 2**BITS


def _stack_score(stack: Sequence[Node]) -> float:
    reads = _reads(stack)
    convolutions = [n for n in stack if n.op == "conv"]
    if not convolutions:
        return 0.0
    wishes = {"height": BEST_HEIGHT, "width": BEST_WIDTH, "filters": BEST_FILTERS}
    met = [sum(n.attribute(name) == best for n in convolutions) / len(convolutions) for name, best in wishes.items()]
    return (sum(met) + _right_skips([reads[n.name] for n in convolutions])) / 4


def _tree_score(cell: Sequence[Node]) -> float:
    readers: dict[str, set[str]] = defaultdict(set)
    for n in cell:
        for source in n.inputs:
            readers[source].add(n.op)
    maps = {n.name for n in cell if n.op == "linear" and n.inputs == ("x",)}
    joins = [n for n in cell if len(n.inputs) > 1]
    leaves = [n for n in joins if maps.intersection(n.inputs)]
    inner = [n for n in joins if not maps.intersection(n.inputs) and "c" not in n.inputs]
    shares = (
        _share(n.op == "add" for n in leaves),
        _share(readers[n.name] == {"sigmoid"} for n in leaves),
        _share(n.op == "multiply" for n in inner),
        _share(readers[n.name] == {"tanh"} for n in inner),
        _share(n.op == "add" for n in cell if "c" in n.inputs),
    )
    return sum(shares) / len(shares)


def _share(answers: Iterable[bool]) -> float:
    """Return the share of answers that are true; 0 if there are no answers."""
    known = list(answers)
    return sum(known) / len(known) if known else 0.0


def _reads(stack: Sequence[Node]) -> dict[str, frozenset[int]]:
    """Return, for each node, the convolutions (numbered in order) that reach it with no convolution between."""
    reads: dict[str, frozenset[int]] = {"image": frozenset()}
    gives = dict(reads)
    count = 0
    for n in stack:
        reads[n.name] = gives[n.name] = frozenset().union(*(gives[source] for source in n.inputs))
        if n.op == "conv":
            gives[n.name] = frozenset((count,))
            count += 1
    return reads


def _right_skips(reads: list[frozenset[int]]) -> float:
    """Return the share of pairs (earlier, later) that are connected as in the best network; 1 without pairs."""
    pairs = [(i, j) for j in range(len(reads)) for i in range(j)]
    right = sum((i in reads[j]) == (j - i <= BEST_REACH) for i, j in pairs)
    return right / len(pairs) if pairs else 1.0
