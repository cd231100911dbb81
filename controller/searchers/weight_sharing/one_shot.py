"""One-shot search: a supernet is trained once, and random paths of it are scored (Bender et al. 2018; spec §11)."""

import random
from functools import cached_property

from child_trainer.supernets.jobs import Steps
from controller.searcher import SharedWeights
from controller.searchers.weight_sharing.options import OneShotOptions
from controller.searchers.weight_sharing.train_then_score import TrainThenScore
from controller.space import SearchSpace


class OneShot(TrainThenScore):
    """Trains a supernet with path dropout, then scores random paths with its weights."""

    def __init__(self, space: SearchSpace, options: OneShotOptions) -> None:
        super().__init__("one-shot", space, options)
        self._options = options

    @cached_property
    def shared_weights(self) -> SharedWeights:
        """The supernet's weights."""
        options = self._options
        rule = {"lr": options.weights_learning_rate, "momentum": options.weights_momentum}
        return SharedWeights(supernet=self._space.supernet(), optimizer="sgd", options=rule)

    def _steps(self, first: int, count: int, rng: random.Random) -> Steps:
        options = self._options
        settings = {
            "drop_rate": options.path_dropout,
            "groups": options.ghost_groups,
            "l2": options.weights_l2,
        }
        return Steps(objective="dropout", count=count, settings=settings, first=first, total=options.supernet_steps)
