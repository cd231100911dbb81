"""The controller: an autoregressive LSTM over decisions (Zoph & Le 2017, sections 3.2, 3.3; spec §1.2, §1.5).

Shapes: B samples; T tokens of a sample; W tokens of one decision; O options of each of its tokens; H hidden units;
J earlier anchors. A name's suffix spells its shape: `keys_BJH` is [B, J, H]. Tokens are int64, masks are bool, all
other tensors float32.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from controller.decisions import Choice, Decisions, Pointer, Subset, offsets, options_at
from controller.policies.lstm_pass import (
    Draw,
    LstmPass,
    can_pass,
    draw_from,
    gradients_through_pass,
    read_from,
    with_its_gradient,
)
from controller.policies.rollout import (
    Decider,
    Pick,
    PulledPolicy,
    Rollout,
    State,
    advance,
    decide,
    drawing,
    reading,
)

IMPOSSIBLE = -1e9
"""The logit of an option that is not allowed: its probability is 0. Not minus infinity, whose gradients are NaN."""


class Policy(PulledPolicy):
    """Samples tokens and scores them.

    Each choice has a softmax and an embedding of its own (figure 2 of the paper). If layers shared them, they would
    learn what suits all layers alike and hardly anything else.

    Args:
        choice_sizes: the number of options of each choice, by the choice's name.
        hidden: units of each LSTM layer (the paper: 35).
        layers: LSTM layers (the paper: 2).
    """

    def __init__(self, choice_sizes: Mapping[str, int], *, hidden: int = 35, layers: int = 2) -> None:
        super().__init__()
        self.hidden = hidden
        self.cells = nn.ModuleList(nn.LSTMCell(hidden, hidden) for _ in range(layers))
        self.embeddings = nn.ModuleDict({name: nn.Embedding(size, hidden) for name, size in choice_sizes.items()})
        self.heads = nn.ModuleDict({name: nn.Linear(hidden, size) for name, size in choice_sizes.items()})
        self.start = nn.Parameter(torch.zeros(hidden))
        self.anchor = nn.Parameter(torch.zeros(hidden))
        # W_prev, W_curr and v of the anchors' attention (`_attend`).
        self.w_prev = nn.Parameter(torch.zeros(hidden, hidden))
        self.w_curr = nn.Parameter(torch.zeros(hidden, hidden))
        self.v = nn.Parameter(torch.zeros(hidden))

    def initialize(self, generator: torch.Generator, bound: float = 0.08) -> None:
        """Draw every weight from U(-bound, bound); the paper's bound is 0.08."""
        super().initialize(generator, bound)

    def sample(
        self,
        decisions: Decisions,
        n: int,
        generator: torch.Generator,
        choose: Decider = decide,
        *,
        differentiable: bool = False,
    ) -> Rollout:
        """Draw `n` samples of the decisions, B = n; `choose` makes each choice from its logits.

        With `differentiable` the result is that of `score` for the tokens that were drawn.
        """
        if choose is decide and can_pass(decisions):
            return self._pass(decisions, n, draw_from(generator), with_gradient=differentiable)
        with torch.set_grad_enabled(differentiable):
            return self._unroll(decisions, n, drawing(generator), choose)

    def log_prob(self, decisions: Decisions, tokens: Tensor) -> Tensor:
        """Return the log-probabilities [B] float32 of tokens [B, T] int64, differentiable."""
        return self.score(decisions, tokens).log_prob

    def entropy(self, decisions: Decisions, tokens: Tensor) -> Tensor:
        """Return the summed entropies [B] float32 (nats) of the decisions along tokens [B, T] int64, differentiable."""
        return self.score(decisions, tokens).entropy

    def score(self, decisions: Decisions, tokens: Tensor, choose: Decider = decide) -> Rollout:
        """Return log-probabilities and entropies of tokens [B, T] int64 from one pass, differentiable.

        `choose` is what made the choices of these tokens from their logits.
        """
        if choose is decide and can_pass(decisions):
            return self._pass(decisions, len(tokens), read_from(tokens), with_gradient=torch.is_grad_enabled())
        return self._unroll(decisions, len(tokens), reading(tokens), choose)

    def gradients(self, loss: Tensor) -> dict[str, Tensor]:
        """See `PulledPolicy.gradients`."""
        found = gradients_through_pass(loss)
        return super().gradients(loss) if found is None else dict(found)

    def _pass(self, decisions: Decisions, batch: int, draw: Draw, *, with_gradient: bool) -> Rollout:
        """Do what `_unroll` does, to the bit and several times as fast, for decisions that allow it."""
        done = pass_over(self._values, decisions, batch, draw)
        return self.differentiable(done) if with_gradient else done.rollout

    def differentiable(self, done: LstmPass) -> Rollout:
        """Return the samples of a pass with this policy's weights as what `score` returns for them."""
        return with_its_gradient(done, self.weights)

    @cached_property
    def _values(self) -> Mapping[str, Tensor]:
        """The weights by name, in the same memory but without a gradient."""
        return {name: weight.detach() for name, weight in self.weights.items()}

    def _unroll(self, decisions: Decisions, batch: int, pick: Pick, choose: Decider) -> Rollout:
        """Run the LSTM over the decisions in order, and choose the tokens of each.

        At a `Choice` the LSTM reads the last input, the choice's own softmax reads the top layer's hidden state, and
        the embedding of the chosen token is the next input. A choice whose condition does not hold for a sample has
        the token 0, adds nothing to the log-probability and the entropy, and leaves input and state as they were. An
        option that it does not allow after the tokens so far has the probability 0.

        At a `Subset` or `Pointer` the LSTM reads the learnt vector `anchor`; the top layer's hidden state is compared
        with those of all earlier anchors (`_attend`), and is an anchor for the later ones itself. One of 0 earlier
        anchors begins a network of its own: it leaves behind the anchors before it.

        Args:
            decisions: in order; they have T tokens in all.
            batch: B, the number of samples.
            pick: chooses the tokens [B, W] int64 of each decision.
            choose: makes each choice from its logits.

        Returns:
            The tokens [B, T] int64, and log-probability and entropy [B] float32, summed over the decisions.
        """
        starts = offsets(decisions)
        # The cells' weights are looked up once: calling the modules takes as long as computing.
        cells = [tuple(cell.parameters()) for cell in self.cells]
        tokens_BT = torch.zeros(batch, starts[-1], dtype=torch.int64)
        log_prob_B, entropy_B = torch.zeros(batch), torch.zeros(batch)
        state: State = [(torch.zeros(batch, self.hidden), torch.zeros(batch, self.hidden)) for _ in self.cells]
        input_BH = self.start.expand(batch, -1)
        anchors: list[Tensor] = []
        for index, decision in enumerate(decisions):
            columns = slice(starts[index], starts[index] + decision.width)
            if isinstance(decision, Choice):
                new_state = advance(cells, input_BH, state)
                logits_BO = self.heads[decision.name](new_state[-1][0])
                if decision.allowed is not None:
                    logits_BO = logits_BO.masked_fill(~_allowed(decision, decisions, tokens_BT, columns), IMPOSSIBLE)
                logits_BWO = logits_BO.unsqueeze(1)
                token_BW, added_log_prob_B, added_entropy_B, _ = choose(logits_BWO, columns, pick)
                new_input_BH = self.embeddings[decision.name](token_BW[:, 0])
                if decision.when is not None:
                    condition_B = tokens_BT[:, starts[decision.when.decision]]
                    mask_B = torch.isin(condition_B, torch.tensor(decision.when.tokens))
                    token_BW = token_BW * mask_B[:, None]
                    added_log_prob_B, added_entropy_B = added_log_prob_B * mask_B, added_entropy_B * mask_B
                    new_input_BH = torch.where(mask_B[:, None], new_input_BH, input_BH)
                    new_state = [_where(mask_B, new, old) for new, old in zip(new_state, state, strict=True)]
                input_BH, state = new_input_BH, new_state
            else:
                anchors = anchors if decision.count else []
                state = advance(cells, self.anchor.expand(batch, -1), state)
                query_BH = state[-1][0]
                token_BW, added_log_prob_B, added_entropy_B, input_BH = self._attend(
                    decision, query_BH, anchors, columns, pick
                )
                anchors.append(query_BH)
            tokens_BT[:, columns] = token_BW
            log_prob_B, entropy_B = log_prob_B + added_log_prob_B, entropy_B + added_entropy_B
        return Rollout(tokens_BT, log_prob_B, entropy_B)

    def _attend(
        self, decision: Subset | Pointer, query_BH: Tensor, anchors: Sequence[Tensor], columns: slice, pick: Pick
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Choose among the J earlier anchors by content-based attention (section 3.3 of the paper).

        The score of anchor j, whose hidden state is h_j, for the present anchor i is

            s_j = v^T tanh(W_prev h_j + W_curr h_i)

        A `Subset` selects each j independently, with probability sigmoid(s_j): this is the paper's
        P(layer j is an input to layer i). A `Pointer` selects one, with probability softmax(s)_j; one that has a single
        anchor to choose from has no token and selects it.

        The paper leaves open what the LSTM reads next. As in ENAS, it is the mean of the selected anchors' hidden
        states, and zeros where none is selected (spec §1.2).

        Args:
            decision: `count` = J.
            query_BH: [B, H] float32, h_i.
            anchors: J tensors [B, H] float32, h_1 to h_J.
            columns: the decision's columns in the tokens.
            pick: chooses the tokens [B, W] int64.

        Returns:
            The tokens [B, W] int64, their log-probability [B] and entropy [B], and the next input [B, H], all float32.
        """
        assert decision.count == len(anchors), f"{decision} after {len(anchors)} anchors"
        zero_B = torch.zeros(len(query_BH))
        no_token_BW = torch.zeros(len(query_BH), 0, dtype=torch.int64)
        if not anchors:
            return no_token_BW, zero_B, zero_B, torch.zeros_like(query_BH)
        keys_BJH = torch.stack(list(anchors), dim=1)
        scores_BJ = torch.tanh(keys_BJH @ self.w_prev.T + (query_BH @ self.w_curr.T).unsqueeze(1)) @ self.v
        if isinstance(decision, Subset):
            # A Bernoulli bit is a softmax over (0, score): the probability of 1 is sigmoid(score).
            logits_BWO = torch.stack([torch.zeros_like(scores_BJ), scores_BJ], -1)
            token_BW, log_prob_B, entropy_B, _ = decide(logits_BWO, columns, pick)
            weights_BJ = token_BW.to(keys_BJH.dtype)
            weights_BJ = weights_BJ / weights_BJ.sum(1, keepdim=True).clamp(min=1)
        elif decision.width == 0:
            token_BW, log_prob_B, entropy_B = no_token_BW, zero_B, zero_B
            weights_BJ = torch.ones_like(scores_BJ)
        else:
            token_BW, log_prob_B, entropy_B, _ = decide(scores_BJ.unsqueeze(1), columns, pick)
            weights_BJ = F.one_hot(token_BW[:, 0], decision.count).to(keys_BJH.dtype)
        return token_BW, log_prob_B, entropy_B, (weights_BJ.unsqueeze(-1) * keys_BJH).sum(1)


def pass_over(weights: Mapping[str, Tensor], decisions: Decisions, batch: int, draw: Draw) -> LstmPass:
    """Return a pass of a policy over decisions that `can_pass` accepts.

    Args:
        weights: the policy's by name, which need not be loaded into one; others are not looked at.
        decisions: of each sample.
        batch: the number of samples.
        draw: chooses the tokens.
    """
    starts = offsets(decisions)

    def forbid(number: int, tokens_BT: Tensor) -> Tensor:
        decision = decisions[number]
        assert isinstance(decision, Choice)
        return ~_allowed(decision, decisions, tokens_BT, slice(starts[number], starts[number] + 1))

    return LstmPass(weights, decisions, batch, draw, forbid, IMPOSSIBLE)


def _allowed(decision: Choice, decisions: Decisions, tokens_BT: Tensor, columns: slice) -> Tensor:
    """Return which options [B, O] bool the choice allows for each sample; one, where it does not apply."""
    mask_BO = torch.zeros(len(tokens_BT), len(decision.options), dtype=torch.bool)
    for row, tokens in zip(mask_BO, tokens_BT[:, : columns.start].tolist(), strict=True):
        row[list(options_at(decision, columns.start, decisions, tokens))] = True
    return mask_BO


def _where(mask_B: Tensor, new: tuple[Tensor, Tensor], old: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Take a layer's state from `new` where the mask is true, and from `old` elsewhere.

    Args:
        mask_B: [B] bool.
        new, old: hidden and cell state, [B, H] float32 each.
    """
    return torch.where(mask_B[:, None], new[0], old[0]), torch.where(mask_B[:, None], new[1], old[1])
