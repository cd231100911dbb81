"""What the searchers share that train a supernet once, and then score paths of it."""

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from child_trainer.supernets.jobs import Score, Steps
from controller.decisions import Tokens
from controller.searcher import ChildRecord, ParameterGroup, Proposal, Update, View
from controller.searchers.weight_sharing.options import TrainThenScoreOptions
from controller.searchers.weight_sharing.supernet import check_supernet
from controller.space import SearchSpace, first_tokens


class TrainThenScore(ABC):
    """Trains a supernet, then scores paths of it; the best are worth training.

    Replicas that ask at once may begin a few training children more than there are to be. No path is scored before all
    training children have ended.

    Args:
        name: the searcher's, for messages.
        space: has a supernet.
        options: the settings.

    Raises:
        ValueError: the space has no supernet.
    """

    def __init__(self, name: str, space: SearchSpace, options: TrainThenScoreOptions) -> None:
        self._space, self._schedule = check_supernet(space, name), options

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return no parameters: nothing is learnt of which paths are good."""
        return ()

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return training children, then none until all of these have ended, then paths to score."""
        pending, schedule = view.pending(), self._schedule
        begun, training = view.completed + len(pending), schedule.training_children
        if begun < training:
            numbers = range(begun, min(begun + n, training))
            return [
                Proposal(
                    tokens=(),
                    architecture=None,
                    job=self._steps(
                        number * schedule.steps_per_child, schedule.count_of(schedule.supernet_steps, number), view.rng
                    ),
                )
                for number in numbers
            ]
        if any(isinstance(child.job, Steps) for child in pending):
            return []
        score = Score(settings={"refit_batches": schedule.refit_batches})
        return [
            Proposal(tokens=tokens, architecture=self._space.decode(tokens), notes=notes, job=score)
            for tokens, notes in self._paths(begun - training, n, view)
        ]

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return no gradients."""
        return Update()

    @abstractmethod
    def _steps(self, first: int, count: int, rng: random.Random) -> Steps:
        """Return the job of a training child: so many steps, from the search's `first`, counted from 0."""

    def _paths(self, begun: int, n: int, view: View) -> list[tuple[Tokens, Mapping[str, Any]]]:
        """Return the next paths to score after so many, each with its child's notes: random ones."""
        return [(first_tokens(self._space, view.completed, view.rng), {}) for _ in range(n)]
