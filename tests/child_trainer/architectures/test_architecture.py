import json
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture, Node, node
from child_trainer.architectures.operation_types import OPERATIONS
from tests.child_trainer.architectures.random_graphs import described_otherwise, random_graphs
from tests.golden import architecture, chained, densely_connected

WINDOW = {"height": 3, "width": 3}


@st.composite
def architectures(draw, largest=7, ops=("conv", "relu", "add", "subtract", "concat", "dropout")):
    """A random network: each node reads the image and earlier nodes, some twice; one node is the output."""
    nodes: list[Node] = []
    for i in range(draw(st.integers(1, largest))):
        op = draw(st.sampled_from(ops))
        sources = st.sampled_from(["image", *(n.name for n in nodes)])
        least, most = OPERATIONS[op].min_inputs, OPERATIONS[op].max_inputs or 3
        inputs = draw(st.lists(sources, min_size=least, max_size=most))
        attributes: dict = {}
        if op == "conv":
            side = st.sampled_from((1, 3))
            attributes = {"height": draw(side), "width": draw(side), "filters": draw(st.sampled_from((24, 36)))}
        if op == "dropout":
            attributes = {"rate": draw(st.sampled_from((0.25, 0.5)))}
        nodes.append(node(f"n{i}", op, inputs, **attributes))
    return Architecture("feedforward", tuple(nodes), (draw(st.sampled_from(nodes)).name,))


def renamed(network: Architecture, names: dict[str, str]) -> Architecture:
    nodes = tuple(
        Node(names[n.name], n.op, tuple(names.get(i, i) for i in n.inputs), n.attributes) for n in network.nodes
    )
    return Architecture(network.kind, nodes, tuple(names[o] for o in network.outputs), network.hyperparameters)


@settings(deadline=None)
@given(random_graphs())
def test_json_gives_back_an_equal_network(network):
    again = Architecture.from_json(json.loads(json.dumps(network.to_json())))
    assert again == network
    assert again.id == network.id


@settings(deadline=None)
@given(random_graphs(), st.randoms(use_true_random=False))
def test_the_id_ignores_names_order_dead_nodes_and_written_defaults(network, random):
    assert described_otherwise(network, random).id == network.id


def isomorphic(a: Architecture, b: Architecture) -> bool:
    """Whether some renaming makes one pruned network the other: tries all of them."""
    a, b = a.pruned(), b.pruned()
    if len(a.nodes) != len(b.nodes):
        return False

    def plain(network: Architecture) -> set:
        return {
            (n.name, n.op, tuple(sorted(n.inputs)) if OPERATIONS[n.op].commutative else n.inputs, n.attributes)
            for n in network.nodes
        }

    own = [n.name for n in a.nodes]
    for order in permutations(n.name for n in b.nodes):
        candidate = renamed(a, dict(zip(own, order, strict=True)))
        if plain(candidate) == plain(b) and candidate.outputs == b.outputs:
            return True
    return False


@settings(max_examples=300, deadline=None)
@given(architectures(4, ("relu", "add", "subtract")), architectures(4, ("relu", "add", "subtract")))
def test_ids_are_equal_exactly_for_isomorphic_networks(a, b):
    assert (a.id == b.id) == isomorphic(a, b)


@settings(deadline=None)
@given(architectures())
def test_pruning_leaves_the_outputs_and_what_they_depend_on(network):
    pruned = network.pruned()
    needed, waiting = set(), list(network.outputs)
    by_name = {n.name: n for n in network.nodes}
    while waiting:
        name = waiting.pop()
        if name in by_name and name not in needed:
            needed.add(name)
            waiting += by_name[name].inputs
    assert {n.name for n in pruned.nodes} == needed
    assert pruned.outputs == network.outputs


@settings(deadline=None)
@given(architectures(), st.randoms(use_true_random=False))
def test_nodes_come_after_what_they_read(network, random):
    shuffled = Architecture(network.kind, tuple(random.sample(network.nodes, len(network.nodes))), network.outputs)
    seen = {"image"}
    for n in shuffled.ordered:
        assert seen.issuperset(n.inputs)
        seen.add(n.name)
    assert len(seen) == len(network.nodes) + 1


def one(op="conv", inputs="image", **attributes) -> Architecture:
    return Architecture("feedforward", (node("n", op, inputs, **attributes),), ("n",))


@pytest.mark.parametrize(
    "other",
    [
        one(filters=24, height=3, width=5),
        one(filters=24, height=5, width=3),
        one(filters=36, **WINDOW),
        one(filters=24, stride_height=2, **WINDOW),
        one(filters=24, order="relu-conv-bn", **WINDOW),
        one("max_pool", **WINDOW),
        Architecture("feedforward", one(filters=24, **WINDOW).nodes, ("n",), (("learning_rate", 0.1),)),
    ],
)
def test_the_id_changes_with_anything_that_matters(other):
    assert other.id != one(filters=24, **WINDOW).id


def test_the_order_of_inputs_matters_only_where_the_operation_does_not_commute():
    def difference(op, *inputs):
        return Architecture("feedforward", (node("r", "relu", "image"), node("d", op, inputs)), ("d",)).id

    assert difference("subtract", "r", "image") != difference("subtract", "image", "r")
    assert difference("add", "r", "image") == difference("add", "image", "r")


def test_number_types_do_not_count():
    assert one("dropout", rate=1).id == one("dropout", rate=1.0).id


def test_a_commutative_readers_order_does_not_tell_its_sources_apart():
    def crossed(summands):
        # `a` and `b` differ only in that `b` has another reader, after the sum.
        nodes = (node("a", "relu", "image"), node("b", "relu", "image"), node("s", "add", summands))
        nodes = (*nodes, node("u", "sin", "b"), node("j", "subtract", ("s", "u")))
        return Architecture("feedforward", nodes, ("j",)).id

    assert crossed(("a", "b")) == crossed(("b", "a"))


def test_which_state_comes_first_matters():
    nodes = (node("a", "tanh", "x"), node("b", "relu", "h"))
    assert Architecture("recurrent", nodes, ("a", "b")).id != Architecture("recurrent", nodes, ("b", "a")).id


def test_the_golden_network_and_its_ablations_differ():
    assert len({architecture(t).id for t in (densely_connected(), chained())} | {architecture().id}) == 3


RELU = {"name": "a", "op": "relu", "inputs": ["image"]}
GOOD = {"kind": "feedforward", "nodes": [RELU], "outputs": ["a"]}
CONV = RELU | {"op": "conv", "attributes": {"height": 3, "width": 3, "filters": 8}}


def conv(**attributes):
    return {"nodes": [CONV | {"attributes": CONV["attributes"] | attributes}]}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kind": "recursive"}, "`kind` must be one of feedforward, recurrent, cell, got 'recursive'"),
        ({"kind": ["feedforward"]}, r"`kind` must be one of feedforward, recurrent, cell, got \['feedforward'\]"),
        ({"nodes": {}}, "`nodes` must be a list, got {}"),
        ({"nodes": [3]}, "node 0 must be an object, got int"),
        ({"nodes": [{"name": "a", "op": "relu"}]}, "node 0 lacks `inputs`"),
        ({"nodes": [RELU | {"size": 3}]}, "node 0 has an unknown field `size`"),
        ({"nodes": [RELU | {"attributes": 3}]}, "the attributes of node 0 must be an object, got 3"),
        ({"nodes": [RELU | {"name": ""}]}, "a node's name must be a non-empty string, got ''"),
        ({"nodes": [RELU, RELU]}, "the name 'a' is used twice"),
        ({"nodes": [RELU | {"name": "image"}]}, "the name 'image' is used twice .an input of the network."),
        ({"nodes": [RELU | {"op": "reluu"}]}, "node 'a' has the unknown operation 'reluu'; the operations are add, "),
        ({"nodes": [RELU | {"op": ["relu"]}]}, r"node 'a' has the unknown operation \['relu'\]"),
        ({"nodes": [RELU | {"inputs": []}]}, r"node 'a' \(relu\) takes exactly 1 input, got 0"),
        ({"nodes": [RELU | {"op": "add", "inputs": []}]}, r"node 'a' \(add\) takes 1 or more inputs, got 0"),
        ({"nodes": [RELU | {"inputs": "image"}]}, "the inputs of node 0 must be a list, got 'image'"),
        ({"nodes": [RELU | {"inputs": ["b"]}]}, "node 'a' reads 'b', which does not exist"),
        ({"nodes": [RELU | {"inputs": [{}]}]}, "node 'a' reads {}, which does not exist"),
        ({"nodes": [RELU | {"inputs": ["a"]}]}, "the nodes form a cycle: a -> a"),
        ({"nodes": [RELU | {"attributes": {"x": 1}}]}, r"node 'a' \(relu\) has no attribute 'x'; it has: none"),
        ({"nodes": [RELU | {"op": "dropout"}]}, r"node 'a' \(dropout\) lacks the attribute 'rate'"),
        ({"outputs": []}, "a feedforward architecture has 1 to 8 outputs, got 0"),
        ({"outputs": ["a"] * 9}, "a feedforward architecture has 1 to 8 outputs, got 9"),
        ({"outputs": ["b"]}, "output 'b' is not a node"),
        ({"outputs": [["a"]]}, r"output \['a'\] is not a node"),
        ({"hyperparameters": [1]}, r"`hyperparameters` must be an object, got \[1\]"),
        ({"hyperparameters": {"learning_rate": "x"}}, "'learning_rate' must be a finite number, got 'x'"),
        ({"hyperparameters": {"learning_rate": True}}, "'learning_rate' must be a finite number, got True"),
        ({"hyperparameters": {"learning_rate": float("nan")}}, "'learning_rate' must be a finite number, got nan"),
        ({"hyperparameters": {"learning_rate": 10**400}}, "'learning_rate' must be a finite number, got 1000"),
        ({"colour": "red"}, "an architecture has an unknown field `colour`"),
        (conv(height=0), r"the attribute 'height' of node 'a' \(conv\) must be at least 1, got 0"),
        (conv(height=True), "must be a whole number, got True"),
        (conv(height=3.0), "must be a whole number, got 3.0"),
        (conv(order="bn"), "must be one of 'conv', 'conv-bn'.*, got 'bn'"),
        ({"nodes": [RELU | {"op": "dropout", "attributes": {"rate": 1.5}}]}, "must be at most 1.0, got 1.5"),
        ({"nodes": [RELU | {"op": "dropout", "attributes": {"rate": float("nan")}}]}, "must be a number, got nan"),
    ],
)
def test_bad_data_is_refused_with_its_place_and_value(change, sentence):
    with pytest.raises(InvalidArchitecture, match=sentence):
        Architecture.from_json(GOOD | change)


def test_the_data_that_the_refusals_start_from_is_good():
    assert Architecture.from_json(GOOD).outputs == ("a",)
    assert Architecture.from_json(GOOD | conv()).outputs == ("a",)


def test_a_longer_cycle_is_named_in_reading_order():
    nodes = (node("a", "relu", "c"), node("b", "relu", "a"), node("c", "relu", "b"))
    with pytest.raises(InvalidArchitecture, match=r"cycle: (a -> c -> b -> a|c -> b -> a -> c|b -> a -> c -> b)"):
        Architecture("feedforward", nodes, ("c",))


@pytest.mark.parametrize("data", [None, [], "x", 3])
def test_anything_but_an_object_is_refused(data):
    with pytest.raises(InvalidArchitecture, match="an architecture must be an object, got"):
        Architecture.from_json(data)
