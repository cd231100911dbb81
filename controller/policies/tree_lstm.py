"""The bidirectional tree-LSTM of path-level EAS (Cai et al. 2018, arXiv 1806.02639, section 3.4; spec §9.2).

A place of a tree is an edge with the node that it leads to; the root is a place without an edge. From the leaves up, a
node combines what its places know: a node that adds by the child-sum form, as its places have no order, one that
concatenates by the N-ary form (Tai et al. 2015, arXiv 1503.00075, section 3). Then an LSTM reads the edge above. From
the root down, a place combines what its parent knows of the tree above with what the places beside it know from below.

Shapes: P places of all trees; N of these at one depth; M branches of a node at most; E numbers of an embedding; H
hidden units. A name's suffix spells its shape. All tensors are float32, but for indices, which are int64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

MAX_BRANCHES, MAX_CONCATENATED = 3, 2
"""Upper bounds for the branches of a node that adds, and of one that concatenates."""

PASSES, ADDS, CONCATENATES = range(3)
"""What a node does with its branches: it has one, or none; it adds; it concatenates."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place of a tree.

    Attributes:
        parent: the number of the place that it is below, among those of its tree; `None`: it is the root.
        edge: the vocabulary's number of its edge; `None`: it is not decided yet. The root's is not looked at.
        form: what its node does.
        node: the vocabulary's number of that; not looked at where it passes.
    """

    parent: int | None
    edge: int | None
    form: int = PASSES
    node: int = 0


class State(NamedTuple):
    """What is known at places: `h` and `c`, `[N, H]`, or `[N, M, H]` of a node's branches."""

    h: Tensor
    c: Tensor

    def at(self, index: Tensor) -> "State":
        """Return the states of these places."""
        return State(self.h[index], self.c[index])

    def masked(self, mask: Tensor) -> "State":
        """Return the states, 0 where the mask is 0; of a branch that does not exist nothing is known."""
        return State(self.h * mask[..., None], self.c * mask[..., None])


@dataclass(frozen=True, slots=True)
class _Level:
    """The places of all trees at one depth.

    Attributes:
        places_N: their numbers among all P.
        parents_N: the numbers of their parents among the places of the depth above.
        slots_N: which branch of its parent each is.
        edges_N: vocabulary's number + 1 of each edge, 0 where it is not decided.
        forms_N, nodes_N: as in `Place`.
        branches_NM: the numbers of each one's branches among the places of the depth below; 0 where it has fewer.
        exists_NM: 1 for the branches that exist.
    """

    places_N: Tensor
    parents_N: Tensor
    slots_N: Tensor
    edges_N: Tensor
    forms_N: Tensor
    nodes_N: Tensor
    branches_NM: Tensor
    exists_NM: Tensor


class BranchesUp(nn.Module):
    """What a node knows of its branches, for one form: input, output and update gate, and a forget gate for each.

    Args:
        units: H.
        ordered: whether the branches have an order: the N-ary form. Else it is the child-sum form.
    """

    def __init__(self, units: int, *, ordered: bool) -> None:
        super().__init__()
        self.ordered = ordered
        width = MAX_CONCATENATED * units if ordered else units
        self.gates_h = nn.Linear(width, 3 * units, bias=False)
        self.forget_h = nn.Linear(width, (MAX_CONCATENATED if ordered else 1) * units, bias=False)

    def forward(self, gates_NG: Tensor, forget_NH: Tensor, branches: State) -> State:
        """Return the state of N nodes.

        Args:
            gates_NG: `[N, 3 H]`, what the node's type adds to the three gates.
            forget_NH: what it adds to the forget gates.
            branches: `[N, M, H]`.
        """
        if self.ordered:
            first_h, first_c = branches.h[:, :MAX_CONCATENATED], branches.c[:, :MAX_CONCATENATED]
            read = first_h.flatten(1)
            forget = self.forget_h(read).unflatten(1, (MAX_CONCATENATED, -1))
        else:
            first_c, read = branches.c, branches.h.sum(1)
            forget = self.forget_h(branches.h)
        kept = ((forget_NH[:, None] + forget).sigmoid() * first_c).sum(1)
        return _opened(gates_NG + self.gates_h(read), kept)


class BranchesDown(nn.Module):
    """What a place knows of the tree above and beside it, for one form of its parent; see `BranchesUp`."""

    def __init__(self, units: int, *, ordered: bool) -> None:
        super().__init__()
        self.ordered = ordered
        width = MAX_CONCATENATED * units if ordered else units
        self.gates_beside = nn.Linear(width, 3 * units, bias=False)
        self.gates_above = nn.Linear(units, 3 * units, bias=False)
        # Both kinds of forget gates read what is above; then that of a branch beside reads this branch, or all of them.
        self.forget_beside = nn.Linear(units + width, (MAX_CONCATENATED if ordered else 1) * units, bias=False)
        self.forget_above = nn.Linear(units + width, units, bias=False)

    def forward(self, gates_NG: Tensor, forget_NH: Tensor, above: State, beside: State) -> State:
        """Return the state of N places.

        Args:
            gates_NG: `[N, 3 H]`, what the parent's type adds to the three gates.
            forget_NH: what it adds to the forget gates.
            above: of the parent, `[N, H]`.
            beside: of the parent's branches, `[N, M, H]`; that of the place itself is 0.
        """
        if self.ordered:
            beside_c, read = beside.c[:, :MAX_CONCATENATED], beside.h[:, :MAX_CONCATENATED].flatten(1)
            both = torch.cat([above.h, read], 1)
            forget = self.forget_beside(both).unflatten(1, (MAX_CONCATENATED, -1))
        else:
            beside_c, read = beside.c, beside.h.sum(1)
            both = torch.cat([above.h, read], 1)
            forget = self.forget_beside(torch.cat([above.h[:, None].expand_as(beside.h), beside.h], 2))
        kept = ((forget_NH[:, None] + forget).sigmoid() * beside_c).sum(1)
        kept = kept + (forget_NH + self.forget_above(both)).sigmoid() * above.c
        return _opened(gates_NG + self.gates_beside(read) + self.gates_above(above.h), kept)


class Direction(nn.Module):
    """One direction of the encoder: what the two forms share, the forms, and the LSTM that reads edges."""

    def __init__(self, kind: type[BranchesUp] | type[BranchesDown], embedding: int, units: int) -> None:
        super().__init__()
        self.gates_x = nn.Linear(embedding, 3 * units)
        self.forget_x = nn.Linear(embedding, units)
        self.adding = kind(units, ordered=False)
        self.concatenating = kind(units, ordered=True)
        self.edge = nn.LSTMCell(embedding, units)

    def combined(self, passed: State, forms_N: Tensor, nodes_NE: Tensor, *states: State) -> State:
        """Return the states of N places: by their form, or what is passed where nothing is combined.

        Args:
            passed: `[N, H]`.
            forms_N: whether each adds, concatenates or passes.
            nodes_NE: the embeddings of these.
            states: what a form reads, `[N, ...]` each.
        """
        h_NH, c_NH = passed
        for form, module in ((ADDS, self.adding), (CONCATENATES, self.concatenating)):
            index = (forms_N == form).nonzero()[:, 0]
            if len(index):
                nodes = nodes_NE[index]
                made = module(self.gates_x(nodes), self.forget_x(nodes), *(state.at(index) for state in states))
                h_NH, c_NH = h_NH.index_copy(0, index, made.h), c_NH.index_copy(0, index, made.c)
        return State(h_NH, c_NH)


class TreeEncoder(nn.Module):
    """Encodes places of trees, each by what is below it and by what is above and beside it.

    Args:
        edges: the number of different edges.
        nodes: the number of different nodes that combine branches.
        embedding: E.
        units: H, of each direction.
    """

    def __init__(self, *, edges: int, nodes: int, embedding: int, units: int) -> None:
        super().__init__()
        self.units = units
        self.edge_embedding = nn.Parameter(torch.empty(edges, embedding))
        self.node_embedding = nn.Parameter(torch.empty(nodes, embedding))
        self.up = Direction(BranchesUp, embedding, units)
        self.down = Direction(BranchesDown, embedding, units)

    def draw_weights(self, generator: torch.Generator) -> None:
        """Draw embeddings from U(-0.1, 0.1) and orthogonal matrices; biases are 0, as in the published code."""
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if name.endswith("embedding"):
                    weight.uniform_(-0.1, 0.1, generator=generator)
                elif weight.dim() == 2:
                    nn.init.orthogonal_(weight, generator=generator)
                else:
                    weight.zero_()

    def forward(self, trees: Sequence[Sequence[Place]]) -> Tensor:
        """Return `[P, 2 H]`: of each place of each tree, what is known from below and from above, end to end.

        Args:
            trees: the places of each, each place after the one that it is below; the branches of a node in their order.
        """
        levels = _levels(trees)
        # An edge that is not decided is 0, as a padded one in the published code.
        edges_VE = torch.cat([torch.zeros_like(self.edge_embedding[:1]), self.edge_embedding])
        up = self._upwards(levels, edges_VE)
        down = self._downwards(levels, edges_VE, up)
        places = torch.cat([level.places_N for level in levels])
        both = torch.cat([torch.cat([u.h, d.h], 1) for u, d in zip(up, down, strict=True)])
        return both[places.argsort()]

    def _upwards(self, levels: Sequence[_Level], edges_VE: Tensor) -> list[State]:
        """Return what each depth's places know of what is below them."""
        states = list[State]()
        below = State(torch.zeros(1, self.units), torch.zeros(1, self.units))
        for depth in reversed(range(len(levels))):
            level = levels[depth]
            branches = below.at(level.branches_NM).masked(level.exists_NM)
            passed = State(branches.h[:, 0], branches.c[:, 0])
            below = self.up.combined(passed, level.forms_N, self.node_embedding[level.nodes_N], branches)
            if depth:  # the root has no edge
                below = State(*self.up.edge(edges_VE[level.edges_N], tuple(below)))
            states.insert(0, below)
        return states

    def _downwards(self, levels: Sequence[_Level], edges_VE: Tensor, up: Sequence[State]) -> list[State]:
        """Return what each depth's places know of what is above and beside them."""
        roots = len(levels[0].places_N)
        states = [State(torch.zeros(roots, self.units), torch.zeros(roots, self.units))]
        for parents, level, known in zip(levels, levels[1:], up[1:], strict=False):
            at_N = level.parents_N
            above = states[-1].at(at_N)
            others_NM = parents.exists_NM[at_N].scatter(1, level.slots_N[:, None], 0.0)
            beside = known.at(parents.branches_NM[at_N]).masked(others_NM)
            nodes_NE = self.node_embedding[parents.nodes_N[at_N]]
            combined = self.down.combined(above, parents.forms_N[at_N], nodes_NE, above, beside)
            states.append(State(*self.down.edge(edges_VE[level.edges_N], tuple(combined))))
        return states


def _opened(gates_NG: Tensor, kept_NH: Tensor) -> State:
    """Return the state of an LSTM from its input, output and update gate `[N, 3 H]`, and what its forget gates keep."""
    let_in, let_out, update = gates_NG.chunk(3, 1)
    c = let_in.sigmoid() * update.tanh() + kept_NH
    return State(let_out.sigmoid() * c.tanh(), c)


def _levels(trees: Sequence[Sequence[Place]]) -> list[_Level]:
    """Return the places of all trees, depth by depth."""
    rows: list[list[tuple[int, int, int, Place]]] = []  # at each depth: number, parent there, slot, place
    branches: list[list[list[int]]] = []  # at each depth, of each place: the numbers of its branches below
    first = 0
    for tree in trees:
        where = list[tuple[int, int]]()  # of each place of this tree: its depth, and its number there
        for number, place in enumerate(tree):
            depth, above = (0, 0) if place.parent is None else (where[place.parent][0] + 1, where[place.parent][1])
            if depth == len(rows):
                rows.append([])
                branches.append([])
            slot = len(branches[depth - 1][above]) if depth else 0
            if depth:
                branches[depth - 1][above].append(len(rows[depth]))
            where.append((depth, len(rows[depth])))
            rows[depth].append((first + number, above, slot, place))
            branches[depth].append([])
        first += len(tree)
    return [_level(row, own) for row, own in zip(rows, branches, strict=True)]


def _level(rows: Sequence[tuple[int, int, int, Place]], branches: Sequence[Sequence[int]]) -> _Level:
    padded = [[*own, *[0] * (MAX_BRANCHES - len(own))] for own in branches]
    exists = [[1.0] * len(own) + [0.0] * (MAX_BRANCHES - len(own)) for own in branches]
    numbers, parents, slots, places = zip(*rows, strict=True)
    return _Level(
        places_N=torch.tensor(numbers),
        parents_N=torch.tensor(parents),
        slots_N=torch.tensor(slots),
        edges_N=torch.tensor([0 if place.edge is None else place.edge + 1 for place in places]),
        forms_N=torch.tensor([place.form for place in places]),
        nodes_N=torch.tensor([place.node for place in places]),
        branches_NM=torch.tensor(padded),
        exists_NM=torch.tensor(exists),
    )
