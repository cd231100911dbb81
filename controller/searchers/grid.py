"""Grid search: every sample of a small space once, in order, and then the search ends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from child_trainer.field_types import check_types
from controller.decisions import Tokens, enumerate_samples
from controller.searcher import ChildRecord, ParameterGroup, Proposal, Update, View
from controller.space import SearchSpace
from controller.spaces.checks import check_decisions


@dataclass(frozen=True, kw_only=True)
class GridOptions:
    """Options of grid search."""

    keep_weights: bool = False
    """Keep the weights of all children for good, where the task trains networks on images."""

    def __post_init__(self) -> None:
        check_types(self)


class Grid:
    """Proposes each sample once: the first decision's options one after another, the last one's fastest.

    Of a space whose networks grow with the search, these are the samples of its beginning.

    Args:
        space: what is searched.
        options: the settings.

    Raises:
        ValueError: the space has no fixed sequence of decisions.
    """

    exclusive = True

    def __init__(self, space: SearchSpace, options: GridOptions) -> None:
        check_decisions(space, "grid")
        self._space = space
        # What follows from the space alone: as many of its samples as were needed so far, in their order.
        self._samples: list[Tokens] = []
        self._rest = enumerate_samples(space.decisions(0))
        if options.keep_weights:
            self.keeps: Callable[[View], frozenset[int]] = _all_ended

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return no parameters: nothing is learnt."""
        return ()

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return the next samples; none after the last, which ends the search."""
        begun = {tuple(child.tokens) for child in (*view.pending(), *view.history())}
        # Among so many of the first samples, `n` have not begun, unless there are no more.
        most = len(begun) + n
        self._samples += islice(self._rest, max(0, most - len(self._samples)))
        new = [tokens for tokens in self._samples[:most] if tokens not in begun][:n]
        return [Proposal(tokens=tokens, architecture=self._space.decode(tokens)) for tokens in new]

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return no gradients."""
        return Update()


def _all_ended(view: View) -> frozenset[int]:
    return frozenset(child.id for child in view.history())
