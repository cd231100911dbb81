"""ENAS: a policy is trained by the scores of its samples on weights that all samples share (Pham et al. 2018; spec §6).

Epochs alternate: children train the shared weights along paths that the policy samples, a new one for each step; then
children score sampled paths, and the policy learns from the scores by REINFORCE.
"""

import itertools
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from child_trainer.supernets.jobs import Score, Steps
from controller.policies.enas import EnasPolicy, skip_divergence
from controller.searcher import ChildRecord, ParameterGroup, Proposal, SharedWeights, Update, View
from controller.searchers.policy_gradient.policy_searcher import BASELINE, PolicySearcher, reward_of
from controller.searchers.weight_sharing.options import EnasOptions
from controller.searchers.weight_sharing.supernet import check_supernet
from controller.space import SearchSpace


class Enas(PolicySearcher):
    """Samples paths from ENAS's policy, to train the shared weights along them and to be scored.

    No child of one half of an epoch begins before those of the other half have ended. Replicas that ask at once may
    begin a few children more than a half has.

    Args:
        space: has a supernet, and decisions.
        options: the settings.

    Raises:
        ValueError: the space has no supernet or no decisions.
    """

    def __init__(self, space: SearchSpace, options: EnasOptions) -> None:
        policy = EnasPolicy(space.choice_sizes(), hidden=options.controller_units, bound=options.logit_bound)
        super().__init__("enas", space, options, policy)
        self._supernet_space, self._options, self._enas_policy = check_supernet(space, "enas"), options, policy

    @cached_property
    def shared_weights(self) -> SharedWeights:
        """The supernet's weights."""
        options = self._options
        rule = {"lr": options.weights_learning_rate, "momentum": options.weights_momentum}
        return SharedWeights(supernet=self._supernet_space.supernet(), optimizer="sgd", options=rule)

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return the baseline, which begins at 0, and the policy's weights drawn from `seed`."""
        options = self._options
        adam = {"lr": options.controller_learning_rate, "beta1": 0.0, "eps": 1e-3}
        return (
            ParameterGroup(
                name="baseline",
                values={BASELINE: torch.zeros(1)},
                optimizer="average",
                options={"decay": options.baseline_decay},
            ),
            ParameterGroup(name="policy", values=self._first_weights(seed), optimizer="adam", options=adam),
        )

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return children of the present half of an epoch; none while children of the other half are pending."""
        pending = view.pending()
        training, number, left = self._place(view.completed + len(pending))
        if any(isinstance(child.job, Steps) != training for child in pending):
            return []
        if not training:
            settings = {"refit_batches": self._options.refit_batches, "batches": self._options.score_batches}
            return [
                Proposal(
                    tokens=proposal.tokens,
                    architecture=proposal.architecture,
                    log_prob=proposal.log_prob,
                    job=Score(settings=settings),
                )
                for proposal in super().ask(min(n, left), view)
            ]
        counts = [self._options.count_of(self._options.epoch_steps, number + k) for k in range(min(n, left))]
        paths = self._sample(sum(counts), view)
        ends = torch.tensor([0, *counts]).cumsum(0).tolist()
        return [self._steps(tuple(paths[start:end])) for start, end in itertools.pairwise(ends)]

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return the policy's gradient, and the mean reward for the baseline.

        The gradient is that of the mean over children of -(R - b) log P + skip_weight * KL, where R is the child's
        reward with `entropy_bonus` for each nat of its entropy, a constant for the gradient; b is the baseline with
        these rewards in it already (T6.4); and KL the skips' divergence from their prior.
        """
        options = self._options
        self._load(view.parameters)
        tokens = torch.tensor([child.tokens for child in children])
        rollout, skips = self._enas_policy.score_skips(self._space.decisions_of(tokens.shape[1]), tokens)
        rewards = torch.tensor([reward_of(child) for child in children])
        rewards = rewards + options.entropy_bonus * rollout.entropy.detach()
        baseline = updated_baseline(view.parameters[BASELINE], rewards, options.baseline_decay)
        loss = -((rewards - baseline) * rollout.log_prob).mean()
        figures = {"baseline": baseline, "entropy": rollout.entropy.mean().item()}
        if skips:
            divergence = skip_divergence(skips, options.skip_target, compatible=options.enas_compat).mean()
            loss = loss + options.skip_weight * divergence
            figures["skip_divergence"] = divergence.item()
        return Update(gradients={BASELINE: rewards.mean().reshape(1), **self._gradients(loss)}, figures=figures)

    def _place(self, begun: int) -> tuple[bool, int, int]:
        """Return where the next child stands after so many: whether it trains, its number in the half, and how many
        children are left in it.
        """
        training = self._options.training_children
        place = begun % (training + self._options.epoch_scores)
        if place < training:
            return True, place, training - place
        return False, place - training, training + self._options.epoch_scores - place

    def _sample(self, count: int, view: View) -> list[tuple[int, ...]]:
        self._load(view.parameters)
        generator = torch.Generator().manual_seed(view.rng.getrandbits(63))
        rollout = self._policy.sample(self._space.decisions(view.completed), count, generator)
        return [tuple(tokens) for tokens in rollout.tokens.tolist()]

    def _steps(self, paths: tuple[tuple[int, ...], ...]) -> Proposal:
        settings = {"l2": self._options.weights_l2, "clip_norm": self._options.weights_clip_norm}
        job = Steps(objective="path", count=len(paths), settings=settings, paths=paths)
        return Proposal(tokens=(), architecture=None, job=job)


def updated_baseline(pulled: Tensor, rewards: Tensor, decay: float) -> float:
    """Return the baseline [1] after it has moved towards the mean of these rewards [m]."""
    return decay * pulled.item() + (1 - decay) * rewards.mean().item()
