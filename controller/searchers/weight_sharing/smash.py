"""SMASH: a hypernetwork generates the weights of random paths, which are then scored (Brock et al. 2018; spec §10)."""

import random
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from child_trainer.supernets.jobs import Score, Steps
from controller.decisions import Decisions, Tokens, repaired, uniform
from controller.searcher import SharedWeights, View, reward_of
from controller.searchers.weight_sharing.path_options import SmashOptions
from controller.searchers.weight_sharing.rates import cosine
from controller.searchers.weight_sharing.train_then_score import TrainThenScore
from controller.space import SearchSpace, first_tokens, mutated_tokens
from controller.spaces.checks import check_decisions

ADAM = {"eps": 1e-4}
"""The optimizer of all weights (spec §10)."""


class Smash(TrainThenScore):
    """Trains a hypernetwork along random paths, then scores random ones, and last ones that are close to the best.

    Its supernet's 1x1 convolutions have the weights that the hypernetwork generates for the path.

    Raises:
        ValueError: the space has no supernet, or no fixed sequence of decisions.
    """

    def __init__(self, space: SearchSpace, options: SmashOptions) -> None:
        super().__init__("smash", space, options)
        check_decisions(space, "smash")
        self._options = options

    @cached_property
    def shared_weights(self) -> SharedWeights:
        """The supernet's weights, and the hypernetwork's in the place of those that it generates."""
        options = self._options
        rule = {"lr": options.weights_learning_rate, "beta1": options.weights_momentum, **ADAM}
        return SharedWeights(
            supernet=self._space.supernet(), optimizer="adam", options=rule, generated=options.hypernetwork
        )

    def _steps(self, first: int, count: int, rng: random.Random) -> Steps:
        options = self._options
        return Steps(
            objective="path",
            count=count,
            settings={"l2": options.weights_l2},
            paths=tuple(first_tokens(self._space, 0, rng) for _ in range(count)),
            first=first,
            total=options.supernet_steps,
            rate=cosine(options.weights_learning_rate, 0.0, first / options.supernet_steps),
        )

    def _paths(self, begun: int, n: int, view: View) -> list[tuple[Tokens, Mapping[str, Any]]]:
        """Return random paths; after `random_paths` of them perturbations of the best."""
        wanted = max(0, min(n, self._options.random_paths - begun))
        paths = super()._paths(begun, wanted, view)
        if wanted == n:
            return paths
        scored = [child for child in view.history() if isinstance(child.job, Score) and child.reward is not None]
        if not scored:  # all have failed, or none has ended
            return [*paths, *super()._paths(begun, n - wanted, view)]
        best = max(scored, key=lambda child: (reward_of(child), -child.id))  # not which of two ended first
        close = [self._perturbed(best.tokens, view.rng) for _ in range(n - wanted)]
        return [*paths, *((tokens, {"parent": best.id}) for tokens in close)]

    def _perturbed(self, tokens: Tokens, rng: random.Random) -> Tokens:
        """Return another path, with each token drawn anew with the probability `perturbation`, but one at least."""
        decisions = self._space.decisions_of(len(tokens))
        found = perturbed(decisions, tokens, self._options.perturbation, rng)
        return mutated_tokens(self._space, tokens, rng) if found == tokens else found


def perturbed(decisions: Decisions, tokens: Tokens, probability: float, rng: random.Random) -> Tokens:
    """Return the sample with each token, with a probability, replaced by that of a uniform sample."""
    drawn = uniform(decisions, rng)
    mixed = [new if rng.random() < probability else old for old, new in zip(tokens, drawn, strict=True)]
    return repaired(decisions, mixed)
