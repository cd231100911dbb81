"""A search that begins with given architectures: its searcher goes on, and learns from them as from its own."""

from collections.abc import Sequence
from typing import Any

from controller.searcher import ChildRecord, ParameterGroup, Proposal, Searcher, Update, View, is_exclusive
from controller.searchers.given import Given, GivenOptions
from controller.space import SearchSpace


class StartWith:
    """Proposes each of the given architectures once, then what the searcher proposes.

    All that is optional for searchers is the searcher's own.

    Args:
        searcher: goes on. It must learn from any architecture in the history, also one that it did not propose.
        space: of both.
        given: the architectures.

    Raises:
        ValueError: one is no sample of the space.
    """

    def __init__(self, searcher: Searcher, space: SearchSpace, given: GivenOptions) -> None:
        try:
            self._given = Given(space, given)
        except ValueError as error:
            raise ValueError(str(error).replace("`samples`", "`start_with`")) from error
        self._searcher, self._has_begun = searcher, False

    @property
    def exclusive(self) -> bool:
        """Whether no two replicas may ask from one view: until all given architectures have begun, or always."""
        return not self._has_begun or is_exclusive(self._searcher)

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return the searcher's parameters."""
        return self._searcher.parameters(seed)

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return the next of the given architectures; once all have begun, what the searcher proposes."""
        # Once they have begun they always have: what is kept here follows from the views.
        if not self._has_begun and (proposals := self._given.ask(n, view)):
            return proposals
        self._has_begun = True
        return self._searcher.ask(n, view)

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return the searcher's update."""
        return self._searcher.learn(children, view)

    def __getattr__(self, name: str) -> Any:
        # Only for what is not found here: the optional attributes and methods of `controller.searcher`.
        return getattr(self._searcher, name)
