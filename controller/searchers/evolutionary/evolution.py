"""Regularized evolution and its variants (Real et al. 2019, arXiv 1802.01548; spec §4.2, §19)."""

from collections.abc import Sequence, Set
from functools import cached_property
from operator import attrgetter
from typing import Any

from controller.decisions import Tokens
from controller.objectives import Cost
from controller.searcher import ChildRecord, ParameterGroup, Proposal, Update, View
from controller.searchers.evolutionary.options import EvolutionOptions
from controller.searchers.evolutionary.selection import Key, Members, key_among, select_parent, survivors_of_all
from controller.searchers.evolutionary.variation import check_space, crossover, describe_change, mutation
from controller.searchers.history_state import HistoryState
from controller.space import SearchSpace, first_tokens, mutated_tokens

MAX_MUTATIONS = 100
"""Mutations of a repeat, one after another, before it is proposed all the same."""


class Evolution:
    """Proposes mutations of the best of a few members of a population; a child that ends replaces a member.

    Many children can be in training at once: the population depends only on those that have ended, in the order of
    their ends.

    Attributes:
        space: where it searches.
        options: its settings.
        costs: what it keeps low beside a high reward, by Pareto rank; none: it compares rewards alone.
        exclusive: whether each replica must see what the others have in training, because repeats are refused.
    """

    def __init__(self, space: SearchSpace, options: EvolutionOptions, costs: Sequence[Cost] = ()) -> None:
        check_space(space, options)
        if costs and options.selection == "roulette":
            raise ValueError(
                "`selection` must be tournament or truncation with several objectives, as a Pareto rank gives roulette"
                f" no shares, got {options.selection}; or give a `target` for {' and '.join(c.name for c in costs)}"
            )
        self.space, self.options, self.costs = space, options, tuple(costs)
        self.exclusive = options.repeats == "refused"

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return no parameters: evolution learns nothing by gradient."""
        return ()

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return `n` children of the present population; the first ones of the search are random."""
        pending = view.pending()
        started = view.completed + len(pending)
        population = self._population.after(view.history())
        refused: Set[Tokens] = self._population.tried.union(c.tokens for c in pending) if self.exclusive else set()
        proposals: list[Proposal] = []
        for number in range(started, started + n):
            if number < self.options.capacity or not population:
                proposal = self._first(refused, view)
            else:
                proposal = self._child(population, refused, view)
            refused = refused | {proposal.tokens} if self.exclusive else refused
            proposals.append(proposal)
        return proposals

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return no gradients: the history has all that evolution learns from."""
        return Update(gradients={}, figures={})

    def _first(self, refused: Set[Tokens], view: View) -> Proposal:
        """Return a random architecture."""
        tokens = self._new(first_tokens(self.space, view.completed, view.rng), refused, view)
        return Proposal(tokens=tokens, architecture=self.space.decode(tokens))

    def _child(self, population: Members, refused: Set[Tokens], view: View) -> Proposal:
        """Return a child of the population: a copy, a mutation or a crossover, with its parent in the notes."""
        options, rng, key = self.options, view.rng, self._population.key
        parent = select_parent(population, options, rng, key)
        tokens, other = parent.tokens, None
        if options.crossover and rng.random() < options.crossover:
            other = select_parent(population, options, rng, key)
            tokens = crossover(self.space, tokens, other.tokens, options, rng)
        if rng.random() >= options.unchanged:
            tokens = mutation(self.space, tokens, options, rng)
        tokens = self._new(tokens, refused, view)
        notes: dict[str, Any] = {"parent": parent.id, "change": describe_change(self.space, parent.tokens, tokens)}
        if other is not None:
            notes |= {"other_parent": other.id}
        return Proposal(tokens=tokens, architecture=self.space.decode(tokens), notes=notes)

    def _new(self, tokens: Tokens, refused: Set[Tokens], view: View) -> Tokens:
        """Return the tokens, or if they are refused, a mutation of a mutation and so on that is not."""
        for _ in range(MAX_MUTATIONS):
            if tokens not in refused:
                break
            tokens = mutated_tokens(self.space, tokens, view.rng)
        return tokens

    @cached_property
    def _population(self) -> "Population":
        return Population(self.options, self.costs)


_tokens_of = attrgetter("tokens")


class Population(HistoryState):
    """Caches the population after the last history, so that a longer one costs only its new children.

    Attributes:
        tried: the tokens of all children in the history.
    """

    def __init__(self, options: EvolutionOptions, costs: Sequence[Cost] = ()) -> None:
        self._options, self._costs = options, costs
        super().__init__()

    def after(self, history: Sequence[ChildRecord]) -> tuple[ChildRecord, ...]:
        """Return the population after this history, the oldest member first."""
        self.follow(history)
        members = survivors_of_all(self._members, self._joining, self._options, self._costs)
        if members != self._members:
            self._members, self._key = members, None
        self._joining.clear()
        return self._members

    @property
    def key(self) -> Key:
        """What the present members are compared by; with costs it is computed once for the same members."""
        if self._key is None:
            self._key = key_among(self._members, self._costs)
        return self._key

    def _begin(self) -> None:
        self._members: tuple[ChildRecord, ...] = ()
        self._joining: list[ChildRecord] = []
        self._key: Key | None = None
        self.tried: set[Tokens] = set()

    def _add(self, child: ChildRecord) -> None:
        self._add_all((child,))

    def _add_all(self, children: Sequence[ChildRecord]) -> None:
        self.tried.update(map(_tokens_of, children))
        self._joining += [child for child in children if child.reward is not None]  # the others do not join
