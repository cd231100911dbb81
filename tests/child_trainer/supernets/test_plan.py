import pytest

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.supernets.plan import Planner, Use

SUPERNET = Architecture(
    "feedforward",
    (
        node("a", "relu", "image"),
        node("b", "tanh", "a"),
        node("c", "sin", "a"),
        node("mixed", "mix", ("b", "c", "a"), gate="g"),
        node("unread", "relu", "c"),
        node("end", "add", ("mixed", "mixed")),
    ),
    ("end",),
)
NONE, PLAIN, WEIGHED, DETACHED = Use
A, B, C, MIXED, _, END = range(6)


@pytest.mark.parametrize(
    ("uses", "steps"),
    [
        # Each step: the node, what it reads, whether gradients pass, what is freed after it; the image is -1.
        ((NONE, NONE, PLAIN), [(A, (-1,), True, ()), (MIXED, (A,), True, (A,)), (END, (MIXED, MIXED), True, (MIXED,))]),
        (
            (PLAIN, NONE, NONE),
            [
                (A, (-1,), True, ()),
                (B, (A,), True, (A,)),
                (MIXED, (B,), True, (B,)),
                (END, (MIXED, MIXED), True, (MIXED,)),
            ],
        ),
        (
            (WEIGHED, DETACHED, NONE),
            [
                (A, (-1,), True, ()),
                (B, (A,), True, ()),
                (C, (A,), False, (A,)),
                (MIXED, (B, C), True, (B, C)),
                (END, (MIXED, MIXED), True, (MIXED,)),
            ],
        ),
        ((NONE, NONE, NONE), [(MIXED, (), True, ()), (END, (MIXED, MIXED), True, (MIXED,))]),
    ],
)
def test_only_what_counts_is_computed_and_values_are_freed_after_their_last_reader(uses, steps):
    plan = Planner(SUPERNET).plan({"g": uses})
    assert [(step.index, step.sources, step.differentiated, step.freed) for step in plan] == steps


def test_every_path_computes_what_no_choice_of_inputs_avoids():
    """`a` is in each input of the mix, `b` and `c` are in one."""
    assert Planner(SUPERNET).always() == [A, MIXED, END]
