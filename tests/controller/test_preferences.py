"""How often each option was sampled, compared with counts by hand."""

import random
from collections.abc import Mapping, Sequence

from child_trainer.architectures.architecture import Architecture
from controller.decisions import Choice, Condition, Decisions, InvalidTokens, Pointer, Subset, uniform
from controller.preferences import num_windows, preferences
from controller.spaces.convolutional import ConvolutionalSpace


class Listed:
    """A space with a given sequence of decisions, which decodes nothing."""

    def __init__(self, *decisions: Choice | Subset | Pointer) -> None:
        self._decisions = decisions

    def decisions(self, completed: int) -> Decisions:
        return self._decisions

    def choice_sizes(self) -> Mapping[str, int]:
        return {d.name: len(d.options) for d in self._decisions if isinstance(d, Choice)}

    def decisions_of(self, num_tokens: int) -> Decisions:
        if num_tokens != sum(d.width for d in self._decisions):
            raise InvalidTokens("another length")
        return self._decisions

    def decode(self, tokens: Sequence[int]) -> Architecture:
        raise NotImplementedError


def test_shares_are_of_the_samples_to_which_the_choice_applies() -> None:
    space = Listed(
        Choice("type", ("conv", "pool"), 1), Choice("size", (2, 3), 1, Condition(0, (1,))), Subset("skip", 2)
    )
    samples = [
        (0, (0, 0, 1, 0)),
        (0, (1, 1, 1, 1)),
        (0, (1, 0, 1, 0)),
        (0, (1, 1, 0, 0)),
        (1, (0, 0, 0, 1)),
    ]
    kind, size, skip = preferences(samples, space, 2)
    assert (kind.kind, kind.layer, kind.options, kind.exclusive) == ("type", 1, ("conv", "pool"), True)
    assert kind.shares == ((0.25, 0.75), (1.0, 0.0))
    assert size.shares == ((1 / 3, 2 / 3), None)  # in the second window no layer is a pool
    assert (skip.options, skip.layer, skip.exclusive) == (("1", "2"), 3, False)
    assert skip.shares == ((0.75, 0.25), (0.0, 1.0))


def test_equal_pointers_are_counted_apart_and_those_without_a_choice_left_out() -> None:
    space = Listed(Pointer("input", 1), Pointer("input", 3), Pointer("input", 3))
    first, second = preferences([(0, (2, 0)), (0, (2, 1))], space, 1)
    assert first.shares == ((0.0, 0.0, 1.0),)
    assert second.shares == ((0.5, 0.5, 0.0),)


def test_samples_of_another_space_are_left_out() -> None:
    assert preferences([(0, ()), (0, (1, 2, 3))], Listed(Choice("a", (1, 2))), 1) == ()


def test_a_later_layer_has_no_shares_in_earlier_windows() -> None:
    space = ConvolutionalSpace(initial_depth=2, depth_step=1, depth_interval=10, max_depth=3)
    choose = random.Random(0)
    samples = [(w, uniform(space.decisions(10 * w), choose)) for w in (0, 1) for _ in range(50)]
    found = {(p.kind, p.layer): p for p in preferences(samples, space, 2)}
    assert {layer for _, layer in found} == {1, 2, 3}
    for (_, layer), preference in found.items():
        assert (preference.shares[0] is None) == (layer == 3)
        assert preference.shares[1] is not None
        if preference.exclusive:
            assert abs(sum(preference.shares[1]) - 1) < 1e-9
    height = [tokens[0] for window, tokens in samples if window == 1]
    assert found["filter_height", 1].shares[1] == tuple(height.count(option) / 50 for option in range(4))


def test_there_are_at_most_24_windows_of_at_least_8_children() -> None:
    assert [num_windows(n) for n in (0, 7, 16, 100, 100_000)] == [1, 1, 2, 12, 24]
