"""Given architectures, each by its place in a list: what `nascluster evaluate` trains."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from child_trainer.architectures.architecture import Architecture, Kind, node
from child_trainer.field_types import check_types
from controller.decisions import Choice, Decisions, InvalidTokens, check_tokens

EXAMPLES: Mapping[Kind, Architecture] = MappingProxyType(
    {
        "feedforward": Architecture("feedforward", (node("pool", "global_avg_pool", "image"),), ("pool",)),
        "recurrent": Architecture("recurrent", (node("next", "add", ("x", "h")),), ("next",)),
    }
)
"""A smallest architecture of each kind."""


@dataclass(frozen=True, kw_only=True)
class ListedSpace:
    """A list of architectures of any shape, of which a sample is one.

    A list that only grows keeps the meaning of its samples.
    """

    architectures: tuple[str, ...] = ()
    """The architectures, each as JSON, all of one kind; `nascluster evaluate` takes them from files."""

    def __post_init__(self) -> None:
        check_types(self)

    def with_more(self, architectures: Sequence[Architecture]) -> "ListedSpace":
        """Return the list with further architectures at its end."""
        return ListedSpace(architectures=(*self.architectures, *map(text_of, architectures)))

    def continues(self, other: "ListedSpace") -> bool:
        """Return whether this list is the other one, perhaps with more at its end."""
        return self.architectures[: len(other.architectures)] == other.architectures

    @property
    def kind(self) -> Kind:
        """The kind of its architectures; without any, that of networks for images."""
        return self.decode([0]).kind if self.architectures else "feedforward"

    def decisions(self, completed: int) -> Decisions:
        """Return the choice of an architecture, whose options are the places from 1.

        Raises:
            ValueError: there are none.
        """
        if not self.architectures:
            raise ValueError(
                "the space 'listed' needs architectures: `nascluster evaluate FILE.json --task digits` takes them from"
                " files"
            )
        return _decisions(len(self.architectures))

    def choice_sizes(self) -> Mapping[str, int]:
        """Return the number of architectures, by the name of the one choice."""
        return {choice.name: len(choice.options) for choice in self.decisions(0) if isinstance(choice, Choice)}

    def decisions_of(self, num_tokens: int) -> Decisions:
        """Return the decision, which takes one token."""
        if num_tokens != 1:
            raise InvalidTokens(f"an architecture of a list takes 1 token, its place, got {num_tokens}")
        return self.decisions(0)

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the architecture at this place.

        Raises:
            InvalidTokens: there is none, or its text describes none.
        """
        check_tokens(self.decisions_of(len(tokens)), tokens)
        try:
            return decoded(self.architectures[tokens[0]])
        except (ValueError, RecursionError) as error:
            raise InvalidTokens(
                f"`architectures` must be JSON of architectures, and the {tokens[0] + 1}. is none: {error}"
            ) from error


def text_of(architecture: Architecture) -> str:
    """Return the text of an architecture in a list."""
    return json.dumps(architecture.to_json(), separators=(",", ":"))


@lru_cache(maxsize=16)
def _decisions(number: int) -> Decisions:
    return (Choice("architecture", tuple(range(1, number + 1))),)


@lru_cache(maxsize=256)
def decoded(text: str) -> Architecture:
    """Return the architecture of a text in a list; raises `ValueError` or `RecursionError` if it has none."""
    return Architecture.from_json(json.loads(text))
