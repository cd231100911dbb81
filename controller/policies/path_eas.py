"""The controller of path-level EAS (Cai et al. 2018, arXiv 1806.02639, section 3.4; spec §9.2).

A tree-LSTM encodes the cell so far. From what it knows at the place that a decision is about, one of three actors
decides: how a node merges how many branches, whether a node is inserted, or which operation an edge gets.

Shapes: B decisions; O options of the one with the most; H units of one direction of the encoder. A name's suffix spells
its shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from controller.policies.lstm import IMPOSSIBLE
from controller.policies.rollout import Decided, Pick, PulledPolicy, decide, drawing, reading
from controller.policies.tree_lstm import Place, TreeEncoder

WIDER = 2.5
"""Units of an actor's hidden layer, in multiples of what it reads, in the published code."""

ActorName = Literal["merge", "insert", "operation"]


@dataclass(frozen=True, slots=True)
class OpenDecision:
    """What the policy sees of a decision.

    Attributes:
        tree: the cell so far.
        focus: the number of the place that is decided about.
        actor: who decides.
        allowed: of each option whether it may be chosen.
    """

    tree: tuple[Place, ...]
    focus: int
    actor: ActorName
    allowed: tuple[bool, ...]


class PathEasPolicy(PulledPolicy):
    """The encoder and the three actors.

    Args:
        edges, nodes, embedding, units: as in `TreeEncoder`.
        merges: of each kind of merging, which the first decision of a merge is among, how many branches it may have.
        operations: the number of operations of an edge.
    """

    def __init__(
        self, *, edges: int, nodes: int, merges: Sequence[int], operations: int, embedding: int = 10, units: int = 100
    ) -> None:
        super().__init__()
        self.encoder = TreeEncoder(edges=edges, nodes=nodes, embedding=embedding, units=units)
        self._merges = tuple(merges)
        self.merge = _actor(2 * units, len(merges))
        self.branches = nn.ModuleDict(
            {str(kind): _actor(2 * units, count) for kind, count in enumerate(merges) if count > 1}
        )
        self.insert = _actor(2 * units, 1)
        self.operation = _actor(2 * units, operations)

    def draw_weights(self, generator: torch.Generator) -> None:
        """Draw the encoder's weights, and the actors' after PyTorch's rule for linear maps, with biases of 0."""
        self.encoder.draw_weights(generator)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if name.startswith("encoder."):
                    continue
                if weight.dim() == 2:
                    bound = weight.shape[1] ** -0.5
                    weight.uniform_(-bound, bound, generator=generator)
                else:
                    weight.zero_()

    @torch.no_grad()
    def sample(self, decisions: Sequence[OpenDecision], generator: torch.Generator) -> list[int]:
        """Draw an option of each decision."""
        return self._decided(decisions, drawing(generator)).tokens[:, 0].tolist()

    def score(self, decisions: Sequence[OpenDecision], options: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the log-probability of an option of each decision, and the decision's entropy (nats), [B] float32."""
        made = self._decided(decisions, reading(torch.tensor(options)[:, None]))
        return made.log_prob, made.entropy

    def _decided(self, decisions: Sequence[OpenDecision], pick: Pick) -> Decided:
        # Decisions about one state of one tree, which follow each other where nothing has changed, share its encoding.
        trees = list(dict.fromkeys(decision.tree for decision in decisions))
        starts, first = dict[tuple[Place, ...], int](), 0
        for tree in trees:
            starts[tree] = first
            first += len(tree)
        encoded_PS = self.encoder(trees)
        state_BS = encoded_PS[torch.tensor([starts[one.tree] + one.focus for one in decisions])]
        widest = max(len(one.allowed) for one in decisions)
        logits_BO = torch.full((len(decisions), widest), IMPOSSIBLE)
        for actor in ("merge", "insert", "operation"):
            rows = torch.tensor([row for row, one in enumerate(decisions) if one.actor == actor], dtype=torch.int64)
            if len(rows):
                allowed = torch.tensor([decisions[row].allowed for row in rows.tolist()])
                own = self._logits(actor, state_BS[rows], allowed)
                logits_BO = logits_BO.index_copy(0, rows, F.pad(own, (0, widest - own.shape[1]), value=IMPOSSIBLE))
        return decide(logits_BO[:, None], slice(0, 1), pick)

    def _logits(self, actor: ActorName, state_BS: Tensor, allowed_BO: Tensor) -> Tensor:
        """Return the logits [B, O] of one actor's decisions, from what is known at their places [B, 2 H]."""
        match actor:
            case "merge":
                return self._merge_logits(state_BS, allowed_BO)
            case "insert":
                logits_BO = F.pad(self.insert(state_BS), (1, 0))  # a softmax of (0, z) is the sigmoid of z
            case "operation":
                logits_BO = self.operation(state_BS)
        return logits_BO.masked_fill(~allowed_BO, IMPOSSIBLE)

    def _merge_logits(self, state_BS: Tensor, allowed_BO: Tensor) -> Tensor:
        """Return the log-probabilities of each kind of merging with each number of branches, [B, O].

        The kind is decided first, then the number, by an actor of the kind's own.
        """
        ends = [sum(self._merges[: kind + 1]) for kind in range(len(self._merges))]
        possible_BK = torch.stack([allowed_BO[:, end - 1] for end in ends], 1)
        kinds_BK = F.log_softmax(self.merge(state_BS).masked_fill(~possible_BK, IMPOSSIBLE), 1)
        columns = list[Tensor]()
        for kind, count in enumerate(self._merges):
            own = kinds_BK[:, kind : kind + 1]
            columns.append(own + F.log_softmax(self.branches[str(kind)](state_BS), 1) if count > 1 else own)
        return torch.cat(columns, 1).masked_fill(~allowed_BO, IMPOSSIBLE)


def _actor(inputs: int, options: int) -> nn.Sequential:
    hidden = int(WIDER * inputs)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, options))
