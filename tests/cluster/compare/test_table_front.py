"""The front of a table, and a search's share of its hypervolume, against plain computations."""

import random

import pytest

from child_trainer.outcome import LATENCY, Measure, Outcome
from child_trainer.tasks.lookup_table import Answer, Table
from cluster.compare.table_front import TableFront, point
from controller.objectives import COSTS, Cost
from controller.pareto import dominates, hypervolume

LATENCY_ALONE, TWO_COSTS = (COSTS["latency"],), (COSTS["latency"], COSTS["parameters"])


def made_up(measure: Measure = Measure.ACCURACY) -> Table:
    """Return a table with few values, of which many are equal, and an architecture that failed."""
    rng = random.Random(0)
    answers: dict[str, Answer] = {}
    for place in range(80):
        latency = rng.randrange(1, 9)
        gain = rng.randrange(latency)
        metric = gain / 10 if measure is Measure.ACCURACY else 9.0 - gain
        answers[str(place)] = Answer(metric, 9.0, parameters=rng.randrange(5), latency_ms=float(latency))
    return Table(name="few", answers={**answers, "failed": Answer.failed("diverged")}, measure=measure)


@pytest.mark.parametrize("measure", [Measure.ACCURACY, Measure.PERPLEXITY])
@pytest.mark.parametrize("costs", [LATENCY_ALONE, TWO_COSTS])
def test_the_share_after_each_child_is_that_of_all_until_then(costs: tuple[Cost, ...], measure: Measure) -> None:
    table = made_up(measure)
    front = TableFront.of(table, costs)
    sign = 1 if measure.lower_is_better else -1
    points = [
        (sign * answer.metric, *((answer.latency_ms, answer.parameters)[: len(costs)]))
        for answer in table.answers.values()
        if answer.metric is not None
    ]
    best = {each for each in points if not any(dominates(other, each) for other in points)}
    assert set(front.points) == best
    assert front.reference == tuple(max(values) for values in zip(*best, strict=True))
    order = random.Random(1).sample([*points, None, None], len(points) + 2)
    for count, share in enumerate(front.shares(order), 1):
        known = [each for each in order[:count] if each is not None]
        assert share == pytest.approx(hypervolume(known, front.reference) / hypervolume(points, front.reference))
    assert front.shares(order)[-1] == pytest.approx(1.0)
    assert (front.found(order), front.found([])) == (len(best), 0)


def test_a_table_without_a_trade_has_no_front_to_judge_by() -> None:
    answers = {name: Answer(metric, 1.0, latency_ms=3.0) for name, metric in (("a", 0.5), ("b", 0.6))}
    with pytest.raises(ValueError, match="trade between metric and latency: the front of 'flat' has 1 of 2 arch"):
        TableFront.of(Table(name="flat", answers=answers), LATENCY_ALONE)
    with pytest.raises(ValueError, match="has 0 of 2 architectures"):
        TableFront.of(Table(name="flat", answers=answers), (COSTS["parameters"],))


def test_an_outcome_without_metric_or_cost_has_no_point() -> None:
    outcome = Outcome(curve=(0.25,), seconds=1, parameters=7, flops=None, seed=0, measurements={LATENCY: 2.0})
    assert point(outcome, TWO_COSTS) == (-0.25, 2.0, 7)
    assert point(outcome, (COSTS["flops"],)) is None
    assert point(Outcome(curve=(), seconds=1, parameters=7, flops=None, seed=0), TWO_COSTS) is None
