"""Cells of highway layers against the recurrence as the papers' codes write it (spec §6.3, §12.4)."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from child_trainer.architectures.drawing import draw
from child_trainer.architectures.highway_cells import Layer, cell, darts_search_cell, enas_search_cell, motif
from child_trainer.networks import cost
from child_trainer.networks.build import build_cell, cell_on_meta

H = 5
FUNCTIONS = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid, "identity": lambda x: x}
LAYERS = [Layer(0, "sigmoid"), Layer(1, "relu"), Layer(1, "identity"), Layer(0, "tanh"), Layer(3, "relu")]


def naive(x: Tensor, h: Tensor, first: Tensor, others: Sequence[Tensor], output: Sequence[int]) -> Tensor:
    """Return the next state.

    Args:
        x, h: [B, H], the input and the last state.
        first: [2 H, 2 H], of layer 0; the candidate's half of the columns comes first.
        others: [H, 2 H] of each other layer.
        output: the layers whose mean is the next state.
    """
    candidate, gate = (torch.cat([x, h], 1) @ first).chunk(2, 1)
    values = [h + gate.sigmoid() * (candidate.tanh() - h)]
    for layer, weight in zip(LAYERS, others, strict=True):
        carried = values[layer.source]
        candidate, gate = (carried @ weight).chunk(2, 1)
        values.append(carried + gate.sigmoid() * (FUNCTIONS[layer.activation](candidate) - carried))
    return torch.stack([values[number] for number in output]).mean(0)


@pytest.mark.parametrize("output", [None, (2, 4, 5)])
def test_a_cell_is_the_recurrence_of_the_papers(output: tuple[int, ...] | None) -> None:
    torch.manual_seed(0)
    graph = build_cell(cell(LAYERS, output), H, H).double()
    weights = {n.name: m.weight.t() for n, m in zip(graph.nodes, graph.operations, strict=True) if n.op == "linear"}
    first = torch.cat(
        [torch.cat([weights[f"layer0.{part}_{source}"] for part in ("candidate", "gate")], 1) for source in "xh"]
    )
    others = [
        torch.cat([weights[f"layer{number}.{part}"] for part in ("candidate", "gate")], 1)
        if f"layer{number}.gate" in weights
        else torch.zeros(H, 2 * H, dtype=torch.float64)
        for number in range(1, len(LAYERS) + 1)
    ]
    x, h = torch.randn(3, H).double(), torch.randn(3, H).double()
    expected = naive(x, h, first, others, output or range(1, len(LAYERS) + 1))
    torch.testing.assert_close(graph(x, h, h)[0], expected)


def test_a_cell_has_four_maps_of_layer_0_and_two_of_each_other_layer() -> None:
    assert cost.parameters(cell_on_meta(cell(LAYERS), H, H)) == (4 + 2 * len(LAYERS)) * H * H


def test_supernets_have_maps_for_each_edge_or_each_pair() -> None:
    def maps(nodes: int, *, of_enas: bool) -> int:
        options = ("tanh", "relu", "sigmoid", "identity")
        make = (
            enas_search_cell(None, layers=nodes, activations=options)
            if of_enas
            else darts_search_cell(None, layers=nodes, operations=("none", *options))
        )
        return sum(n.op == "linear" for n in make.nodes)

    assert maps(8, of_enas=False) == 4 + 2 * (8 * 9 // 2)
    assert maps(12, of_enas=True) == 4 + 2 * (12 * 13 // 2) * 4


def test_the_picture_has_a_node_for_each_layer() -> None:
    drawing = draw(motif(LAYERS))
    assert [drawing.count(name) for name in ("sigmoid", "relu", "identity")] == [1, 2, 1], drawing
