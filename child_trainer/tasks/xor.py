"""Exclusive or: the smallest problem that needs a hidden neuron (spec §15). Trains nothing; standard library only."""

from dataclasses import dataclass
from pathlib import Path

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.networks.scalar_graph import ScalarGraph
from child_trainer.no_options import NoOptions
from child_trainer.outcome import Budget, Measure
from child_trainer.training.task import Progress

PATTERNS = (((0.0, 0.0), 0.0), ((0.0, 1.0), 1.0), ((1.0, 0.0), 1.0), ((1.0, 1.0), 0.0))
"""The four pairs of inputs, each with the output that is right."""


@dataclass(frozen=True, slots=True)
class XorTask:
    """Judges a network of two inputs and one output, whose weights are part of the architecture."""

    name: str = "xor"

    @property
    def measure(self) -> Measure:
        """The fitness: (4 - the sum of the absolute errors)^2, from 0 to 16."""
        return Measure.FITNESS

    def fit(
        self, architecture: Architecture, budget: Budget, progress: Progress, *, seed: int, device: str = "cpu"
    ) -> None:
        """Report the network's fitness; the budget and the seed change nothing. See `Task.fit`."""
        network = ScalarGraph(architecture, {"image": 2})
        if network.num_outputs != 1:
            raise InvalidArchitecture(f"the task {self.name!r} needs a network of 1 output, got {network.num_outputs}")
        outputs = [network(inputs)[0] for inputs, _ in PATTERNS]
        progress.parameters = network.num_weights
        progress.solved = solves(outputs)
        progress.finished_epoch(fitness(outputs))


def fitness(outputs: list[float]) -> float:
    """Return (4 - the sum of the absolute errors)^2 (Stanley & Miikkulainen 2002, section 4.1)."""
    return (4 - sum(abs(output - right) for output, (_, right) in zip(outputs, PATTERNS, strict=True))) ** 2


def solves(outputs: list[float]) -> bool:
    """Return whether each output is nearer to the right one of 0 and 1."""
    return all(abs(output - right) < 0.5 for output, (_, right) in zip(outputs, PATTERNS, strict=True))


def check(name: str, data: Path | None, options: NoOptions, *, download: bool) -> None:
    """Do nothing: the task has no data and no options."""


def load(name: str, data: Path | None, options: NoOptions, *, seed: int, device: str) -> XorTask:
    """Return the task."""
    return XorTask(name)
