"""The article's A-GEM: a policy that samples several sub-networks, and selects one of them (spec §17).

It has nothing in common with Averaged Gradient Episodic Memory (Chaudhry et al. 2019), a method of continual learning
that has the same short name. No paper and no code stand behind the article, whose formulas are partly undefined and
contradict each other; what is read into them is said at each function.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from child_trainer.seed_agem.options import SIMILARITY_REWARD
from controller.decisions import Choice, Decisions, offsets
from controller.policies.lstm_pass import LstmPass
from controller.policies.rollout import Rollout
from controller.searcher import ChildRecord, Proposal, Update, View, reward_of
from controller.searchers.policy_gradient.policy_searcher import (
    BASELINE,
    PolicySearcher,
    baseline,
    baseline_gradient,
)
from controller.searchers.seed_agem.options import SeedAgemOptions
from controller.searchers.seed_agem.selection import SelectionSteps
from controller.space import SearchSpace
from controller.spaces.checks import space_words
from controller.spaces.subnetworks import SELECTION

LEAD_PENALTY, SELECTION_REWARD, EMITTED = "lead_penalty", "selection_reward", "emitted"
"""The keys of a child's notes: alpha_t and the mean r_t when it was sampled, and whether it is one of the last ones."""

THIN = 0.05
"""The width of the interval of random numbers below which a child counts in proportion to the width.

Actions that differ only by the last bits of two distributions have the probability of a thin interval. Its logarithm is
so steep there that one such child would outweigh all others.
"""


class SeedAgem(PolicySearcher):
    """Samples the tokens of sub-networks, then selects one of them, and follows the gradient of the expected reward.

    The reward is R = A + lambda_sel mean_t r_t + lambda_sim r_sim: the child's own reward, which is that of the
    sub-network that its selections name; the selection reward; and the similarity of the sub-networks' outputs, which
    the child measures. The article names these three, without weights.

    The last children of the search are what the article calls the new network: their tokens are sampled once more, and
    their selections are the policy's most probable ones. They are not learnt from. Replicas that ask at once may begin
    a few more or fewer of them.

    Args:
        space: has selection steps behind all other decisions.
        options: the settings.

    Raises:
        ValueError: the space has no selection steps.
    """

    def __init__(self, space: SearchSpace, options: SeedAgemOptions) -> None:
        super().__init__("seed-agem", space, options)
        self._options = options
        if not any(_selects(decision) for decision in space.decisions(0)):
            raise ValueError(
                "the searcher 'seed-agem' selects one of several sub-networks, and the samples of"
                f" {space_words(space)} have none: use the space 'subnetworks'"
            )

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return `n` samples of the policy, each with its selections."""
        self._policy.load(view.parameters)
        decisions = self._space.decisions(view.completed)
        generator = torch.Generator().manual_seed(view.rng.getrandbits(63))
        begun = view.completed + len(view.pending())
        emitted = [self._options.is_emitted(number) for number in range(begun, begun + n)]
        share = self._options.lead_penalty_at(view.completed)
        # One number for all selection steps of a child: this is what aligns them.
        numbers = torch.rand(n, generator=generator)
        steps = SelectionSteps(
            _first_selection(decisions), self._options, torch.full((n,), share), numbers, torch.tensor(emitted)
        )
        rollout = self._policy.sample(decisions, n, generator, steps)
        return [
            Proposal(
                tokens=tuple(tokens),
                architecture=self._space.decode(tokens),
                log_prob=None if last else log_prob,
                notes={LEAD_PENALTY: share, SELECTION_REWARD: reward, **({EMITTED: True} if last else {})},
            )
            for tokens, log_prob, reward, last in zip(
                rollout.tokens.tolist(), rollout.log_prob.tolist(), steps.reward_B.tolist(), emitted, strict=True
            )
        ]

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return the policy's gradient, and the mean reward for the baseline.

        The gradient is that of -(1/m) sum_k (w_k (R_k - b) log P(tokens_k) + lambda_sel mean_t r_t + bonus H_k), where
        R_k is the reward of child k, and b the average of earlier rewards, or for the first children their own mean;
        w_k is 1, and for selections of a small probability less (`THIN`);
        r_t is there because the selection reward depends on the policy itself and not only on what it sampled;
        H_k is the summed entropy of the decisions along sample k.
        With `queue_size` the loss of the children with the best rewards of their own is added.
        """
        children = self._learnable(children)
        if not children:
            return Update()
        options = self._options
        self._policy.load(view.parameters)
        rewards = torch.tensor([self.reward(child) for child in children])
        average = baseline(view.parameters)
        expected = rewards.mean().item() if average is None else average
        steps, rollout = self._rescore(children)
        weights = (steps.width_B.detach() / THIN).clamp(max=1)
        loss = -(weights * (rewards - expected) * rollout.log_prob).mean()
        loss = loss - options.selection_reward_weight * steps.reward_B.mean()
        if options.entropy_bonus:
            loss = loss - options.entropy_bonus * rollout.entropy.mean()
        similarities = [child.outcome.measurements.get(SIMILARITY_REWARD, 0.0) for child in children if child.outcome]
        return Update(
            gradients={BASELINE: baseline_gradient(rewards), **self._policy.gradients(loss + self._queue_loss(view))},
            figures={
                "baseline": expected,
                "entropy": rollout.entropy.mean().item(),
                "selection_reward": steps.reward_B.mean().item(),
                "similarity_reward": sum(similarities) / max(1, len(similarities)),
                "alignment": steps.alignment_B.mean().item(),
                "lead_penalty": children[-1].notes[LEAD_PENALTY],
            },
        )

    def _learnable(self, children: Sequence[ChildRecord]) -> Sequence[ChildRecord]:
        """Return the children without the last ones of the search, which are not sampled from the policy."""
        return [child for child in children if EMITTED not in child.notes]

    def reward(self, child: ChildRecord) -> float:
        """Return R of a child that has ended; of one that failed the reward that a failure has."""
        if child.outcome is None or child.outcome.failure is not None:
            return reward_of(child)
        similarity = child.outcome.measurements.get(SIMILARITY_REWARD, 0.0)
        return (
            reward_of(child)
            + self._options.selection_reward_weight * child.notes[SELECTION_REWARD]
            + self._options.similarity_reward_weight * similarity
        )

    def _rescore(self, children: Sequence[ChildRecord]) -> tuple[SelectionSteps, Rollout]:
        """Return the selections and the scores of children under the present weights, as they were drawn."""
        tokens = torch.tensor([child.tokens for child in children])
        decisions = self._space.decisions_of(tokens.shape[1])
        shares = torch.tensor([float(child.notes[LEAD_PENALTY]) for child in children])
        steps = SelectionSteps(_first_selection(decisions), self._options, shares)
        return steps, self._policy.score(decisions, tokens, steps)

    def _score(
        self, children: Sequence[ChildRecord], samples: LstmPass | Rollout | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and entropies [m] float32."""
        rollout = self._rescore(children)[1]
        return rollout.log_prob, rollout.entropy


def _selects(decision: object) -> bool:
    return isinstance(decision, Choice) and decision.kind.startswith(f"{SELECTION}_")


def _first_selection(decisions: Decisions) -> int:
    """Return the column of the first selection step; all decisions behind it are selection steps, too."""
    index = next(index for index, decision in enumerate(decisions) if _selects(decision))
    return offsets(decisions)[index]
