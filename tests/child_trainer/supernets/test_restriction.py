import json

import pytest

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture, Node, node
from child_trainer.architectures.gates import check_child, gate_sizes
from child_trainer.outcome import Budget, Cause
from child_trainer.supernets.restriction import restrict
from child_trainer.tasks.synthetic import SyntheticTask
from child_trainer.training.train import train

WINDOW = {"height": 3, "width": 3, "filters": 4}


def network(*nodes: Node, output: str = "end") -> Architecture:
    return Architecture("feedforward", nodes, (output,))


SUPERNET = network(
    node("stem", "conv", "image", **WINDOW),
    node("wide", "conv", "stem", **WINDOW),
    node("narrow", "conv", "stem", **(WINDOW | {"height": 1})),
    node("op", "mix", ("wide", "narrow", "stem"), gate="op"),
    node("skip", "mix", ("stem", "op"), gate="skip"),
    node("sum", "add", ("op", "skip")),
    node("end", "relu", "sum"),
)


def nodes_of(gates: dict[str, tuple[float, ...]], supernet: Architecture = SUPERNET) -> dict[str, tuple[str, ...]]:
    """The operation and the sources of each node that is left, by name."""
    return {n.name: (n.op, *n.inputs) for n in restrict(supernet, gates).nodes}


def test_a_reader_reads_the_chosen_input_and_what_nothing_reads_is_gone():
    assert nodes_of({"op": (0, 1, 0), "skip": (1, 0)}) == {
        "stem": ("conv", "image"),
        "narrow": ("conv", "stem"),
        "sum": ("add", "narrow", "stem"),
        "end": ("relu", "sum"),
    }


def test_several_chosen_inputs_are_added_in_their_order_under_the_name_of_the_mix():
    left = nodes_of({"op": (1.0, 1, 0), "skip": (0, 1)})
    assert left["op"] == ("add", "wide", "narrow")
    assert left["sum"] == ("add", "op", "op")


def test_a_sum_leaves_out_what_has_no_chosen_input():
    assert nodes_of({"op": (0, 0, 1), "skip": (0, 0)}) == {"stem": ("conv", "image"), "end": ("relu", "stem")}


def test_for_any_other_reader_a_mix_without_a_chosen_input_is_zero():
    assert nodes_of({"op": (0, 0, 0), "skip": (0, 1)}) == {
        "stem": ("conv", "image"),
        "wide": ("conv", "stem"),
        "sum": ("zero", "wide"),
        "end": ("relu", "sum"),
    }


def test_readers_of_several_kinds_see_the_same_zero():
    supernet = network(
        node("none", "mix", ("image", "image"), gate="a"),
        node("one", "relu", "none"),
        node("two", "add", ("none", "one")),
        node("three", "tanh", "none"),
        node("end", "add", ("two", "three")),
    )
    assert nodes_of({"a": (0, 0)}, supernet) == {
        "none": ("zero", "image"),
        "one": ("relu", "none"),
        "three": ("tanh", "none"),
        "end": ("add", "one", "three"),
    }


def test_nodes_of_one_gate_choose_alike_whatever_their_order():
    supernet = network(
        node("end", "mix", ("c", "d"), gate="tied"),
        node("c", "relu", "middle"),
        node("d", "tanh", "middle"),
        node("middle", "mix", ("a", "b"), gate="tied"),
        node("a", "relu", "image"),
        node("b", "tanh", "image"),
    )
    restricted = restrict(supernet, {"tied": (0, 1)})
    assert restricted.outputs == ("d",)
    assert {n.name: n.inputs for n in restricted.nodes} == {"b": ("image",), "d": ("b",)}
    assert gate_sizes(supernet) == {"tied": 2}


def test_a_network_without_choices_is_its_own_restriction():
    plain = network(node("end", "relu", "image"))
    assert restrict(plain, {}) == plain
    assert gate_sizes(plain) == {}


@pytest.mark.parametrize(
    ("gates", "sentence"),
    [
        ({"op": (1, 0, 0)}, "the gate 'skip' of the supernet takes 2 numbers, got none"),
        ({"op": (1, 0), "skip": (1, 0)}, "the gate 'op' of the supernet takes 3 numbers, got 2"),
        ({"op": (1, 0, 0), "skip": (1, 0), "x": ()}, "the supernet has no gate 'x'; its gates are op, skip"),
        ({"op": (0.5, 0.5, 0), "skip": (1, 0)}, r"the gate 'op' .* must be 0 or 1 .*, got \[0.5, 0.5, 0\]"),
    ],
)
def test_gates_that_do_not_fit_are_refused(gates, sentence):
    with pytest.raises(ValueError, match=sentence):
        restrict(SUPERNET, gates)


def test_a_shared_gate_needs_equally_many_inputs():
    odd = network(
        node("a", "mix", ("image", "image"), gate="g"),
        node("end", "mix", ("a",), gate="g"),
    )
    with pytest.raises(InvalidArchitecture, match="'a' and 'end' share the gate 'g' and have 2 and 1"):
        restrict(odd, {"g": (1, 0)})


def test_a_supernet_is_plain_data_but_no_child():
    assert Architecture.from_json(json.loads(json.dumps(SUPERNET.to_json()))) == SUPERNET
    with pytest.raises(InvalidArchitecture, match=r"node 'op' is mixed: .* restrict the supernet first"):
        check_child(SUPERNET)
    check_child(restrict(SUPERNET, {"op": (1, 0, 0), "skip": (1, 0)}))


def test_training_a_supernet_fails_as_an_invalid_child_whatever_the_task():
    failure = train(SUPERNET, SyntheticTask(), Budget(), seed=0).failure
    assert failure is not None
    assert failure.cause is Cause.INVALID
    assert "restrict the supernet first" in failure.message
