"""Searches whose children grow from a trained one and begin with its weights (spec §9).

A policy makes each child from one network, the stage's parent, by changes that keep what it computes. A child's notes
have what the policy decided, from which its log-probability is computed again when it is learnt from.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from child_trainer.inheritance.changes import Change
from child_trainer.supernets.jobs import TrainOn
from controller.decisions import Tokens
from controller.policies.rollout import PulledPolicy
from controller.searcher import ChildRecord, ParameterGroup, Proposal, Update, View, reward_of
from controller.searchers.policy_gradient.policy_searcher import (
    BASELINE,
    baseline_gradient,
    updated_baseline,
)
from controller.searchers.transformations.options import TransformationOptions
from controller.space import SearchSpace

STAGE, PARENT, CHANGE = "stage", "parent", "change"
"""Keys of a child's notes; the start has the stage 0, and neither a parent nor decisions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grown:
    """A network that the policy has made of a parent.

    Attributes:
        tokens: the network.
        changes: what makes it of the parent.
        decisions: of the policy, as notes.
        words: what was changed, for people.
    """

    tokens: Tokens
    changes: tuple[Change, ...]
    decisions: Mapping[str, Any]
    words: str


class Scored(NamedTuple):
    """The decisions that made B networks.

    Attributes:
        log_prob: [B] float32, the log-probability (nats) of each network's decisions.
        entropy: [B] float32 (nats), what the entropy bonus is for.
        decision_entropy: [B] float32, the mean entropy (nats) of a decision.
    """

    log_prob: Tensor
    entropy: Tensor
    decision_entropy: Tensor


class Grower(Protocol):
    """Makes networks of one by a policy, whose weights have been loaded before."""

    @property
    def policy(self) -> PulledPolicy:
        """The policy."""
        ...

    def draw_weights(self, generator: torch.Generator) -> None:
        """Draw the policy's first weights."""
        ...

    def start(self) -> Tokens:
        """Return the network that all others grow from."""
        ...

    def can_grow(self, parent: Sequence[int]) -> bool:
        """Return whether the policy has anything to decide about a parent."""
        ...

    def grow(self, parent: Sequence[int], count: int, generator: torch.Generator) -> list[Grown]:
        """Return so many networks that the policy makes of a parent, which can grow."""
        ...

    def score(self, made: Sequence[tuple[Sequence[int], Mapping[str, Any]]]) -> Scored:
        """Return the log-probability and the entropies of decisions, differentiable.

        Args:
            made: of each network, its parent's tokens and the decisions that made it.
        """
        ...


class InheritingSearcher:
    """Grows networks in stages; all children of a stage grow from the best of the stages before that can still grow.

    Attributes:
        exclusive: see `controller.searcher.is_exclusive`: a stage has as many children as it should.

    Raises:
        ValueError: not even the start can grow.
    """

    exclusive = True

    def __init__(self, space: SearchSpace, options: TransformationOptions, grower: Grower) -> None:
        self._space, self._options, self._grower = space, options, grower
        if not grower.can_grow(grower.start()):
            raise ValueError(
                "the start network must have something that can grow, or a search has no other: choose a smaller start,"
                " or larger bounds of the space"
            )

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return the baseline, and the policy's weights drawn from `seed`."""
        options = self._options
        self._grower.draw_weights(torch.Generator().manual_seed(seed))
        decay, rule = {"decay": options.baseline_decay}, {"lr": options.controller_learning_rate}
        values = self._grower.policy.values()
        return (
            ParameterGroup(name="baseline", values={BASELINE: torch.zeros(2)}, optimizer="average", options=decay),
            ParameterGroup(name="policy", values=values, optimizer="adam", options=rule),
        )

    def ask(self, n: int, view: View) -> list[Proposal]:
        """Return children that grow from the stage's parent; none until all of the stages before have ended."""
        history, pending = view.history(), view.pending()
        begun = [*history, *pending]
        starts = sum(_stage_of(child) == 0 for child in begun)
        if starts < self._options.starts:
            return [self._start() for _ in range(min(n, self._options.starts - starts))]
        number, stage = len(begun) - starts, self._stage(begun)
        if any(_stage_of(child) < stage for child in pending):
            return []
        parent = self._parent(stage, history)
        if parent is None:  # every training of the start has failed
            return [self._start()]
        left = self._options.left_in_stage(number) if stage == self._options.stage_of(number) else None
        generator = torch.Generator().manual_seed(view.rng.getrandbits(63))
        self._grower.policy.load(view.parameters)
        return self._grown(n if left is None else min(n, left), parent, stage, history, generator)

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return the policy's gradient, and the mean reward for the baseline, from children that have grown.

        The gradient is that of -(1/m) sum_k (R_k - b) log P(decisions_k) - bonus H, where
        R_k is the reward of child k;
        b is the moving average of rewards, which starts at 0 and has the mean of these already: it is updated before
        use (spec §9.1);
        H is the mean over the children of `Scored.entropy`.
        Where nothing was decided, there is only the mean reward.
        """
        parents = {child.id: child for child in view.history()}
        grown = [child for child in children if _stage_of(child) and child.notes[PARENT] in parents]
        if not grown:
            return Update()
        policy, options = self._grower.policy, self._options
        policy.load(view.parameters)
        rewards = torch.tensor([reward_of(child) for child in grown])
        expected = updated_baseline(view.parameters[BASELINE], rewards, options.baseline_decay)
        scored = self._grower.score([(parents[child.notes[PARENT]].tokens, child.notes) for child in grown])
        loss = -((rewards - expected) * scored.log_prob).mean() - options.entropy_bonus * scored.entropy.mean()
        gradients = policy.gradients(loss) if loss.requires_grad else {}
        if options.GRADIENT_NORM is not None and gradients:
            gradients = _bounded(gradients, options.GRADIENT_NORM)
        return Update(
            gradients={BASELINE: baseline_gradient(rewards), **gradients},
            figures={"baseline": expected, "decision_entropy": scored.decision_entropy.mean().item()},
        )

    def keeps(self, view: View) -> frozenset[int]:
        """Return the parents of the newest stage that has begun, of the present and of the next, and the best child.

        The present stage may not have begun: a search that is given more children may then go on with the one before.
        """
        history = view.history()
        every = [*history, *view.pending()]
        newest, present = max(map(_stage_of, every), default=0) or 1, self._stage(every)
        named = (*(self._parent(stage, history) for stage in (newest, present, None)), next(_ranked(history), None))
        return frozenset(child.id for child in named if child is not None)

    def _parent(self, stage: int | None, history: Sequence[ChildRecord]) -> ChildRecord | None:
        """Return the best child of the stages before this one, or of all, that can still grow."""
        ranked = _ranked(child for child in history if stage is None or _stage_of(child) < stage)
        return next((child for child in ranked if self._grower.can_grow(child.tokens)), None)

    def _stage(self, begun: Sequence[ChildRecord]) -> int:
        """Return the next child's stage; none comes back when a search is given more children than it had."""
        stages = [_stage_of(child) for child in begun]
        return max(self._options.stage_of(sum(stage > 0 for stage in stages)), max(stages, default=0))

    def _start(self) -> Proposal:
        tokens = self._grower.start()
        return Proposal(tokens=tokens, architecture=self._space.decode(tokens), notes={STAGE: 0})

    def _grown(
        self, count: int, parent: ChildRecord, stage: int, history: Sequence[ChildRecord], generator: torch.Generator
    ) -> list[Proposal]:
        """Return so many children that the policy makes of a parent.

        A network that has been trained already takes the known outcome, as in the published code.
        """
        grown = self._grower.grow(parent.tokens, count, generator)
        with torch.no_grad():
            scored = self._grower.score([(parent.tokens, one.decisions) for one in grown])
        trained = {child.architecture_id: child.id for child in reversed(history) if _has_trained(child)}
        checksum = parent.outcome.weights if parent.outcome else None
        proposals = list[Proposal]()
        for one, log_prob in zip(grown, scored.log_prob.tolist(), strict=True):
            architecture = self._space.decode(one.tokens)
            same_as = trained.get(architecture.id)
            job = None
            if checksum is not None and same_as is None:
                job = TrainOn(parent=parent.id, checksum=checksum, changes=one.changes)
            proposals.append(
                Proposal(
                    tokens=one.tokens,
                    architecture=architecture,
                    log_prob=log_prob,
                    notes={STAGE: stage, PARENT: parent.id, CHANGE: one.words, **one.decisions},
                    same_as=same_as,
                    job=job,
                )
            )
        return proposals


def changes_in_words(*counts: tuple[int, str]) -> str:
    """Return numbers of things in words, such as `3 layers wider, 1 layer more`; `none` where all are 0.

    Args:
        counts: a number, and what it counts with `{s}` where several have an s.
    """
    return ", ".join(f"{count} {what.format(s='s' * (count > 1))}" for count, what in counts if count) or "none"


def _bounded(gradients: Mapping[str, Tensor], bound: float) -> dict[str, Tensor]:
    """Return the gradients, scaled so that the norm of all together is at most the bound."""
    norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm().item()
    scale = min(1.0, bound / norm) if norm else 1.0
    return {name: gradient * scale for name, gradient in gradients.items()}


def _stage_of(child: ChildRecord) -> int:
    return child.notes[STAGE]


def _has_trained(child: ChildRecord) -> bool:
    return child.outcome is not None and child.outcome.metric is not None and child.same_as is None


def _ranked(children: Iterable[ChildRecord]) -> Iterator[ChildRecord]:
    """Yield the children that were trained themselves, by their reward, the highest first; of equal ones the older."""
    trained = (child for child in children if _has_trained(child) and child.reward is not None)
    yield from sorted(trained, key=lambda child: (-reward_of(child), child.id))
