"""ENAS: a policy samples paths of a supernet, which is trained along them (Pham et al. 2018; spec §6)."""

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import torch

from child_trainer.supernets.jobs import Score, Steps
from controller.policies.enas import EnasConstants, EnasPolicy
from controller.policies.enas_cell import EnasCellPolicy
from controller.searcher import ChildRecord, ParameterGroup, Proposal, SharedWeights, Update, View, reward_of
from controller.searchers.policy_gradient.policy_searcher import (
    BASELINE,
    baseline_gradient,
    updated_baseline,
)
from controller.searchers.weight_sharing.path_options import EnasOptions
from controller.searchers.weight_sharing.rates import cosine, share_of_cycle
from controller.searchers.weight_sharing.supernet import check_supernet
from controller.space import SearchSpace
from controller.spaces.checks import check_decisions, space_words

Phase = Literal["weights", "policy", "last"]
"""What a child is for: to train the weights, to train the policy, or to be scored at last."""

PHASE = "phase"
"""The key of a scored child's notes for its phase."""

ADAM = {"beta1": 0.0, "eps": 1e-3}
"""The policy's optimizer (spec §6.1); that of recurrent cells has the usual constants (spec §6.3)."""


class Enas:
    """Trains a supernet along the paths of a policy, and the policy by their scores, in turns.

    An epoch has two phases: children that make steps on the weights, then children that are scored and learnt from. No
    child of a phase begins before those of the phase before have ended, so that the policy's rewards are those of fixed
    weights. After the last epoch samples of the policy are scored on all validation images. Replicas that ask at once
    may begin a few children more in one phase, and so fewer in the next.

    Args:
        space: has a supernet, and a fixed sequence of decisions.
        options: the settings.

    Raises:
        ValueError: the space has no supernet, or decisions that the policy cannot make.
    """

    def __init__(self, space: SearchSpace, options: EnasOptions) -> None:
        self._space, self._options = check_supernet(space, "enas"), options
        check_decisions(space, "enas")
        self._recurrent = space.kind == "recurrent"
        if self._recurrent:
            _check_recurrent(space, options)
        constants = EnasConstants(
            temperature=options.temperature,
            tanh_constant=options.tanh_constant,
            tanh_reduce=options.operation_tanh_reduce,
            favoured=options.favoured_operations,
            favoured_init=options.favoured_init,
            favoured_bonus=options.favoured_bonus,
            skip_rate=options.skip_rate,
            compatible=options.enas_compat,
        )
        policy = EnasCellPolicy if self._recurrent else EnasPolicy
        self._policy = policy(space.decisions(0), hidden=options.controller_units, constants=constants)

    @cached_property
    def shared_weights(self) -> SharedWeights:
        """The supernet's weights."""
        options = self._options
        rule = {"lr": options.weights_learning_rate, "momentum": options.weights_momentum}
        if options.weights_momentum:
            rule["nesterov"] = 1
        return SharedWeights(supernet=self._space.supernet(), optimizer="sgd", options=rule)

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return the baseline, and the policy's weights drawn from `seed`."""
        options = self._options
        self._policy.initialize(torch.Generator().manual_seed(seed), options.controller_init)
        decay, rule = {"decay": options.baseline_decay}, {"lr": options.controller_learning_rate}
        if not self._recurrent:
            rule |= ADAM
        return (
            ParameterGroup(name="baseline", values={BASELINE: torch.zeros(2)}, optimizer="average", options=decay),
            ParameterGroup(name="policy", values=self._policy.values(), optimizer="adam", options=rule),
        )

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return children of the present phase; none until all of the phase before have ended."""
        pending = view.pending()
        begun = view.completed + len(pending)
        phase = self._phase(begun)
        if any(_phase_of(child) != phase for child in pending):
            return []
        count = next((k for k in range(1, n) if self._phase(begun + k) != phase), n)
        self._policy.load(view.parameters)
        generator = torch.Generator().manual_seed(view.rng.getrandbits(63))
        if phase == "weights":
            return [self._steps(number, generator) for number in range(begun, begun + count)]
        rollout = self._policy.sample(count, generator)
        return [
            Proposal(
                tokens=tuple(tokens),
                architecture=self._space.decode(tokens),
                log_prob=log_prob,
                notes={PHASE: phase},
                job=self._score(phase),
            )
            for tokens, log_prob in zip(rollout.tokens.tolist(), rollout.log_prob.tolist(), strict=True)
        ]

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return the policy's gradient and the mean reward for the baseline, from children of the policy's phase.

        The gradient is that of (1/m) sum_k ((R_k - b) (-log P(tokens_k)) + weight KL_k), where
        R_k is the reward of child k with the bonus for its sampled entropy;
        b is the moving average of rewards, which starts at 0 and has the mean of these already: it is updated before
        use (spec §6.1);
        KL_k is the penalty on the probabilities of its skips.
        """
        children = [child for child in children if _phase_of(child) == "policy"]
        if not children:
            return Update()
        options = self._options
        self._policy.load(view.parameters)
        rollout = self._policy.score(torch.tensor([child.tokens for child in children]))
        rewards = torch.tensor([reward_of(child) for child in children])
        rewards = rewards + options.entropy_bonus * rollout.sample_entropy
        baseline = updated_baseline(view.parameters[BASELINE], rewards, options.baseline_decay)
        loss = (-(rewards - baseline) * rollout.log_prob + options.skip_weight * rollout.skip_kl).mean()
        figures = {"baseline": baseline, "entropy": rollout.entropy.mean().item()}
        if divergence := rollout.skip_kl.mean().item():  # cells have no skips to choose
            figures["skip_divergence"] = divergence
        return Update(gradients={BASELINE: baseline_gradient(rewards), **self._policy.gradients(loss)}, figures=figures)

    def _phase(self, begun: int) -> Phase:
        """Return what the next child is for, of a search in which so many have begun."""
        options = self._options
        if begun >= options.searching_children:
            return "last"
        return "weights" if begun % options.epoch_children < options.training_children else "policy"

    def _steps(self, number: int, generator: torch.Generator) -> Proposal:
        """Return the child of this number, from 0, which trains the weights; an epoch's last makes what is left."""
        options = self._options
        epoch, place = divmod(number, options.epoch_children)
        first = place * options.steps_per_child
        count = options.count_of(options.steps_per_epoch, place)
        job = Steps(
            objective="path",
            count=count,
            settings={"l2": options.weights_l2, "clip_norm": options.weights_clip_norm},
            paths=tuple(map(tuple, self._policy.sample(count, generator).tokens.tolist())),
            first=epoch * options.steps_per_epoch + first,
            total=options.search_epochs * options.steps_per_epoch,
            rate=cosine(
                options.weights_learning_rate,
                options.weights_last_learning_rate,
                share_of_cycle(epoch, options.restart_epochs, options.restart_factor),
            ),
        )
        return Proposal(tokens=(), architecture=None, job=job)

    def _score(self, phase: Phase) -> Score:
        if phase == "policy":
            return Score(settings={"batches": self._options.score_batches, "refit_batches": 0})
        return Score(settings={"refit_batches": self._options.refit_batches})


def _check_recurrent(space: SearchSpace, options: EnasOptions) -> None:
    """Raise `ValueError` for options that the controller of recurrent cells does not have."""
    usual = EnasOptions()
    for name in ("operation_tanh_reduce", "favoured_operations", "enas_compat"):
        if getattr(options, name) != getattr(usual, name):
            raise ValueError(
                f"`{name}` must be left as it is with {space_words(space)}, as ENAS's controller of recurrent cells"
                f" has no such constant, got {getattr(options, name)!r}"
            )


def _phase_of(child: ChildRecord) -> Phase:
    return "weights" if isinstance(child.job, Steps) else child.notes[PHASE]
