import weakref
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture, Node, node
from child_trainer.architectures.drawing import draw
from child_trainer.networks import cost
from child_trainer.networks.build import build, build_cell
from tests.golden import GOLDEN_LAYERS, architecture, chained, densely_connected


@dataclass(frozen=True)
class Problem:
    input_shape: tuple[int, int, int] = (3, 32, 32)
    num_classes: int = 10


def sizes(network):
    convolutions = sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv2d))
    return convolutions, cost.parameters(network.graph), cost.parameters(network)


@pytest.mark.parametrize(
    ("layers", "convolutions", "with_normalisation", "with_classifier"),
    [
        (GOLDEN_LAYERS, 4_199_868, 4_201_140, 4_201_630),  # spec §1.7, T1.1
        (densely_connected(), 6_629_148, 6_630_420, 6_630_910),  # T1.2: all 105 skips
        (chained(), 807_372, 808_644, 809_134),  # T1.2: none but the chain
    ],
)
def test_published_parameter_counts(layers, convolutions, with_normalisation, with_classifier):
    assert sizes(build(architecture(layers), Problem())) == (convolutions, with_normalisation, with_classifier)


def test_the_golden_table_is_the_published_one():
    assert sum(len(sources) for *_, sources in GOLDEN_LAYERS) == 65
    assert sum(len(sources) for *_, sources in densely_connected()) == 105


@pytest.mark.parametrize(
    ("reads", "sides", "channels"),
    [
        # What each layer reads (none: the image, R1); the sides after strides 1, 2, 1, 2; channels to the classifier.
        (((), (1,), (2,), (3,)), (16, 8, 8, 4), 8),
        (((), (1,), (1, 2), (2, 3)), (16, 8, 16, 8), 8),  # R3: 8 padded to 16, twice
        (((), (), (), ()), (16, 8, 16, 8), 5 + 6 + 7 + 8),  # R1 for all, R2 joins all four
        (((), (1,), (), (2,)), (16, 8, 16, 4), 7 + 8),  # R2 joins layer 3 (16) and layer 4 (4)
    ],
)
def test_the_fix_up_rules(reads, sides, channels):  # spec §1.7, T1.3
    layers = tuple((3, 3, filters, sources) for filters, sources in zip((5, 6, 7, 8), reads, strict=True))
    network = build(architecture(layers, strides=(1, 2, 1, 2)), Problem((3, 16, 16)))
    seen = {}
    for n, operation in zip(network.graph.nodes, network.graph.operations, strict=True):
        operation.register_forward_hook(lambda _, __, output, name=n.name: seen.update({name: output.shape}))
    logits = network(torch.randn(2, 3, 16, 16))
    assert [tuple(seen[f"layer{i}"]) for i in (1, 2, 3, 4)] == [
        (2, filters, side, side) for filters, side in zip((5, 6, 7, 8), sides, strict=True)
    ]
    assert network.head.in_features == channels
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters() if p.dim() > 1)


def test_vectors_reach_the_classifier_as_they_are():
    nodes = (node("f", "flatten", "image"), node("l", "linear", "f", units=5))
    network = build(Architecture("feedforward", nodes, ("l",)), Problem((1, 4, 4), 3))
    assert network(torch.randn(2, 1, 4, 4)).shape == (2, 3)
    assert cost.parameters(network) == 16 * 5 + 5 + 5 * 3 + 3


def test_dead_nodes_are_not_built():
    live = architecture(GOLDEN_LAYERS[:3])
    dead = Architecture(live.kind, (*live.nodes, node("dead", "linear", "layer1", units=3)), live.outputs)
    assert cost.parameters(build(dead, Problem())) == cost.parameters(build(live, Problem()))


@st.composite
def same_shape_networks(draw):
    """Random graphs of operations that keep a shape, so that all of them can be built."""
    nodes: list[Node] = []
    for i in range(draw(st.integers(1, 8))):
        op = draw(st.sampled_from(("conv", "tanh", "add", "subtract", "maximum", "max_pool")))
        count = 2 if op in ("add", "subtract", "maximum") else 1
        inputs = draw(st.lists(st.sampled_from(["image", *(n.name for n in nodes)]), min_size=count, max_size=count))
        window = {"height": 3, "width": 3} if op in ("conv", "max_pool") else {}
        nodes.append(node(f"n.{i}", op, inputs, **window, **({"filters": 3} if op == "conv" else {})))
    return Architecture("feedforward", tuple(nodes), (draw(st.sampled_from(nodes)).name,))


@settings(max_examples=40)
@given(same_shape_networks())
def test_the_interpreter_agrees_with_plain_recursion(network):
    built = build(network, Problem((3, 5, 5)), generator=torch.Generator().manual_seed(0)).eval()
    operations = {n.name: (n, m) for n, m in zip(built.graph.nodes, built.graph.operations, strict=True)}
    image = torch.randn(2, 3, 5, 5)

    def value(name):
        if name == "image":
            return image
        n, operation = operations[name]
        return operation(*(value(source) for source in n.inputs))

    with torch.no_grad():
        torch.testing.assert_close(built.graph(image)[0], value(network.outputs[0]))


def test_a_value_is_freed_after_its_last_reader():
    # a is read by b and d; b by c; c by d: when d has run, only its own value is left.
    nodes = (node("a", "relu", "image"), node("b", "sin", "a"), node("c", "sin", "b"), node("d", "add", ("a", "c")))
    nodes = (*nodes, node("e", "sin", "d"))
    graph = build(Architecture("feedforward", nodes, ("e",)), Problem((1, 4, 4))).graph
    values, alive = {}, {}
    for n, operation in zip(graph.nodes, graph.operations, strict=True):

        def look(_, inputs, name=n.name):
            alive[name] = {other for other, reference in values.items() if reference() is not None}

        def keep(_, inputs, output, name=n.name):
            values[name] = weakref.ref(output)

        operation.register_forward_pre_hook(look)
        operation.register_forward_hook(keep)
    with torch.no_grad():
        graph(torch.randn(1, 1, 4, 4))
    assert alive == {"a": set(), "b": {"a"}, "c": {"a", "b"}, "d": {"a", "c"}, "e": {"d"}}


def conv(name, source, **attributes):
    return node(name, "conv", source, **({"height": 3, "width": 3, "filters": 4} | attributes))


@pytest.mark.parametrize(
    ("nodes", "sentence"),
    [
        (
            (conv("a", "image"), conv("b", "image", stride_height=2), node("out", "concat", ("a", "b"))),
            r"node 'out' \(concat\) cannot take inputs of shape \(4, 32, 32\), \(4, 16, 32\): .*unless `pad` is true",
        ),
        (
            (conv("a", "image"), node("out", "add", ("a", "image"))),
            r"node 'out' \(add\) cannot take inputs of shape \(4, 32, 32\), \(3, 32, 32\): .*same shape",
        ),
        ((conv("out", "image", groups=3),), r"node 'out' \(conv\) .*\(3, 32, 32\): 3 groups"),
        ((node("out", "linear", "image", units=4),), r"node 'out' \(linear\) .*: it takes a vector"),
        (
            (conv("out", "image", height=10**5, width=10**5),),
            "parameters at node 'out'; at most 2,147,483,648 are allowed",
        ),
        ((conv("out", "image", filters=10**9),), r"node 'out' \(conv\) .*: its output .* is too large to compute"),
        ((conv("out", "image", filters=10**30),), r"node 'out' \(conv\) cannot take inputs of shape \(3, 32, 32\): "),
        (
            tuple(node(f"{i}", "concat", [f"{i - 1}" if i else "image"] * 64, pad=True) for i in range(4)),
            "node '3' .*: its output .* is too large to compute",
        ),
    ],
)
def test_an_impossible_network_is_refused_with_its_node_and_shapes(nodes, sentence):
    with pytest.raises(InvalidArchitecture, match=sentence):
        build(Architecture("feedforward", nodes, (nodes[-1].name,)), Problem())


def test_a_network_of_the_wrong_kind_is_refused():
    cell = Architecture("recurrent", (node("a", "tanh", "x"),), ("a",))
    with pytest.raises(InvalidArchitecture, match="needs a feedforward architecture, got a recurrent one"):
        build(cell, Problem())
    with pytest.raises(InvalidArchitecture, match="needs a recurrent architecture, got a feedforward one"):
        build_cell(architecture(GOLDEN_LAYERS[:1]), 4, 4)


def test_weights_come_from_the_generator_and_from_nothing_else():
    def weights(seed):
        network = build(architecture(GOLDEN_LAYERS[:3]), Problem(), generator=torch.Generator().manual_seed(seed))
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    before = torch.get_rng_state()
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_convolutions_are_initialised_after_he():
    network = build(architecture(((5, 5, 64, ()), (5, 5, 64, (1,)))), Problem())
    weight = next(m for m in network.graph.operations[1].modules() if isinstance(m, nn.Conv2d)).weight
    assert weight.std().item() == pytest.approx((2 / (64 * 25)) ** 0.5, rel=0.02)


def test_flops_of_a_convolution_and_the_classifier_by_hand():
    network = build(architecture(((3, 5, 24, ()),)), Problem((3, 8, 10)))
    assert cost.flops(network, torch.empty((1, 3, 8, 10), device="meta")) == 2 * (8 * 10 * 24 * 3 * 3 * 5) + 2 * 24 * 10
    assert network.training
    assert all(p.device.type == "cpu" for p in network.parameters())


# --- Recurrent cells through the same interpreter ----------------------------------------------------------------


def cell(base, tree, inject, c_index, inject_index) -> Architecture:
    """Spec §2.1's decoding: `tree` holds (combination, activation) for each of the 2 * base - 1 nodes."""
    nodes, activated, level = [], {}, list(range(base))
    children = {}
    while len(level) > 1:
        first = max(level) + 1
        above = list(range(first, first + len(level) // 2))
        children |= {parent: level[2 * k : 2 * k + 2] for k, parent in enumerate(above)}
        level = above
    for i, (combination, activation) in enumerate(tree):
        if i < base:
            sources = [f"Wx{i}", f"Uh{i}"]
            nodes += [node(f"Wx{i}", "linear", "x", bias=False), node(f"Uh{i}", "linear", "h", bias=False)]
        else:
            sources = [activated[child] for child in children[i]]
        nodes += [node(f"pre{i}", combination, sources), node(f"act{i}", activation, f"pre{i}")]
        activated[i] = f"act{i}"
        if i == inject_index:
            nodes += [node("injected", inject[0], (f"act{i}", "c")), node("joined", inject[1], "injected")]
            activated[i] = "joined"
    return Architecture("recurrent", tuple(nodes), (activated[2 * base - 2], f"pre{c_index}"))


def weights(graph, name):
    return dict(zip((n.name for n in graph.nodes), graph.operations, strict=True))[name].weight


def run(architecture, input_size, hidden_size):
    """Return the cell in float64, an input and a state, and the two next states."""
    graph = build_cell(architecture, input_size, hidden_size, generator=torch.Generator().manual_seed(3)).double()
    state = [torch.randn(6, size, dtype=torch.float64) for size in (input_size, hidden_size, hidden_size)]
    return graph, state, graph(*state)


def test_the_papers_worked_example():  # spec §2.1
    tree = (("add", "tanh"), ("multiply", "relu"), ("multiply", "sigmoid"))
    graph, (x, h, c), (next_h, next_c) = run(cell(2, tree, ("add", "relu"), 1, 0), 5, 4)
    w1, w2, w3, w4 = (weights(graph, name) for name in ("Wx0", "Uh0", "Wx1", "Uh1"))
    a0 = torch.tanh(x @ w1.T + h @ w2.T)
    a1 = torch.relu((x @ w3.T) * (h @ w4.T))
    torch.testing.assert_close(next_h, torch.sigmoid(torch.relu(a0 + c) * a1))
    torch.testing.assert_close(next_c, (x @ w3.T) * (h @ w4.T))


NAS_CELL = (
    *(("add", "sigmoid"), ("add", "relu"), ("add", "sigmoid"), ("multiply", "relu")),
    *(("add", "tanh"), ("add", "sigmoid"), ("add", "tanh"), ("add", "sigmoid")),
    *(("multiply", "tanh"), ("add", "tanh"), ("multiply", "tanh"), ("add", "sigmoid")),
    *(("multiply", "identity"), ("add", "tanh"), ("multiply", "tanh")),
)


def test_the_published_cell_agrees_with_a_hand_written_one():  # spec §2.2, T2.1
    graph, (x, h, c), (next_h, next_c) = run(cell(8, NAS_CELL, ("add", "tanh"), 12, 8), 5, 4)
    assert cost.parameters(graph) == 8 * 4 * (5 + 4)
    i = [x @ weights(graph, f"Wx{k}").T for k in range(8)]
    m = [h @ weights(graph, f"Uh{k}").T for k in range(8)]
    first = torch.tanh(torch.sigmoid(i[0] + m[0]) * torch.relu(i[1] + m[1]))
    second = torch.tanh(torch.sigmoid(i[2] + m[2]) + torch.relu(i[3] * m[3]))
    third = torch.tanh(torch.tanh(i[4] + m[4]) * torch.sigmoid(i[5] + m[5]))
    fourth = torch.sigmoid(torch.tanh(i[6] + m[6]) + torch.sigmoid(i[7] + m[7]))
    new_c = torch.tanh(first + c) * second
    torch.testing.assert_close(next_c, new_c, rtol=0, atol=1e-12)
    torch.testing.assert_close(next_h, torch.tanh(new_c * torch.tanh(third + fourth)), rtol=0, atol=1e-12)


def test_a_cell_may_have_one_state_and_pass_an_input_through():
    one = build_cell(Architecture("recurrent", (node("a", "linear", "x"),), ("a",)), 3, 4)
    assert [tuple(t.shape) for t in one(torch.randn(2, 3), torch.randn(2, 4), torch.randn(2, 4))] == [(2, 4)]
    passing = build_cell(Architecture("recurrent", (node("a", "tanh", "h"),), ("a", "c")), 3, 4)
    c = torch.randn(2, 4)
    assert passing(torch.randn(2, 3), torch.randn(2, 4), c)[1] is c


def test_a_next_state_of_another_size_is_refused():
    with pytest.raises(InvalidArchitecture, match=r"output 'a' has shape \(3,\); a next state must be \(4,\)"):
        build_cell(Architecture("recurrent", (node("a", "tanh", "x"),), ("a",)), 3, 4)


# --- Auxiliary heads ---------------------------------------------------------------------------------------------

TRUNK = (
    node("a", "conv", "image", filters=4, height=3, width=3),
    node("b", "conv", "a", filters=6, height=3, width=3),
)
ASIDE = (
    node("side", "avg_pool", "a", height=3, width=3, stride_height=2, stride_width=2),
    node("features", "conv", "side", filters=5, height=1, width=1),
)
WITH_AUXILIARY = Architecture("feedforward", (*ASIDE, *TRUNK), ("b", "features"))


def seeded(network):
    return build(network, Problem((3, 8, 8)), generator=torch.Generator().manual_seed(0))


def test_an_auxiliary_head_counts_neither_as_parameters_nor_as_flops():
    network, plain = seeded(WITH_AUXILIARY), seeded(Architecture("feedforward", TRUNK, ("b",)))
    example = torch.empty((1, 3, 8, 8), device="meta")
    assert cost.parameters(network) == cost.parameters(plain)
    assert cost.flops(network, example) == cost.flops(plain, example)
    auxiliary = sum(p.numel() for p in network.auxiliary_parameters())
    assert auxiliary == 4 * 5 + 2 * 5 + 5 * 10 + 10  # the 1x1 convolution, its normalisation, and the linear layer
    assert sum(p.numel() for p in network.parameters()) == cost.parameters(plain) + auxiliary


def test_an_auxiliary_head_has_logits_of_its_own_and_leaves_the_networks():
    network, images = seeded(WITH_AUXILIARY).eval(), torch.randn(2, 3, 8, 8)
    logits, auxiliary = network.with_auxiliary(images)
    assert torch.equal(logits, network(images))
    assert auxiliary.shape == (2, 10)
    values = network.graph(images)[1].mean((2, 3))
    torch.testing.assert_close(auxiliary, network.auxiliary_head(values))


def test_the_operations_of_an_auxiliary_head_run_only_for_it():
    network, seen = seeded(WITH_AUXILIARY), []
    for n, operation in zip(network.graph.nodes, network.graph.operations, strict=True):
        operation.register_forward_hook(lambda *_, name=n.name: seen.append(name))
    network(torch.randn(2, 3, 8, 8))
    assert seen == ["a", "b"]
    network.with_auxiliary(torch.randn(2, 3, 8, 8))
    assert sorted(seen[2:]) == ["a", "b", "features", "side"]
    assert draw(WITH_AUXILIARY) == draw(Architecture("feedforward", TRUNK, ("b",)))


def test_both_heads_may_read_the_same_features():
    network = seeded(Architecture("feedforward", TRUNK, ("b", "b")))
    assert cost.parameters(network) == cost.parameters(seeded(Architecture("feedforward", TRUNK, ("b",))))
    assert sum(p.numel() for p in network.auxiliary_parameters()) == 6 * 10 + 10
