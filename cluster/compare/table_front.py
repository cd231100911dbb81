"""The Pareto front of a table, and how much of its hypervolume a search has found. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from child_trainer.outcome import LATENCY, Measure, Outcome
from child_trainer.tasks.lookup_table import Answer, Table
from controller.objectives import Cost
from controller.pareto import Point, dominates, front, hypervolume


@dataclass(frozen=True, kw_only=True, slots=True)
class TableFront:
    """The architectures of a table that no other beats in metric and costs.

    Attributes:
        costs: the objectives beside the metric.
        points: of the front, see `point`.
        reference: the worst of each objective among them, up to which hypervolumes count.
        hypervolume: of the front.
    """

    costs: tuple[Cost, ...]
    points: tuple[tuple[float, ...], ...]
    reference: tuple[float, ...]
    hypervolume: float

    @classmethod
    def of(cls, table: Table, costs: Sequence[Cost]) -> "TableFront":
        """Return the front of a table.

        Raises:
            ValueError: no architecture is better than the front's worst in every objective, so that there is no volume.
        """
        known = [point(_outcome(answer, table.measure), costs) for answer in table.answers.values()]
        points = [each for each in known if each is not None]
        best = tuple(points[place] for place in front(points))
        reference = tuple(map(max, zip(*best, strict=True)))
        volume = hypervolume(best, reference) if best else 0.0
        if not volume > 0:
            names = " and ".join(("metric", *(cost.name for cost in costs)))
            raise ValueError(
                f"`objective` needs a table with a trade between {names}: the front of {table.name!r} has"
                f" {len(best):,} of {len(table.answers):,} architectures, which span no volume"
            )
        return cls(costs=tuple(costs), points=best, reference=reference, hypervolume=volume)

    def shares(self, points: Sequence[Point | None]) -> list[float]:
        """Return the share of the table's hypervolume that the children up to each one have found, in [0, 1].

        Args:
            points: of the children, in the order of their ends.
        """
        best: list[tuple[float, ...]] = []
        share, shares = 0.0, list[float]()
        for each in points:
            new = None if each is None else tuple(each)
            if new is not None and new not in best and not any(dominates(other, new) for other in best):
                best = [*(other for other in best if not dominates(new, other)), new]
                share = hypervolume(best, self.reference) / self.hypervolume
            shares.append(share)
        return shares

    def found(self, points: Sequence[Point | None]) -> int:
        """Return how many points of the front are among these."""
        return len({tuple(each) for each in points if each is not None} & set(self.points))


def point(outcome: Outcome, costs: Sequence[Cost]) -> tuple[float, ...] | None:
    """Return the metric and the costs, of which lower is better; `None` if the outcome lacks one."""
    if outcome.metric is None:
        return None
    values = [cost.of(outcome) for cost in costs]
    known = [value for value in values if value is not None]
    metric = outcome.metric if outcome.measure.lower_is_better else -outcome.metric
    return None if len(known) < len(values) else (metric, *known)


def _outcome(answer: Answer, measure: Measure) -> Outcome:
    """Return the outcome of a child with this answer, as far as objectives are concerned."""
    return Outcome(
        curve=() if answer.metric is None else (answer.metric,),
        seconds=answer.seconds or 0.0,
        parameters=answer.parameters,
        flops=None,
        seed=0,
        measure=measure,
        measurements={} if answer.latency_ms is None else {LATENCY: answer.latency_ms},
    )
