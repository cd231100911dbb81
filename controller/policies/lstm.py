"""The controller: an autoregressive LSTM over decisions (Zoph & Le 2017, sections 3.2, 3.3; spec §1.2, §1.5).

Shapes: B samples, T tokens, H hidden units, J earlier anchors.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from controller.decisions import Choice, Decisions, Pointer, Subset, offsets


class Rollout(NamedTuple):
    """Samples with what they cost.

    Attributes:
        tokens: [B, T] int64.
        log_prob: [B], natural logarithm of each sample's probability.
        entropy: [B], the summed entropies (nats) of the decisions along each sample.
    """

    tokens: Tensor
    log_prob: Tensor
    entropy: Tensor


Pick = Callable[[Tensor, slice], Tensor]
"""(probabilities [B, n, options], columns) -> tokens [B, n]: samples them, or reads them off."""

State = list[tuple[Tensor, Tensor]]


class Policy(nn.Module):
    """Samples tokens and scores them. Each choice has a softmax and an embedding of its own (figure 2 of the paper):
    shared between layers, they learn what suits all layers alike and hardly anything else.

    Args:
        vocabulary: names of the choices, with their numbers of options.
        hidden: units of each LSTM layer (the paper: 35).
        layers: LSTM layers (the paper: 2).
    """

    def __init__(self, vocabulary: Mapping[str, int], *, hidden: int = 35, layers: int = 2) -> None:
        super().__init__()
        self.hidden = hidden
        self.cells = nn.ModuleList(nn.LSTMCell(hidden, hidden) for _ in range(layers))
        self.embeddings = nn.ModuleDict({name: nn.Embedding(n, hidden) for name, n in vocabulary.items()})
        self.heads = nn.ModuleDict({name: nn.Linear(hidden, n) for name, n in vocabulary.items()})
        self.start = nn.Parameter(torch.zeros(hidden))
        self.anchor = nn.Parameter(torch.zeros(hidden))
        # The anchors' content-based attention: sigmoid(v^T tanh(W_prev h_j + W_curr h_i)).
        self.w_prev = nn.Parameter(torch.zeros(hidden, hidden))
        self.w_curr = nn.Parameter(torch.zeros(hidden, hidden))
        self.v = nn.Parameter(torch.zeros(hidden))

    def initialize(self, generator: torch.Generator, bound: float = 0.08) -> None:
        """Draw every weight from U(-bound, bound); the paper's bound is 0.08."""
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-bound, bound, generator=generator)

    @torch.no_grad()
    def sample(self, decisions: Decisions, n: int, generator: torch.Generator) -> Rollout:
        """`n` samples of the decisions."""

        def draw(probabilities: Tensor, _: slice) -> Tensor:
            flat = probabilities.reshape(-1, probabilities.shape[-1])
            return torch.multinomial(flat, 1, generator=generator).view(probabilities.shape[:-1])

        return self._unroll(decisions, n, draw)

    def log_prob(self, decisions: Decisions, tokens: Tensor) -> Tensor:
        """[B] log-probabilities of tokens [B, T], differentiable."""
        return self.score(decisions, tokens).log_prob

    def entropy(self, decisions: Decisions, tokens: Tensor) -> Tensor:
        """[B] summed entropies (nats) of the decisions along tokens [B, T], differentiable."""
        return self.score(decisions, tokens).entropy

    def score(self, decisions: Decisions, tokens: Tensor) -> Rollout:
        """Log-probabilities and entropies of tokens [B, T] in one pass, differentiable."""
        return self._unroll(decisions, len(tokens), lambda _, columns: tokens[:, columns])

    def _unroll(self, decisions: Decisions, batch: int, pick: Pick) -> Rollout:
        starts = offsets(decisions)
        # Each cell's weights, asked for once: to call the modules takes as long as to compute.
        cells = [tuple(cell.parameters()) for cell in self.cells]
        tokens = torch.zeros(batch, starts[-1], dtype=torch.int64)
        log_prob, entropy = torch.zeros(batch), torch.zeros(batch)
        state: State = [(torch.zeros(batch, self.hidden), torch.zeros(batch, self.hidden)) for _ in self.cells]
        fed = self.start.expand(batch, -1)
        anchors: list[Tensor] = []
        for index, decision in enumerate(decisions):
            columns = slice(starts[index], starts[index] + decision.width)
            if isinstance(decision, Choice):
                stepped = _step(cells, fed, state)
                logits = self.heads[decision.name](stepped[-1][0]).unsqueeze(1)
                chosen, gain, spread = _decide(logits, columns, pick)
                new_fed = self.embeddings[decision.name](chosen[:, 0])
                if decision.when is not None:
                    asked = tokens[:, starts[decision.when.decision]]
                    made = torch.isin(asked, torch.tensor(decision.when.tokens))
                    chosen, gain, spread = chosen * made[:, None], gain * made, spread * made
                    new_fed = torch.where(made[:, None], new_fed, fed)
                    stepped = [_where(made, new, old) for new, old in zip(stepped, state, strict=True)]
                fed, state = new_fed, stepped
            else:
                state = _step(cells, self.anchor.expand(batch, -1), state)
                chosen, gain, spread, fed = self._attend(decision, state[-1][0], anchors, columns, pick)
                anchors.append(state[-1][0])
            tokens[:, columns] = chosen
            log_prob, entropy = log_prob + gain, entropy + spread
        return Rollout(tokens, log_prob, entropy)

    def _attend(
        self, decision: Subset | Pointer, query: Tensor, anchors: list[Tensor], columns: slice, pick: Pick
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens [B, width], log-probability [B], entropy [B], and what the next step is fed [B, H].

        The paper leaves the last open; the mean of the selected anchors' states is ENAS's choice (spec §1.2).
        """
        assert decision.count == len(anchors), f"{decision} after {len(anchors)} anchors"
        zero = torch.zeros(len(query))
        if not anchors:
            return torch.zeros(len(query), 0, dtype=torch.int64), zero, zero, torch.zeros_like(query)
        keys_BJH = torch.stack(anchors, dim=1)
        scores_BJ = torch.tanh(keys_BJH @ self.w_prev.T + (query @ self.w_curr.T).unsqueeze(1)) @ self.v
        if isinstance(decision, Subset):
            # A Bernoulli bit is a softmax over (0, score): the probability of 1 is sigmoid(score).
            chosen, gain, spread = _decide(torch.stack([torch.zeros_like(scores_BJ), scores_BJ], -1), columns, pick)
            weights_BJ = chosen.to(keys_BJH.dtype)
            weights_BJ = weights_BJ / weights_BJ.sum(1, keepdim=True).clamp(min=1)
        elif decision.width == 0:
            chosen, gain, spread = torch.zeros(len(query), 0, dtype=torch.int64), zero, zero
            weights_BJ = torch.ones_like(scores_BJ)
        else:
            chosen, gain, spread = _decide(scores_BJ.unsqueeze(1), columns, pick)
            weights_BJ = F.one_hot(chosen[:, 0], decision.count).to(keys_BJH.dtype)
        return chosen, gain, spread, (weights_BJ.unsqueeze(-1) * keys_BJH).sum(1)


def _step(cells: Sequence[tuple[Tensor, ...]], fed: Tensor, state: State) -> State:
    """One step of the stacked LSTM cells of these weights: each reads the hidden state of the one below."""
    new: State = []
    for weights, layer in zip(cells, state, strict=True):
        new.append(torch.lstm_cell(fed, layer, *weights))
        fed = new[-1][0]
    return new


def _decide(logits: Tensor, columns: slice, pick: Pick) -> tuple[Tensor, Tensor, Tensor]:
    """n independent softmax decisions from logits [B, n, options]: tokens [B, n], log-probability and entropy [B]."""
    log_probabilities = F.log_softmax(logits, dim=-1)
    probabilities = log_probabilities.exp()
    chosen = pick(probabilities, columns)
    gain = log_probabilities.gather(-1, chosen.unsqueeze(-1)).sum((1, 2))
    return chosen, gain, -(probabilities * log_probabilities).sum((1, 2))


def _where(made: Tensor, new: tuple[Tensor, Tensor], old: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return torch.where(made[:, None], new[0], old[0]), torch.where(made[:, None], new[1], old[1])
