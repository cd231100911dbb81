import random
from collections.abc import Sequence

import pytest

from child_trainer.architectures.architecture import node
from controller.decisions import Subset, num_samples, offsets, uniform
from controller.space import SearchSpace
from controller.spaces.convolutional import ConvolutionalSpace
from controller.zoo import zoph2017
from tests.contracts.search_space import SearchSpaceContract


class TestPaperSpace(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return ConvolutionalSpace(max_depth=20)


class TestExtendedSpace(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return ConvolutionalSpace(
            strides=(1, 2, 3),
            layer_types=("conv", "pool", "local_contrast_norm", "batch_norm"),
            pool_strides=(1, 2),
            child_learning_rates=(0.2, 0.1, 0.05),
            activations=("relu", "tanh"),
            max_depth=10,
        )


class TestChainSpace(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return ConvolutionalSpace(skip_connections=False, max_depth=10)


def kinds(space: ConvolutionalSpace, completed: int = 0) -> list[str]:
    return [d.kind for d in space.decisions(completed)]


def test_token_order_is_figure_2s() -> None:
    layer = ["filter_height", "filter_width", "stride_height", "stride_width", "num_filters", "skip"]
    assert kinds(ConvolutionalSpace(strides=(1, 2, 3), initial_depth=2)) == layer * 2


def test_the_stride_variants_differ_by_two_tokens_a_layer() -> None:
    fixed, chosen = ConvolutionalSpace(), ConvolutionalSpace(strides=(1, 2, 3))
    assert len(kinds(chosen)) - len(kinds(fixed)) == 2 * 6


def test_each_layer_may_select_any_earlier_layer_but_not_the_image() -> None:
    anchors = [d.count for d in ConvolutionalSpace().decisions(0) if isinstance(d, Subset)]
    assert anchors == [0, 1, 2, 3, 4, 5]


def test_the_number_of_samples_is_the_closed_form() -> None:
    """Spec §1.1: 64^L * 2^(L(L-1)/2); L = 15 gives 2^195."""
    assert num_samples(ConvolutionalSpace(initial_depth=15).decisions(0)) == 2**195


@pytest.mark.parametrize(
    ("completed", "depth"), [(0, 6), (1599, 6), (1600, 8), (3199, 8), (3200, 10), (12_799, 20), (10**6, 22)]
)
def test_depth_grows_by_two_every_1600_completed_children(completed: int, depth: int) -> None:
    space = ConvolutionalSpace(max_depth=22)
    assert space.depth(completed) == depth
    assert sum(d.kind == "skip" for d in space.decisions(completed)) == depth


def test_decode_applies_the_fix_up_rules() -> None:
    """Layer 1 and 3 select nothing (R1: the image); 2 reads 1; 4 reads 1 and 3; 2 and 4 are read by no layer (R2)."""
    space = ConvolutionalSpace(initial_depth=4)
    tokens = [0, 1, 0] + [1, 1, 1, 1] + [2, 2, 2, 0, 0] + [3, 3, 3, 1, 0, 1]
    architecture = space.decode(tokens)
    sizes = [(1, 3, 24), (3, 3, 36), (5, 5, 48), (7, 7, 64)]
    inputs = ["image", "layer1", "image", "inputs4"]
    layers = [
        node(f"layer{i}", "conv", source, height=h, width=w, stride_height=1, stride_width=1, filters=f)
        for i, ((h, w, f), source) in enumerate(zip(sizes, inputs, strict=True), start=1)
    ]
    joined = node("inputs4", "concat", ["layer1", "layer3"], pad=True)
    features = node("features", "concat", ["layer2", "layer4"], pad=True)
    assert architecture.nodes == (*layers[:3], joined, layers[3], features)
    assert architecture.outputs == ("features",)


def test_without_skip_connections_layers_form_a_chain() -> None:
    architecture = ConvolutionalSpace(skip_connections=False, initial_depth=3).decode([0] * 9)
    assert [n.inputs for n in architecture.nodes] == [("image",), ("layer1",), ("layer2",)]
    assert architecture.outputs == ("layer3",)


def test_layer_types_bring_their_own_tokens() -> None:
    types = ("conv", "pool", "local_contrast_norm", "batch_norm")
    space = ConvolutionalSpace(layer_types=types, initial_depth=4, skip_connections=False)
    assert kinds(space)[:5] == ["layer_type", "filter_height", "filter_width", "num_filters", "pool_size"]
    architecture = space.decode([0, 1, 2, 3, 0] + [1, 0, 0, 0, 1] + [2, 0, 0, 0, 0] + [3, 0, 0, 0, 0])
    assert [n.op for n in architecture.nodes] == ["conv", "max_pool", "local_contrast_norm", "batch_norm"]
    assert dict(architecture.nodes[1].attributes) == {"height": 3, "width": 3, "stride_height": 2, "stride_width": 2}


def test_another_activation_is_a_node_of_its_own_and_relu_stays_what_it_was() -> None:
    chosen = ConvolutionalSpace(activations=("sigmoid", "relu"), initial_depth=2, skip_connections=False)
    assert kinds(chosen) == ["filter_height", "filter_width", "num_filters", "activation"] * 2
    architecture = chosen.decode([1, 1, 0, 0] + [1, 1, 0, 1])
    assert [(n.name, n.op, n.inputs) for n in architecture.nodes] == [
        ("conv1", "conv", ("image",)),
        ("layer1", "sigmoid", ("conv1",)),
        ("layer2", "conv", ("layer1",)),
    ]
    assert architecture.nodes[0].attribute("order") == "conv-bn"
    paper = ConvolutionalSpace(initial_depth=2, skip_connections=False)
    assert chosen.decode([1, 1, 0, 1] * 2) == paper.decode([1, 1, 0] * 2)
    with pytest.raises(ValueError, match="`activations` must be different ones of relu, leaky_relu, tanh, sigmoid"):
        ConvolutionalSpace(activations=("relu", "maxout"))


def test_the_learning_rate_is_one_token_a_network_and_part_of_its_identity() -> None:
    space = ConvolutionalSpace(child_learning_rates=(0.2, 0.1), initial_depth=1)
    assert kinds(space).count("learning_rate") == 1
    fast, slow = space.decode([0, 1, 1, 1]), space.decode([1, 1, 1, 1])
    assert (fast.hyperparameters, slow.hyperparameters) == ((("learning_rate", 0.2),), (("learning_rate", 0.1),))
    assert fast.id != slow.id


def test_every_layer_has_choices_of_its_own() -> None:
    space = ConvolutionalSpace(child_learning_rates=(0.1, 0.2), strides=(1, 2, 3), initial_depth=1, max_depth=2)
    layer = {"filter_height": 4, "filter_width": 4, "stride_height": 3, "stride_width": 3, "num_filters": 4}
    expected = {f"{kind}_{place}": n for place in (1, 2) for kind, n in layer.items()}
    assert space.choice_sizes() == expected | {"learning_rate_0": 2}


def test_decode_works_at_the_largest_depth() -> None:
    space = ConvolutionalSpace(max_depth=40)
    decisions = space.decisions(10**6)
    assert offsets(decisions)[-1] == 40 * 3 + 40 * 39 // 2
    assert sum(n.op == "conv" for n in space.decode(uniform(decisions, random.Random(0))).nodes) == 40


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"filter_heights": ()}, "`filter_heights` must be one or more different numbers"),
        ({"strides": (1, 1)}, "`strides` must be one or more different numbers"),
        ({"num_filters": (0,)}, r"`num_filters` .* got \(0,\)"),
        ({"layer_types": ("convolution",)}, "`layer_types` must be different ones of conv, pool"),
        ({"layer_types": ("conv", "conv")}, "`layer_types` must be different ones of"),
        ({"child_learning_rates": (0.0,)}, "`child_learning_rates` must be positive numbers"),
        ({"child_learning_rates": (float("nan"),)}, "`child_learning_rates` must be positive numbers"),
        ({"layer_types": ("batch_norm",), "skip_connections": False}, "leave nothing to decide"),
        ({"initial_depth": 0}, "`initial_depth` must be at least 1, got 0"),
        ({"depth_interval": 0}, "`depth_interval` must be at least 1, got 0"),
        ({"max_depth": 5}, "`max_depth` must be at least the initial depth 6, got 5"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvolutionalSpace(**wrong)  # type: ignore[arg-type]


def skips(space: ConvolutionalSpace, tokens: Sequence[int]) -> list[tuple[int, ...]]:
    decisions = space.decisions_of(len(tokens))
    return [
        tuple(tokens[start : start + decision.count])
        for decision, start in zip(decisions, offsets(decisions), strict=False)
        if isinstance(decision, Subset)
    ]


def test_the_published_network_has_65_skip_connections_the_dense_one_105_the_chain_14() -> None:
    """Spec T1.2."""
    found = zoph2017.tokens()
    dense, chain = zoph2017.SPACE.with_skips(found, "dense"), zoph2017.SPACE.with_skips(found, "chain")
    assert [sum(map(sum, skips(zoph2017.SPACE, one))) for one in (found, dense, chain)] == [65, 105, 14]


@pytest.mark.parametrize("seed", range(5))
def test_other_skip_connections_leave_every_other_decision(seed: int) -> None:
    space = ConvolutionalSpace(
        layer_types=("conv", "pool"), child_learning_rates=(0.1, 0.05), initial_depth=4, max_depth=4
    )
    sample = uniform(space.decisions(0), random.Random(seed))
    for what, expected in (
        ("dense", [(), (1,), (1, 1), (1, 1, 1)]),
        ("chain", [(), (1,), (0, 1), (0, 0, 1)]),
    ):
        changed = space.with_skips(sample, what)
        assert skips(space, changed) == expected
        assert len(changed) == len(sample)
        bits = {
            start + bit
            for decision, start in zip(space.decisions(0), offsets(space.decisions(0)), strict=False)
            if isinstance(decision, Subset)
            for bit in range(decision.count)
        }
        assert all(changed[i] == sample[i] for i in range(len(sample)) if i not in bits)
        space.decode(changed)


def test_a_space_without_skip_connections_has_none_to_change() -> None:
    space = ConvolutionalSpace(skip_connections=False, initial_depth=2)
    with pytest.raises(ValueError, match="`skip_connections` must be true"):
        space.with_skips(uniform(space.decisions(0), random.Random(1)), "chain")
