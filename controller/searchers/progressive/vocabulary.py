"""How a surrogate reads a space's samples: the words that stand for tokens, and the parts that a sample is made of."""

from collections.abc import Sequence

import numpy as np

from controller.decisions import Choice, Decision, Decisions, Subset, num_options


class Vocabulary:
    """The words of a space: options of the same name are one word, at whichever decision.

    So a surrogate knows an operation in a block that it has not seen before.

    Args:
        decisions: those of the longest samples; shorter ones are prefixes of them.
        widths: how many tokens each part of the longest samples has.
    """

    def __init__(self, decisions: Decisions, widths: Sequence[int]) -> None:
        self._decisions = [decision for decision in decisions for _ in range(decision.width)]
        names = [_names(decision) for decision in self._decisions]
        index = {name: i for i, name in enumerate(dict.fromkeys(name for row in names for name in row))}
        self.num_words = len(index)
        """V, the number of words."""
        self.places = [place for width in widths for place in range(width)]
        """The place of each token within its part, from 0."""
        self.places_in_part = max(widths)
        """S, the number of places of the longest part."""
        self._ends = np.cumsum(widths)
        self._words = np.zeros((len(names), max(map(len, names))), dtype=np.int64)
        for position, row in enumerate(names):
            self._words[position, : len(row)] = [index[name] for name in row]

        self.alternatives_VV = np.zeros((len(index), len(index)), dtype=bool)
        """[V, V], whether two words are options of one decision."""
        for row in names:
            words = [index[name] for name in row]
            self.alternatives_VV[np.ix_(words, words)] = True

    def words(self, tokens_BT: np.ndarray) -> np.ndarray:
        """Return the words of samples, [B, T] int64, from their tokens, [B, T]."""
        return self._words[np.arange(tokens_BT.shape[1]), tokens_BT]

    def name(self, position: int, token: int) -> str:
        """Return the name of the option that a token stands for."""
        return _names(self._decisions[position])[token]

    def decision(self, position: int) -> Decision:
        """Return the decision that takes the token at a position."""
        return self._decisions[position]

    def num_parts(self, num_tokens: int) -> int:
        """Return how many parts a sample of so many tokens has."""
        return int(np.searchsorted(self._ends, num_tokens)) + 1


def _names(decision: Decision) -> tuple[str, ...]:
    if isinstance(decision, Choice):
        return tuple(map(str, decision.options))
    if isinstance(decision, Subset):
        return "no", "yes"
    return tuple(map(str, range(num_options(decision))))
