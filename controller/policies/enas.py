"""ENAS's controller (Pham et al. 2018; spec §6.1): one softmax for all layers, bounded logits, a prior on skips.

Shapes as in `lstm.py`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from controller.decisions import Decisions, Pointer, Subset
from controller.policies.lstm import Policy, Rollout


class BoundedLinear(nn.Linear):
    """Logits without bias, squashed to the interval (-bound, bound)."""

    def __init__(self, inputs: int, outputs: int, bound: float) -> None:
        super().__init__(inputs, outputs, bias=False)
        self._bound = bound

    def forward(self, input: Tensor) -> Tensor:
        """Return bound * tanh(W x)."""
        return self._bound * torch.tanh(super().forward(input))


class EnasPolicy(Policy):
    """The recurrent policy of `lstm.py` with ENAS's softmaxes.

    Choices of one kind with equally many options share a softmax and an embedding, wherever they are. The LSTM has one
    layer and no biases. At a `Subset` or `Pointer` it reads what a `Choice` would: the embedding of the last token.

    Args:
        choice_sizes: the number of options of each choice, by the choice's name.
        hidden: units of the LSTM.
        bound: of the logits.
    """

    def __init__(self, choice_sizes: Mapping[str, int], *, hidden: int, bound: float) -> None:
        super().__init__({}, hidden=hidden, layers=1)
        self.cells = nn.ModuleList([nn.LSTMCell(hidden, hidden, bias=False)])
        del self.anchor
        self._bound = bound
        self._skip_scores: list[Tensor] | None = None  # while they are wanted
        shared: dict[tuple[str, int], tuple[nn.Module, nn.Module]] = {}
        for name, size in choice_sizes.items():
            kind = name.rpartition("_")[0], size
            if kind not in shared:
                shared[kind] = BoundedLinear(hidden, size, bound), nn.Embedding(size, hidden)
            self.heads[name], self.embeddings[name] = shared[kind]

    def score_skips(self, decisions: Decisions, tokens: Tensor) -> tuple[Rollout, list[Tensor]]:
        """Return what `score` does, and the scores [B, J] of each `Subset`, whose sigmoid a skip is sampled with."""
        self._skip_scores = skip_scores = []
        rollout = self.score(decisions, tokens)
        self._skip_scores = None
        return rollout, skip_scores

    def _anchor_input(self, input_BH: Tensor) -> Tensor:
        return input_BH

    def _scores(self, decision: Subset | Pointer, keys_BJH: Tensor, query_BH: Tensor) -> Tensor:
        """Return the squashed scores; a skip's two logits are -q and q, so that sigmoid(2 q) is its probability."""
        squashed_BJ = self._bound * torch.tanh(super()._scores(decision, keys_BJH, query_BH))
        if isinstance(decision, Pointer):
            return squashed_BJ
        if self._skip_scores is not None:
            self._skip_scores.append(2 * squashed_BJ)
        return 2 * squashed_BJ

    def _shares(self, selected_BJ: Tensor) -> Tensor:
        """Return the selected anchors' shares; all are smaller than 1, as if a zero vector were selected too."""
        return selected_BJ / (1 + selected_BJ.sum(1, keepdim=True))


def skip_divergence(scores: list[Tensor], target: float, *, compatible: bool = False) -> Tensor:
    """Return the divergence of the skips from a prior, [B] float32 nats: the mean over layers of the sums over skips.

    Of a skip it is KL(p || target) = p log(p / target) + (1 - p) log((1 - p) / (1 - target)), where p is the
    probability that it is sampled with. It is 0 where all skips have the target's probability.

    Args:
        scores: [B, J] of each layer with skips; p is their sigmoid.
        target: the prior probability of a skip.
        compatible: p is the sigmoid of half the score, as in the authors' code. There a divergence of 0 means that a
            skip is sampled with the probability sigmoid(2 logit(target)): .308 for .4.
    """
    sums = []
    for scores_BJ in scores:
        logits_BJ = scores_BJ / 2 if compatible else scores_BJ
        p_BJ = torch.sigmoid(logits_BJ)
        kept_BJ = p_BJ * (F.logsigmoid(logits_BJ) - torch.tensor(target).log())
        left_BJ = (1 - p_BJ) * (F.logsigmoid(-logits_BJ) - torch.tensor(1 - target).log())
        sums.append((kept_BJ + left_BJ).sum(1))
    return torch.stack(sums).mean(0)
