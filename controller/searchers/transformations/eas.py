"""EAS: networks that grow from a trained one and begin with its weights (Cai et al. 2018, arXiv 1707.04873; spec §9.1).

Layers become wider, then new ones are inserted, and the child computes what its parent does until it is trained.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from child_trainer.inheritance.changes import Change
from controller.decisions import Tokens
from controller.policies.eas import Deeper, EasPolicy, GrowingNetwork, Wider
from controller.searchers.transformations.inheriting_searcher import Grown, InheritingSearcher, Scored, changes_in_words
from controller.searchers.transformations.options import EasOptions
from controller.space import SearchSpace
from controller.spaces.checks import space_words
from controller.spaces.layer_chains import Chain, WidensAndDeepens

WIDER, DEEPER = "wider", "deeper"
"""Keys of a child's decisions."""


class Eas(InheritingSearcher):
    """Grows chains of layers by a policy."""

    def __init__(self, space: SearchSpace, options: EasOptions) -> None:
        if not isinstance(space, WidensAndDeepens):
            raise ValueError(
                "the searcher 'eas' makes layers wider and inserts new ones, and the space must say how: use --space"
                f" plain or densenet, got {space_words(space)}"
            )
        super().__init__(space, options, ChainGrower(space, options))


@dataclass(slots=True)
class _Growing:
    """A child that is not proposed yet: its layers so far, the changes that made them, and the decisions."""

    chain: Chain
    changes: list[Change]
    wider: list[Wider]
    deeper: list[Deeper]


class ChainGrower:
    """Makes chains wider and deeper by a policy.

    Attributes:
        policy: decides.
    """

    def __init__(self, space: WidensAndDeepens, options: EasOptions) -> None:
        self._space, self._options = space, options
        self._deeper_noise = {} if options.deeper_noise is None else {"noise": options.deeper_noise}
        self._vocabulary = {text: number for number, text in enumerate(space.layer_texts)}
        self.policy = EasPolicy(
            vocabulary=len(self._vocabulary),
            blocks=len(space.blocks(space.chain(()))),
            places=space.max_block_layers,
            windows=len(space.window_sizes),
            embedding=options.layer_embedding,
            units=options.encoder_units,
        )

    def draw_weights(self, generator: torch.Generator) -> None:
        """Draw the policy's first weights."""
        self.policy.draw_weights(generator)

    def start(self) -> Tokens:
        """Return the space's start."""
        return self._space.tokens_of(self._space.chain(()))

    def can_grow(self, parent: Sequence[int]) -> bool:
        """Return whether a chain has a layer that can become wider, or a place for another one."""
        seen = self._seen(self._space.chain(parent))
        widens = self._options.wider_steps and any(seen.can_widen)
        return bool(widens or (self._options.deeper_steps and any(seen.places)))

    def grow(self, parent: Sequence[int], count: int, generator: torch.Generator) -> list[Grown]:
        """Return so many chains that the policy makes of a parent."""
        chain = self._space.chain(parent)
        growing = [_Growing(chain, [], [], []) for _ in range(count)]
        for _ in range(self._options.wider_steps):
            networks = [self._seen(one.chain) for one in growing]
            for one, places in zip(growing, self.policy.sample_wider(networks, generator), strict=True):
                self._widen(one, places)
        for _ in range(self._options.deeper_steps):
            networks = [self._seen(one.chain) for one in growing]
            for one, decision in zip(growing, self.policy.sample_deeper(networks, generator), strict=True):
                self._deepen(one, decision)
        for one in growing:
            one.chain, changes = self._space.finished(one.chain, self._options.wider_noise)
            one.changes += changes
        return [
            Grown(
                tokens=self._space.tokens_of(one.chain),
                changes=tuple(one.changes),
                decisions={WIDER: [list(places) for places in one.wider], DEEPER: [d and list(d) for d in one.deeper]},
                words=self._words(chain, one.chain),
            )
            for one in growing
        ]

    def score(self, made: Sequence[tuple[Sequence[int], Mapping[str, Any]]]) -> Scored:
        """Return the log-probability of each child's decisions, and their mean entropy."""
        growing = [_Growing(self._space.chain(tokens), [], [], []) for tokens, _ in made]
        log_prob, entropies = torch.zeros(len(made)), list[Tensor]()
        for step in range(max(len(decisions[WIDER]) for _, decisions in made)):
            places = [tuple(decisions[WIDER][step]) for _, decisions in made]
            judged = self.policy.score_wider([self._seen(one.chain) for one in growing], places)
            log_prob, entropies = log_prob + judged.log_prob, [*entropies, judged.entropy]
            for one, chosen in zip(growing, places, strict=True):
                self._widen(one, chosen)
        for step in range(max(len(decisions[DEEPER]) for _, decisions in made)):
            inserted: list[Deeper] = [_deeper_of(decisions[DEEPER][step]) for _, decisions in made]
            judged = self.policy.score_deeper([self._seen(one.chain) for one in growing], inserted)
            log_prob, entropies = log_prob + judged.log_prob, [*entropies, judged.entropy]
            for one, decision in zip(growing, inserted, strict=True):
                self._deepen(one, decision)
        entropy = torch.stack(entropies).mean(0)
        return Scored(log_prob, entropy, entropy)

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
            one.chain, changes = self._space.deepened(one.chain, at, size, **self._deeper_noise)
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

    def _words(self, parent: Chain, child: Chain) -> str:
        """Return what was decided, for people, such as `3 layers wider, 5 layers more`; not what follows from it."""
        widths = {layer.number: layer.width for layer in parent if self._space.wider_width(layer) is not None}
        wider = sum(layer.width > widths.get(layer.number, layer.width) for layer in child)
        return changes_in_words((wider, "layer{s} wider"), (len(child) - len(parent), "layer{s} more"))


def _deeper_of(noted: Sequence[int] | None) -> Deeper:
    if noted is None:
        return None
    block, place, window = noted
    return block, place, window
