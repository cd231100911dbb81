"""One-shot search: a supernet is trained once, and random paths of it are scored (Bender et al. 2018; spec §11)."""

import random
from functools import cached_property

from child_trainer.supernets.jobs import Steps
from controller.searcher import SharedWeights
from controller.searchers.weight_sharing.options import OneShotOptions
from controller.searchers.weight_sharing.rates import cosine
from controller.searchers.weight_sharing.train_then_score import TrainThenScore
from controller.space import SearchSpace, first_tokens


class OneShot(TrainThenScore):
    """Trains a supernet with path dropout, or along one random path in each step; then scores random paths."""

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
        dropout = {"drop_rate": options.path_dropout, "groups": options.ghost_groups}
        settings: dict[str, float] = {**(dropout if options.trains == "dropout" else {}), "l2": options.weights_l2}
        if options.weights_clip_norm:
            settings["clip_norm"] = options.weights_clip_norm
        last, total = options.weights_last_learning_rate, options.supernet_steps
        rate = None if last is None else cosine(options.weights_learning_rate, last, first / total)
        if options.trains == "dropout":
            return Steps(objective="dropout", count=count, settings=settings, first=first, total=total, rate=rate)
        paths = tuple(first_tokens(self._space, 0, rng) for _ in range(count))
        return Steps(objective="path", count=count, settings=settings, paths=paths, first=first, total=total, rate=rate)
