"""ENAS's controller of recurrent cells, as in the authors' code for language models (Pham et al. 2018; spec §6.3).

Shapes are as in `rollout.py`; J earlier layers, of which layer 0 is the cell's first one.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from controller.decisions import Choice, Decision, Decisions
from controller.policies.enas import EnasConstants, EnasRollout, sample_entropy
from controller.policies.rollout import Decided, Pick, PulledPolicy, advance, decide, drawing, reading

DISTANCE_SCALE = 6.0
"""The square of how many layers back a layer is, divided by this, is taken off its logit."""

NEAREST = 0.1
"""What is added to how many layers back a layer is, by which its state is divided before it is read."""


class EnasCellPolicy(PulledPolicy):
    """Samples cells and scores them.

    An LSTM without biases makes two steps for each layer. After the first one, attention over the earlier layers
    chooses which of them is carried on: over the states of their own first steps, which are zeros for layer 0. It then
    reads the chosen one's, and after the second step a softmax chooses the activation, whose embedding it reads next.
    The softmax has the embeddings as its weights.

    Args:
        decisions: of each layer an earlier one, if there are two, and an activation.
        hidden: units of the LSTM (ENAS: 64).
        constants: of the probabilities, of which those of skips and of favoured options have no meaning here.

    Raises:
        ValueError: the decisions are others.
    """

    def __init__(self, decisions: Decisions, *, hidden: int = 64, constants: EnasConstants | None = None) -> None:
        super().__init__()
        activations = _activations(decisions)
        self._layers, self._constants = (len(decisions) + 1) // 2, constants or EnasConstants()
        self.w_input = nn.Parameter(torch.zeros(4 * hidden, hidden))
        self.w_hidden = nn.Parameter(torch.zeros(4 * hidden, hidden))
        self.start = nn.Parameter(torch.zeros(hidden))
        self.embedding = nn.Parameter(torch.zeros(activations, hidden))
        if self._layers > 1:
            # W_1, W_2 and v of the attention.
            self.w_anchor = nn.Parameter(torch.zeros(hidden, hidden))
            self.w_query = nn.Parameter(torch.zeros(hidden, hidden))
            self.v = nn.Parameter(torch.zeros(hidden))

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> EnasRollout:
        """Draw `n` samples, B = n."""
        return self._unroll(n, drawing(generator))

    def score(self, tokens: Tensor) -> EnasRollout:
        """Return what is learnt from tokens [B, T] int64, differentiable."""
        return self._unroll(len(tokens), reading(tokens))

    def _unroll(self, batch: int, pick: Pick) -> EnasRollout:
        columns, made = _columns(), list[Decided]()
        read_BH = self.start.expand(batch, -1)
        zeros_BH = torch.zeros_like(read_BH)
        state, anchors = [(zeros_BH, zeros_BH)], [zeros_BH]
        weights = [(self.w_input, self.w_hidden)]
        for layer in range(1, self._layers + 1):
            state = advance(weights, read_BH, state)
            hidden_BH = state[0][0]
            source_B = torch.zeros(batch, dtype=torch.int64)
            if layer > 1:
                made.append(decide(self._logits(anchors, hidden_BH).unsqueeze(1), next(columns), pick))
                source_B = made[-1].tokens[:, 0]
            chosen_BH = torch.stack(anchors, 1)[torch.arange(batch), source_B]
            anchors.append(hidden_BH)
            state = advance(weights, chosen_BH / (NEAREST + layer - source_B).unsqueeze(1), state)
            logits_BO = self._constants.bounded(state[0][0] @ self.embedding.T)
            made.append(decide(logits_BO.unsqueeze(1), next(columns), pick))
            read_BH = self.embedding[made[-1].tokens[:, 0]]
        log_prob_B, entropy_B, sample_entropy_B = (
            torch.stack(terms).sum(0)
            for terms in zip(*((d.log_prob, d.entropy, sample_entropy(d)) for d in made), strict=True)
        )
        tokens_BT = torch.cat([decided.tokens for decided in made], 1)
        return EnasRollout(tokens_BT, log_prob_B, entropy_B, sample_entropy_B, torch.zeros(batch))

    def _logits(self, anchors: list[Tensor], hidden_BH: Tensor) -> Tensor:
        """Return the logits [B, J] float32 of the layers that a layer may carry on."""
        keys_BJH = torch.stack(anchors, 1) @ self.w_anchor.T
        scores_BJ = torch.tanh(keys_BJH + (hidden_BH @ self.w_query.T).unsqueeze(1)) @ self.v
        back_J = torch.arange(len(anchors), 0, -1)
        return self._constants.bounded(scores_BJ) - back_J**2 / DISTANCE_SCALE


def _columns() -> Iterator[slice]:
    """Yield the column of one decision after another, of which each takes one token."""
    column = 0
    while True:
        yield slice(column, column + 1)
        column += 1


def _activations(decisions: Decisions) -> int:
    """Return the number of activations.

    Raises:
        ValueError: the decisions are not, of each layer, an earlier one and an activation.
    """

    def plain(decision: Decision) -> tuple[int | float | str, ...] | None:
        """Return the options of a choice that always allows all of them."""
        if not isinstance(decision, Choice) or decision.when is not None or decision.allowed is not None:
            return None
        return decision.options

    activations = plain(decisions[-1])
    for place, decision in enumerate(decisions):
        options = tuple(range(place // 2 + 2)) if place % 2 else activations
        if options is None or plain(decision) != options or len(decisions) % 2 == 0:
            raise ValueError(
                "ENAS's controller of recurrent cells chooses, of each layer, an earlier layer and an activation, and"
                f" cannot make another decision: {decision}"
            )
    return len(activations or ())
