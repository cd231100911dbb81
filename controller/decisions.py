"""The decisions a controller makes, and sequences of them. Standard library only.

A search space is a sequence of decisions; a sample is a flat tuple of integers, its tokens. A `Choice` or a `Pointer`
takes one token, a `Subset` of n earlier layers takes n tokens, each 0 or 1. The sequence has a fixed layout: a choice
that does not apply (a pool's size when the layer is a convolution) has the token 0 and the probability 1, and the
policy skips it. A choice may allow only some of its options, depending on the tokens before it (no pool after a pool).
"""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Tokens = tuple[int, ...]


class InvalidTokens(ValueError):
    """Tokens that are not a sample of the decisions; the message names the position and the rule."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Holds if the decision at index `decision` of the sequence took one of `tokens`."""

    decision: int
    tokens: tuple[int, ...]


Rule = Callable[[Tokens], tuple[int, ...]]
"""Returns the options that a choice allows after these tokens, at least one, in ascending order.

Rules of equal sequences must be equal: a frozen dataclass with `__call__`, or a function of a module.
"""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several options.

    Attributes:
        kind: what is chosen, such as `filter_height`.
        options: the values to choose from.
        place: where in the network, such as the layer; kind and place together name the choice.
        when: the condition under which the choice applies; `None`: always.
        allowed: gives the options that it allows, from all tokens before it; `None`: it always allows all.
    """

    kind: str
    options: tuple[int | float | str, ...]
    place: int = 0
    when: Condition | None = None
    allowed: Rule | None = None

    @property
    def name(self) -> str:
        """The choice's name, which its softmax and its embedding have too."""
        return f"{self.kind}_{self.place}"

    @property
    def width(self) -> int:
        """The number of tokens that this decision takes."""
        return 1


@dataclass(frozen=True, slots=True)
class Subset:
    """Any subset of the `count` earlier anchors: the paper's anchor point (section 3.3 of arXiv 1611.01578).

    Every `Subset` and every `Pointer` is itself an anchor that later ones may select, up to the next one of 0 earlier
    anchors, which begins another network of the same sample.
    """

    kind: str
    count: int

    @property
    def width(self) -> int:
        """The number of tokens that this decision takes."""
        return self.count


@dataclass(frozen=True, slots=True)
class Pointer:
    """Exactly one of the `count` earlier anchors; it takes no token if there are fewer than two."""

    kind: str
    count: int

    @property
    def width(self) -> int:
        """The number of tokens that this decision takes."""
        return int(self.count > 1)


Decision = Choice | Subset | Pointer
Decisions = tuple[Decision, ...]


def num_options(decision: Decision) -> int:
    """Return the number of values that each token of this decision may take, those not always allowed included."""
    if isinstance(decision, Choice):
        return len(decision.options)
    return 2 if isinstance(decision, Subset) else decision.count


def offsets(decisions: Decisions) -> tuple[int, ...]:
    """Return the position of each decision's first token, and as the last element the number of all tokens."""
    known = _OFFSETS.get(id(decisions))
    if known is None or known[0] is not decisions:
        if len(_OFFSETS) == _MAX_OFFSETS:
            _OFFSETS.clear()
        known = decisions, tuple(itertools.accumulate((d.width for d in decisions), initial=0))
        _OFFSETS[id(decisions)] = known
    return known[1]


_OFFSETS: dict[int, tuple[Decisions, tuple[int, ...]]] = {}
"""Sequences and their offsets. By identity: to hash a sequence takes longer than to decode a sample of it."""

_MAX_OFFSETS = 256


def place_of(decision: Decision) -> int:
    """Return where in the network the decision is made, such as its layer; 0 for the network as a whole."""
    # Only a choice knows its place; that of a subset or a pointer follows from the number of earlier layers.
    return decision.place if isinstance(decision, Choice) else decision.count + 1


def applies(decision: Decision, decisions: Decisions, tokens: Sequence[int]) -> bool:
    """Return whether the decision applies, given the tokens before it."""
    when = decision.when if isinstance(decision, Choice) else None
    return when is None or tokens[offsets(decisions)[when.decision]] in when.tokens


def options_at(decision: Decision, start: int, decisions: Decisions, tokens: Sequence[int]) -> Sequence[int]:
    """Return the values that each token of the decision may take, in ascending order.

    Args:
        decision: one of the decisions.
        start: the position of its first token.
        decisions: the sequence.
        tokens: at least the tokens before it.
    """
    if not applies(decision, decisions, tokens):
        return range(1)
    if isinstance(decision, Choice) and decision.allowed is not None:
        return decision.allowed(tuple(tokens[:start]))
    return range(num_options(decision))


def check_tokens(decisions: Decisions, tokens: Sequence[int]) -> None:
    """Raise `InvalidTokens` unless `tokens` is a sample of `decisions`."""
    starts = offsets(decisions)
    if len(tokens) != starts[-1]:
        raise InvalidTokens(f"expected {starts[-1]} tokens, got {len(tokens)}")
    for decision, start in zip(decisions, starts, strict=False):
        options = options_at(decision, start, decisions, tokens)
        for position in range(start, start + decision.width):
            if tokens[position] in options:
                continue
            expected = (
                f"at least 0 and below {len(options)}"
                if isinstance(options, range)
                else f"one of {', '.join(map(str, options))} after {_listed(tokens[:start])}"
            )
            raise InvalidTokens(f"token {position} ({decision.kind}) must be {expected}, got {tokens[position]}")


def _listed(tokens: Sequence[int]) -> str:
    return f"({', '.join(map(str, tokens))})"


def uniform(decisions: Decisions, rng: random.Random) -> Tokens:
    """Draw a sample uniformly at each decision, as random search does."""
    tokens: list[int] = []
    for decision, start in zip(decisions, offsets(decisions), strict=False):
        if applies(decision, decisions, tokens):
            options = options_at(decision, start, decisions, tokens)
            tokens += [_draw(options, rng) for _ in range(decision.width)]
        else:
            tokens += [0] * decision.width
    return tuple(tokens)


def _draw(options: Sequence[int], rng: random.Random) -> int:
    return options[rng.randrange(len(options))]


def mutate(decisions: Decisions, tokens: Sequence[int], rng: random.Random) -> Tokens:
    """Return the sample with another value at one token (AmoebaNet's mutation; spec §4.2).

    The token is drawn uniformly among those that can have another value, and its new value uniformly among its other
    values. A choice that applies only after the change, or whose option is no longer allowed, is drawn uniformly; one
    that no longer applies becomes 0. If no token can have another value, the sample is returned unchanged.
    """
    alternatives = _alternatives(decisions, tokens)
    if not alternatives:
        return tuple(tokens)
    position, values = rng.choice(alternatives)
    return _replace_token(decisions, tokens, position, rng.choice(values), lambda options: _draw(options, rng))


def repaired(decisions: Decisions, tokens: Sequence[int]) -> Tokens:
    """Return the tokens as a sample: one that is not allowed becomes the last option that is.

    The token of a choice that does not apply becomes 0.

    Args:
        decisions: of the sample.
        tokens: as many as the decisions take.
    """
    new: list[int] = []
    for decision, start in zip(decisions, offsets(decisions), strict=False):
        options = options_at(decision, start, decisions, new)
        new += [token if token in options else options[-1] for token in tokens[start : start + decision.width]]
    return tuple(new)


def neighbours(decisions: Decisions, tokens: Sequence[int]) -> list[Tokens]:
    """Return all samples that differ in one token.

    A choice that applies only after the change, or whose option is no longer allowed, has its first allowed option.
    """
    return [
        _replace_token(decisions, tokens, position, value, lambda options: options[0])
        for position, values in _alternatives(decisions, tokens)
        for value in values
    ]


def _alternatives(decisions: Decisions, tokens: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Return the position of each token that can have another value, with its other values."""
    alternatives: list[tuple[int, list[int]]] = []
    for decision, start in zip(decisions, offsets(decisions), strict=False):
        options = options_at(decision, start, decisions, tokens)
        if len(options) > 1:
            for position in range(start, start + decision.width):
                alternatives.append((position, [value for value in options if value != tokens[position]]))
    return alternatives


def _replace_token(
    decisions: Decisions, tokens: Sequence[int], position: int, value: int, draw: Callable[[Sequence[int]], int]
) -> Tokens:
    """Return the tokens with `value` at `position`, and update the choices that depend on it.

    A choice that no longer applies becomes 0; one that applies only now, or whose option is no longer allowed, is
    `draw(its allowed options)`.
    """
    new: list[int] = []
    for decision, start in zip(decisions, offsets(decisions), strict=False):
        part = list(tokens[start : start + decision.width])
        options = options_at(decision, start, decisions, new)
        if start <= position < start + decision.width:
            part[position - start] = value
        elif not applies(decision, decisions, new):
            part = [0] * decision.width
        elif not applies(decision, decisions, tokens) or not all(token in options for token in part):
            part = [draw(options) for _ in part]
        new += part
    return tuple(new)


def enumerate_samples(decisions: Decisions) -> Iterator[Tokens]:
    """Yield all samples in lexicographic order; for small spaces."""
    starts = offsets(decisions)

    def extend(index: int, tokens: Tokens) -> Iterator[Tokens]:
        if index == len(decisions):
            yield tokens
            return
        decision = decisions[index]
        options = options_at(decision, starts[index], decisions, tokens)
        for values in itertools.product(options, repeat=decision.width):
            yield from extend(index + 1, tokens + values)

    return extend(0, ())


def num_samples(decisions: Decisions) -> int:
    """Return the exact number of samples, without enumerating them unless a choice does not always allow all."""
    if any(isinstance(d, Choice) and d.allowed is not None for d in decisions):
        return sum(1 for _ in enumerate_samples(decisions))
    conditions = {d.when.decision for d in decisions if isinstance(d, Choice) and d.when}
    last_use = {
        i: max(j for j, d in enumerate(decisions) if isinstance(d, Choice) and d.when and d.when.decision == i)
        for i in conditions
    }
    # Prefixes are counted together if they agree in all (index, token) pairs that later conditions read.
    counts: dict[tuple[tuple[int, int], ...], int] = {(): 1}
    for index, decision in enumerate(decisions):
        extended: dict[tuple[tuple[int, int], ...], int] = {}
        for pairs, count in counts.items():
            when = decision.when if isinstance(decision, Choice) else None
            applicable = when is None or dict(pairs)[when.decision] in when.tokens
            ways = num_options(decision) ** decision.width if applicable else 1
            kept = tuple(pair for pair in pairs if last_use[pair[0]] > index)
            for token in range(ways) if index in conditions else (None,):
                key = kept if token is None else (*kept, (index, token))
                extended[key] = extended.get(key, 0) + count * (ways if token is None else 1)
        counts = extended
    return sum(counts.values())
