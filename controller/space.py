"""What a search space is to everyone else. Standard library only."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from child_trainer.architectures.architecture import Architecture, Kind
from controller.decisions import Decisions


class SearchSpace(Protocol):
    """The decisions that make up an architecture, and how tokens become one.

    Rules, held by `tests/contracts/search_space.py`:
    1. Every sample of `decisions(completed)` decodes, and equal tokens give equal architectures.
    2. The number of tokens tells which of the sequences they are a sample of.
    3. `choice_sizes` has every choice of any sequence, with its number of options.
    4. What decodes is of the space's `kind`.
    """

    @property
    def kind(self) -> Kind:
        """Of its architectures."""
        ...

    def decisions(self, completed: int) -> Decisions:
        """The decisions for the next sample, after `completed` children of the search have ended."""
        ...

    def choice_sizes(self) -> Mapping[str, int]:
        """The name of every `Choice` that may ever be asked, with its number of options."""
        ...

    def decisions_of(self, num_tokens: int) -> Decisions:
        """The sequence of decisions that takes this many tokens.

        Raises:
            InvalidTokens: if there is none.
        """
        ...

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """The architecture that the tokens stand for.

        Raises:
            InvalidTokens: if they are no sample of this space.
        """
        ...
