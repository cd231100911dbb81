"""Progressive searches without a cluster, and a score whose best cell is known."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from child_trainer.outcome import Outcome
from controller.decisions import Tokens
from controller.searcher import ChildRecord, Proposal, Searcher, Update, View
from controller.searchers.progressive.options import ProgressiveOptions
from controller.searchers.progressive.progressive import ProgressiveSearch
from controller.space import SearchSpace
from controller.spaces.cells import PNAS_OPERATIONS, PnasSpace
from tests.contracts.searcher import recorded

SPACE = PnasSpace(operations=PNAS_OPERATIONS[:3], blocks=3, cells_per_stage=1, filters=4)
"""21 cells of one block; cells of up to three blocks."""

FAST = ProgressiveOptions(beam=6, ensemble=2, embedding=8, hidden=8, fit_steps=20)


class Additive:
    """The sum of what each side of each block is worth, by its state and its operation; 0.5 for none, 1 for the best.

    No block is worth more than the better input of the cell: a surrogate cannot know what a state is worth that it has
    never seen, and every level has a new one.

    Args:
        space: a space of cells with sums only.
        seed: of the worths, which are uniform in [0, 1].
    """

    def __init__(self, space: PnasSpace, seed: int) -> None:
        rng = random.Random(seed)
        inputs = [rng.random(), rng.random()]
        self._states = inputs + [max(inputs) * rng.random() for _ in range(space.blocks - 1)]
        self._operations = [rng.random() for _ in space.operations]
        self._most = 2 * space.blocks * (max(inputs) + max(self._operations))

    def __call__(self, tokens: Tokens) -> float:
        blocks = [tokens[start : start + 4] for start in range(0, len(tokens), 4)]
        worth = sum(
            self._states[block[side]] + self._operations[block[side + 2]] for block in blocks for side in (0, 1)
        )
        return 0.5 + worth / self._most / 2


@dataclass
class Driven:
    """A search whose children end in the order in which they were asked for, unless `end` says otherwise."""

    reward: Callable[[Tokens], float | None]
    space: SearchSpace = SPACE
    options: ProgressiveOptions = FAST
    history: list[ChildRecord] = field(default_factory=list)
    pending: list[ChildRecord] = field(default_factory=list)
    searcher: Searcher = field(init=False)

    def __post_init__(self) -> None:
        self.searcher = ProgressiveSearch(self.space, self.options)

    def view(self) -> View:
        history, pending = list(self.history), list(self.pending)
        return View(
            parameters={},
            completed=len(history),
            history=lambda: history,
            pending=lambda: pending,
            rng=random.Random(len(history) + len(pending)),
        )

    def ask(self, n: int) -> list[Proposal]:
        proposals = self.searcher.ask(n, self.view())
        assert len(proposals) <= n
        for proposal in proposals:
            number = len(self.history) + len(self.pending) + 1
            outcome = Outcome(curve=(0.0,), seconds=1.0, parameters=None, flops=None, seed=number)
            self.pending.append(recorded(number, proposal, outcome, self.reward(proposal.tokens)))
        return proposals

    def end(self, *positions: int) -> Sequence[ChildRecord]:
        """Have these of the pending children end; all of them if none is named."""
        ended = [self.pending[position] for position in positions or range(len(self.pending))]
        self.pending = [child for child in self.pending if child not in ended]
        self.history += ended
        return ended

    def learn(self, children: Sequence[ChildRecord]) -> Update:
        return self.searcher.learn(children, self.view())

    def run(self, n: int = 8) -> list[Update]:
        """Ask and learn until the search ends."""
        updates = []
        while self.ask(n):
            updates.append(self.learn(self.end()))
        return updates

    def level(self, number: int) -> list[ChildRecord]:
        return [child for child in self.history if child.notes["level"] == number]
