"""The id and the digest of architectures, against a plain computation of them that is slow on purpose."""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given, settings

from child_trainer.architectures.architecture import INPUTS, Architecture, Node, node
from child_trainer.architectures.channel_order import read_in_order
from child_trainer.architectures.family import Family
from child_trainer.architectures.nasbench201 import CELL_OPERATIONS, Cell, network
from child_trainer.architectures.operation_types import OPERATIONS
from tests.child_trainer.architectures.random_graphs import random_graphs
from tests.golden import architecture


def ranked(keys: dict[str, Any]) -> dict[str, int]:
    order = sorted(set(keys.values()))
    return {name: order.index(key) for name, key in keys.items()}


def plain_id(network: Architecture) -> str:
    """Return the id by colour refinement in both directions, of all nodes in each round."""
    live, inputs = network.live_nodes(), INPUTS[network.kind]
    in_order = read_in_order(live, network.outputs, inputs)
    labels = {n.name: repr(n.label()) for n in live} | {name: repr(("input", name)) for name in inputs}
    reads = {n.name: n.inputs for n in live} | dict.fromkeys(inputs, ())
    free = {n.name for n in live if OPERATIONS[n.op].commutative and n.name not in in_order}
    depth = dict.fromkeys(inputs, 0)
    for n in live:
        depth[n.name] = 1 + max((depth[source] for source in n.inputs), default=0)

    def seen(name: str) -> tuple[int, ...]:
        found = [colours[source] for source in reads[name]]
        return tuple(sorted(found) if name in free else found)

    def read_by(name: str) -> tuple[tuple[int, int], ...]:
        readers = [(r, -1 if r in free else i) for r in reads for i, source in enumerate(reads[r]) if source == name]
        return tuple(sorted((colours[reader], position) for reader, position in readers))

    leaves = {name: tuple(i for i, output in enumerate(network.outputs) if output == name) for name in labels}
    colours = ranked({name: (depth[name], labels[name], leaves[name]) for name in labels})
    while True:
        refined = ranked({name: (colours[name], seen(name), read_by(name)) for name in labels})
        if len(set(refined.values())) == len(set(colours.values())):
            break
        colours = refined
    rows = sorted((colours[name], labels[name], seen(name)) for name in labels)
    hyperparameters = [(name, float(value)) for name, value in network.hyperparameters]
    text = json.dumps([network.kind, [rows, [colours[name] for name in network.outputs]], hyperparameters])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plain_digest(network: Architecture) -> str:
    return hashlib.sha256(json.dumps(network.to_json()).encode()).hexdigest()[:32]


@settings(max_examples=300, deadline=None)
@given(random_graphs(most_nodes=12))
def test_ids_are_those_of_a_plain_computation(network: Architecture) -> None:
    assert network.id == plain_id(network)
    assert network.digest == plain_digest(network)


@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("length", [3, 4, 6])
def test_ids_where_many_rounds_tell_nodes_apart(length: int, equal: bool) -> None:
    """Two branches of equal operations, which differ in their last node, and if `equal` in nothing."""
    nodes: list[Node] = []
    for branch in ("a", "b"):
        names = ["image", *(f"{branch}{i}" for i in range(length))]
        nodes += [node(name, "relu", source) for source, name in pairwise(names)]
    last = "tanh" if equal else "sigmoid"
    nodes += [node("end a", "tanh", f"a{length - 1}"), node("end b", last, f"b{length - 1}")]
    nodes.append(node("join", "add", ("end b", "end a", "b0")))
    built = Architecture("feedforward", tuple(nodes), ("join", "a1", "join"))
    assert built.id == plain_id(built)


def cells(count: int) -> list[Cell]:
    chosen = random.Random(11).sample(list(product(CELL_OPERATIONS, repeat=6)), count)
    return [*((operation,) * 6 for operation in CELL_OPERATIONS), *chosen]


@pytest.mark.parametrize("size", [{}, {"cells_per_stage": 2, "stem_channels": 3}])
def test_members_of_a_family_are_what_the_constructor_makes(size: dict[str, int]) -> None:
    for cell in cells(40):
        made = network(cell, **size)
        built = Architecture(made.kind, made.nodes, made.outputs)
        assert (made.id, made.digest) == (built.id, built.digest) == (plain_id(built), plain_digest(built))


def test_a_member_has_the_operation_of_each_edge() -> None:
    cell = ("avg_pool_3x3", "skip_connect", "none", "nor_conv_1x1", "nor_conv_3x3", "nor_conv_3x3")
    operations = {n.name: (n.op, n.attribute("height") if n.op == "conv" else None) for n in network(cell).nodes}
    for name in ("stage1.cell1", "stage2.cell5", "stage3.cell3"):
        assert [operations[f"{name}.{edge}"] for edge in ("0-1", "0-2", "1-2", "0-3", "1-3", "2-3")] == [
            *(("avg_pool", None), ("identity", None), ("zero", None)),
            *(("conv", 1), ("conv", 3), ("conv", 3)),
        ]


def chained(*operations: str, source: str = "image") -> Architecture:
    names = [source, *(f"n{i}" for i in range(len(operations)))]
    nodes = [node(names[i + 1], op, names[i]) for i, op in enumerate(operations)]
    return Architecture("feedforward", tuple(nodes), (names[-1],))


def with_dead_node() -> Architecture:
    nodes = (*chained("relu", "relu").nodes, node("dead", "relu", "image"))
    return Architecture("feedforward", nodes, ("n1",))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ([chained("relu"), chained("relu", "relu")], "one graph"),
        ([chained("relu", "add"), chained("relu", "relu")], "one graph"),
        ([chained("relu", "relu"), chained("tanh", "tanh")], "no choice decides the node 'n1'"),
        ([chained("concat", "relu"), chained("concat", "relu")], "joins channels"),
        ([with_dead_node(), with_dead_node()], "must depend on all of them"),
        ([architecture(), chained("relu")], "one graph"),
    ],
)
def test_networks_that_are_no_family_are_refused(options: Sequence[Architecture], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Family(options, {"n0": 0})


def test_choices_are_independent() -> None:
    family = Family([chained("relu", "relu", "tanh"), chained("sin", "sin", "tanh")], {"n0": 0, "n1": 1})
    for first, second in product((0, 1), repeat=2):
        wanted = chained(("relu", "sin")[first], ("relu", "sin")[second], "tanh")
        assert family.member(first, second) == wanted
        assert family.member(first, second).id == wanted.id


def test_members_have_the_hyperparameters_of_all() -> None:
    options = [replace(chained(op), hyperparameters=(("dropout", 0.5),)) for op in ("relu", "sin")]
    member = Family(options, {"n0": 0}).member(1)
    assert (member, member.id, member.digest) == (options[1], options[1].id, options[1].digest)
