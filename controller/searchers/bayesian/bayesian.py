"""Bayesian optimisation: a Gaussian process predicts, expected improvement chooses (Jones et al. 1998; spec §19)."""

from collections.abc import Callable, Iterable, Sequence, Set
from functools import lru_cache

import numpy as np

from controller.decisions import Tokens, neighbours, uniform
from controller.searcher import PREDICTED, ChildRecord, ParameterGroup, Proposal, Update, View, reward_of
from controller.searchers.bayesian.evidence import Evidence
from controller.searchers.bayesian.options import BayesianOptions
from controller.searchers.bayesian.surrogate import (
    Features,
    Settings,
    expected_improvement,
    matrix,
    posterior,
    token_features,
)
from controller.space import HasFeatures, Mutates, SearchSpace, first_tokens, mutated_tokens
from controller.spaces.checks import check_decisions, space_words

LIES = {"worst": np.min, "mean": np.mean, "best": np.max}

MAX_DRAWS = 100
"""Draws of a random architecture that was not tried before; after these any one is taken."""

EXPECTED = "expected_improvement"
"""The key of a proposal's notes and of a figure: the expected improvement, in deviations of the targets."""


class BayesianOptimisation:
    """Proposes the architectures that a Gaussian process expects to improve most on the best child.

    It never proposes an architecture again, as long as its candidates have others. For this it is exclusive: each
    replica sees what the others have in training.
    """

    exclusive = True

    def __init__(self, space: SearchSpace, options: BayesianOptions) -> None:
        check_decisions(space, "bayesian")
        self._space, self._options = space, options
        num_candidates = options.candidates + options.parents * options.mutations
        self._features = lru_cache(maxsize=2 * num_candidates)(_encoder(space, options))
        self._neighbours = lru_cache(maxsize=8 * options.parents)(self._all_neighbours)
        self._evidence = Evidence(options, self._features)

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return no parameters: the surrogate is fitted to the history."""
        return ()

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return `n` architectures: random ones at first, then those with the largest expected improvement."""
        evidence, pending = self._evidence.after(view.history()), view.pending()
        started, settings = view.completed + len(pending), evidence.settings
        num_random = n if settings is None else min(n, max(0, self._options.random_starts - started))
        in_training = [child.tokens for child in pending]
        samples = self._random(num_random, evidence.tried.union(in_training), view)
        proposals = [Proposal(tokens=tokens, architecture=self._space.decode(tokens)) for tokens in samples]
        if settings is not None and num_random < n:
            proposals += self._choose(n - num_random, evidence, settings, in_training + samples, view)
        return proposals

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return no gradients, and as figures the surrogate's settings and the improvement that it expected."""
        settings = self._evidence.after(view.history()).settings
        figures = {"length_scale": settings.length, "noise": settings.noise} if settings else {}
        expected = [child.notes[EXPECTED] for child in children if EXPECTED in child.notes]
        return Update(gradients={}, figures=figures | ({EXPECTED: max(expected)} if expected else {}))

    def _random(self, n: int, tried: Set[Tokens], view: View) -> list[Tokens]:
        """Return `n` random architectures, different ones that were not tried if they can be found."""
        samples: list[Tokens] = []
        for _ in range(n):
            draws = (first_tokens(self._space, view.completed, view.rng) for _ in range(MAX_DRAWS))
            new = next((tokens for tokens in draws if tokens not in tried and tokens not in samples), None)
            samples.append(new or first_tokens(self._space, view.completed, view.rng))
        return samples

    def _candidates(self, parents: Iterable[ChildRecord], view: View) -> Iterable[Tokens]:
        """Return random architectures and mutations of the parents, each once."""
        decisions = self._space.decisions(view.completed)
        drawn = [uniform(decisions, view.rng) for _ in range(self._options.candidates)]
        for parent in parents:
            drawn += self._mutations(parent.tokens, view)
        return dict.fromkeys(drawn)

    def _mutations(self, tokens: Tokens, view: View) -> Sequence[Tokens]:
        """Return all mutations of the tokens if there are few, or else as many random ones as the options say."""
        if self._options.mutations and not isinstance(self._space, Mutates):
            every = self._neighbours(tokens)
            if len(every) <= self._options.mutations:
                return every
        return [mutated_tokens(self._space, tokens, view.rng) for _ in range(self._options.mutations)]

    def _all_neighbours(self, tokens: Tokens) -> Sequence[Tokens]:
        return neighbours(self._space.decisions_of(len(tokens)), tokens)

    def _choose(
        self, n: int, evidence: Evidence, settings: Settings, in_training: Sequence[Tokens], view: View
    ) -> list[Proposal]:
        """Return the `n` candidates that promise most, one by one; each counts as in training for the next."""
        points, tried = evidence.points, evidence.tried.union(in_training)
        parents = sorted(points, key=reward_of, reverse=True)[: self._options.parents]
        candidates = [tokens for tokens in self._candidates(parents, view) if tokens not in tried]
        # All rows are encoded together, so that they have the same columns.
        encoded = matrix(map(self._features, [*(child.tokens for child in points), *in_training, *candidates]))
        known = len(points) + len(in_training)
        inputs, offered = encoded[:known], encoded[known:]
        targets = evidence.targets(points)
        best, lie = targets.max(), LIES[self._options.lie](targets)
        targets = np.append(targets, np.full(len(in_training), lie))
        chosen: list[Proposal] = []
        while len(chosen) < n and candidates:
            means, deviations = posterior(inputs, targets, offered, settings)
            gains = expected_improvement(means, deviations, best, self._options.improvement)
            index = int(gains.argmax())
            predicted = evidence.reward_of_target(float(means[index]), points)
            tokens, notes = candidates.pop(index), {EXPECTED: float(gains[index]), PREDICTED: predicted}
            chosen.append(Proposal(tokens=tokens, architecture=self._space.decode(tokens), notes=notes))
            inputs, targets = np.vstack([inputs, offered[index]]), np.append(targets, lie)
            offered = np.delete(offered, index, axis=0)
        # A space can be so small that all candidates were tried.
        rest = self._random(n - len(chosen), tried, view)
        return chosen + [Proposal(tokens=tokens, architecture=self._space.decode(tokens)) for tokens in rest]


def _encoder(space: SearchSpace, options: BayesianOptions) -> Callable[[Tokens], Features]:
    """Return the function from tokens to what the surrogate sees of them."""
    if options.encoding == "tokens":
        return token_features
    if isinstance(space, HasFeatures):
        return space.features
    raise ValueError(f"`encoding` must be `tokens`, as {space_words(space)} has no features of its own, got `features`")
