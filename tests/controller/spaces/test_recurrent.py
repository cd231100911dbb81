import math
import random
from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor

from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.reference_cells import REFERENCE_CELLS
from child_trainer.networks import cost
from child_trainer.networks.build import Graph, build_cell
from controller.decisions import InvalidTokens, enumerate_samples, num_samples, uniform
from controller.policies.lstm import Policy
from controller.space import SearchSpace
from controller.spaces.recurrent import RecurrentSpace
from tests.contracts.search_space import SearchSpaceContract
from tests.golden import GOLDEN_CELL

WORKED_EXAMPLE = (1, 1, 0, 3, 0, 2, 1, 3, 1, 0)
"""Spec §2.1: add, tanh; mult, relu; mult, sigmoid; injection add, relu; the next c from 1, the last c into 0."""


class TestPaperSpace(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return RecurrentSpace()


class TestSmallestSpace(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return RecurrentSpace(base=2)


class TestUnevenSpace(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return RecurrentSpace(base=3)


class TestExtendedSpace(SearchSpaceContract):
    """The first control of the paper (spec §2.4 (a))."""

    @pytest.fixture
    def space(self) -> SearchSpace:
        return RecurrentSpace(
            combinations=("elem_mult", "add", "max"), activations=("identity", "tanh", "sigmoid", "relu", "sin")
        )


# --- The tokens --------------------------------------------------------------------------------------------------


def test_token_order_is_figure_5s() -> None:
    """Spec §2.1."""
    kinds = [(choice.kind, choice.place) for choice in RecurrentSpace(base=2).decisions(0)]
    assert kinds == [
        *(("combination", 1), ("activation", 1), ("combination", 2), ("activation", 2)),
        *(("combination", 3), ("activation", 3)),
        *(("inject_combination", 0), ("inject_activation", 0), ("cell_index", 0), ("inject_index", 0)),
    ]


@pytest.mark.parametrize(("base", "tokens"), [(2, 10), (3, 14), (8, 34), (12, 50)])
def test_a_cell_takes_two_tokens_a_node_and_four(base: int, tokens: int) -> None:
    space = RecurrentSpace(base=base)
    assert len(space.decisions(0)) == tokens
    with pytest.raises(InvalidTokens, match=f"a cell of base {base} takes {tokens} tokens, got {tokens - 1}"):
        space.decode([0] * (tokens - 1))


def test_the_number_of_samples_is_the_papers() -> None:
    """Spec T2.4: the paper says about 6 x 10^16."""
    assert num_samples(RecurrentSpace().decisions(0)) == 8**16 * 15**2 == 63_331_869_759_897_600


def test_log_prob_under_zero_weights_is_the_closed_form() -> None:
    """Spec T2.3."""
    space = RecurrentSpace()
    policy = Policy(space.choice_sizes())
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
    expected = -(16 * math.log(8) + 2 * math.log(15))
    rollout = policy.sample(space.decisions(0), 3, torch.Generator().manual_seed(0))
    assert rollout.log_prob.tolist() == pytest.approx([expected] * 3, rel=1e-6)
    golden = policy.log_prob(space.decisions(0), torch.tensor([GOLDEN_CELL]))
    assert golden.item() == pytest.approx(expected, rel=1e-6)


# --- What they stand for -----------------------------------------------------------------------------------------

States = tuple[Tensor, Tensor, Tensor]
"""An input, the last h and the last c."""


def built(cell: Architecture, *, inputs: int = 5, hidden: int = 4) -> tuple[Graph, States, Mapping[str, Tensor]]:
    """Return the cell in float32, a batch of states, and the weights of its linear maps by name."""
    generator = torch.Generator().manual_seed(3)
    graph = build_cell(cell, inputs, hidden, generator=generator)
    x, h, c = (torch.randn(6, width, generator=generator) for width in (inputs, hidden, hidden))
    maps = zip(graph.nodes, graph.operations, strict=True)
    return graph, (x, h, c), {n.name: m.weight for n, m in maps if n.op == "linear"}  # type: ignore[misc]


def assert_near(found: tuple[Tensor, ...], *expected: Tensor) -> None:
    assert len(found) == len(expected)
    for got, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)


def nas_cell(states: States, of_input: Sequence[Tensor], of_state: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Compute the next h and c of the published cell as in spec §2.2, layer by layer."""
    x, h, c = states
    i = [x @ weight.T for weight in of_input]
    m = [h @ weight.T for weight in of_state]
    l1_0 = torch.sigmoid(i[0] + m[0])
    l1_1 = torch.relu(i[1] + m[1])
    l1_2 = torch.sigmoid(i[2] + m[2])
    l1_3 = torch.relu(i[3] * m[3])
    l1_4 = torch.tanh(i[4] + m[4])
    l1_5 = torch.sigmoid(i[5] + m[5])
    l1_6 = torch.tanh(i[6] + m[6])
    l1_7 = torch.sigmoid(i[7] + m[7])
    l2_0 = torch.tanh(l1_0 * l1_1)
    l2_1 = torch.tanh(l1_2 + l1_3)
    l2_2 = torch.tanh(l1_4 * l1_5)
    l2_3 = torch.sigmoid(l1_6 + l1_7)
    injected = torch.tanh(l2_0 + c)
    new_c = injected * l2_1
    l3_1 = torch.tanh(l2_2 + l2_3)
    return torch.tanh(new_c * l3_1), new_c


def test_the_published_cell_agrees_with_a_hand_written_one() -> None:
    """Spec T2.1."""
    graph, states, weights = built(RecurrentSpace().decode(GOLDEN_CELL), inputs=9, hidden=16)
    of_input, of_state = ([weights[f"{kind}{leaf}"] for leaf in range(8)] for kind in "wu")
    assert_near(graph(*states), *nas_cell(states, of_input, of_state))
    assert cost.parameters(graph) == 8 * 16 * (9 + 16)


def test_the_papers_worked_example() -> None:
    """Spec T2.2: a0 = relu(tanh(W1 x + W2 h) + c), a1 = relu((W3 x) (W4 h)); h = sigmoid(a0 a1), c = (W3 x) (W4 h)."""
    graph, (x, h, c), weights = built(RecurrentSpace(base=2).decode(WORKED_EXAMPLE))
    w1, w2, w3, w4 = (weights[name] for name in ("w0", "u0", "w1", "u1"))
    first = torch.relu(torch.tanh(x @ w1.T + h @ w2.T) + c)
    product = (x @ w3.T) * (h @ w4.T)
    assert_near(graph(x, h, c), torch.sigmoid(first * torch.relu(product)), product)


def test_c_injected_at_the_root_is_part_of_the_next_h_and_not_of_the_next_c() -> None:
    """Spec §2.1 (i); the root also is the node of the next c, whose value is from before the injection."""
    graph, (x, h, c), weights = built(RecurrentSpace(base=2).decode((1, 0, 1, 0, 0, 1, 1, 2, 2, 2)))
    first, second = (x @ weights[f"w{leaf}"].T + h @ weights[f"u{leaf}"].T for leaf in (0, 1))
    assert_near(graph(x, h, c), torch.sigmoid(torch.tanh(first * second) + c), first * second)


def test_the_next_c_depends_on_the_injected_value_if_its_node_is_above_it() -> None:
    """Spec §2.1 (ii); and an activation of that node does not count."""
    graph, (x, h, c), weights = built(RecurrentSpace(base=2).decode((1, 0, 1, 0, 0, 1, 1, 2, 2, 1)))
    first, second = (x @ weights[f"w{leaf}"].T + h @ weights[f"u{leaf}"].T for leaf in (0, 1))
    new_c = first * torch.sigmoid(second + c)
    assert_near(graph(x, h, c), torch.tanh(new_c), new_c)


def test_the_tree_of_three_leaves() -> None:
    """Node 3 joins leaves 0 and 1, node 4 joins leaf 2 and node 3; with the operations of the extended space."""
    space = RecurrentSpace(base=3, combinations=("add", "max"), activations=("identity", "sin"))
    graph, (x, h, c), weights = built(space.decode((0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 3, 2)))
    leaves = [x @ weights[f"w{leaf}"].T + h @ weights[f"u{leaf}"].T for leaf in range(3)]
    joined = torch.maximum(leaves[0], torch.sin(leaves[1]))
    assert_near(graph(x, h, c), leaves[2] + c + torch.sin(joined), joined)


@pytest.mark.parametrize("base", range(2, 10))
def test_every_sample_of_every_base_builds(base: int) -> None:
    space, rng = RecurrentSpace(base=base), random.Random(base)
    for _ in range(20):
        cell = space.decode(uniform(space.decisions(0), rng))
        assert cell.pruned() is cell  # every node has a part in the next h
        graph, states, weights = built(cell)
        assert [tuple(state.shape) for state in graph(*states)] == [(6, 4), (6, 4)]
        assert len(weights) == 2 * base
        assert cost.parameters(graph) == base * 4 * (5 + 4)


def test_different_tokens_may_give_the_same_cell_and_no_others_do() -> None:
    """The two leaves of a cell of base 2 may change places."""
    space = RecurrentSpace(base=2, combinations=("elem_mult", "add"), activations=("tanh",))
    cells: dict[str, set[tuple[int, ...]]] = {}
    for tokens in enumerate_samples(space.decisions(0)):
        cells.setdefault(space.decode(tokens).id, set()).add(tokens)

    def swapped(tokens: tuple[int, ...]) -> tuple[int, ...]:
        index = {0: 1, 1: 0, 2: 2}
        return (*tokens[2:4], *tokens[:2], *tokens[4:8], index[tokens[8]], index[tokens[9]])

    assert all(alike == {tokens, swapped(tokens)} for alike in cells.values() for tokens in alike)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"base": 1}, "`base` must be at least 2, got 1"),
        ({"combinations": ()}, r"`combinations` must be one or more different ones of elem_mult, add, max, got \(\)"),
        ({"combinations": ("multiply",)}, r"`combinations` must be .* got \('multiply',\)"),
        ({"combinations": ("add", "add")}, "`combinations` must be one or more different ones"),
        ({"activations": ()}, "`activations` must be one or more different ones of identity, tanh, sigmoid, relu, sin"),
        ({"activations": ("tanh", "gelu")}, "`activations` must be .*'gelu'"),
        ({"activations": ("sin", "sin")}, "`activations` must be one or more different ones"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecurrentSpace(**wrong)  # type: ignore[arg-type]


def test_the_cell_by_its_name_is_the_cell_of_its_tokens() -> None:
    assert REFERENCE_CELLS["nas-cell"]().id == RecurrentSpace().decode(GOLDEN_CELL).id
