import math
from collections.abc import Sequence

import pytest

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.outcome import Budget, Cause, Measure, Outcome
from child_trainer.tasks.catalogue import load_task
from child_trainer.tasks.xor import fitness, solves
from child_trainer.training.train import train
from controller.genomes.genome import Genome, Link
from controller.spaces.genomes import GenomeSpace

SPACE = GenomeSpace(inputs=2)


def judged(architecture: Architecture) -> Outcome:
    return train(architecture, load_task("xor"), Budget(epochs=1), seed=0)


def solution(weight: float) -> Genome:
    """Node 4 is an `or`, node 5 an `and`; the output is the one without the other."""
    ends = [(0, 4, 1), (1, 4, 1), (2, 4, -0.5), (0, 5, 1), (1, 5, 1), (2, 5, -1.5), (4, 3, 1), (5, 3, -1), (2, 3, -0.5)]
    links = tuple(Link(n, source, target, by * weight) for n, (source, target, by) in enumerate(ends, start=1))
    return Genome(3, 1, (4, 5), links)


def test_a_solution_gets_nearly_16_and_says_that_it_solves_the_task() -> None:
    outcome = judged(SPACE.network(solution(20.0)))
    assert outcome.metric == pytest.approx(16.0, abs=1e-6)
    assert outcome.measure is Measure.FITNESS
    assert outcome.parameters == 9
    assert outcome.solved
    assert Outcome.from_json(outcome.to_json()) == outcome


def test_a_network_that_cannot_tell_gets_4() -> None:
    outcome = judged(SPACE.decode(()))
    assert outcome.metric == 4.0
    assert not outcome.solved
    assert "solved" not in outcome.to_json()


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [([0.0, 1.0, 1.0, 0.0], 16.0), ([1.0, 0.0, 0.0, 1.0], 0.0), ([0.0, 1.0, 1.0, 1.0], 9.0)],
)
def test_the_fitness_is_the_papers(outputs: Sequence[float], expected: float) -> None:
    assert fitness(list(outputs)) == expected
    assert math.sqrt(fitness(list(outputs))) == 4 - sum(map(abs, (a - b for a, b in zip(outputs, (0, 1, 1, 0)))))  # noqa: B905


def test_it_is_solved_when_every_output_is_on_the_right_side() -> None:
    assert solves([0.49, 0.51, 0.51, 0.49])
    assert not solves([0.5, 0.51, 0.51, 0.49])


def test_a_network_of_another_shape_is_invalid() -> None:
    two = GenomeSpace(inputs=2, outputs=2)
    assert "1 output, got 2" in failure(judged(two.decode(())))
    three = GenomeSpace(inputs=3)
    assert "'image' has 2" in failure(judged(three.decode(())))
    convolution = Architecture("feedforward", (node("a", "conv", "image", filters=1, height=1, width=1),), ("a",))
    assert "not of single numbers" in failure(judged(convolution))


def failure(outcome: Outcome) -> str:
    assert outcome.failure is not None
    assert outcome.failure.cause is Cause.INVALID
    return outcome.failure.message
