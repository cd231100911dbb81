"""NEAT's genomes: nodes and links, as data (Stanley & Miikkulainen 2002, section 3.1; spec §15). Standard library only.

Nodes are numbers: first the inputs, then the outputs, then the hidden nodes. A forward link acts within a step of the
network and forward links form no cycle; a recurrent link gives what its source computed a step before.
"""

import itertools
import random
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any

from controller.decisions import InvalidTokens, Tokens

LINK_TOKENS = 5
"""Tokens of a link: its number, source, target, flags and weight."""

ENABLED, RECURRENT = 1, 2
"""The bits of a link's flags."""


@dataclass(frozen=True, slots=True)
class Link:
    """A connection gene.

    Attributes:
        innovation: its historical marking: equal for links of one origin, whichever genome they are in.
        source, target: the nodes that it connects.
        weight: a float32 number, so that 32 bits write it exactly.
        enabled: whether the network has it; a disabled link remains in the genome.
        recurrent: whether it gives what its source computed a step before.
    """

    innovation: int
    source: int
    target: int
    weight: float
    enabled: bool = True
    recurrent: bool = False

    @property
    def place(self) -> tuple[int, int, bool]:
        """What it connects, and whether within a step: a genome has one link at a place."""
        return self.source, self.target, self.recurrent


@dataclass(frozen=True)
class Genome:
    """A network with its weights.

    Attributes:
        inputs: how many input nodes it has; a bias is one of them.
        outputs: how many output nodes it has.
        hidden: the numbers of its hidden nodes, ascending.
        links: its connection genes, by ascending innovation number.
    """

    inputs: int
    outputs: int
    hidden: tuple[int, ...]
    links: tuple[Link, ...]

    @property
    def output_nodes(self) -> range:
        """The numbers of the output nodes."""
        return range(self.inputs, self.inputs + self.outputs)

    @property
    def neurons(self) -> tuple[int, ...]:
        """The numbers of the nodes that compute: the outputs, then the hidden ones."""
        return (*self.output_nodes, *self.hidden)

    @cached_property
    def by_innovation(self) -> Mapping[int, Link]:
        """The links by their innovation numbers."""
        return {link.innovation: link for link in self.links}

    def to_tokens(self) -> Tokens:
        """Return the genome as integers: the number of hidden nodes, these nodes, and `LINK_TOKENS` for each link."""
        tokens = [len(self.hidden), *self.hidden]
        for link in self.links:
            flags = ENABLED * link.enabled + RECURRENT * link.recurrent
            tokens += (link.innovation, link.source, link.target, flags, _bits(link.weight))
        return tuple(tokens)

    @classmethod
    def from_tokens(cls, tokens: Sequence[int], *, inputs: int, outputs: int) -> "Genome":
        """Return the genome that `to_tokens` wrote.

        Raises:
            InvalidTokens: they are not those of a genome with so many inputs and outputs.
        """
        if not tokens or min(tokens) < 0:
            raise InvalidTokens(f"the tokens of a genome must be 0 or more, got {list(tokens[:1]) or 'none'}")
        first_link = 1 + tokens[0]
        if len(tokens) < first_link or (len(tokens) - first_link) % LINK_TOKENS:
            raise InvalidTokens(
                f"a genome with {tokens[0]} hidden nodes takes {first_link} tokens and {LINK_TOKENS} for each link, got"
                f" {len(tokens)}"
            )
        links = []
        for start in range(first_link, len(tokens), LINK_TOKENS):
            innovation, source, target, flags, bits = tokens[start : start + LINK_TOKENS]
            if flags > ENABLED + RECURRENT or bits >= 2**32:
                raise InvalidTokens(f"token {start + 3} must be at most 3 and token {start + 4} below 2^32")
            weight = _number(bits)
            links.append(Link(innovation, source, target, weight, bool(flags & ENABLED), bool(flags & RECURRENT)))
        genome = cls(inputs, outputs, tuple(tokens[1:first_link]), tuple(links))
        if problem := genome.problem():
            raise InvalidTokens(problem)
        return genome

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`, from which `from_json` makes an equal genome."""
        links = [
            {"innovation": x.innovation, "source": x.source, "target": x.target, "weight": x.weight}
            | ({} if x.enabled else {"enabled": False})
            | ({"recurrent": True} if x.recurrent else {})
            for x in self.links
        ]
        return {"inputs": self.inputs, "outputs": self.outputs, "hidden": list(self.hidden), "links": links}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Genome":
        """Return the genome that `to_json` wrote.

        Raises:
            ValueError: it is not a valid genome.
        """
        links = tuple(Link(**(link | {"weight": single(link["weight"])})) for link in data["links"])
        genome = cls(data["inputs"], data["outputs"], tuple(data["hidden"]), links)
        if problem := genome.problem():
            raise ValueError(problem)
        return genome

    def problem(self) -> str | None:
        """Return what is wrong with the genome, as a sentence, or `None`."""
        numbers = [link.innovation for link in self.links]
        for what, ordered in (("hidden nodes", self.hidden), ("innovation numbers of the links", numbers)):
            if any(a >= b for a, b in itertools.pairwise(ordered)):
                return f"the {what} must ascend, got {list(ordered)}"
        if self.hidden and self.hidden[0] < self.inputs + self.outputs:
            return f"hidden nodes have numbers from {self.inputs + self.outputs}, got {self.hidden[0]}"
        return self._link_problem()

    def _link_problem(self) -> str | None:
        """Return what is wrong with the links, as a sentence, or `None`."""
        if not self.links:
            return "a genome has at least one link"
        targets = set(self.neurons)
        sources = targets | set(range(self.inputs))
        for link in self.links:
            if link.source not in sources or link.target not in targets:
                return f"link {link.innovation} connects {link.source} with {link.target}, which a link cannot"
            if not abs(link.weight) < float("inf"):
                return f"the weight of link {link.innovation} must be finite, got {link.weight}"
        if len({link.place for link in self.links}) < len(self.links):
            return "two links connect the same nodes"
        return "the forward links form a cycle" if has_cycle(self.links) else None


def start_genome(inputs: int, outputs: int, weights: Iterable[float]) -> Genome:
    """Return a genome without hidden nodes whose inputs are all connected to all outputs.

    Args:
        inputs, outputs: how many there are.
        weights: of the links, input by input.
    """
    ends = [(source, inputs + output) for source in range(inputs) for output in range(outputs)]
    links = [
        Link(number, source, target, single(weight))
        for number, ((source, target), weight) in enumerate(zip(ends, weights, strict=True), start=1)
    ]
    return Genome(inputs, outputs, (), tuple(links))


def random_start(inputs: int, outputs: int, weight: float, rng: random.Random) -> Genome:
    """Return a start genome with weights drawn uniformly between minus and plus `weight`."""
    return start_genome(inputs, outputs, [rng.uniform(-weight, weight) for _ in range(inputs * outputs)])


def has_cycle(links: Iterable[Link]) -> bool:
    """Return whether the forward links form a cycle; disabled ones count, as they may be enabled later."""
    sources: dict[int, list[int]] = {}
    for link in links:
        if not link.recurrent:
            sources.setdefault(link.target, []).append(link.source)
    try:
        TopologicalSorter(sources).prepare()
    except CycleError:
        return True
    return False


def origins(links: Iterable[Link], node: int) -> set[int]:
    """Return the nodes from which forward links lead to `node`, itself included."""
    sources: dict[int, list[int]] = {}
    for link in links:
        if not link.recurrent:
            sources.setdefault(link.target, []).append(link.source)
    found, waiting = {node}, [node]
    while waiting:
        for source in sources.get(waiting.pop(), ()):
            if source not in found:
                found.add(source)
                waiting.append(source)
    return found


def reaches(links: Iterable[Link], source: int, target: int) -> bool:
    """Return whether forward links lead from `source` to `target`, or whether they are one node."""
    return source in origins(links, target)


def single(value: float) -> float:
    """Return the float32 number that is nearest to the value."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


def _bits(weight: float) -> int:
    return struct.unpack("<I", struct.pack("<f", weight))[0]


def _number(bits: int) -> float:
    return struct.unpack("<f", struct.pack("<I", bits))[0]
