"""The interface of a search space. Standard library only."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from child_trainer.architectures.architecture import Architecture, Kind
from controller.decisions import Decisions


class SearchSpace(Protocol):
    """The decisions that make up an architecture, and how tokens become one.

    Rules, held by `tests/contracts/search_space.py`:
    1. Every sample of `decisions(completed)` decodes, and equal tokens give equal architectures.
    2. The number of tokens determines which of the sequences they are a sample of.
    3. `choice_sizes` has every choice of any sequence, with its number of options.
    4. Every decoded architecture is of the space's `kind`.
    """

    @property
    def kind(self) -> Kind:
        """The kind of its architectures."""
        ...

    def decisions(self, completed: int) -> Decisions:
        """Return the decisions for the next sample, after `completed` children of the search have ended."""
        ...

    def choice_sizes(self) -> Mapping[str, int]:
        """Return the name of every possible `Choice`, with its number of options."""
        ...

    def decisions_of(self, num_tokens: int) -> Decisions:
        """Return the sequence of decisions that takes this many tokens.

        Raises:
            InvalidTokens: if there is none.
        """
        ...

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the architecture that the tokens encode.

        Raises:
            InvalidTokens: if they are not a sample of this space.
        """
        ...
