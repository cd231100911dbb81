"""Exclusive or as the paper writes it, computed on genomes, for evolutions without a cluster."""

import math
from graphlib import TopologicalSorter

from controller.genomes.genome import Genome

PATTERNS = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))
RIGHT = (0.0, 1.0, 1.0, 0.0)


def xor_outputs(genome: Genome) -> list[float]:
    """What node 3, the output, gives for each pair of inputs; node 2 is the bias."""
    sources: dict[int, list[tuple[int, float]]] = {}
    for link in genome.links:
        if link.enabled:
            sources.setdefault(link.target, []).append((link.source, link.weight))

    neurons = list(TopologicalSorter({n: [s for s, _ in sources.get(n, ())] for n in genome.neurons}).static_order())
    outputs = []
    for pattern in PATTERNS:
        values = dict(enumerate((*pattern, 1.0)))
        for node in neurons:
            if node > 2:
                total = sum([weight * values[source] for source, weight in sources.get(node, ())])
                values[node] = 1 / (1 + math.exp(-4.9 * total))
        outputs.append(values[3])
    return outputs


def xor_fitness(outputs: list[float]) -> float:
    return (4 - sum(abs(output - right) for output, right in zip(outputs, RIGHT, strict=True))) ** 2


def xor_solved(outputs: list[float]) -> bool:
    return all((output > 0.5) == (right == 1) for output, right in zip(outputs, RIGHT, strict=True))
