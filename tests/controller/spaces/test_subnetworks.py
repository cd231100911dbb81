import random

import pytest

from controller.decisions import Subset, offsets, uniform
from controller.space import SearchSpace
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.subnetworks import SubnetworkSpace
from tests.contracts.search_space import SearchSpaceContract


class TestSubnetworkSpace(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return SubnetworkSpace(layers=3)


class TestThreeSubnetworks(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return SubnetworkSpace(
            subnetworks=3, selection_steps=2, layers=2, strides=(1, 2), activations=("tanh",), skip_connections=False
        )


SPACE = SubnetworkSpace(layers=2)


def test_the_decisions_are_those_of_one_subnetwork_after_another_and_then_the_selections() -> None:
    layer = ["filter_height", "filter_width", "num_filters", "activation", "skip"]
    decisions = SPACE.decisions(0)
    assert [d.kind for d in decisions] == layer * 4 + ["selection_1", "selection_2", "selection_3"]
    assert [d.count for d in decisions if isinstance(d, Subset)] == [0, 1, 0, 1]
    assert len(SPACE.choice_sizes()) == 4 * 4 + 3  # each choice has a name of its own


def test_each_subnetwork_is_the_network_of_its_own_tokens() -> None:
    one = ConvolutionalSpace(initial_depth=2, activations=SPACE.activations)
    tokens = uniform(SPACE.decisions(0), random.Random(3))
    length = offsets(one.decisions(0))[-1]
    network = SPACE.decode((*tokens[: 2 * length], 1, 0, 1))
    assert len(network.outputs) == 2
    second, first = (type(network)(network.kind, network.nodes, (output,)).pruned().id for output in network.outputs)
    assert (first, second) == (one.decode(tokens[:length]).id, one.decode(tokens[length : 2 * length]).id)
    # Where one network is wanted, it is the selected one.
    assert network.without_auxiliary().id == second


@pytest.mark.parametrize(
    ("steps", "selected"), [((0, 0, 1), 0), ((1, 0, 1), 1), ((2, 2, 0), 2), ((2, 1, 0), 0), ((2, 1, 1), 1)]
)
def test_most_of_the_steps_select_and_of_equals_the_first(steps: tuple[int, ...], selected: int) -> None:
    space = SubnetworkSpace(subnetworks=3, layers=1, skip_connections=False, activations=("relu",))
    network = space.decode((*[0, 0, 0] * 3, *steps))
    assert space.selected((*[0, 0, 0] * 3, *steps)) == selected
    assert network.outputs[0] == f"sub{selected + 1}.layer1"
    assert sorted(network.outputs) == ["sub1.layer1", "sub2.layer1", "sub3.layer1"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"subnetworks": 1}, "`subnetworks` must be at least 2, got 1"),
        ({"subnetworks": 9}, "`subnetworks` must be at most 8, got 9"),
        ({"selection_steps": 0}, "`selection_steps` must be at least 1, got 0"),
        ({"layers": 0}, "`layers` must be at least 1, got 0"),
        ({"activations": ("maxout",)}, "`activations` must be different ones of relu, leaky_relu, tanh, sigmoid"),
        ({"num_filters": ()}, "`num_filters` must be one or more different numbers"),
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SubnetworkSpace(**wrong)  # pyright: ignore[reportArgumentType]
