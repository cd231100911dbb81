"""PNAS's search with the paper's constants on a known additive score: whether it finds the best cell, and how fast.

    python -m benchmarks.progressive [seeds]

1,160 cells are tried: all 136 of one block, and 256 of each larger size. A cell is worth the sum of what each side of
its blocks is worth, by its state and its operation, from 0.5 for nothing to 1 for the best of all cells. Printed are
the best cell's worth, that of the best of as many random cells, the rank correlation of the surrogate's predictions
with the worth of each level's cells, and the processor seconds.
"""

import random
import time
from dataclasses import dataclass, field

from benchmarks.command_words import first_number
from benchmarks.command_words import words as command_words
from child_trainer.outcome import Outcome
from controller.catalogue import SEARCHERS
from controller.decisions import Tokens
from controller.searcher import Child, ChildRecord, View
from controller.searchers.progressive.options import ProgressiveOptions
from controller.space import first_tokens
from controller.spaces.cells import PnasSpace

SEEDS = 3
BATCH = 64
"""Cells asked for at a time."""

SIDE = 4
"""Tokens of a block: two states and two operations."""


@dataclass
class Additive:
    """The worth of cells; no new block is worth more than the better input of the cell."""

    space: PnasSpace
    seed: int
    states: list[float] = field(init=False)
    operations: list[float] = field(init=False)

    def __post_init__(self) -> None:
        rng = random.Random(self.seed)
        inputs = [rng.random(), rng.random()]
        self.states = inputs + [max(inputs) * rng.random() for _ in range(self.space.blocks - 1)]
        self.operations = [rng.random() for _ in self.space.operations]

    def __call__(self, tokens: Tokens) -> float:
        """Return a cell's worth."""
        blocks = [tokens[start : start + SIDE] for start in range(0, len(tokens), SIDE)]
        worth = sum(self.states[block[side]] + self.operations[block[side + 2]] for block in blocks for side in (0, 1))
        most = 2 * self.space.blocks * (max(self.states) + max(self.operations))
        return 0.5 + worth / most / 2


def search(seed: int) -> tuple[list[ChildRecord], list[float]]:
    """Return the children of one search, and the rank correlation of each level after the first."""
    space = PnasSpace()
    worth = Additive(space, seed)
    searcher = SEARCHERS["progressive"].build(space, ProgressiveOptions())
    history: list[ChildRecord] = []
    correlations: dict[float, float] = {}
    while True:
        known = list(history)
        view = View(
            parameters={},
            completed=len(known),
            history=lambda known=known: known,
            pending=list,
            rng=random.Random(len(known)),
        )
        proposals = searcher.ask(BATCH, view)
        if not proposals:
            return history, list(correlations.values())
        batch: list[ChildRecord] = []
        for proposal in proposals:
            value = worth(proposal.tokens)
            outcome = Outcome(curve=(value,), seconds=0.0, parameters=None, flops=None, seed=0)
            number = len(history) + 1
            batch.append(Child(id=number, proposal=proposal, outcome=outcome, reward=value).record)
            history.append(batch[-1])
        after = list(history)
        figures = searcher.learn(
            batch,
            View(
                parameters={},
                completed=len(after),
                history=lambda after=after: after,
                pending=list,
                rng=random.Random(0),
            ),
        ).figures
        if "spearman" in figures:
            correlations[figures["level"]] = figures["spearman"]


def random_best(seed: int, cells: int) -> float:
    """Return the worth of the best of so many random cells."""
    space = PnasSpace()
    worth, rng = Additive(space, seed), random.Random(seed)
    return max(worth(first_tokens(space, 0, rng)) for _ in range(cells))


def main(arguments: list[str]) -> None:
    """Run the searches and print the table."""
    seeds = first_number(arguments, SEEDS)
    print("| seed | cells | best | best of as many random cells | rank correlation by level | processor seconds |")
    print("|---|---|---|---|---|---|")
    for seed in range(1, seeds + 1):
        begun = time.process_time()
        history, correlations = search(seed)
        seconds = time.process_time() - begun
        best = max(child.reward or 0.0 for child in history)
        by_level = ", ".join(f"{value:.2f}" for value in correlations)
        print(
            f"| {seed} | {len(history):,} | {best:.4f} | {random_best(seed, len(history)):.4f} | {by_level} |"
            f" {seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(command_words(__doc__))
