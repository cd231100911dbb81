"""NEAT's space: networks of any topology, whose weights are part of the sample (spec §15). Standard library only."""

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

from child_trainer.architectures.architecture import Architecture, Kind, Node, node
from child_trainer.field_types import check_types
from controller.decisions import InvalidTokens, Tokens
from controller.genomes.genome import Genome, Link, random_start, start_genome
from controller.genomes.innovations import Innovations
from controller.genomes.mutations import MutationOptions, mutate
from controller.spaces.free_form import FreeForm

MAX_NODES = 1_000
"""Upper bound for `inputs` and for `outputs`."""


@dataclass(frozen=True, kw_only=True)
class GenomeSpace(FreeForm):
    """Networks that grow: neurons with a logistic function, connected by links with weights of their own.

    A sample has no fixed sequence of decisions. Its tokens write a genome (`controller.genomes.genome`), and no tokens
    at all are the start genome with weights of 0.
    """

    sample_name = "a genome"

    inputs: int = 2
    """Numbers that the task gives to the network."""
    outputs: int = 1
    """Numbers that the network gives back."""
    bias: bool = True
    """Give the network one more input, which is always 1."""
    recurrent: bool = False
    """Allow links that give what their source computed a step before."""
    slope: float = 4.9
    """Slope of the logistic function: 1 / (1 + exp(-slope x))."""
    start_weight: float = 1.0
    """Weights of the networks that a search begins with are drawn uniformly between minus this and this."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("inputs", "outputs"):
            if not 1 <= getattr(self, name) <= MAX_NODES:
                raise ValueError(f"`{name}` must be from 1 to {MAX_NODES:,}, got {getattr(self, name)}")
        for name in ("slope", "start_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"`{name}` must be a positive number, got {value}")

    @property
    def kind(self) -> Kind:
        """The kind of its architectures."""
        return "recurrent" if self.recurrent else "feedforward"

    @property
    def input_nodes(self) -> int:
        """How many input nodes a genome has, the bias included."""
        return self.inputs + self.bias

    def first(self, completed: int, rng: random.Random) -> Tokens:
        """Return a genome without hidden nodes, whose inputs are all connected to all outputs."""
        return random_start(self.input_nodes, self.outputs, self.start_weight, rng).to_tokens()

    def mutate(self, tokens: Sequence[int], rng: random.Random) -> Tokens:
        """Return the genome after one of NEAT's mutations, with the paper's probabilities."""
        genome = self.genome(tokens)
        made = mutate(genome, MutationOptions(), Innovations.of(genome), rng, recurrent=self.recurrent)
        return made.genome.to_tokens()

    def genome(self, tokens: Sequence[int]) -> Genome:
        """Return the genome that the tokens write.

        Raises:
            InvalidTokens: they write none with this space's inputs and outputs.
        """
        if not tokens:
            return start_genome(self.input_nodes, self.outputs, [0.0] * (self.input_nodes * self.outputs))
        genome = Genome.from_tokens(tokens, inputs=self.input_nodes, outputs=self.outputs)
        if not self.recurrent and any(link.recurrent for link in genome.links):
            raise InvalidTokens("a genome of this space has no recurrent links, as `recurrent` is false")
        return genome

    def decode(self, tokens: Sequence[int]) -> Architecture:
        """Return the network of a genome; see `network`."""
        return self.network(self.genome(tokens))

    def genotypes(self, tokens: Sequence[int]) -> Mapping[str, str]:
        """Return the genome as JSON."""
        return {"NEAT": json.dumps(self.genome(tokens).to_json())}

    def network(self, genome: Genome) -> Architecture:
        """Return the network of a genome's enabled links.

        A node `n5` is a `logistic` of the sum of its links, each of which is a `scale` by its weight. A feed-forward
        network reads its inputs from `image`, a vector, and gives its outputs. A recurrent one reads them from `x`;
        its next state h is its outputs, then the hidden nodes that a recurrent link reads.
        """
        links = [link for link in genome.links if link.enabled]
        kept = {link.source for link in links if link.recurrent}
        state = (*genome.output_nodes, *(n for n in genome.hidden if n in kept))
        nodes = self._inputs() + [
            node(f"last{n}", "split", "h", parts=len(state), index=place) for place, n in enumerate(state) if n in kept
        ]
        for target in _in_order(genome, links):
            nodes += self._neuron(target, [link for link in links if link.target == target])
        names = tuple(f"n{n}" for n in (state if self.recurrent else genome.output_nodes))
        if len(names) == 1:
            return Architecture(self.kind, tuple(nodes), names)
        return Architecture(self.kind, (*nodes, node("outputs", "concat", names)), ("outputs",))

    def _inputs(self) -> list[Node]:
        """Return a node for each input node."""
        vector = "x" if self.recurrent else "image"
        numbers = [node(f"n{i}", "split", vector, parts=self.inputs, index=i) for i in range(self.inputs)]
        return [*numbers, node(f"n{self.inputs}", "constant", "n0", value=1.0)] if self.bias else numbers

    def _neuron(self, number: int, links: Sequence[Link]) -> list[Node]:
        """Return the nodes of a neuron and of the links to it; one without links has the input 0."""
        scaled = [
            node(f"w{link.innovation}", "scale", f"{'last' if link.recurrent else 'n'}{link.source}", by=link.weight)
            for link in links
        ]
        total = f"sum{number}"
        adds = node(total, "add", [n.name for n in scaled]) if links else node(total, "zero", "n0")
        return [*scaled, adds, node(f"n{number}", "logistic", total, slope=self.slope)]


def _in_order(genome: Genome, links: Sequence[Link]) -> list[int]:
    """Return the neurons, each after those whose forward links lead to it."""
    sources: dict[int, list[int]] = {neuron: [] for neuron in genome.neurons}
    for link in links:
        if not link.recurrent and link.source >= genome.inputs:
            sources[link.target].append(link.source)
    return list(TopologicalSorter(sources).static_order())
