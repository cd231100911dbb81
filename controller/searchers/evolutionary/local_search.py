"""Local search: climb to a better neighbour until there is none, then restart (White et al. 2021; spec §4.6)."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property

from controller.decisions import Tokens, neighbours
from controller.searcher import ChildRecord, ParameterGroup, Proposal, Update, View, reward_of
from controller.searchers.evolutionary.options import LocalSearchOptions
from controller.searchers.history_state import HistoryState
from controller.space import SearchSpace, first_tokens
from controller.spaces.checks import check_decisions


@dataclass(frozen=True)
class LocalSearch:
    """Tries the neighbours of the present point in random order, and moves to the first that is better."""

    space: SearchSpace
    options: LocalSearchOptions

    def __post_init__(self) -> None:
        check_decisions(self.space, "local-search")

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return no parameters: local search learns nothing by gradient."""
        return ()

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return `n` proposals: neighbours that were never tried, then random architectures."""
        history, pending = view.history(), view.pending()
        started = view.completed + len(pending)
        starts = max(0, self.options.random_starts - started)
        in_training = {child.tokens for child in pending}
        untried = sorted(self._climb.after(history) - in_training)
        chosen = view.rng.sample(untried, min(len(untried), max(0, n - starts)))
        samples = chosen + [first_tokens(self.space, view.completed, view.rng) for _ in range(n - len(chosen))]
        return [Proposal(tokens=tokens, architecture=self.space.decode(tokens)) for tokens in samples]

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return no gradients: the history has all that local search learns from."""
        return Update(gradients={}, figures={})

    @cached_property
    def _climb(self) -> "Climb":
        return Climb(self.space, self.options)


class Climb(HistoryState):
    """The point that a search has reached after a history."""

    def __init__(self, space: SearchSpace, options: LocalSearchOptions) -> None:
        self._space, self._options = space, options
        super().__init__()

    def after(self, history: Sequence[ChildRecord]) -> Set[Tokens]:
        """Return the untried neighbours of the point that the search has reached after this history."""
        self.follow(history)
        return self._untried

    def _begin(self) -> None:
        self._num_ended = 0
        self._current: ChildRecord | None = None
        self._tried: set[Tokens] = set()
        self._untried: set[Tokens] = set()

    def _add(self, child: ChildRecord) -> None:
        tokens = child.tokens
        # At a local optimum no neighbour is left: the next random architecture starts another climb.
        at_optimum = self._num_ended >= self._options.random_starts and not self._untried
        self._num_ended += 1
        self._tried.add(tokens)
        self._untried.discard(tokens)
        if child.reward is None:
            return
        if self._current is None or child.reward > reward_of(self._current) or at_optimum:
            self._current = child
            self._untried = set(neighbours(self._space.decisions_of(len(tokens)), tokens)) - self._tried
