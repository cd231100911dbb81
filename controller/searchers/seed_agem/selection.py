"""The selection of a sub-network ("A-GEM" of the article; spec §17.2, §17.3, §17.5). It is not GEM's A-GEM.

Shapes: B samples; K sub-networks. A name's suffix spells its shape: `logits_BK` has K selection logits (the article's
phi) for each of B samples. All tensors are float32 or float64; indices are int64.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from controller.policies.rollout import Decided, Pick, decide
from controller.searchers.seed_agem.options import SeedAgemOptions

LEAST_WIDTH = 1e-7
"""The least probability of a selection whose logarithm is taken: rounding may leave none of a thin interval."""


def log_odds(logits_BK: Tensor, clip: float) -> Tensor:
    """Return log p_k - log(1 - p_k) [B, K] of each choice, p the soft-max, bounded by `clip` on both sides.

    The article has softmax(phi)_k / softmax(phi)_l for a choice k and any other l, which is exp(phi_k - phi_l),
    unbounded and as many numbers as there are others. Here all others count together, and the logarithm is taken: of
    two sub-networks it is the logarithm of the article's ratio.
    """
    others = [torch.cat([logits_BK[:, :k], logits_BK[:, k + 1 :]], 1).logsumexp(1) for k in range(logits_BK.shape[1])]
    return (logits_BK - torch.stack(others, 1)).clamp(-clip, clip)


def without_lead(logits_BK: Tensor, share: Tensor | float) -> Tensor:
    """Return the logits whose soft-max is the soft-soft-max: the leader's without a share of its lead.

    The lead is the distance to the second. With a share of 0 it is the plain soft-max, with 1 the first two are equal.
    The order stays, and so does the independence of a constant that is added to all logits.

    Args:
        logits_BK: of at least two sub-networks.
        share: alpha_t, from 0 to 1; a number, or one for each sample [B].
    """
    best_B2, indices_B2 = logits_BK.topk(2, dim=1)
    lead_B = best_B2[:, 0] - best_B2[:, 1]
    return logits_BK.scatter_add(1, indices_B2[:, :1], -(share * lead_B)[:, None])


def literal_soft_soft_max(logits_BK: Tensor) -> Tensor:
    """Return the article's soft-soft-max to the letter, as logits [B, K]; for documentation.

    Its text is exp(phi_k - max over j != k of exp(phi_j) + alpha_t) / sum over l of exp(phi_l), which does not sum to
    1. Normalised, alpha_t and the sum fall out. The logits are taken relative to the largest, so that exp(phi_j) does
    not overflow. The leader alone does not lose the leader's score, so that its share grows: the reverse of what the
    article says of it.
    """
    shifted_BK = logits_BK - logits_BK.max(1, keepdim=True).values
    best_B2, indices_B2 = shifted_BK.exp().topk(2, dim=1)
    is_leader_BK = F.one_hot(indices_B2[:, 0], logits_BK.shape[1]).bool()
    return shifted_BK - torch.where(is_leader_BK, best_B2[:, 1:], best_B2[:, :1])


def inverse_cdf(probabilities_BK: Tensor, number_B: Tensor) -> Tensor:
    """Return the indices [B] at which the distributions reach the numbers, from 0 to below 1.

    If a number is uniform, each index has its probability. The same number for several distributions gives common
    random numbers: equal distributions give equal indices.
    """
    reached_BK = probabilities_BK.cumsum(1)[:, :-1] <= number_B[:, None]
    return reached_BK.sum(1)


def alignment(actions_BT: Tensor) -> Tensor:
    """Return the share [B] of selection steps whose action is that of the first one."""
    return (actions_BT == actions_BT[:, :1]).double().mean(1)


class SelectionSteps:
    """Makes the selection steps of samples, as `decide` makes all other decisions; one instance for each rollout.

    With `random-number` each sample has one uniform number u, and each step takes the action at which its distribution
    reaches u. What is then known of u is the interval in which all actions so far agree; the probability of an action
    is its share of that interval. So the probabilities of all sequences of actions sum to 1, and each step's action has
    its soft-max probability as long as no logit depends on an earlier action.

    With `action` all steps take the first one's action. With `none` each step is drawn by itself.

    Args:
        first: the column of the first selection step; all decisions from there on are selection steps.
        options: how selections are made.
        share_B: alpha_t of each sample, [B] float32.
        number_B: u of each sample, [B] float32, when they are drawn; `None` when given tokens are scored.
        greedy_B: the samples whose steps take the most probable action, [B] bool; `None`: none.
    """

    def __init__(
        self,
        first: int,
        options: SeedAgemOptions,
        share_B: Tensor,
        number_B: Tensor | None = None,
        greedy_B: Tensor | None = None,
    ) -> None:
        self._first, self._options = first, options
        self._share_B, self._number_B = share_B, number_B
        self._greedy_B = torch.zeros(len(share_B), dtype=torch.bool) if greedy_B is None else greedy_B
        self._low_B, self._high_B = torch.zeros(len(share_B)), torch.ones(len(share_B))
        self._actions: list[Tensor] = []
        self._rewards: list[Tensor] = []

    @property
    def width_B(self) -> Tensor:
        """The length [B] of the interval of u in which all actions agree; 0 for actions that never come together."""
        return (self._high_B - self._low_B).clamp_min(0)

    @property
    def reward_B(self) -> Tensor:
        """The mean selection reward r_t [B] over the steps, differentiable in the logits."""
        return torch.stack(self._rewards, 1).mean(1)

    @property
    def alignment_B(self) -> Tensor:
        """The share [B] of steps whose action is that of the first one."""
        return alignment(torch.stack(self._actions, 1))

    def __call__(self, logits_BWO: Tensor, columns: slice, pick: Pick) -> Decided:
        """Make a decision; one of `decide`'s if it is no selection step."""
        if columns.start < self._first:
            return decide(logits_BWO, columns, pick)
        logits_BK = logits_BWO[:, 0]
        decided = self._decide(self._adjusted(logits_BK), columns, pick)
        action_B = decided.tokens[:, 0]
        self._actions.append(action_B)
        self._rewards.append(self._reward(logits_BK, action_B))
        return decided

    def _adjusted(self, logits_BK: Tensor) -> Tensor:
        if self._options.selection == "literal":
            return literal_soft_soft_max(logits_BK)
        return without_lead(logits_BK, self._share_B)

    def _reward(self, logits_BK: Tensor, action_B: Tensor) -> Tensor:
        """Return r_t [B] of the actions, by the logits as they are."""
        if self._options.selection_reward == "probability":
            rewards_BK = logits_BK.softmax(1)
        else:
            rewards_BK = log_odds(logits_BK, self._options.odds_clip)
        return rewards_BK.gather(1, action_B[:, None])[:, 0]

    def _decide(self, logits_BK: Tensor, columns: slice, pick: Pick) -> Decided:
        match self._options.alignment:
            case "none":
                return decide(logits_BK[:, None], columns, self._picking(pick))
            case "action" if self._actions:
                nothing_B = torch.zeros(len(logits_BK))
                return Decided(self._actions[0][:, None], nothing_B, nothing_B, nothing_B[:, None])
            case "action":
                return decide(logits_BK[:, None], columns, self._picking(pick))
            case "random-number":
                return self._decide_by_number(logits_BK.softmax(1), columns, pick)

    def _picking(self, pick: Pick) -> Pick:
        """Return a pick that takes the most probable action where the sample is greedy."""
        if not self._greedy_B.any():
            return pick
        return lambda probs_B1K, columns: torch.where(
            self._greedy_B[:, None], probs_B1K.argmax(-1), pick(probs_B1K, columns)
        )

    def _decide_by_number(self, probs_BK: Tensor, columns: slice, pick: Pick) -> Decided:
        """Take the action at u, and narrow the interval in which u is known to be."""
        if self._number_B is None:
            action_B1 = pick(probs_BK[:, None], columns)
        else:
            drawn_B = inverse_cdf(probs_BK, self._number_B)
            action_B1 = torch.where(self._greedy_B, probs_BK.argmax(1), drawn_B)[:, None]
        upper_BK = probs_BK.cumsum(1)
        # The last bound is 1, whatever the sum was rounded to.
        upper_BK = torch.cat([upper_BK[:, :-1], torch.ones_like(upper_BK[:, :1])], 1)
        lower_BK = F.pad(upper_BK[:, :-1], (1, 0))
        low_BK = torch.maximum(lower_BK, self._low_B[:, None])
        high_BK = torch.minimum(upper_BK, self._high_B[:, None])
        share_BK = (high_BK - low_BK).clamp_min(0) / self.width_B.clamp_min(LEAST_WIDTH)[:, None]
        log_share_BK = share_BK.clamp_min(LEAST_WIDTH).log()
        log_prob_B = log_share_BK.gather(1, action_B1)[:, 0]
        entropy_B = -(share_BK * log_share_BK).sum(1)
        self._low_B = low_BK.gather(1, action_B1)[:, 0]
        self._high_B = high_BK.gather(1, action_B1)[:, 0]
        return Decided(action_B1, log_prob_B, entropy_B, log_prob_B[:, None])
