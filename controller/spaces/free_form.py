"""What spaces without a fixed sequence of decisions have in common. Standard library only."""

from collections.abc import Mapping
from typing import ClassVar

from controller.decisions import Decisions, InvalidTokens


class FreeForm:
    """A base for spaces whose samples have no fixed sequence of decisions, and tokens of their own."""

    sample_name: ClassVar[str]
    """What a sample is called, for errors."""

    def decisions(self, completed: int) -> Decisions:
        """Return no decisions: a sample has no fixed sequence of them."""
        return ()

    def choice_sizes(self) -> Mapping[str, int]:
        """Return no choices."""
        return {}

    def decisions_of(self, num_tokens: int) -> Decisions:
        """Return no decisions for no tokens; raise `InvalidTokens` for any other number."""
        if num_tokens:
            raise InvalidTokens(f"{self.sample_name} has no sequence of decisions, got {num_tokens} tokens")
        return ()
