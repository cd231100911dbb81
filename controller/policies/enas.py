"""ENAS's controller (Pham et al. 2018, arXiv 1802.03268, section 2; spec §6.1, §6.2).

Shapes are as in `rollout.py`; J earlier anchors.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from controller.decisions import Choice, Decisions, Subset, offsets
from controller.policies.enas_plan import check_makeable, plan_of
from controller.policies.rollout import Decided, Pick, PulledPolicy, advance, decide, drawing, reading


class EnasRollout(NamedTuple):
    """Samples and what ENAS learns from them.

    Attributes:
        tokens: [B, T] int64.
        log_prob: [B] float32, natural logarithm of each sample's probability.
        entropy: [B] float32, the entropies (nats) of the decisions along each sample, summed.
        sample_entropy: [B] float32, -p log p of each token's own probability p, summed; no gradients.
        skip_kl: [B] float32, `skip_kl` of each layer's skips, as the mean over the layers that can have any.
    """

    tokens: Tensor
    log_prob: Tensor
    entropy: Tensor
    sample_entropy: Tensor
    skip_kl: Tensor


@dataclass(frozen=True, kw_only=True)
class EnasConstants:
    """What shapes the probabilities of ENAS's controller.

    Attributes:
        temperature: divides all logits; `None`: they are left as they are.
        tanh_constant: c of c * tanh(logits), which bounds them; `None`: no bound.
        tanh_reduce: of choices by softmax, c is divided by this.
        favoured: options that each softmax favours.
        favoured_init: the first value of their trainable bias.
        favoured_bonus: what their logits have added in the first cell, and those of all others subtracted.
        skip_rate: the probability of a skip to which the penalty draws.
        compatible: take the penalty of the sigmoid of a skip's logit, as the published code does.
    """

    temperature: float | None = None
    tanh_constant: float | None = None
    tanh_reduce: float = 1.0
    favoured: tuple[str, ...] = ()
    favoured_init: float = 0.0
    favoured_bonus: float = 0.0
    skip_rate: float = 0.4
    compatible: bool = False

    def bounded(self, logits: Tensor, reduce: float = 1.0) -> Tensor:
        """Return logits divided by the temperature, and bounded by c / reduce."""
        logits = logits if self.temperature is None else logits / self.temperature
        if self.tanh_constant is None:
            return logits
        return self.tanh_constant / reduce * torch.tanh(logits)


class _Memory:
    """What an LSTM knows on its way through the decisions.

    Args:
        w_input, w_hidden: its weights, [4 H, H] float32.
        start: [B, H] float32, what it reads first.

    Attributes:
        input: [B, H] float32, what it reads next.
        keys: [B, H] float32 of each anchor, which are compared with the present state.
    """

    def __init__(self, w_input: Tensor, w_hidden: Tensor, start: Tensor) -> None:
        self.start = self.input = start
        self.keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._weights = [(w_input, w_hidden)]
        self._state = [(torch.zeros_like(start), torch.zeros_like(start))]

    def advance(self) -> Tensor:
        """Make a step, and return the hidden state [B, H] float32."""
        self._state = advance(self._weights, self.input, self._state)
        return self._state[0][0]

    def add(self, hidden_BH: Tensor) -> None:
        """Add an anchor."""
        self.keys.append(hidden_BH)
        self._values.append(hidden_BH)

    def open_cell(self, count: int) -> None:
        """Forget the anchors, and make so many new ones, of which zeros will be read."""
        self.keys, self._values = [], [torch.zeros_like(self.start)] * count
        for _ in range(count):
            self.input = self.start
            self.keys.append(self.advance())

    def read(self, chosen_BJ: Tensor) -> None:
        """Read the sum of the chosen anchors, [B, J] int64 of 0 and 1, next."""
        values_BJH = torch.stack(self._values, dim=1)
        self.input = (chosen_BJ.to(values_BJH.dtype).unsqueeze(-1) * values_BJH).sum(1)


class EnasPolicy(PulledPolicy):
    """Samples tokens and scores them.

    Choices with equal options share a softmax and an embedding, as all operations do in ENAS. A choice among the states
    of a cell, which has one option more in each later block, is made by attention over the nodes so far; so are skips.

    Args:
        decisions: of all samples.
        hidden: units of the LSTM's single layer (ENAS: 64).
        constants: of the probabilities.

    Raises:
        ValueError: a decision is of a kind that it cannot make.
    """

    def __init__(self, decisions: Decisions, *, hidden: int = 64, constants: EnasConstants | None = None) -> None:
        super().__init__()
        check_makeable(decisions)
        self.hidden, self._constants = hidden, constants or EnasConstants()
        self._decisions, self._plan = decisions, plan_of(decisions)
        options = {
            step.softmax: decision.options
            for decision, step in zip(decisions, self._plan, strict=True)
            if isinstance(decision, Choice) and step.softmax
        }
        self.w_input = nn.Parameter(torch.zeros(4 * hidden, hidden))
        self.w_hidden = nn.Parameter(torch.zeros(4 * hidden, hidden))
        self.start = nn.Parameter(torch.zeros(hidden))
        self.embeddings = nn.ModuleDict({name: nn.Embedding(len(some), hidden) for name, some in options.items()})
        self.heads = nn.ModuleDict({name: nn.Linear(hidden, len(some), bias=False) for name, some in options.items()})
        self._favoured = {
            name: torch.tensor([float(option in self._constants.favoured) for option in some])
            for name, some in options.items()
            if set(some) & set(self._constants.favoured)
        }
        self.biases = nn.ParameterDict({name: nn.Parameter(torch.zeros(len(f))) for name, f in self._favoured.items()})
        if any(step.softmax is None for step in self._plan):
            # W_1, W_2 and v of the attention (`_scores`).
            self.w_anchor = nn.Parameter(torch.zeros(hidden, hidden))
            self.w_query = nn.Parameter(torch.zeros(hidden, hidden))
            self.v = nn.Parameter(torch.zeros(hidden))

    def initialize(self, generator: torch.Generator, bound: float = 0.1) -> None:
        """Draw every weight from U(-bound, bound), ENAS's bound being 0.1; biases have their own first values."""
        super().initialize(generator, bound)
        with torch.no_grad():
            for name, favoured in self._favoured.items():
                self.biases[name].copy_(self._constants.favoured_init * favoured)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> EnasRollout:
        """Draw `n` samples, B = n."""
        return self._unroll(n, drawing(generator))

    def score(self, tokens: Tensor) -> EnasRollout:
        """Return what is learnt from tokens [B, T] int64, differentiable."""
        return self._unroll(len(tokens), reading(tokens))

    def _unroll(self, batch: int, pick: Pick) -> EnasRollout:
        """Run the LSTM over the decisions in order, and choose the tokens of each.

        It reads the embedding of the option that was chosen last, or the anchor that was, or after skips the sum of the
        chosen anchors divided by their number and one. A learnt vector is what it reads first, after a node of a cell,
        and after a layer that can have no skips.

        A cell's first anchors are a step each on that vector, with zeros for what is read of them; a node's is one step
        after its last decision. The anchor of a layer is the step that chooses its skips.
        """
        starts = offsets(self._decisions)
        tokens_BT = torch.zeros(batch, starts[-1], dtype=torch.int64)
        memory = _Memory(self.w_input, self.w_hidden, self.start.expand(batch, -1))
        made: list[Decided] = []
        penalties: list[Tensor] = []
        for decision, step, begin in zip(self._decisions, self._plan, starts, strict=False):
            columns = slice(begin, begin + decision.width)
            if step.opens:
                memory.open_cell(step.opens)
            hidden_BH = memory.advance()
            if step.softmax is not None:
                logits_BO = self._logits(step.softmax, hidden_BH, step.first_cell)
                made.append(decide(logits_BO.unsqueeze(1), columns, pick))
                memory.input = self.embeddings[step.softmax](made[-1].tokens[:, 0])
            elif isinstance(decision, Choice):
                scores_BJ = self._constants.bounded(self._scores(memory.keys, hidden_BH))
                made.append(decide(scores_BJ.unsqueeze(1), columns, pick))
                memory.read(F.one_hot(made[-1].tokens[:, 0], len(memory.keys)))
            elif memory.keys:
                scores_BJ = self._constants.bounded(self._scores(memory.keys, hidden_BH))
                made.append(decide(torch.stack([-scores_BJ, scores_BJ], -1), columns, pick))
                penalties.append(self._penalty(scores_BJ))
                memory.read(made[-1].tokens)
                memory.input = memory.input / (1 + made[-1].tokens.sum(1, keepdim=True))
            else:
                memory.input = memory.start
                memory.add(hidden_BH)
                continue
            tokens_BT[:, columns] = made[-1].tokens
            if isinstance(decision, Subset):
                memory.add(hidden_BH)
            if step.closes:
                memory.add(memory.advance())
                memory.input = memory.start
        log_prob_B, entropy_B, sample_entropy_B = (
            torch.stack(terms).sum(0)
            for terms in zip(*((d.log_prob, d.entropy, sample_entropy(d)) for d in made), strict=True)
        )
        skip_kl_B = torch.stack(penalties).mean(0) if penalties else torch.zeros(batch)
        return EnasRollout(tokens_BT, log_prob_B, entropy_B, sample_entropy_B, skip_kl_B)

    def _logits(self, softmax: str, hidden_BH: Tensor, first_cell: bool) -> Tensor:
        """Return the logits [B, O] float32 of a softmax."""
        logits_BO = self.heads[softmax](hidden_BH)
        if softmax not in self._favoured:
            return self._constants.bounded(logits_BO, self._constants.tanh_reduce)
        logits_BO = self._constants.bounded(logits_BO + self.biases[softmax], self._constants.tanh_reduce)
        bonus = self._constants.favoured_bonus if first_cell else 0.0
        return logits_BO + bonus * (2 * self._favoured[softmax] - 1)

    def _scores(self, keys: list[Tensor], query_BH: Tensor) -> Tensor:
        """Return v^T tanh(W_1 h_j + W_2 h_i) of each anchor j for the present state i: [B, J] float32."""
        keys_BJH = torch.stack(keys, dim=1)
        return torch.tanh(keys_BJH @ self.w_anchor.T + (query_BH @ self.w_query.T).unsqueeze(1)) @ self.v

    def _penalty(self, scores_BJ: Tensor) -> Tensor:
        # A skip's logits are (-q, q): its probability is the sigmoid of 2 q.
        of_penalty = scores_BJ if self._constants.compatible else 2 * scores_BJ
        return skip_kl(of_penalty, self._constants.skip_rate).sum(1)


def skip_kl(logits: Tensor, rate: float) -> Tensor:
    """Return the Kullback-Leibler divergence (nats) of each skip's probability, sigmoid(logit), from a rate."""
    probabilities = torch.sigmoid(logits)
    chosen = probabilities * (F.logsigmoid(logits) - torch.tensor(rate).log())
    return chosen + (1 - probabilities) * (F.logsigmoid(-logits) - torch.tensor(1 - rate).log())


def sample_entropy(decided: Decided) -> Tensor:
    """Return -p log p of each token's own probability p, summed over the tokens: [B] float32; no gradients."""
    log_probs_BW = decided.log_probs.detach()
    return -(log_probs_BW.exp() * log_probs_BW).sum(1)
