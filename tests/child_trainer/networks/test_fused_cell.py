"""The fused cell against the graph stepped node by node, and every written-out derivative against PyTorch's own."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.architectures.operation_types import OPERATIONS
from child_trainer.architectures.reference_cells import REFERENCE_CELLS
from child_trainer.networks.build import build_cell
from child_trainer.networks.fused_cell import FusedCell
from child_trainer.networks.pointwise import POINTWISE
from controller.decisions import uniform
from controller.spaces.enas_rnn import EnasRnnSpace
from controller.spaces.recurrent import RecurrentSpace

T, B, IN, H = 5, 3, 4, 6

EXTENDED = {"combinations": ("elem_mult", "add", "max"), "activations": ("identity", "tanh", "sigmoid", "relu", "sin")}


def recurrent(*nodes, outputs) -> Architecture:
    return Architecture("recurrent", nodes, outputs)


X, U = node("x1", "linear", "x", bias=False), node("h1", "linear", "h", bias=False)

UNUSUAL = {
    "no cell state": recurrent(X, U, node("s", "add", ("x1", "h1")), node("y", "tanh", "s"), outputs=("y",)),
    "h is read as it is": recurrent(X, U, node("s", "add", ("x1", "h1", "h")), outputs=("s", "s")),
    "one map for two readers": recurrent(
        X, U, node("p", "multiply", ("x1", "h1")), node("q", "subtract", ("x1", "p")), outputs=("p", "q")
    ),
    "maps with and without a bias": recurrent(
        node("xa", "linear", "x"),
        X,
        node("ha", "linear", "h"),
        U,
        node("s", "add", ("ha", "xa")),
        node("t", "multiply", ("x1", "h1")),
        node("y", "maximum", ("s", "t")),
        outputs=("y", "s"),
    ),
    "next h and next c are one": recurrent(X, U, node("s", "add", ("x1", "h1", "c")), outputs=("s", "s")),
    "a state that nothing depends on": recurrent(X, U, node("s", "add", ("x1", "h1")), outputs=("s", "x1")),
    "a map of the cell state": recurrent(
        X,
        U,
        node("c1", "linear", "c"),
        node("s", "add", ("x1", "h1", "c1")),
        node("y", "tanh", "s"),
        outputs=("y", "s"),
    ),
    "an operation without a derivative here": recurrent(
        X, U, node("s", "mean", ("x1", "h1", "c")), node("y", "relu6", "s"), outputs=("y", "s")
    ),
    "no map of h": recurrent(X, node("s", "add", ("x1", "h")), outputs=("s", "s")),
    "x is read as it is": recurrent(
        node("x1", "linear", "x", units=IN), node("s", "add", ("x1", "x")), node("y", "linear", "s"), outputs=("y",)
    ),
}
LEFT_TO_AUTOGRAD = (
    "a map of the cell state",
    "an operation without a derivative here",
    "no map of h",
    "x is read as it is",
)


def stepped(graph, inputs, state, mask):
    """Step the graph by its definition: one step after another, every map separately."""
    (h, c), hidden = state, []
    for x in inputs:
        values = {"x": x, "h": h, "c": c}
        for n, operation in zip(graph.nodes, graph.operations, strict=True):
            read = [values[source] for source in n.inputs]
            if n.op == "linear" and n.inputs[0] not in ("x", "c") and mask is not None and read[0].shape == mask.shape:
                read = [read[0] * mask]
            values[n.name] = operation(*read)
        h, *rest = (values[name] for name in graph.outputs)
        c = rest[0] if rest else c
        hidden.append(h)
    return torch.stack(hidden), (h, c)


def maps(cell, gradients):
    """Return the gradient of each linear map's weight and bias, by the map's name."""
    found = {}
    for projection in (cell.of_x, cell.of_h):
        if not projection.sizes:
            continue
        sizes = list(projection.sizes.values())
        for name, part in zip(projection.sizes, gradients[projection.weight].split(sizes), strict=True):
            found[name, "weight"] = part
        if projection.bias is not None:
            biased = [name for name, has in zip(projection.sizes, projection.biased, strict=True) if has]
            parts = gradients[projection.bias].split([projection.sizes[name] for name in biased])
            found |= {(name, "bias"): part for name, part in zip(biased, parts, strict=True)}
    return found


def compare(
    architecture: Architecture, *, masked: bool = False, seed: int = 0, sizes: tuple[int, int] = (IN, H)
) -> FusedCell:
    """Compare values and all gradients of the fused cell with those of the graph, in double precision."""
    torch.manual_seed(seed)
    graph = build_cell(architecture, *sizes).double()
    cell = FusedCell(graph).double()
    leaves = [torch.randn(T, B, sizes[0]), torch.randn(B, H), torch.randn(B, H)]
    inputs, h, c = (leaf.double().requires_grad_() for leaf in leaves)
    mask = (torch.rand(B, H) < 0.7).double() / 0.7 if masked else None
    weights = [torch.randn(T, B, H).double(), torch.randn(B, H).double(), torch.randn(B, H).double()]

    def run(step, module):
        hidden, (last_h, last_c) = step(inputs, (h, c))
        values = [hidden, last_h, last_c]
        loss = sum((w * v).sum() for w, v in zip(weights, values, strict=True))
        parameters = list(module.parameters())
        found = torch.autograd.grad(loss, [inputs, h, c, *parameters], allow_unused=True, materialize_grads=True)
        return values, found[:3], dict(zip(parameters, found[3:], strict=True))

    expected = run(lambda x, s: stepped(graph, x, s, mask), graph)
    got = run(lambda x, s: cell(x, s, mask), cell)
    for one, other in zip((*expected[0], *expected[1]), (*got[0], *got[1]), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-11)
    mine = maps(cell, got[2])
    for n, operation in zip(graph.nodes, graph.operations, strict=True):
        if (n.name, "weight") in mine:
            for name, parameter in operation.named_parameters():
                torch.testing.assert_close(mine[n.name, name], expected[2][parameter], rtol=1e-9, atol=1e-11)
    with torch.no_grad():
        torch.testing.assert_close(cell(inputs, (h, c), mask)[0], expected[0][0], rtol=1e-9, atol=1e-11)
    return cell


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", REFERENCE_CELLS)
def test_the_cells_of_the_literature(name, masked):
    assert compare(REFERENCE_CELLS[name](), masked=masked).program is not None


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_cells(name, masked):
    cell = compare(UNUSUAL[name], masked=masked)
    assert (cell.program is None) == (name in LEFT_TO_AUTOGRAD)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_cells_of_highway_layers_have_maps_between_their_nodes(seed, masked):
    """Their maps of x and h are fused as others are; those between nodes are left to automatic differentiation."""
    space = EnasRnnSpace(layers=4)
    architecture = space.decode(uniform(space.decisions(0), random.Random(seed)))
    cell = compare(architecture, masked=masked, seed=seed, sizes=(H, H))
    assert cell.program is None
    assert (tuple(cell.of_x.weight.shape), tuple(cell.of_h.weight.shape)) == ((2 * H, H), (2 * H, H))


@settings(max_examples=60)
@given(base=st.integers(2, 9), seed=st.integers(0, 2**20), extended=st.booleans(), masked=st.booleans())
def test_any_cell_of_the_search_space(base, seed, extended, masked):
    space = RecurrentSpace(base=base, **(EXTENDED if extended else {}))
    tokens = uniform(space.decisions(0), random.Random(seed))
    assert compare(space.decode(tokens), masked=masked, seed=seed).program is not None


def test_all_maps_are_two_products_and_all_sums_one_addition():
    cell = FusedCell(build_cell(REFERENCE_CELLS["nas-cell"](), IN, H))
    program = cell.program
    assert (tuple(cell.of_x.weight.shape), tuple(cell.of_h.weight.shape)) == ((8 * H, IN), (8 * H, H))
    assert (len(program.sum_sizes), len(program.other_x_sizes), len(program.other_h_sizes)) == (7, 1, 1)
    assert sum(p.numel() for p in cell.parameters()) == 8 * H * (IN + H)


def test_the_lstm_cell_equals_pytorchs():
    torch.manual_seed(0)
    cell, theirs = FusedCell(build_cell(REFERENCE_CELLS["lstm"](), IN, H)), torch.nn.LSTM(IN, H)
    names = [name[2:] for name in cell.of_x.sizes]
    assert names == [name[2:] for name in cell.of_h.sizes]
    order = [names.index(gate) for gate in "ifgo"]
    with torch.no_grad():
        for mine, their in ((cell.of_x.weight, theirs.weight_ih_l0), (cell.of_h.weight, theirs.weight_hh_l0)):
            their.copy_(torch.cat([mine.split(H)[i] for i in order]))
        theirs.bias_ih_l0.copy_(torch.cat([cell.of_x.bias.split(H)[i] for i in order]))
        theirs.bias_hh_l0.zero_()
    inputs, h, c = torch.randn(T, B, IN), torch.randn(B, H), torch.randn(B, H)
    hidden, (_, last) = cell(inputs, (h, c))
    expected, (_, their_last) = theirs(inputs, (h[None], c[None]))
    torch.testing.assert_close(hidden, expected)
    torch.testing.assert_close(last, their_last[0])


@pytest.mark.parametrize("name", POINTWISE)
def test_each_derivative_equals_pytorchs(name):
    operation = POINTWISE[name]
    torch.manual_seed(0)
    for arity in (operation.arity,) if operation.arity else (1, 2, 3):
        inputs = [torch.randn(7, 5, dtype=torch.float64) for _ in range(arity)]
        for values in inputs:
            values[0] = 0.0  # the kink of a ReLU, and equal inputs
        leaves = [values.requires_grad_() for values in inputs]
        result = operation.forward(*leaves)
        gradient = torch.randn_like(result)
        expected = torch.autograd.grad(result, leaves, gradient)
        got = operation.backward(gradient, result.detach(), [leaf.detach() for leaf in leaves])
        for one, other in zip(expected, got, strict=True):
            torch.testing.assert_close(other, one)


def test_derivatives_are_written_for_known_operations_only():
    assert POINTWISE.keys() <= OPERATIONS.keys()
    for name, operation in POINTWISE.items():
        max_inputs = OPERATIONS[name].max_inputs
        assert operation.arity == max_inputs or max_inputs is None
