"""The ids of known architectures as literals: a run's ids must stay what they were when it was recorded.

An attribute that comes later is `added_later`, so that no id here changes; a new operation adds an architecture here.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from child_trainer.architectures import architecture as module
from child_trainer.architectures.architecture import Architecture, Node, node
from child_trainer.architectures.cells.cell import motif
from child_trainer.architectures.highway_cells import cell
from child_trainer.architectures.nasbench201 import cell_from_name, network
from child_trainer.architectures.operation_types import OPERATIONS, Attribute
from child_trainer.architectures.reference_cells import lstm, nas_cell
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.recurrent import RecurrentSpace
from controller.zoo.published_cells import darts_rnn_v2, nasnet_a
from tests.golden import GOLDEN_CELL, GOLDEN_LAYERS, architecture, chained, densely_connected

WINDOW = {"height": 3, "width": 3}


def chain(*nodes: tuple[str, dict[str, Any]], source: str = "image", kind: Any = "feedforward") -> Architecture:
    """A network in which each node reads the one before it."""
    names = [source, *(f"n{i}" for i in range(len(nodes)))]
    made = [node(names[i + 1], op, names[i], **attributes) for i, (op, attributes) in enumerate(nodes)]
    return Architecture(kind, tuple(made), (names[-1],))


def without_attributes() -> Architecture:
    ops = ("relu", "relu6", "tanh", "sigmoid", "sin", "batch_norm", "identity", "zero", "global_avg_pool", "flatten")
    return chain(*((op, {}) for op in ops))


def with_weights() -> Architecture:
    return chain(
        ("scale", {"by": 0.5}), ("logistic", {"slope": 4.9}), ("constant", {"value": 1.0}), ("scale", {"by": 2})
    )


def with_defaults() -> Architecture:
    return chain(
        ("conv", {"filters": 8, **WINDOW}),
        ("depthwise_conv", WINDOW),
        ("max_pool", WINDOW),
        ("avg_pool", WINDOW),
        ("local_contrast_norm", {}),
        ("dropout", {"rate": 0.5}),
        ("shift", {}),
        ("split", {"parts": 2, "index": 0}),
        ("concat", {}),
        ("linear", {}),
    )


def with_other_values() -> Architecture:
    stride = {"stride_height": 2, "stride_width": 3}
    return chain(
        ("conv", {"filters": 8, "dilation": 2, "groups": 3, "order": "bn-relu-conv", **WINDOW, **stride}),
        ("depthwise_conv", {"multiplier": 2, "dilation": 3, "order": "relu-conv-bn", **WINDOW, **stride}),
        ("max_pool", WINDOW | stride),
        ("avg_pool", WINDOW | stride),
        ("local_contrast_norm", {"size": 7}),
        ("dropout", {"rate": 1}),
        ("shift", {"height": 0, "width": -1}),
        ("split", {"parts": 4, "index": 3}),
        ("concat", {"pad": True}),
        ("linear", {"units": 10, "bias": False}),
    )


def with_joins() -> Architecture:
    nodes = (
        node("a", "relu", "image"),
        node("b", "tanh", "image"),
        node("sum", "add", ("a", "b", "a")),
        node("product", "multiply", ("sum", "b")),
        node("mean", "mean", ("product", "a")),
        node("largest", "maximum", ("mean", "sum")),
        node("difference", "subtract", ("largest", "a")),
        node("together", "concat", ("difference", "largest", "b")),
    )
    return Architecture("feedforward", nodes, ("together",))


def with_an_auxiliary_head() -> Architecture:
    trunk = architecture(GOLDEN_LAYERS[:2])
    return replace(trunk, nodes=(*trunk.nodes, node("side", "relu", "layer1")), outputs=(*trunk.outputs, "side"))


def with_dead_nodes() -> Architecture:
    live = architecture(GOLDEN_LAYERS[:4])
    dead = (node("dead", "sin", "layer1"), node("deader", "add", ("dead", "image")))
    return Architecture("feedforward", live.nodes + dead, live.outputs)


def with_a_learning_rate() -> Architecture:
    stack = architecture(GOLDEN_LAYERS[:2])
    return replace(stack, hyperparameters=(("learning_rate", 0.05),))


def with_every_layer_type() -> Architecture:
    space = ConvolutionalSpace(
        initial_depth=4, layer_types=("conv", "pool", "local_contrast_norm", "batch_norm"), strides=(1, 2)
    )
    layers = [(0, 1, 1, 1, 0, 2, 0), (1, 0, 0, 0, 0, 0, 1), (2, 0, 0, 0, 0, 0, 0), (3, 0, 0, 0, 0, 0, 0)]
    skips: list[tuple[int, ...]] = [(), (1,), (1, 0), (0, 1, 1)]
    return space.decode(tuple(token for layer, skip in zip(layers, skips, strict=True) for token in layer + skip))


def cell_of_base(base: int) -> Architecture:
    space = RecurrentSpace(base=base)
    return space.decode([(3 * i + 1) % len(choice.options) for i, choice in enumerate(space.decisions(0))])


def benchmark(name: str, **size: int) -> Architecture:
    return network(cell_from_name(name), **size)


BEST_201 = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
MIXED_201 = "|avg_pool_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"

PINNED: Mapping[str, tuple[Architecture, str]] = {
    "published network": (architecture(), "8b7fd67799e6cd73"),
    "every skip connection": (architecture(densely_connected()), "2fbc165ab6526ee0"),
    "a chain of convolutions": (architecture(chained()), "cf893d8d6527b57d"),
    "strides": (architecture(GOLDEN_LAYERS[:4], strides=(1, 2, 1, 2)), "41105cf872823738"),
    "every layer type": (with_every_layer_type(), "0495091c0a3abdbf"),
    "dead nodes": (with_dead_nodes(), "5c6af0ed719628d9"),
    "a learning rate": (with_a_learning_rate(), "cd5a6dcc30820875"),
    "operations without attributes": (without_attributes(), "bb3f899cf2cebd74"),
    "attributes by default": (with_defaults(), "202c80d1ebe1755e"),
    "attributes of other values": (with_other_values(), "d9d0fa919d254597"),
    "pools without padding": (
        chain(("max_pool", WINDOW | {"padding": "valid"}), ("avg_pool", WINDOW | {"padding": "valid"})),
        "6d0197281ed236df",
    ),
    "normalisations without weights": (
        chain(
            ("conv", {"filters": 8, "affine": False, **WINDOW}),
            ("depthwise_conv", {"affine": False, **WINDOW}),
            ("batch_norm", {"affine": False}),
        ),
        "0107ee3a62eca781",
    ),
    "joins": (with_joins(), "3690c3c5094f5241"),
    "NAS-Bench-201, the best cell": (benchmark(BEST_201), "45c6481caaf2cf7c"),
    "NAS-Bench-201, all five operations": (benchmark(MIXED_201), "08b201350f5166d4"),
    "NAS-Bench-201, small": (benchmark(MIXED_201, cells_per_stage=1, stem_channels=4), "8a01104b667277c4"),
    "published cell": (RecurrentSpace().decode(GOLDEN_CELL), "e7cfee1a8ef69c1b"),
    "cell of base 2": (cell_of_base(2), "55ca109eec82d757"),
    "cell of base 4": (cell_of_base(4), "c01e6d3a4062b3e0"),
    "cell of base 8": (cell_of_base(8), "5f3faac400a04141"),
    "LSTM": (lstm(), "8018abba2bd618f4"),
    "NAS cell": (nas_cell(), "e7cfee1a8ef69c1b"),
    "a dropped path": (chain(("drop_path", {"depth": 0.25})), "9396f5c93508f6c1"),
    "an auxiliary head": (with_an_auxiliary_head(), "8f3f11df0f9f6ec9"),
    "a cell to draw": (motif(nasnet_a().reduction), "3e5b741f98797a91"),
    "weights as data": (with_weights(), "de59243775601454"),
    "a supernet": (chain(("relu", {}), ("mix", {"gate": "first"})), "c7f911e77aa7d871"),
    "a cell of highway layers": (cell(darts_rnn_v2()), "17c13467d9d7a4c4"),
    "a leaky activation": (chain(("leaky_relu", {})), "bb8bc8e509264f89"),
    "one recurrent node": (chain(("tanh", {}), source="h", kind="recurrent"), "9cc01f72fc84266e"),
}


def from_text(text: str) -> Architecture:
    """The architecture as a run reads it back, with no id computed yet."""
    return Architecture.from_json(json.loads(text))


def text_of(network: Architecture) -> str:
    return json.dumps(network.to_json())


@pytest.mark.parametrize("name", PINNED)
def test_an_id_is_what_it_was_when_it_was_recorded(name: str) -> None:
    network, recorded = PINNED[name]
    assert network.id == from_text(text_of(network)).id == recorded


def test_unlike_networks_have_unlike_ids_and_every_operation_is_among_them() -> None:
    assert len({recorded for _, recorded in PINNED.values()}) == len(PINNED) - 1  # The published cell is the NAS cell.
    assert {n.op for network, _ in PINNED.values() for n in network.pruned().nodes} == set(OPERATIONS)


def test_every_attribute_has_a_value_other_than_its_default_somewhere() -> None:
    nodes = [n for network, _ in PINNED.values() for n in network.pruned().nodes]
    other = {(n.op, name) for n in nodes for name, v in n.attributes if v != OPERATIONS[n.op].attributes[name].default}
    assert other == {(op, name) for op, operation in OPERATIONS.items() for name in operation.attributes}


# --- An attribute that comes later -------------------------------------------------------------------------------


@pytest.fixture
def forget() -> Iterator[None]:
    """Labels and verdicts of nodes are cached by operation and attributes, whatever the vocabulary."""
    yield
    clear_caches()


def clear_caches() -> None:
    for cached in (module._label, module._label_text, module._problem):
        cached.cache_clear()


def add_to_every_operation(monkeypatch: pytest.MonkeyPatch, name: str, attribute: Attribute) -> None:
    vocabulary = {
        op: replace(operation, attributes={**operation.attributes, name: attribute})
        for op, operation in OPERATIONS.items()
    }
    monkeypatch.setattr(module, "OPERATIONS", vocabulary)
    clear_caches()


def with_value(text: str, op: str, **attributes: Any) -> str:
    data = json.loads(text)
    for n in data["nodes"]:
        n["attributes"] |= attributes if n["op"] == op else {}
    return json.dumps(data)


LATER = [
    (Attribute(default=1, minimum=1, added_later=True), 2),
    (Attribute(of=float, default=0.0, added_later=True), 0.5),
    (Attribute(of=bool, default=True, added_later=True), False),
    (Attribute(of=str, default="plain", options=("plain", "fancy"), added_later=True), "fancy"),
]


@pytest.mark.usefixtures("forget")
@pytest.mark.parametrize("name", ["aaa", "zzz"])
@pytest.mark.parametrize(("attribute", "other"), LATER)
def test_an_attribute_added_later_moves_an_id_only_where_it_is_set(
    monkeypatch: pytest.MonkeyPatch, name: str, attribute: Attribute, other: Any
) -> None:
    texts = {text_of(network): recorded for network, recorded in PINNED.values()}
    add_to_every_operation(monkeypatch, name, attribute)
    for text, recorded in texts.items():
        assert from_text(text).id == recorded
        op = from_text(text).pruned().nodes[0].op
        assert from_text(with_value(text, op, **{name: attribute.default})).id == recorded
        assert from_text(with_value(text, op, **{name: other})).id != recorded


@pytest.mark.usefixtures("forget")
def test_number_types_of_an_attribute_added_later_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    add_to_every_operation(monkeypatch, "rate", Attribute(of=float, default=0.0, added_later=True))
    ids = [chain(("relu", {"rate": rate})).id for rate in (0, 0.0, -0.0, 1, 1.0)]
    assert ids[0] == ids[1] == ids[2] == chain(("relu", {})).id
    assert ids[3] == ids[4] != ids[0]


@pytest.mark.usefixtures("forget")
def test_without_the_mark_every_id_would_move(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {text_of(network): recorded for network, recorded in PINNED.values()}
    add_to_every_operation(monkeypatch, "fresh", Attribute(default=1))
    assert all(from_text(text).id != recorded for text, recorded in texts.items())


def test_an_attribute_added_later_needs_a_default() -> None:
    with pytest.raises(ValueError, match="an attribute that is `added_later` must have a `default`"):
        Attribute(added_later=True)


# --- The text of a ledger ----------------------------------------------------------------------------------------

TEXT = (
    '{"kind": "feedforward", "nodes": ['
    '{"name": "a", "op": "conv", "inputs": ["image"], "attributes": {"filters": 24, "height": 3, "order": "conv-bn", '
    '"width": 5}}, '
    '{"name": "b", "op": "dropout", "inputs": ["a"], "attributes": {"rate": 0.25}}, '
    '{"name": "c", "op": "concat", "inputs": ["a", "b"], "attributes": {"pad": true}}], '
    '"outputs": ["c"], "hyperparameters": {"learning_rate": 0.05}}'
)


def test_a_recorded_text_is_read_and_written_as_ever() -> None:
    network = Architecture(
        "feedforward",
        (
            Node("a", "conv", ("image",), (("filters", 24), ("height", 3), ("order", "conv-bn"), ("width", 5))),
            Node("b", "dropout", ("a",), (("rate", 0.25),)),
            Node("c", "concat", ("a", "b"), (("pad", True),)),
        ),
        ("c",),
        (("learning_rate", 0.05),),
    )
    assert from_text(TEXT) == network
    assert text_of(network) == TEXT
    assert network.id == "42f0213fa2af2454"


def test_a_recorded_text_may_leave_out_what_it_does_not_set() -> None:
    text = '{"kind": "recurrent", "nodes": [{"name": "n0", "op": "tanh", "inputs": ["h"]}], "outputs": ["n0"]}'
    assert from_text(text) == PINNED["one recurrent node"][0]
