"""The tree-LSTM in batches, against the formulas for one place at a time (spec §9.2)."""

import torch
from torch import Tensor

from controller.policies.tree_lstm import ADDS, CONCATENATES, Place, TreeEncoder

UNITS = 3

CHAIN = (Place(None, None), Place(0, 0))
"""A root with one edge."""

DECIDING = (Place(None, None), Place(0, 1), Place(1, None))
"""An edge below an edge; the lower one is not decided."""

FULL = (
    Place(None, None, ADDS, 0),
    Place(0, 0, CONCATENATES, 1),
    Place(1, 2),
    Place(1, None, ADDS, 0),
    Place(3, 1),
    Place(3, 2),
    Place(3, 0),
    Place(0, 1),
)
"""Means of two and of three, and a concatenation; three edges one below another."""


def encoder(seed: int = 1) -> TreeEncoder:
    made = TreeEncoder(edges=3, nodes=2, embedding=2, units=UNITS)
    made.draw_weights(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if name.endswith("bias"):
                weight.uniform_(-1, 1, generator=torch.Generator().manual_seed(seed))
    return made


Pair = tuple[Tensor, Tensor]
NOTHING: Pair = (torch.zeros(UNITS), torch.zeros(UNITS))


class Naive:
    """What each place of one tree knows, by recursion, a vector at a time."""

    def __init__(self, made: TreeEncoder, tree: tuple[Place, ...]) -> None:
        self.w, self.tree = dict(made.named_parameters()), tree
        self.branches = [[k for k, p in enumerate(tree) if p.parent == i] for i in range(len(tree))]
        self.ups = {i: self.up(i) for i in range(len(tree))}
        self.downs = {i: self.down(i) for i in range(len(tree))}

    def edge(self, direction: str, number: int | None, state: Pair) -> Pair:
        x = torch.zeros(2) if number is None else self.w["edge_embedding"][number]
        weights = [self.w[f"{direction}.edge.{name}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        h, c = torch.lstm_cell(x[None], (state[0][None], state[1][None]), *weights)
        return h[0], c[0]

    def opened(self, gates: Tensor, kept: Tensor) -> Pair:
        i, o, u = gates.split(UNITS)
        c = i.sigmoid() * u.tanh() + kept
        return o.sigmoid() * c.tanh(), c

    def x(self, direction: str, place: Place) -> tuple[Tensor, Tensor]:
        x = self.w["node_embedding"][place.node]
        gates = self.w[f"{direction}.gates_x.weight"] @ x + self.w[f"{direction}.gates_x.bias"]
        return gates, self.w[f"{direction}.forget_x.weight"] @ x + self.w[f"{direction}.forget_x.bias"]

    def up(self, i: int) -> Pair:
        place, states = self.tree[i], [self.up(k) for k in self.branches[i]]
        if place.form == ADDS:
            gates, forget = self.x("up", place)
            gates = gates + self.w["up.adding.gates_h.weight"] @ sum(h for h, _ in states)
            kept = sum((forget + self.w["up.adding.forget_h.weight"] @ h).sigmoid() * c for h, c in states)
            state = self.opened(gates, kept)
        elif place.form == CONCATENATES:
            gates, forget = self.x("up", place)
            read = torch.cat([h for h, _ in states])
            each = (self.w["up.concatenating.forget_h.weight"] @ read).split(UNITS)
            kept = sum((forget + own).sigmoid() * c for own, (_, c) in zip(each, states, strict=True))
            state = self.opened(gates + self.w["up.concatenating.gates_h.weight"] @ read, kept)
        else:
            state = states[0] if states else NOTHING
        return state if place.parent is None else self.edge("up", place.edge, state)

    def down(self, i: int) -> Pair:
        place = self.tree[i]
        if place.parent is None:
            return NOTHING
        parent, (above_h, above_c) = self.tree[place.parent], self.down(place.parent)
        beside = [NOTHING if k == i else self.ups[k] for k in self.branches[place.parent]]
        if not parent.form:
            return self.edge("down", place.edge, (above_h, above_c))
        name = "down.adding." if parent.form == ADDS else "down.concatenating."
        gates, forget = self.x("down", parent)
        read = sum(h for h, _ in beside) if parent.form == ADDS else torch.cat([h for h, _ in beside])
        gates = gates + self.w[f"{name}gates_beside.weight"] @ read + self.w[f"{name}gates_above.weight"] @ above_h
        kept = (forget + self.w[f"{name}forget_above.weight"] @ torch.cat([above_h, read])).sigmoid() * above_c
        for k, (h, c) in enumerate(beside):
            if parent.form == ADDS:
                own = self.w[f"{name}forget_beside.weight"] @ torch.cat([above_h, h])
            else:
                own = (self.w[f"{name}forget_beside.weight"] @ torch.cat([above_h, read])).split(UNITS)[k]
            kept = kept + (forget + own).sigmoid() * c
        return self.edge("down", place.edge, self.opened(gates, kept))


def test_trees_of_any_form_in_one_batch_are_encoded_as_one_by_one() -> None:
    made, trees = encoder(), (FULL, CHAIN, DECIDING, CHAIN[:1])
    found = made(trees)
    assert found.shape == (len(FULL) + len(CHAIN) + len(DECIDING) + 1, 2 * UNITS)
    naive = [Naive(made, tree) for tree in trees]
    expected = [torch.cat([n.ups[i][0], n.downs[i][0]]) for n in naive for i in range(len(n.tree))]
    torch.testing.assert_close(found, torch.stack(expected))


def test_branches_that_are_added_have_no_order_and_those_that_are_concatenated_have_one() -> None:
    for form, same in ((ADDS, True), (CONCATENATES, False)):
        made = encoder()
        one = made([(Place(None, None, form, 0), Place(0, 1), Place(0, 2))])
        other = made([(Place(None, None, form, 0), Place(0, 2), Place(0, 1))])
        assert torch.allclose(one[0], other[0], atol=1e-6) is same
        assert torch.allclose(one[1], other[2], atol=1e-6) is same


def test_what_is_beside_and_above_is_known_from_above_only() -> None:
    made = encoder()
    changed = [*FULL[:7], Place(0, 2)]  # another edge at the root's second branch
    before, after = made([FULL]), made([changed])
    assert torch.equal(before[1:7, :UNITS], after[1:7, :UNITS])
    assert not torch.isclose(before[1:7, UNITS:], after[1:7, UNITS:], atol=1e-5).all(1).any()


def test_first_weights_are_orthogonal_matrices_small_embeddings_and_no_biases() -> None:
    made = TreeEncoder(edges=3, nodes=2, embedding=2, units=UNITS)
    made.draw_weights(torch.Generator().manual_seed(0))
    for name, weight in made.named_parameters():
        if name.endswith("embedding"):
            assert weight.abs().max() <= 0.1
        elif name.endswith("bias") or "bias_" in name:
            assert not weight.any()
        else:
            narrow = weight if weight.shape[0] <= weight.shape[1] else weight.T
            torch.testing.assert_close(narrow @ narrow.T, torch.eye(len(narrow)), atol=1e-5, rtol=0)
