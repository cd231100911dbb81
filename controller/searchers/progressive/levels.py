"""How far a progressive search has come: a function of the children that have ended."""

from collections.abc import Sequence
from typing import NamedTuple

from controller.decisions import Tokens
from controller.searcher import ChildRecord
from controller.searchers.history_state import HistoryState
from controller.searchers.progressive.candidates import Candidates
from controller.searchers.progressive.options import ProgressiveOptions
from controller.searchers.progressive.surrogate import Surrogate, fit
from controller.space import SearchSpace


class Member(NamedTuple):
    """A sample that a level is to try.

    Attributes:
        tokens: the sample.
        parent: the child that it was made of.
        predicted: its reward by the surrogate that was fitted to the levels before.
    """

    tokens: Tokens
    parent: ChildRecord
    predicted: float


def level_of(child: ChildRecord) -> int:
    """Return the level that the child belongs to, from 1."""
    return child.notes["level"]


class Levels(HistoryState):
    """The ended children of each level, and what the levels after the first are made of.

    A level's members depend only on the children of the levels before it, which have all ended when it begins. They are
    computed when they are first needed, and kept until another history is followed.
    """

    def __init__(self, space: SearchSpace, options: ProgressiveOptions, candidates: Candidates) -> None:
        self._space, self._options, self._candidates = space, options, candidates
        super().__init__()

    def _begin(self) -> None:
        self._children: dict[int, list[ChildRecord]] = {}
        self._surrogates: dict[int, Surrogate | None] = {0: None}
        self._members: dict[int, Sequence[Member]] = {}

    def _add(self, child: ChildRecord) -> None:
        self._children.setdefault(level_of(child), []).append(child)

    def ended(self, level: int) -> Sequence[ChildRecord]:
        """Return the level's ended children, in completion order."""
        return self._children.get(level, ())

    def members(self, level: int) -> Sequence[Member]:
        """Return what a level, from 2, is to try, the best by the surrogate first; none if there is nothing to expand.

        All levels before it must have ended.
        """
        if level not in self._members:
            self._members[level] = self._choose(level)
        return self._members[level]

    def _choose(self, level: int) -> Sequence[Member]:
        """Return the candidates that the surrogate ranks best, no two of one architecture."""
        best = _best(self._source(level - 1), self._options.beam)
        surrogate = self._surrogate(level - 1)
        if not best or surrogate is None:
            return ()
        known = self._up_to(level - 1)
        tried = {child.tokens for child in known}
        expansions = self._candidates.expansions(level, [child.tokens for child in best], tried)
        if not len(expansions):
            return ()
        architectures = {child.architecture_id for child in known}
        members: list[Member] = []
        for tokens, parent, predicted in expansions.ranked(surrogate.predict(expansions.tokens_BT)):
            architecture = self._space.decode(tokens).id
            if architecture not in architectures:
                architectures.add(architecture)
                members.append(Member(tokens, best[parent], predicted))
            if len(members) == self._options.beam:
                break
        return members

    def _surrogate(self, level: int) -> Surrogate | None:
        """Return the surrogate as it is after a level; `None` if no child up to then has a reward."""
        # Not by recursion: a resumed search may have a thousand levels behind it.
        for number in range(max(self._surrogates) + 1, level + 1):
            before = self._surrogates[number - 1]
            rewarded = [(child.tokens, child.reward) for child in self._source(number) if child.reward is not None]
            vocabulary = self._candidates.vocabulary
            self._surrogates[number] = fit(vocabulary, self._options, rewarded, before) if rewarded else before
        return self._surrogates[level]

    def _source(self, level: int) -> Sequence[ChildRecord]:
        """Return the children that a level expands and that the surrogate is fitted to after it.

        As in the paper these are the children of the level, whose rewards differ from those of smaller samples. If all
        samples have the same length, they are all children up to the level.
        """
        return self._up_to(level) if self._candidates.num_levels is None else self.ended(level)

    def _up_to(self, level: int) -> Sequence[ChildRecord]:
        return [child for number in range(1, level + 1) for child in self.ended(number)]


def _best(children: Sequence[ChildRecord], count: int) -> Sequence[ChildRecord]:
    """Return the children with the highest rewards; of equal ones, those whose tokens come first."""
    rewarded = [(-child.reward, child.tokens, child.id, child) for child in children if child.reward is not None]
    return [child for *_, child in sorted(rewarded)[:count]]
