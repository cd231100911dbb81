"""The interface of a search space. Standard library only."""

import random
from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from typing import Protocol, cast, runtime_checkable

from child_trainer.architectures.architecture import Architecture, Kind
from controller.decisions import Decision, Decisions, Tokens, mutate, place_of, uniform


class SearchSpace(Protocol):
    """The decisions that make up an architecture, and how tokens become one.

    Rules, held by `tests/contracts/search_space.py`:
    1. Every sample of `decisions(completed)` decodes, and equal tokens give equal architectures.
    2. The number of tokens determines which of the sequences they are a sample of.
    3. `choice_sizes` has every choice of any sequence, with its number of options.
    4. Every decoded architecture is of the space's `kind`.

    A space whose samples have no fixed sequence of decisions has none, and then draws and mutates its samples itself.

    A space may also have an attribute `place_name`, which says what the places of its decisions are, such as `block`,
    and any method of `DrawsFirst`, `Mutates`, `Grows`, `HasMotifs`, `HasGenotypes`, `HasCells`, `HasLayers`,
    `HasStates`, `HasFeatures` and `HasSupernet`; or those of `controller.spaces.layer_chains.WidensAndDeepens`.
    """

    @property
    def kind(self) -> Kind:
        """The kind of its architectures."""
        ...

    def decisions(self, completed: int) -> Decisions:
        """Return the decisions for the next sample, after `completed` children of the search have ended."""
        ...

    def choice_sizes(self) -> Mapping[str, int]:
        """Return the name of every possible `Choice`, with its number of options."""
        ...

    def decisions_of(self, num_tokens: int) -> Decisions:
        """Return the sequence of decisions that takes this many tokens.

        Raises:
            InvalidTokens: if there is none.
        """
        ...

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the architecture that the tokens encode.

        Raises:
            InvalidTokens: if they are not a sample of this space.
        """
        ...


@runtime_checkable
class DrawsFirst(Protocol):
    """A space that draws the samples with which a search begins by a rule of its own."""

    def first(self, completed: int, rng: random.Random) -> Tokens:
        """Return a sample to begin with, after `completed` children of the search have ended."""
        ...


@runtime_checkable
class Mutates(Protocol):
    """A space that mutates its samples by a rule of its own."""

    def mutate(self, tokens: Sequence[int], rng: random.Random) -> Tokens:
        """Return a mutation of the sample, which is a sample too."""
        ...


@runtime_checkable
class Grows(Protocol):
    """A space whose samples are made of parts, one after the other: the first parts of a sample are a sample too."""

    def parts(self, number: int) -> Sequence[Tokens]:
        """Return the tokens of each part that can be a sample's `number`-th, from 1; none if samples have fewer parts.

        All have equally many tokens. Of parts that give equal architectures it has one.
        """
        ...


@runtime_checkable
class HasMotifs(Protocol):
    """A space whose architectures are made of repeated parts, such as cells."""

    def motifs(self, tokens: Sequence[int]) -> Mapping[str, Architecture]:
        """Return each part, as a graph to draw, by its name, such as `normal` or `motif 1`."""
        ...


@runtime_checkable
class HasGenotypes(Protocol):
    """A space whose samples have a notation in the literature."""

    def genotypes(self, tokens: Sequence[int]) -> Mapping[str, str]:
        """Return the sample in each notation, as text that can be pasted, by the notation's name, such as `DARTS`."""
        ...


@runtime_checkable
class HasStates(Protocol):
    """A space that is a Markov decision process with fewer states than beginnings of samples."""

    def state(self, tokens: Sequence[int]) -> Hashable:
        """Return the state after these tokens, the first ones of a sample, at a decision that applies."""
        ...


@runtime_checkable
class HasCells(Protocol):
    """A space whose samples consist of the decisions of one cell after another."""

    def cells(self, num_tokens: int) -> Mapping[str, Sequence[int]]:
        """Return the positions of each cell's tokens in a sample of so many, by the cell's name.

        Each cell takes its tokens from any sample, whatever the others are.
        """
        ...


@runtime_checkable
class HasLayers(Protocol):
    """A space whose networks are lists of layers, of which there can be one more or less."""

    def with_layer(self, tokens: Sequence[int], rng: random.Random) -> Tokens | None:
        """Return the sample with one more layer at a random place; `None` if it has as many as the space allows."""
        ...

    def without_layer(self, tokens: Sequence[int], rng: random.Random) -> Tokens | None:
        """Return the sample without one of its layers; `None` if it has as few as the space allows."""
        ...


@runtime_checkable
class HasFeatures(Protocol):
    """A space that describes its samples by numbers from which a surrogate can predict better than from the tokens."""

    def features(self, tokens: Sequence[int]) -> Mapping[str, float]:
        """Return the sample's features by name; one that is absent is 0."""
        ...


@runtime_checkable
class HasSupernet(Protocol):
    """A space whose networks are all parts of one, the supernet, so that they can share its weights.

    Rules, held by `tests/contracts/supernet.py`:
    1. A sample's architecture is what `child_trainer.supernets.restriction.restrict` leaves of the supernet with the
       sample's gates. What is left has the supernet's names, by which it finds its weights.
    2. Strengths that favour a sample's gates derive that sample, or one with the same architecture.
    3. Where gates are exclusive, no sample has more than one input of a gate.
    """

    @property
    def exclusive(self) -> bool:
        """Whether a sample has at most one input of each gate, as a softmax of strengths supposes."""
        ...

    def supernet(self) -> Architecture:
        """Return the network with all options, mixed by gates.

        Raises:
            ValueError: the space's options are for networks that share no weights.
        """
        ...

    def gates(self, tokens: Sequence[int]) -> Mapping[str, tuple[float, ...]]:
        """Return the gate vectors of a sample by name: 1 for each input that it has, 0 for the others."""
        ...

    def derive(self, strengths: Mapping[str, Sequence[float]]) -> Tokens:
        """Return the sample that the strengths of the gates' inputs favour.

        Args:
            strengths: by gate, a number for each input. Where a sample has one of the inputs, the softmax of the
                numbers is their probability; where it may have any of them, the sigmoid of each is its own. Gates that
                follow from others need none.

        Raises:
            ValueError: a gate has none, or too few or too many.
        """
        ...


def first_tokens(space: SearchSpace, completed: int, rng: random.Random) -> Tokens:
    """Return a sample to begin with: by the space's own rule, or uniform at each decision."""
    if isinstance(space, DrawsFirst):
        return space.first(completed, rng)
    return uniform(space.decisions(completed), rng)


@cache
def _has_own_mutation(kind: type) -> bool:
    # `isinstance` of a protocol takes longer than a mutation.
    return issubclass(kind, Mutates)


def mutated_tokens(space: SearchSpace, tokens: Sequence[int], rng: random.Random) -> Tokens:
    """Return a mutation of the sample: by the space's own rule, or with another value at one token."""
    if _has_own_mutation(type(space)):
        return cast(Mutates, space).mutate(tokens, rng)
    return mutate(space.decisions_of(len(tokens)), tokens, rng)


def place_name(space: SearchSpace) -> str:
    """Return what the places of the space's decisions are, for people."""
    return getattr(space, "place_name", "node" if space.kind == "recurrent" else "layer")


def place_label(space: SearchSpace, place: int) -> str:
    """Return what a place of the space's decisions, from 1, is called, such as `block 2`."""
    name = place_name(space)
    # Nodes are numbered from 0, as the indices among a cell's options are.
    return f"{name} {place - (name == 'node')}"


def decision_label(space: SearchSpace, decision: Decision) -> str:
    """Return what a decision is called, for people, such as `edge 3` or `first input of block 2`."""
    place = place_of(decision)
    kind, name = decision.kind.replace("_", " "), place_name(space)
    if not place:
        return kind
    where = place_label(space, place)
    return where if kind == name else f"{kind} of {where}"


def parts_of(space: SearchSpace, number: int) -> Sequence[Tokens]:
    """Return the parts that can be a sample's `number`-th, from 1; none if samples are not that long or have no parts.

    See `Grows`.
    """
    return space.parts(number) if isinstance(space, Grows) else ()


def motifs_of(space: SearchSpace, tokens: Sequence[int]) -> Mapping[str, Architecture]:
    """Return the named parts that the sample's architecture is made of; none if the space has no such parts."""
    return space.motifs(tokens) if isinstance(space, HasMotifs) else {}


def genotypes_of(space: SearchSpace, tokens: Sequence[int]) -> Mapping[str, str]:
    """Return the sample as text, by the notation's name; none if the space has no notation."""
    return space.genotypes(tokens) if isinstance(space, HasGenotypes) else {}
