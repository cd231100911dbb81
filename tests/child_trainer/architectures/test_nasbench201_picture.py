"""The drawn cell of NAS-Bench-201: a box for each edge that computes, an arrow for each that passes on."""

from itertools import product

from child_trainer.architectures.drawing import draw
from child_trainer.architectures.nasbench201 import CELL_OPERATIONS, picture


def test_every_cell_can_be_drawn() -> None:
    for cell in product(CELL_OPERATIONS[:3], repeat=6):
        drawn = picture(cell)
        assert drawn.kind == "cell" and drawn.outputs == ("output",)
        boxes = [n.attribute("label") for n in drawn.nodes if n.op == "part"]
        assert boxes == ["conv 1x1"] * cell.count("nor_conv_1x1")


def test_edges_that_pass_on_or_are_none_have_no_box() -> None:
    cell = ("nor_conv_3x3", "nor_conv_3x3", "avg_pool_3x3", "skip_connect", "nor_conv_3x3", "skip_connect")
    assert draw(picture(cell)).splitlines() == [
        "node 1 = conv 3x3 (input)",
        "node 2 = conv 3x3 (input) + avg pool 3x3 (node 1)",
        "node 3 = input + conv 3x3 (node 1) + node 2",
        "output = node 3",
    ]
    assert draw(picture(("none",) * 6)) == "output = zero (input)"
