"""The options that a policy prefers: how often each option of a decision was sampled, over the course of a search.

Standard library only.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from controller.decisions import Choice, Decision, Decisions, InvalidTokens, Subset, num_options, offsets, place_of
from controller.space import SearchSpace

MAX_WINDOWS = 24
"""Upper bound on the windows that a search is divided into."""

MIN_CHILDREN = 8
"""Children in each window, if the search has that many."""

Sample = tuple[int, Sequence[int]]
"""The window in which a child was sampled, and its tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preference:
    """One decision over the search.

    Attributes:
        kind, layer: what is decided, and where in the network (0: for the network as a whole).
        options: the options' names.
        exclusive: whether exactly one option is chosen, so that the shares of a window sum to 1; if not, any subset is.
        shares: for each window the share of each option among the samples to which the decision applies, or `None`
            where it applies to no sample.
    """

    kind: str
    layer: int
    options: tuple[str, ...]
    exclusive: bool
    shares: tuple[tuple[float, ...] | None, ...]


def num_windows(children: int) -> int:
    """Return the number of windows that this many children are divided into."""
    return max(1, min(MAX_WINDOWS, children // MIN_CHILDREN))


def preferences(samples: Iterable[Sample], space: SearchSpace, windows: int) -> tuple[Preference, ...]:
    """Return the shares of each decision's options, in the order of the longest sequence of decisions.

    Samples of another space (from a ledger that was written by hand) are left out.
    """
    groups: dict[tuple[int, int], list[Sequence[int]]] = {}
    for window, tokens in samples:
        groups.setdefault((len(tokens), window), []).append(tokens)
    counts: dict[Key, dict[int, Counter[int]]] = {}
    totals: dict[Key, Counter[int]] = {}
    options: dict[Key, tuple[str, ...]] = {}
    for (length, window), rows in sorted(groups.items()):
        try:
            decisions = space.decisions_of(length)
        except InvalidTokens:
            continue
        for key, (decision, total, option_counts) in _count(decisions, rows).items():
            if not decision.width:
                continue
            options.setdefault(key, option_names(decision))
            counts.setdefault(key, {}).setdefault(window, Counter()).update(option_counts)
            totals.setdefault(key, Counter())[window] += total
    return tuple(
        Preference(
            kind=key[0],
            layer=key[1],
            options=names,
            exclusive=key[3],
            shares=_shares(counts[key], totals[key], len(names), windows),
        )
        for key, names in options.items()
    )


Key = tuple[str, int, int, bool]
"""Kind, layer, number among the decisions of this kind in this layer, and whether exactly one option is chosen."""


def _count(
    decisions: Decisions, rows: Sequence[Sequence[int]]
) -> Mapping[Key, tuple[Decision, int, Mapping[int, int]]]:
    """Count, among samples of one length, how often each decision applies and how often it takes each option."""
    columns, starts = list(zip(*rows, strict=True)), offsets(decisions)
    counts: dict[Key, tuple[Decision, int, Mapping[int, int]]] = {}
    same: Counter[tuple[str, int]] = Counter()
    for decision, start in zip(decisions, starts, strict=False):
        layer = place_of(decision)
        same[decision.kind, layer] += 1
        key = (decision.kind, layer, same[decision.kind, layer], not isinstance(decision, Subset))
        if isinstance(decision, Subset):
            option_counts = {i: sum(columns[start + i]) for i in range(decision.count)}
            counts[key] = decision, len(rows), option_counts
        elif decision.width:
            column = columns[start]
            when = decision.when if isinstance(decision, Choice) else None
            if when is not None:
                column = [t for t, c in zip(column, columns[starts[when.decision]], strict=True) if c in when.tokens]
            counts[key] = decision, len(column), Counter(column)
    return counts


def option_names(decision: Decision) -> tuple[str, ...]:
    """Return the names of the decision's options."""
    if isinstance(decision, Choice):
        return tuple(map(str, decision.options))
    count = decision.count if isinstance(decision, Subset) else num_options(decision)
    return tuple(str(number) for number in range(1, count + 1))


def _shares(
    counts: Mapping[int, Mapping[int, int]], totals: Mapping[int, int], size: int, windows: int
) -> tuple[tuple[float, ...] | None, ...]:
    return tuple(
        tuple(counts[window].get(option, 0) / totals[window] for option in range(size)) if totals.get(window) else None
        for window in range(windows)
    )
