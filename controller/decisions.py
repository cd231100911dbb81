"""The decisions a controller makes, and sequences of them. Standard library only.

A search space is a sequence of decisions; a sample is a flat tuple of integers, its tokens. A `Choice` or a
`Pointer` takes one token, a `Subset` of n earlier layers takes n tokens, each 0 or 1. The sequence has a fixed
layout: a choice that does not apply (a pool's size when the layer is a convolution) has the token 0, costs no
probability and is skipped by the policy.
"""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

Tokens = tuple[int, ...]


class InvalidTokens(ValueError):
    """The tokens are not a sample of these decisions; the message names the position and the rule."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Holds when the decision at index `decision` of the sequence took one of `tokens`."""

    decision: int
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several options.

    Attributes:
        kind: what is chosen, such as `filter_height`.
        options: the values to choose from.
        place: where in the network, such as the layer; kind and place together name the choice.
        when: the condition under which the choice is made at all.
    """

    kind: str
    options: tuple[int | float | str, ...]
    place: int = 0
    when: Condition | None = None

    @property
    def name(self) -> str:
        """Names the softmax and the embedding that belong to this choice."""
        return f"{self.kind}_{self.place}"

    @property
    def width(self) -> int:
        """Tokens that this decision takes."""
        return 1


@dataclass(frozen=True, slots=True)
class Subset:
    """Any subset of the `count` earlier anchors: the paper's anchor point (section 3.3 of arXiv 1611.01578).

    Every `Subset` and `Pointer` also is an anchor point that later ones may select.
    """

    kind: str
    count: int

    @property
    def width(self) -> int:
        """Tokens that this decision takes."""
        return self.count


@dataclass(frozen=True, slots=True)
class Pointer:
    """Exactly one of the `count` earlier anchors; no token when there is none or just one to choose from."""

    kind: str
    count: int

    @property
    def width(self) -> int:
        """Tokens that this decision takes."""
        return int(self.count > 1)


Decision = Choice | Subset | Pointer
Decisions = tuple[Decision, ...]


def num_options(decision: Decision) -> int:
    """How many values each token of this decision may take."""
    if isinstance(decision, Choice):
        return len(decision.options)
    return 2 if isinstance(decision, Subset) else decision.count


@lru_cache(maxsize=256)
def offsets(decisions: Decisions) -> tuple[int, ...]:
    """Where each decision's tokens start, and at the end the length of the whole."""
    return tuple(itertools.accumulate((d.width for d in decisions), initial=0))


def applies(decision: Decision, decisions: Decisions, tokens: Sequence[int]) -> bool:
    """Whether a decision is made at all, given the tokens before it."""
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
    """Tokens drawn uniformly at each decision: random search's sample."""
    tokens: list[int] = []
    for decision in decisions:
        made = applies(decision, decisions, tokens)
        tokens += [rng.randrange(num_options(decision)) if made else 0 for _ in range(decision.width)]
    return tuple(tokens)


def mutate(decisions: Decisions, tokens: Sequence[int], rng: random.Random) -> Tokens:
    """The same sample but for one token, drawn uniformly, which takes another value (AmoebaNet's mutation; spec §4.2).

    A choice that applies only now is drawn anew, one that applies no longer is 0 as ever. Where nothing can be chosen
    otherwise the sample stays.
    """
    changes = _changes(decisions, tokens)
    if not changes:
        return tuple(tokens)
    position, values = rng.choice(changes)
    return _settled(decisions, tokens, position, rng.choice(values), rng.randrange)


def neighbours(decisions: Decisions, tokens: Sequence[int]) -> list[Tokens]:
    """Every sample that differs in the value of one token; a choice that applies only then has its first option."""
    return [
        _settled(decisions, tokens, position, value, lambda _: 0)
        for position, values in _changes(decisions, tokens)
        for value in values
    ]


def _changes(decisions: Decisions, tokens: Sequence[int]) -> list[tuple[int, list[int]]]:
    """The tokens that may be others, with the values that they may have instead."""
    found = []
    for decision, start in zip(decisions, offsets(decisions), strict=False):
        if num_options(decision) > 1 and applies(decision, decisions, tokens):
            for position in range(start, start + decision.width):
                found.append((position, [v for v in range(num_options(decision)) if v != tokens[position]]))
    return found


def _settled(
    decisions: Decisions, tokens: Sequence[int], position: int, value: int, draw: Callable[[int], int]
) -> Tokens:
    """The tokens with another value at a position, and what follows from that for the choices that depend on it."""
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


def every(decisions: Decisions) -> Iterator[Tokens]:
    """All samples, for small spaces."""
    starts = offsets(decisions)

    def extend(index: int, tokens: Tokens) -> Iterator[Tokens]:
        if index == len(decisions):
            yield tokens
            return
        decision = decisions[index]
        assert len(tokens) == starts[index]
        limit = num_options(decision) if applies(decision, decisions, tokens) else 1
        for chosen in itertools.product(range(limit), repeat=decision.width):
            yield from extend(index + 1, tokens + chosen)

    return extend(0, ())


def size(decisions: Decisions) -> int:
    """How many samples there are, exactly, without listing them."""
    asked = {d.when.decision for d in decisions if isinstance(d, Choice) and d.when}
    last_use = {
        i: max(j for j, d in enumerate(decisions) if isinstance(d, Choice) and d.when and d.when.decision == i)
        for i in asked
    }
    # Prefixes with equal answers to the questions still to come are counted together.
    counts: dict[tuple[tuple[int, int], ...], int] = {(): 1}
    for index, decision in enumerate(decisions):
        extended: dict[tuple[tuple[int, int], ...], int] = {}
        for answers, count in counts.items():
            when = decision.when if isinstance(decision, Choice) else None
            made = when is None or dict(answers)[when.decision] in when.tokens
            ways = num_options(decision) ** decision.width if made else 1
            kept = tuple(pair for pair in answers if last_use[pair[0]] > index)
            for token in range(ways) if index in asked else (None,):
                key = kept if token is None else (*kept, (index, token))
                extended[key] = extended.get(key, 0) + count * (ways if token is None else 1)
        counts = extended
    return sum(counts.values())
