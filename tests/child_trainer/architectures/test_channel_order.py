"""One id, one function: the order of a concatenation's inputs counts where something behind it sees it."""

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from child_trainer.architectures import operation_types
from child_trainer.architectures.architecture import Architecture, InvalidArchitecture, Node, node
from child_trainer.architectures.channel_order import read_in_order
from child_trainer.architectures.operation_types import OPERATIONS, Operation, OwnOperation
from child_trainer.networks.build import Classifier, build

Tag = tuple[Any, ...]
"""What a channel holds, whatever its place: equal tags are equal values."""

SIDE = 4


class Problem:
    """Images of two channels, three classes."""

    input_shape = (2, SIDE, SIDE)
    num_classes = 3


def network(*nodes: Node, kind: Any = "feedforward") -> Architecture:
    return Architecture(kind, nodes, (nodes[-1].name,))


def joined_in(order: tuple[str, ...], *readers: Node, **attributes: Any) -> Architecture:
    """Two branches of equal shape that are joined in this order, and what reads them."""
    return network(
        node("a", "conv", "image", height=3, width=3, filters=4),
        node("b", "conv", "image", height=1, width=1, filters=4),
        node("other", "conv", "image", height=1, width=3, filters=8),
        node("both", "concat", order, **attributes),
        *readers,
    )


def counts(*readers: Node, **attributes: Any) -> bool:
    """Return whether the order in which the two branches are joined is part of the id."""
    return joined_in(("a", "b"), *readers, **attributes).id != joined_in(("b", "a"), *readers, **attributes).id


CONV = {"height": 1, "width": 1, "filters": 4}

READ_BY_PLACE: dict[str, tuple[Node, ...]] = {
    "split": (node("end", "split", "both", parts=2, index=1),),
    "split behind others": (
        node("p", "max_pool", "both", height=2, width=2),
        node("q", "batch_norm", "p"),
        node("r", "split", "q", parts=4, index=0),
        node("end", "conv", "r", **CONV),
    ),
    "grouped": (node("end", "conv", "both", groups=2, **CONV),),
    "depthwise": (node("end", "depthwise_conv", "both", height=3, width=3),),
    "a shift of a part": (node("p", "split", "both", parts=2, index=0), node("end", "shift", "p")),
    "a sum with another value": (node("end", "add", ("both", "other")),),
    "a product with another value": (node("p", "relu", "both"), node("end", "multiply", ("other", "p"))),
    "a sum with another join": (node("p", "concat", ("b", "a")), node("end", "add", ("both", "p"))),
    "a split of a larger join": (
        node("p", "concat", ("image", "both")),
        node("end", "split", "p", parts=5, index=0),
    ),
    "a split of what is flat": (node("p", "flatten", "both"), node("end", "split", "p", parts=2, index=0)),
}

NOT_READ_BY_PLACE: dict[str, tuple[Node, ...]] = {
    "the classifier": (node("end", "relu", "both"),),
    "a convolution": (node("end", "conv", "both", height=3, width=3, filters=2, order="bn-relu-conv"),),
    "a linear map": (
        node("p", "shift", "both"),
        node("q", "local_contrast_norm", "p"),
        node("r", "flatten", "q"),
        node("end", "linear", "r", units=5),
    ),
    "a sum with itself": (
        node("p", "batch_norm", "both"),
        node("q", "dropout", "p", rate=0.5),
        node("end", "add", ("both", "q")),
    ),
    "a larger join": (node("p", "concat", ("both", "other")), node("end", "conv", "p", **CONV)),
    "a split behind a convolution": (
        node("p", "conv", "both", **CONV),
        node("end", "split", "p", parts=2, index=0),
    ),
    "a split that no output depends on": (
        node("dead", "split", "both", parts=2, index=0),
        node("end", "relu", "both"),
    ),
}


@pytest.mark.parametrize("name", READ_BY_PLACE)
def test_the_order_counts_where_channels_are_read_by_place(name: str) -> None:
    assert counts(*READ_BY_PLACE[name])
    assert counts(*READ_BY_PLACE[name], pad=True)


@pytest.mark.parametrize("name", NOT_READ_BY_PLACE)
def test_the_order_does_not_count_where_weights_can_undo_it(name: str) -> None:
    assert not counts(*NOT_READ_BY_PLACE[name])


def test_two_joins_are_judged_apart() -> None:
    def ends(near: tuple[str, str], far: tuple[str, str]) -> str:
        return joined_in(
            near,
            node("p", "conv", "both", **CONV),
            node("q", "concat", far),
            node("end", "split", "q", parts=2, index=0),
        ).id

    assert ends(("a", "b"), ("p", "a")) == ends(("b", "a"), ("p", "a")) != ends(("a", "b"), ("a", "p"))


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes an operation of the user's own known for one test."""

    def add(name: str, takes: Operation) -> None:
        monkeypatch.setitem(operation_types._OPERATIONS, name, takes)
        monkeypatch.setitem(operation_types.BUILDERS, name, OwnOperation(takes=takes, build=nn.Identity).build)

    yield add


def test_an_operation_of_the_users_own_reads_by_place_unless_it_says_otherwise(own: Any) -> None:
    own("shuffle", Operation())
    own("swish", Operation(channels="kept"))
    own("attention", Operation(channels="absorbed"))
    assert counts(node("end", "shuffle", "both"))
    assert not counts(node("end", "swish", "both"))
    assert not counts(node("p", "attention", "both"), node("end", "shuffle", "p"))
    assert counts(node("p", "swish", "both"), node("end", "shuffle", "p"))


def test_an_own_join_is_judged_like_a_concatenation(own: Any) -> None:
    own("stack", Operation(max_inputs=None, commutative=True, channels="joined"))

    def end(order: tuple[str, str], reader: Node) -> str:
        return joined_in(("a", "b"), node("p", "stack", order), reader).id

    split, plain = node("end", "split", "p", parts=2, index=0), node("end", "relu", "p")
    assert end(("a", "b"), split) != end(("b", "a"), split)
    assert end(("a", "b"), plain) == end(("b", "a"), plain)


def cell(order: tuple[str, str], *rest: Node) -> str:
    halves = (node("a", "linear", "x", units=2), node("b", "tanh", "a"), node("both", "concat", order))
    return network(*halves, *rest, kind="recurrent").id


@pytest.mark.parametrize(
    ("rest", "differs"),
    [
        ((), False),
        ((node("w", "linear", "h"), node("end", "add", ("w", "both"))), True),
        ((node("end", "multiply", ("h", "both")),), True),
        ((node("end", "multiply", ("x", "both")),), True),
        ((node("p", "linear", "both"), node("end", "add", ("h", "p"))), False),
        ((node("end", "split", "both", parts=2, index=0),), True),
    ],
)
def test_in_a_recurrent_cell_the_next_step_reads_the_order(rest: tuple[Node, ...], differs: bool) -> None:
    assert (cell(("a", "b"), *rest) != cell(("b", "a"), *rest)) is differs


# --- Networks of equal id compute equal outputs, with weights carried over by structure --------------------------

OPS = ("conv", "concat", "concat", "split", "add", "relu", "batch_norm", "depthwise_conv", "max_pool", "subtract")


@st.composite
def small_networks(draw: Any) -> Architecture:
    """Draw a network in which joins and what reads them are frequent, and whose channels fit each other often."""
    nodes = [node(name, "conv", "image", height=1, width=1, filters=2, order="conv") for name in ("s", "t")]
    for i in range(draw(st.integers(1, 6))):
        op = draw(st.sampled_from(OPS))
        sources = st.sampled_from(["image", *(n.name for n in nodes)])
        least, most = OPERATIONS[op].min_inputs, OPERATIONS[op].max_inputs or 3
        inputs = draw(st.lists(sources, min_size=least, max_size=most))
        attributes: dict[str, Any] = {}
        if op == "conv":
            attributes = {"filters": 2, "groups": draw(st.sampled_from([1, 1, 2])), "order": draw(ORDERS)}
        elif op == "split":
            attributes = {"parts": 2, "index": draw(st.integers(0, 1))}
        elif op == "depthwise_conv":
            attributes = {"order": "conv"}
        if op in ("conv", "depthwise_conv", "max_pool"):
            attributes |= {"height": 1 + 2 * draw(st.integers(0, 1)), "width": 1}
        nodes.append(node(f"n{i}", op, inputs, **attributes))
    return network(*nodes)


ORDERS = st.sampled_from(["conv", "bn-relu-conv"])


def reordered(drawn: Architecture, random: Random) -> Architecture:
    """Return the network with the inputs of its joins in other orders."""
    nodes = [
        replace(n, inputs=tuple(random.sample(n.inputs, len(n.inputs)))) if n.op in ("concat", "add") else n
        for n in drawn.nodes
    ]
    return replace(drawn, nodes=tuple(nodes))


def same_structures(one: Architecture, two: Architecture) -> Iterator[dict[str, str]]:
    """Yield the ways in which the live nodes of `one` are those of `two`, as names by name."""
    in_order = [read_in_order(n.ordered, n.outputs, ("image",)) for n in (one, two)]

    def reads(n: Node, names: dict[str, str], ordered: set[str]) -> tuple[Any, ...]:
        inputs = [names.get(source, source) for source in n.inputs]
        free = OPERATIONS[n.op].commutative and n.name not in ordered
        return (n.label(), sorted(inputs) if free else inputs)

    def extend(names: dict[str, str], place: int) -> Iterator[dict[str, str]]:
        if place == len(one.ordered):
            if tuple(names[output] for output in one.outputs) == two.outputs:
                yield names
            return
        n = one.ordered[place]
        for m in two.ordered:
            if m.name not in names.values() and reads(n, names, in_order[0]) == reads(m, {}, in_order[1]):
                yield from extend(names | {n.name: m.name}, place + 1)

    yield from extend({}, 0)


def numbered(tags: list[Tag]) -> list[Tag]:
    """Return the tags, each with how many equal ones came before it."""
    return [(tag, tags[:i].count(tag)) for i, tag in enumerate(tags)]


def tags_of(drawn: Architecture, names: dict[str, str]) -> dict[str, list[Tag]]:
    """Return the tags of each value's channels; a node is called what `names` calls it."""
    tags: dict[str, list[Tag]] = {"image": [("image", i) for i in range(2)]}
    for n in drawn.ordered:
        read = [tags[source] for source in n.inputs]
        if n.op == "concat":
            tags[n.name] = [tag for part in read for tag in part]
        elif n.op == "split":
            size, index = len(read[0]) // 2, n.attribute("index")
            tags[n.name] = read[0][index * size : (index + 1) * size]
        elif n.op == "conv":
            tags[n.name] = [(names[n.name], i) for i in range(2)]
        elif n.op == "depthwise_conv":
            tags[n.name] = [(names[n.name], i) for i in range(len(read[0]))]
        elif n.op == "batch_norm":
            tags[n.name] = [(names[n.name], tag) for tag in numbered(read[0])]
        else:  # each channel by itself
            together = zip(*read, strict=True)
            tags[n.name] = [(n.op, *(sorted(t, key=repr) if n.op == "add" else t)) for t in together]
    return tags


def carry_over(source: Classifier, target: Classifier, names: dict[str, str], live: tuple[Any, Any]) -> bool:
    """Give `target` the weights of `source`, by structure; return whether every channel has its like."""
    one, two = live
    from_tags, to_tags = tags_of(one, names), tags_of(two, {name: name for name in names.values()})

    def places(before: list[Tag], after: list[Tag]) -> list[int] | None:
        old, new = numbered(before), numbered(after)
        return [old.index(tag) for tag in new] if sorted(old, key=repr) == sorted(new, key=repr) else None

    modules = {m.name: module for m, module in zip(target.graph.nodes, target.graph.operations, strict=True)}
    for n, module in zip(source.graph.nodes, source.graph.operations, strict=True):
        m = two.ordered[[x.name for x in two.ordered].index(names[n.name])]
        mine = places(from_tags[n.inputs[0]], to_tags[m.inputs[0]]) if n.op in ("conv", "batch_norm") else []
        if mine is None:
            return False
        for old, new in zip(module.modules(), modules[m.name].modules(), strict=True):
            if isinstance(old, nn.Conv2d) and isinstance(new, nn.Conv2d):
                absorbs = n.op == "conv" and old.groups == 1
                new.weight.data = old.weight.data[:, mine] if absorbs else old.weight.data.clone()
                if old.bias is not None and new.bias is not None:
                    new.bias.data = old.bias.data.clone()
            elif isinstance(old, nn.BatchNorm2d) and isinstance(new, nn.BatchNorm2d):
                new.weight.data, new.bias.data = old.weight.data[mine], old.bias.data[mine]
    mine = places(from_tags[one.outputs[0]], to_tags[two.outputs[0]])
    if mine is None:
        return False
    target.head.weight.data, target.head.bias.data = source.head.weight.data[:, mine], source.head.bias.data.clone()
    return True


def outputs(module: Classifier, images: Tensor) -> Tensor:
    return module.double()(images.double())


@settings(max_examples=400, deadline=None)
@given(small_networks(), st.randoms(use_true_random=False))
def test_networks_of_equal_id_compute_equal_outputs(drawn: Architecture, random: Random) -> None:
    one, two = drawn.pruned(), reordered(drawn, random).pruned()
    if one.id != two.id:
        return
    generator = torch.Generator().manual_seed(1)
    try:
        source, target = build(one, Problem(), generator=generator), build(two, Problem(), generator=generator)
    except InvalidArchitecture:
        return
    for parameter in source.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    images = torch.randn(3, *Problem.input_shape, generator=generator)
    expected = outputs(source, images)
    assert any(
        carry_over(source, target, names, (one, two)) and torch.allclose(outputs(target, images), expected)
        for names in same_structures(one, two)
    )
