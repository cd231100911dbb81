"""EAS: networks that grow from a trained one and begin with its weights (Cai et al. 2018, arXiv 1707.04873; spec §9.1).

A policy makes each child from one network, the stage's parent: layers become wider, then new ones are inserted, and the
child computes what its parent does until it is trained. A child's notes have what the policy decided, from which its
log-probability is computed again when it is learnt from.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from child_trainer.inheritance.changes import Change
from child_trainer.supernets.jobs import TrainOn
from controller.policies.eas import Deeper, EasPolicy, GrowingNetwork, Judged, Wider
from controller.searcher import ChildRecord, ParameterGroup, Proposal, Update, View
from controller.searchers.policy_gradient.policy_searcher import (
    BASELINE,
    baseline_gradient,
    reward_of,
    updated_baseline,
)
from controller.searchers.transformations.options import EasOptions
from controller.space import SearchSpace
from controller.spaces.growing import Chain, WidensAndDeepens

STAGE, PARENT, CHANGE, WIDER, DEEPER = "stage", "parent", "change", "wider", "deeper"
"""Keys of a child's notes; the start has the stage 0, and neither a parent nor decisions."""


@dataclass(slots=True)
class _Growing:
    """A child that is not proposed yet: its layers so far, the changes that made them, and the decisions."""

    chain: Chain
    changes: list[Change]
    wider: list[Wider]
    deeper: list[Deeper]


class Eas:
    """Grows networks by a policy.

    Attributes:
        exclusive: see `controller.searcher.is_exclusive`: a stage has as many children as it should.
    """

    exclusive = True

    def __init__(self, space: SearchSpace, options: EasOptions) -> None:
        if not isinstance(space, WidensAndDeepens):
            raise ValueError(
                "the searcher 'eas' makes layers wider and inserts new ones, and the space must say how: use --space"
                f" plain or densenet, got a {type(space).__name__}"
            )
        self._space, self._options = space, options
        start = space.chain(())
        self._blocks = len(space.blocks(start))
        self._vocabulary = {text: number for number, text in enumerate(space.layer_texts)}
        self._policy = EasPolicy(
            vocabulary=len(self._vocabulary),
            blocks=self._blocks,
            places=space.max_block_layers,
            windows=len(space.window_sizes),
            embedding=options.layer_embedding,
            units=options.encoder_units,
        )

    def parameters(self, seed: int) -> tuple[ParameterGroup, ...]:
        """Return the baseline, and the policy's weights drawn from `seed`."""
        options = self._options
        self._policy.draw_weights(torch.Generator().manual_seed(seed))
        decay, rule = {"decay": options.baseline_decay}, {"lr": options.controller_learning_rate}
        return (
            ParameterGroup(name="baseline", values={BASELINE: torch.zeros(2)}, optimizer="average", options=decay),
            ParameterGroup(name="policy", values=self._policy.values(), optimizer="adam", options=rule),
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
        parent = _best(child for child in history if _stage_of(child) < stage)
        if parent is None:  # every training of the start has failed
            return [self._start()]
        left = self._options.left_in_stage(number) if stage == self._options.stage_of(number) else None
        generator = torch.Generator().manual_seed(view.rng.getrandbits(63))
        self._policy.load(view.parameters)
        return self._grown(n if left is None else min(n, left), parent, stage, history, generator)

    def learn(self, children: Sequence[ChildRecord], view: View) -> Update:
        """Return the policy's gradient, and the mean reward for the baseline, from children that have grown.

        The gradient is that of -(1/m) sum_k (R_k - b) log P(decisions_k) - bonus H, where
        R_k is the reward of child k;
        b is the moving average of rewards, which starts at 0 and has the mean of these already: it is updated before
        use (spec §9.1);
        H is the mean entropy of a decision.
        """
        parents = {child.id: child for child in view.history()}
        grown = [child for child in children if _stage_of(child) and child.notes[PARENT] in parents]
        if not grown:
            return Update()
        self._policy.load(view.parameters)
        rewards = torch.tensor([reward_of(child) for child in grown])
        expected = updated_baseline(view.parameters[BASELINE], rewards, self._options.baseline_decay)
        judged = self._judge([(parents[child.notes[PARENT]].tokens, child.notes) for child in grown])
        entropy = judged.entropy.mean()
        loss = -((rewards - expected) * judged.log_prob).mean() - self._options.entropy_bonus * entropy
        return Update(
            gradients={BASELINE: baseline_gradient(rewards), **self._policy.gradients(loss)},
            figures={"baseline": expected, "decision_entropy": entropy.item()},
        )

    def keeps(self, view: View) -> frozenset[int]:
        """Return the parents of the present stage and of the newest one that has begun, and the best child so far.

        The best child is the parent of the next stage. The present stage may not have begun: a search that is given
        more children may then go on with the one before.
        """
        history = view.history()
        every = [*history, *view.pending()]
        stages = (max(map(_stage_of, every), default=0) or 1, self._stage(every))
        named = (*(_best(child for child in history if _stage_of(child) < stage) for stage in stages), _best(history))
        return frozenset(child.id for child in named if child is not None)

    def _stage(self, begun: Sequence[ChildRecord]) -> int:
        """Return the next child's stage; none comes back when a search is given more children than it had."""
        stages = [_stage_of(child) for child in begun]
        return max(self._options.stage_of(sum(stage > 0 for stage in stages)), max(stages, default=0))

    def _start(self) -> Proposal:
        tokens = self._space.tokens_of(self._space.chain(()))
        return Proposal(tokens=tokens, architecture=self._space.decode(tokens), notes={STAGE: 0})

    def _grown(
        self, count: int, parent: ChildRecord, stage: int, history: Sequence[ChildRecord], generator: torch.Generator
    ) -> list[Proposal]:
        """Return so many children that the policy makes of a parent.

        A network that has been trained already takes the known outcome, as in the published code.
        """
        chain, noise = self._space.chain(parent.tokens), self._options.wider_noise
        growing = [_Growing(chain, [], [], []) for _ in range(count)]
        for _ in range(self._options.wider_steps):
            networks = [self._seen(one.chain) for one in growing]
            for one, places in zip(growing, self._policy.sample_wider(networks, generator), strict=True):
                self._widen(one, places)
        for _ in range(self._options.deeper_steps):
            networks = [self._seen(one.chain) for one in growing]
            for one, decision in zip(growing, self._policy.sample_deeper(networks, generator), strict=True):
                self._deepen(one, decision)
        with torch.no_grad():
            judged = self._judge([(parent.tokens, _decisions(one)) for one in growing])
        trained = {child.architecture_id: child.id for child in reversed(history) if _has_trained(child)}
        checksum = parent.outcome.weights if parent.outcome else None
        proposals = list[Proposal]()
        for one, log_prob in zip(growing, judged.log_prob.tolist(), strict=True):
            one.chain, following = self._space.finished(one.chain, noise)
            tokens = self._space.tokens_of(one.chain)
            architecture = self._space.decode(tokens)
            same_as = trained.get(architecture.id)
            notes = {STAGE: stage, PARENT: parent.id, CHANGE: _words(chain, one.chain), **_decisions(one)}
            job = None
            if checksum is not None and same_as is None:
                job = TrainOn(parent=parent.id, checksum=checksum, changes=(*one.changes, *following))
            proposals.append(
                Proposal(
                    tokens=tokens,
                    architecture=architecture,
                    log_prob=log_prob,
                    notes=notes,
                    same_as=same_as,
                    job=job,
                )
            )
        return proposals

    def _widen(self, one: _Growing, places: Wider) -> None:
        one.wider.append(places)
        for place in places:
            one.chain, changes = self._space.widened(one.chain, place, self._options.wider_noise)
            one.changes += changes

    def _deepen(self, one: _Growing, decision: Deeper) -> None:
        one.deeper.append(decision)
        if decision is not None:
            block, place, window = decision
            at, size = self._space.blocks(one.chain)[block][place], self._space.window_sizes[window]
            one.chain, changes = self._space.deepened(one.chain, at, size, self._options.deeper_noise)
            one.changes += changes

    def _seen(self, chain: Chain) -> GrowingNetwork:
        """Return what the policy sees of a network."""
        blocks = self._space.blocks(chain)
        return GrowingNetwork(
            layers=tuple(self._vocabulary[self._space.text(layer)] for layer in chain),
            can_widen=tuple(self._space.wider_width(layer) is not None for layer in chain),
            places=tuple(len(self._space.deeper_places(chain, block)) for block in blocks),
            has_window=tuple(tuple(self._space.has_window(chain[place]) for place in block) for block in blocks),
        )

    def _judge(self, made: Sequence[tuple[Sequence[int], Mapping[str, Any]]]) -> Judged:
        """Return the log-probability of each child's decisions and their mean entropy.

        Args:
            made: of each child, its parent's tokens and its decisions.
        """
        growing = [_Growing(self._space.chain(tokens), [], [], []) for tokens, _ in made]
        log_prob, entropies = torch.zeros(len(made)), list[Tensor]()
        for step in range(max(len(decisions[WIDER]) for _, decisions in made)):
            places = [tuple(decisions[WIDER][step]) for _, decisions in made]
            judged = self._policy.score_wider([self._seen(one.chain) for one in growing], places)
            log_prob, entropies = log_prob + judged.log_prob, [*entropies, judged.entropy]
            for one, chosen in zip(growing, places, strict=True):
                self._widen(one, chosen)
        for step in range(max(len(decisions[DEEPER]) for _, decisions in made)):
            inserted: list[Deeper] = [_deeper_of(decisions[DEEPER][step]) for _, decisions in made]
            judged = self._policy.score_deeper([self._seen(one.chain) for one in growing], inserted)
            log_prob, entropies = log_prob + judged.log_prob, [*entropies, judged.entropy]
            for one, decision in zip(growing, inserted, strict=True):
                self._deepen(one, decision)
        return Judged(log_prob, torch.stack(entropies).mean(0))


def _stage_of(child: ChildRecord) -> int:
    return child.notes[STAGE]


def _has_trained(child: ChildRecord) -> bool:
    return child.outcome is not None and child.outcome.metric is not None and child.same_as is None


def _best(children: Iterable[ChildRecord]) -> ChildRecord | None:
    """Return the child with the highest reward that was trained itself, the first one of several."""
    trained = (child for child in children if _has_trained(child) and child.reward is not None)
    return max(trained, key=lambda child: (reward_of(child), -child.id), default=None)


def _decisions(one: _Growing) -> dict[str, Any]:
    """Return the decisions as notes."""
    return {WIDER: [list(places) for places in one.wider], DEEPER: [d and list(d) for d in one.deeper]}


def _deeper_of(noted: Sequence[int] | None) -> Deeper:
    if noted is None:
        return None
    block, place, window = noted
    return block, place, window


def _words(parent: Chain, child: Chain) -> str:
    """Return what differs, for people, such as `3 layers wider, 5 layers more`."""
    widths = {layer.number: layer.width for layer in parent}
    wider = sum(layer.width > widths.get(layer.number, layer.width) for layer in child)
    more = len(child) - len(parent)
    counts = ((wider, "wider"), (more, "more"))
    return ", ".join(f"{count} layer{'s' * (count > 1)} {what}" for count, what in counts if count) or "none"
