"""The decisions a controller makes, and sequences of them. Standard library only.

A search space is a sequence of decisions; a sample is a flat tuple of integers, its tokens. A `Choice` or a `Pointer`
takes one token, a `Subset` of n earlier layers takes n tokens, each 0 or 1. The sequence has a fixed layout: a choice
that does not apply (a pool's size when the layer is a convolution) has the token 0 and the probability 1, and the
policy skips it.
"""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

Tokens = tuple[int, ...]


class InvalidTokens(ValueError):
    """Tokens that are not a sample of the decisions; the message names the position and the rule."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Holds if the decision at index `decision` of the sequence took one of `tokens`."""

    decision: int
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several options.

    Attributes:
        kind: what is chosen, such as `filter_height`.
        options: the values to choose from.
        place: where in the network, such as the layer; kind and place together name the choice.
        when: the condition under which the choice applies; `None`: always.
    """

    kind: str
    options: tuple[int | float | str, ...]
    place: int = 0
    when: Condition | None = None

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

    Every `Subset` and every `Pointer` is itself an anchor that later ones may select.
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
    """Return the number of values that each token of this decision may take."""
    if isinstance(decision, Choice):
        return len(decision.options)
    return 2 if isinstance(decision, Subset) else decision.count


@lru_cache(maxsize=256)
def offsets(decisions: Decisions) -> tuple[int, ...]:
    """Return the position of each decision's first token, and as the last element the number of all tokens."""
    return tuple(itertools.accumulate((d.width for d in decisions), initial=0))


def applies(decision: Decision, decisions: Decisions, tokens: Sequence[int]) -> bool:
    """Return whether the decision applies, given the tokens before it."""
    when = decision.when if isinstance(decision, Choice) else None
    return when is None or tokens[offsets(decisions)[when.decision]] in when.tokens


def check_tokens(decisions: Decisions, tokens: Sequence[int]) -> None:
    """Raise `InvalidTokens` unless `tokens` is a sample of `decisions`."""
    starts = offsets(decisions)
    if len(tokens) != starts[-1]:
        raise InvalidTokens(f"expected {starts[-1]} tokens, got {len(tokens)}")
    for decision, start in zip(decisions, starts, strict=False):
        limit = num_options(decision) if applies(decision, decisions, tokens) else 1
        for position in range(start, start + decision.width):
            if not 0 <= tokens[position] < limit:
                raise InvalidTokens(
                    f"token {position} ({decision.kind}) must be at least 0 and below {limit}, got {tokens[position]}"
                )


def uniform(decisions: Decisions, rng: random.Random) -> Tokens:
    """Draw a sample uniformly at each decision, as random search does."""
    tokens: list[int] = []
    for decision in decisions:
        applicable = applies(decision, decisions, tokens)
        tokens += [rng.randrange(num_options(decision)) if applicable else 0 for _ in range(decision.width)]
    return tuple(tokens)


def mutate(decisions: Decisions, tokens: Sequence[int], rng: random.Random) -> Tokens:
    """Return the sample with another value at one token (AmoebaNet's mutation; spec §4.2).

    The token is drawn uniformly among those that can have another value, and its new value uniformly among its other
    values. A choice that applies only after the change is drawn uniformly; one that no longer applies becomes 0. If no
    token can have another value, the sample is returned unchanged.
    """
    alternatives = _alternatives(decisions, tokens)
    if not alternatives:
        return tuple(tokens)
    position, values = rng.choice(alternatives)
    return _replace_token(decisions, tokens, position, rng.choice(values), rng.randrange)


def repaired(decisions: Decisions, tokens: Sequence[int]) -> Tokens:
    """Return the tokens as a sample: a choice that does not apply becomes 0, and too large a token the largest.

    Args:
        decisions: of the sample.
        tokens: as many as the decisions take, each at least 0.
    """
    new: list[int] = []
    for decision, start in zip(decisions, offsets(decisions), strict=False):
        limit = num_options(decision) if applies(decision, decisions, new) else 1
        new += [min(token, limit - 1) for token in tokens[start : start + decision.width]]
    return tuple(new)


def neighbours(decisions: Decisions, tokens: Sequence[int]) -> list[Tokens]:
    """Return all samples that differ in one token.

    A choice that applies only after the change has its first option.
    """
    return [
        _replace_token(decisions, tokens, position, value, lambda _: 0)
        for position, values in _alternatives(decisions, tokens)
        for value in values
    ]


def _alternatives(decisions: Decisions, tokens: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Return the position of each token that can have another value, with its other values."""
    alternatives = []
    for decision, start in zip(decisions, offsets(decisions), strict=False):
        if num_options(decision) > 1 and applies(decision, decisions, tokens):
            for position in range(start, start + decision.width):
                alternatives.append((position, [v for v in range(num_options(decision)) if v != tokens[position]]))
    return alternatives


def _replace_token(
    decisions: Decisions, tokens: Sequence[int], position: int, value: int, draw: Callable[[int], int]
) -> Tokens:
    """Return the tokens with `value` at `position`, and update the choices that depend on it.

    A choice that no longer applies becomes 0; one that applies only now is `draw(its number of options)`.
    """
    new: list[int] = []
    for decision, start in zip(decisions, offsets(decisions), strict=False):
        part = list(tokens[start : start + decision.width])
        if start <= position < start + decision.width:
            part[position - start] = value
        elif not applies(decision, decisions, new):
            part = [0] * decision.width
        elif not applies(decision, decisions, tokens):
            part = [draw(num_options(decision)) for _ in part]
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
        assert len(tokens) == starts[index]
        limit = num_options(decision) if applies(decision, decisions, tokens) else 1
        for values in itertools.product(range(limit), repeat=decision.width):
            yield from extend(index + 1, tokens + values)

    return extend(0, ())


def num_samples(decisions: Decisions) -> int:
    """Return the exact number of samples, without enumerating them."""
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
