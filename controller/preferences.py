"""What a policy has come to prefer: at each decision, how often each option was sampled over the search.

Standard library only.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from controller.decisions import Choice, Decision, Decisions, InvalidTokens, Subset, num_options, offsets
from controller.space import SearchSpace

MOST_WINDOWS = 24
"""Windows that a search is cut into."""

LEAST_CHILDREN = 8
"""Children in a window, if there are so many."""

Sample = tuple[int, Sequence[int]]
"""The window in which a child was sampled, and its tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preference:
    """One decision over the search.

    Attributes:
        kind, layer: what is decided, and where in the network (0: for the network as a whole).
        options: what there is to choose from.
        exclusive: whether exactly one is chosen, so that the shares of a window sum to 1; else any of them are.
        shares: for each window the share of each option among the samples for which the decision was made, or `None`
            where it was made for none.
    """

    kind: str
    layer: int
    options: tuple[str, ...]
    exclusive: bool
    shares: tuple[tuple[float, ...] | None, ...]


def num_windows(children: int) -> int:
    """Windows that so many children are cut into."""
    return max(1, min(MOST_WINDOWS, children // LEAST_CHILDREN))


def preferences(samples: Iterable[Sample], space: SearchSpace, windows: int) -> tuple[Preference, ...]:
    """What was chosen, decision by decision, in the order of the longest sequence of decisions.

    Samples of another space (a ledger that was written by hand) are left out.
    """
    groups: dict[tuple[int, int], list[Sequence[int]]] = {}
    for window, tokens in samples:
        groups.setdefault((len(tokens), window), []).append(tokens)
    made: dict[Key, dict[int, Counter[int]]] = {}
    asked: dict[Key, Counter[int]] = {}
    options: dict[Key, tuple[str, ...]] = {}
    for (length, window), rows in sorted(groups.items()):
        try:
            decisions = space.decisions_of(length)
        except InvalidTokens:
            continue
        for key, (decision, times, chosen) in _count(decisions, rows).items():
            if not decision.width:
                continue
            options.setdefault(key, _options(decision))
            made.setdefault(key, {}).setdefault(window, Counter()).update(chosen)
            asked.setdefault(key, Counter())[window] += times
    return tuple(
        Preference(
            kind=key[0],
            layer=key[1],
            options=names,
            exclusive=key[3],
            shares=_shares(made[key], asked[key], len(names), windows),
        )
        for key, names in options.items()
    )


Key = tuple[str, int, int, bool]
"""Kind, layer, which of those that are alike, and whether exactly one option is chosen."""


def _count(
    decisions: Decisions, rows: Sequence[Sequence[int]]
) -> Mapping[Key, tuple[Decision, int, Mapping[int, int]]]:
    """For each decision how often it was made, and how often with each option, among samples of one length."""
    columns, starts = list(zip(*rows, strict=True)), offsets(decisions)
    found: dict[Key, tuple[Decision, int, Mapping[int, int]]] = {}
    alike: Counter[tuple[str, int]] = Counter()
    for decision, start in zip(decisions, starts, strict=False):
        # Only a choice knows its place; what reads earlier layers is told apart by how many there are.
        layer = decision.place if isinstance(decision, Choice) else decision.count + 1
        alike[decision.kind, layer] += 1
        key = (decision.kind, layer, alike[decision.kind, layer], not isinstance(decision, Subset))
        if isinstance(decision, Subset):
            chosen = {i: sum(columns[start + i]) for i in range(decision.count)}
            found[key] = decision, len(rows), chosen
        elif decision.width:
            column = columns[start]
            when = decision.when if isinstance(decision, Choice) else None
            if when is not None:
                column = [t for t, c in zip(column, columns[starts[when.decision]], strict=True) if c in when.tokens]
            found[key] = decision, len(column), Counter(column)
    return found


def _options(decision: Decision) -> tuple[str, ...]:
    if isinstance(decision, Choice):
        return tuple(map(str, decision.options))
    count = decision.count if isinstance(decision, Subset) else num_options(decision)
    return tuple(str(number) for number in range(1, count + 1))


def _shares(
    made: Mapping[int, Mapping[int, int]], asked: Mapping[int, int], count: int, windows: int
) -> tuple[tuple[float, ...] | None, ...]:
    return tuple(
        tuple(made[window].get(option, 0) / asked[window] for option in range(count)) if asked.get(window) else None
        for window in range(windows)
    )
