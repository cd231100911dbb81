"""Path-level EAS: cells that grow as trees from a trained network (Cai et al. 2018, arXiv 1806.02639; spec §9.2).

All cells of a network grow alike: an edge gets branches beside it or a node below it, and identities become operations.
But for pools, the child computes what its parent does until it is trained.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from child_trainer.inheritance.changes import Change
from controller.decisions import Tokens
from controller.policies.path_eas import OpenDecision, PathEasPolicy
from controller.policies.tree_lstm import ADDS, CONCATENATES, PASSES, Place
from controller.searchers.transformations.inheriting_searcher import Grown, InheritingSearcher, Scored, changes_in_words
from controller.searchers.transformations.options import PathEasOptions
from controller.space import SearchSpace
from controller.spaces.cell_tree import MERGES, START, Growth, Path, TreeNode
from controller.spaces.checks import space_words
from controller.spaces.tree_cells import TreeCellSpace

DECISIONS = "decisions"
"""The key of a child's decisions: the option of each, in the order in which a growth asks for them."""

NODES = ("add-copy", "concat-split", "concat-copy")
"""The vocabulary of nodes that combine branches."""


class PathEas(InheritingSearcher):
    """Grows cells of the space `tree-cells` by a policy."""

    def __init__(self, space: SearchSpace, options: PathEasOptions) -> None:
        if not isinstance(space, TreeCellSpace):
            raise ValueError(
                "the searcher 'path-eas' grows cells as trees, which the space 'tree-cells' has: use --space"
                f" tree-cells, got {space_words(space)}"
            )
        super().__init__(space, options, TreeGrower(space, options))


@dataclass(slots=True)
class _Growing:
    """A child that is not proposed yet: its cell so far, the changes that made it, and the decisions."""

    growth: Growth
    changes: list[Change] = field(default_factory=list)
    options: list[int] = field(default_factory=list)
    acted: Counter[str] = field(default_factory=Counter)


class TreeGrower:
    """Grows trees by a policy.

    Attributes:
        policy: decides.
    """

    def __init__(self, space: TreeCellSpace, options: PathEasOptions) -> None:
        self._space, self._options = space, options
        self._edges = {name: number for number, name in enumerate((START, *space.operations))}
        self.policy = PathEasPolicy(
            edges=len(self._edges),
            nodes=len(NODES),
            merges=tuple(Counter(merge for merge, _ in MERGES).values()),
            operations=len(space.operations),
            embedding=options.edge_embedding,
            units=options.encoder_units,
        )

    def draw_weights(self, generator: torch.Generator) -> None:
        """Draw the policy's first weights."""
        self.policy.draw_weights(generator)

    def start(self) -> Tokens:
        """Return the convolution alone."""
        return self._space.encode(self._space.tree(()))

    def can_grow(self, parent: Sequence[int]) -> bool:
        """Return whether a cell has a convolution without branches, an identity, or an edge that a node may follow."""
        return bool(self._space.growth_of(self._space.tree(parent)).agenda)

    def grow(self, parent: Sequence[int], count: int, generator: torch.Generator) -> list[Grown]:
        """Return so many cells that the policy makes of a parent's."""
        growth = self._space.growth_of(self._space.tree(parent))
        growing = [_Growing(growth) for _ in range(count)]
        while unfinished := [one for one in growing if one.growth.agenda]:
            options = self.policy.sample([self._seen(one.growth) for one in unfinished], generator)
            for one, option in zip(unfinished, options, strict=True):
                self._decide(one, option)
        return [
            Grown(
                tokens=self._space.encode(one.growth.tree),
                changes=tuple(one.changes),
                decisions={DECISIONS: one.options},
                words=changes_in_words(
                    (one.acted["merge"], "node{s} branched"),
                    (one.acted["insert"], "node{s} more"),
                    (one.acted["operation"], "operation{s}"),
                ),
            )
            for one in growing
        ]

    def score(self, made: Sequence[tuple[Sequence[int], Mapping[str, Any]]]) -> Scored:
        """Return the log-probability and the entropies of each child's decisions, all from one pass of the policy."""
        seen, options, children = list[OpenDecision](), list[int](), list[int]()
        for child, (parent, notes) in enumerate(made):
            one = _Growing(self._space.growth_of(self._space.tree(parent)))
            for option in notes[DECISIONS]:
                seen.append(self._seen(one.growth))
                self._decide(one, option)
            options += one.options
            children += [child] * len(one.options)
        owners = torch.tensor(children, dtype=torch.int64)
        counts = torch.bincount(owners, minlength=len(made)).clamp(min=1)
        log_prob, entropy = torch.zeros(len(made)), torch.zeros(len(made))
        if seen:
            log_probs, entropies = self.policy.score(seen, options)
            log_prob, entropy = log_prob.index_add(0, owners, log_probs), entropy.index_add(0, owners, entropies)
        return Scored(log_prob, entropy, entropy / counts)

    def _decide(self, one: _Growing, option: int) -> None:
        kind = one.growth.agenda[-1].kind
        one.growth, changes = self._space.decided(
            one.growth,
            option,
            branch_noise=self._options.branch_noise,
            operation_noise=self._options.operation_noise,
        )
        one.options.append(option)
        one.changes += changes
        one.acted[kind] += bool(changes)

    def _seen(self, growth: Growth) -> OpenDecision:
        """Return what the policy sees of the next decision; that of a merge is about the edge that is branched."""
        decision = growth.agenda[-1]
        places, numbers = list[Place](), dict[Path, int]()
        self._add_places(places, numbers, growth.tree, ())
        path = (*decision.path, 0) if decision.kind == "merge" else decision.path
        return OpenDecision(
            tree=tuple(places), focus=numbers[path], actor=decision.kind, allowed=self._space.options(growth)
        )

    def _add_places(self, places: list[Place], numbers: dict[Path, int], tree: TreeNode, path: Path) -> None:
        """Add the places of a node and below it; the root is one, and so is each edge with the node below it."""
        if not path:
            places.append(Place(None, None, *self._node(tree, ())))
            numbers[()] = 0
        for place, edge in enumerate(tree.edges):
            below = (*path, place)
            numbers[below] = len(places)
            number = None if edge.operation is None else self._edges[edge.operation]
            does = (PASSES, 0) if edge.below is None else self._node(edge.below, below)
            places.append(Place(numbers[path], number, *does))
            if edge.below is not None:
                self._add_places(places, numbers, edge.below, below)

    def _node(self, tree: TreeNode, path: Path) -> tuple[int, int]:
        """Return what a node does with its branches, and the vocabulary's number of that."""
        if tree.merge == "none":
            return PASSES, 0
        name = f"{tree.merge}-{self._space.allocation(path, tree.merge)}"
        return (ADDS if tree.merge == "add" else CONCATENATES), NODES.index(name)
