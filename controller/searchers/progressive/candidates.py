"""What a level of progressive search chooses from (Liu et al. 2018, algorithm 1; spec §5.2)."""

from collections.abc import Iterator, Sequence, Set

import numpy as np

from controller.decisions import Decisions, Tokens, neighbours, num_options, offsets
from controller.searchers.progressive.vocabulary import Vocabulary
from controller.space import SearchSpace, decision_label, parts_of, place_name
from controller.spaces.checks import space_words

LATER = 1_000_000_000
"""Children after which every schedule of a space has come to its end."""

MAX_CANDIDATES = 4_000_000
"""Candidates of a level; more would take minutes to score."""


class Candidates:
    """The candidates of each level, and how a surrogate reads them.

    In a space whose samples grow by parts, level 1 has every part, and level b each of the best of level b - 1 with
    every part added. In a space whose samples all have the same length, level 1 has random samples, and each later
    level those that differ in one token from one of the best.

    Args:
        space: the search space.
        beam: how many samples are expanded.

    Raises:
        ValueError: samples of this space neither grow by parts nor have the same length, or a level would be too large.
    """

    def __init__(self, space: SearchSpace, beam: int) -> None:
        self._space = space
        self._parts: list[Sequence[Tokens]] = []
        while parts := parts_of(space, len(self._parts) + 1):
            self._parts.append(parts)
        if self._parts:
            widths = [len(parts[0]) for parts in self._parts]
            decisions = space.decisions_of(sum(widths))
            largest = beam * max(map(len, self._parts))
        else:
            decisions = _decisions(space)
            widths = [offsets(decisions)[-1]]
            largest = beam * sum(d.width * (num_options(d) - 1) for d in decisions)
        if largest > MAX_CANDIDATES:
            raise ValueError(
                f"`beam` must be at most {beam * MAX_CANDIDATES // largest:,} in this space, got {beam:,}: a level"
                f" would have {largest:,} candidates"
            )
        self.vocabulary = Vocabulary(decisions, widths)
        """How a surrogate reads the samples."""

    @property
    def num_levels(self) -> int | None:
        """B, the number of levels, or `None` where each level has samples of the same length."""
        return len(self._parts) or None

    def first(self) -> Sequence[Tokens]:
        """Return the samples of level 1; none if they are drawn at random."""
        return self._parts[0] if self._parts else ()

    def change(self, before: Tokens, after: Tokens) -> str:
        """Return in a few words how a candidate differs from the sample that it was made of."""
        if self._parts:
            number = self.vocabulary.num_parts(len(after))
            return f"{place_name(self._space)} {number} added"
        position = next(i for i, (old, new) in enumerate(zip(before, after, strict=True)) if old != new)
        old, new = (self.vocabulary.name(position, tokens[position]) for tokens in (before, after))
        return f"{decision_label(self._space, self.vocabulary.decision(position))}: {old} to {new}"

    def expansions(self, level: int, best: Sequence[Tokens], tried: Set[Tokens]) -> "Expansions":
        """Return the candidates of a level, from 2: those that are made of `best` and were not tried."""
        if self._parts:
            return _grown(best, self._parts[level - 1])
        return _changed(self._space, best, tried)


class Expansions:
    """Candidates in lexicographic order.

    Attributes:
        tokens_BT: [B, T] int64, their tokens.
        parents_B: [B] int64, the index of the sample that each was made of.
    """

    def __init__(self, tokens_BT: np.ndarray, parents_B: np.ndarray) -> None:
        order = np.lexsort(tokens_BT.T[::-1])
        self.tokens_BT, self.parents_B = tokens_BT[order], parents_B[order]

    def __len__(self) -> int:
        return len(self.parents_B)

    def ranked(self, scores_B: np.ndarray) -> Iterator[tuple[Tokens, int, float]]:
        """Yield tokens, parent and score of each, the highest score first; equal ones in lexicographic order."""
        for row in np.argsort(-scores_B, kind="stable"):
            yield tuple(self.tokens_BT[row].tolist()), int(self.parents_B[row]), float(scores_B[row])


def _grown(best: Sequence[Tokens], parts: Sequence[Tokens]) -> Expansions:
    starts, ends = np.array(best, dtype=np.int64), np.array(parts, dtype=np.int64)
    parents = np.repeat(np.arange(len(starts)), len(ends))
    return Expansions(np.hstack([starts[parents], np.tile(ends, (len(starts), 1))]), parents)


def _changed(space: SearchSpace, best: Sequence[Tokens], tried: Set[Tokens]) -> Expansions:
    """Return the untried neighbours, each once; the first of several parents counts."""
    parents: dict[Tokens, int] = {}
    for index, tokens in enumerate(best):
        for neighbour in neighbours(space.decisions_of(len(tokens)), tokens):
            if neighbour not in tried:
                parents.setdefault(neighbour, index)
    length = len(best[0])
    return Expansions(
        np.array(list(parents), dtype=np.int64).reshape(-1, length), np.array(list(parents.values()), dtype=np.int64)
    )


def _decisions(space: SearchSpace) -> Decisions:
    """Return the decisions of a space whose samples have the same length."""
    decisions = space.decisions(0)
    if decisions != space.decisions(LATER) or not offsets(decisions)[-1]:
        raise ValueError(
            "the searcher `progressive` needs a space whose samples grow by parts or all have the same number of"
            f" tokens; those of {space_words(space)} do neither"
        )
    return decisions
