import random
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.decisions import (
    Choice,
    Condition,
    Decisions,
    InvalidTokens,
    Pointer,
    Subset,
    Tokens,
    check_tokens,
    enumerate_samples,
    mutate,
    neighbours,
    num_samples,
    offsets,
    uniform,
)

PAIR: Decisions = (Choice("a", (1, 2, 3)), Subset("s", 0), Choice("b", (1, 2)), Subset("s", 1), Pointer("p", 2))
CONDITIONAL: Decisions = (
    Choice("type", ("conv", "pool")),
    Choice("filters", (8, 16, 32), 0, Condition(0, (0,))),
    Choice("pool", (2, 3), 0, Condition(0, (1,))),
    Choice("rate", (0.1, 0.2)),
)


@dataclass(frozen=True)
class AllButOne:
    """A rule that forbids one of the options, depending on the tokens before."""

    count: int

    def __call__(self, tokens: Tokens) -> tuple[int, ...]:
        return tuple(i for i in range(self.count) if self.count == 1 or i != sum(tokens) % self.count)


NO_REPEAT: Decisions = (
    Choice("first", (1, 2, 3)),
    Choice("second", (1, 2, 3), when=Condition(0, (1, 2)), allowed=AllButOne(3)),
    Choice("third", (1, 2), allowed=AllButOne(2)),
)
"""A choice that forbids the option of the one before, and one that has no alternative."""


@st.composite
def sequences(draw: st.DrawFn) -> Decisions:
    """Generate sequences of all kinds, with conditions on any earlier choice, conditional ones included, and rules."""
    decisions: list[Choice | Subset | Pointer] = []
    anchors = 0
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(("choice", "subset", "pointer")))
        if kind == "choice":
            earlier = [i for i, d in enumerate(decisions) if isinstance(d, Choice)]
            when = None
            if earlier and draw(st.booleans()):
                index = draw(st.sampled_from(earlier))
                when = Condition(index, (draw(st.integers(0, len(decisions[index].options) - 1)),))  # type: ignore[union-attr]
            options = tuple(range(draw(st.integers(1, 3))))
            allowed = AllButOne(len(options)) if draw(st.booleans()) else None
            decisions.append(Choice("c", options, 0, when, allowed))
        else:
            decisions.append((Subset if kind == "subset" else Pointer)("k", anchors))
            anchors += 1
    return tuple(decisions)


def test_offsets_count_a_token_for_each_choice_and_each_bit() -> None:
    assert offsets(PAIR) == (0, 1, 1, 2, 3, 4)


@given(sequences())
def test_num_samples_counts_the_samples_and_each_is_valid(decisions: Decisions) -> None:
    samples = list(enumerate_samples(decisions))
    assert len(set(samples)) == len(samples) == num_samples(decisions)
    for tokens in samples:
        check_tokens(decisions, tokens)


@given(sequences(), st.integers(0, 2**32))
def test_uniform_samples_are_valid(decisions: Decisions, seed: int) -> None:
    check_tokens(decisions, uniform(decisions, random.Random(seed)))


@given(sequences(), st.integers(0, 2**32))
def test_mutations_and_neighbours_of_samples_are_other_samples(decisions: Decisions, seed: int) -> None:
    rng = random.Random(seed)
    tokens = uniform(decisions, rng)
    near = neighbours(decisions, tokens)
    for new in (mutate(decisions, tokens, rng), *near):
        check_tokens(decisions, new)
    assert tokens not in near
    assert len(set(near)) == len(near)
    assert (mutate(decisions, tokens, rng) != tokens) == bool(near)


def test_options_that_are_not_allowed_are_not_taken() -> None:
    samples = {(0, 0, 1), (1, 0, 0), (1, 2, 0), (2, 0, 1), (2, 1, 0)}
    assert set(enumerate_samples(NO_REPEAT)) == samples
    assert {uniform(NO_REPEAT, random.Random(seed)) for seed in range(100)} == samples
    assert set(neighbours(NO_REPEAT, (1, 2, 0))) == {(0, 0, 1), (2, 0, 1), (1, 0, 0)}
    with pytest.raises(InvalidTokens, match=r"token 1 \(second\) must be one of 0, 2 after \(1\), got 1"):
        check_tokens(NO_REPEAT, (1, 1, 0))
    with pytest.raises(InvalidTokens, match=r"token 1 \(second\) must be at least 0 and below 1, got 1"):
        check_tokens(NO_REPEAT, (0, 1, 0))


def test_choices_that_do_not_apply_have_one_value() -> None:
    assert num_samples(CONDITIONAL) == 3 * 2 + 2 * 2
    with pytest.raises(InvalidTokens, match=r"token 2 \(pool\) must be at least 0 and below 1, got 1"):
        check_tokens(CONDITIONAL, (0, 2, 1, 0))


def test_uniform_is_uniform_at_each_decision() -> None:
    rng = random.Random(0)
    counts = Counter(uniform(PAIR, rng)[0] for _ in range(3000))
    assert all(abs(counts[token] - 1000) < 100 for token in range(3))


@pytest.mark.parametrize("tokens", [(0, 0, 0), (3, 0, 0, 0), (0, 0, 2, 0), (0, -1, 0, 0)])
def test_tokens_that_are_not_a_sample_are_rejected(tokens: tuple[int, ...]) -> None:
    with pytest.raises(InvalidTokens):
        check_tokens(PAIR, tokens)


MIXED: Decisions = (
    Choice("type", ("conv", "pool")),
    Choice("height", (1, 3, 5), when=Condition(0, (0,))),
    Choice("size", (2, 3), when=Condition(0, (1,))),
    Subset("skip", 2),
    Choice("only", (7,)),
)


@pytest.mark.parametrize("tokens", [(0, 2, 0, 1, 0, 0), (1, 0, 1, 0, 0, 0)])
def test_a_mutation_changes_one_token_and_the_choices_that_depend_on_it(tokens: Tokens) -> None:
    rng = random.Random(0)
    found = {mutate(MIXED, tokens, rng) for _ in range(500)}
    assert tokens not in found
    for new in found:
        check_tokens(MIXED, new)
        changed = [i for i, (a, b) in enumerate(zip(tokens, new, strict=True)) if a != b]
        assert changed[0] == 0 or len(changed) == 1
    # A new type brings each value of its own choice.
    other = {new[1:3] for new in found if new[0] != tokens[0]}
    assert other == ({(0, 0), (0, 1)} if tokens[0] == 0 else {(0, 0), (1, 0), (2, 0)})


def test_each_token_is_as_likely_to_be_mutated() -> None:
    rng, start = random.Random(0), (0, 2, 0, 1, 0, 0)
    counts = [0] * 6
    for _ in range(4000):
        new = mutate(MIXED, start, rng)
        counts[next(i for i, (a, b) in enumerate(zip(start, new, strict=True)) if a != b)] += 1
    assert counts[2] == counts[5] == 0
    assert all(abs(counts[i] - 1000) < 120 for i in (0, 1, 3, 4))


def test_the_neighbours_are_every_sample_one_token_away() -> None:
    assert sorted(neighbours(MIXED, (0, 2, 0, 1, 0, 0))) == [
        (0, 0, 0, 1, 0, 0),
        (0, 1, 0, 1, 0, 0),
        (0, 2, 0, 0, 0, 0),
        (0, 2, 0, 1, 1, 0),
        (1, 0, 0, 1, 0, 0),
    ]


def test_a_sample_without_alternatives_is_not_changed_by_a_mutation() -> None:
    assert mutate((Choice("only", (7,)),), (0,), random.Random(0)) == (0,)
    assert neighbours((Choice("only", (7,)),), (0,)) == []


def test_offsets_are_those_of_each_sequence_also_of_one_in_the_place_of_another_that_is_gone() -> None:
    for number in range(600):
        decisions = (Choice("a", (1, 2)), Subset("skip", number % 7), Choice("b", (1, 2)))
        assert offsets(decisions) == offsets(decisions) == (0, 1, 1 + number % 7, 2 + number % 7)
