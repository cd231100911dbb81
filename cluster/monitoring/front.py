"""The Pareto front of a run's children: those that no other child beats in one objective and equals in the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from child_trainer.outcome import Measure
from cluster.formatting import aligned, counted, metric_name, number
from cluster.storage.ledger.queries.front import CostedChild, children_with
from cluster.storage.ledger.reader import LedgerConnection, reading
from cluster.storage.run_folder import RunFolder
from controller.objectives import Cost
from controller.pareto import front, hypervolume

SHOWN = 10
"""Members that a display of other things lists."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Front:
    """A Pareto front.

    Attributes:
        measure: what the children's metric is, the first objective.
        costs: the other objectives.
        count: the children that have all of them.
        members: the front, by rising costs.
        reference: the worst metric and the worst of each cost among all children.
        hypervolume: what the members dominate, up to the reference, in the product of the objectives' units.
    """

    measure: Measure
    costs: tuple[Cost, ...]
    count: int
    members: tuple[CostedChild, ...]
    reference: tuple[float, ...]
    hypervolume: float

    @property
    def title(self) -> str:
        """What it is a front of, such as `Pareto front of validation accuracy and latency: 7 of 100 children`."""
        of = " and ".join((metric_name(self.measure), *(cost.words for cost in self.costs)))
        return f"Pareto front of {of}: {len(self.members):,} of {counted(self.count, 'child')}"

    def lines(self, shown: int | None = None) -> list[str]:
        """Return its table, or the first members of it."""
        heads = ("child", str(self.measure), *(cost.name for cost in self.costs), "architecture")
        rows = [
            (
                str(member.child_id),
                number(member.metric),
                *(cost.text(value) for cost, value in zip(self.costs, member.costs, strict=True)),
                member.architecture_id,
            )
            for member in self.members[:shown]
        ]
        return aligned([heads, *rows])

    def members_json(self) -> list[dict[str, Any]]:
        """Return the members as plain data, each cost by its name."""
        return [
            {"child_id": m.child_id, "metric": m.metric, **self._by_name(m.costs), "architecture": m.architecture_id}
            for m in self.members
        ]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        worst, *costs = self.reference or (None, *(None for _ in self.costs))
        return {
            "measure": str(self.measure),
            "units": {cost.name: cost.unit for cost in self.costs},
            "children": self.count,
            "front": self.members_json(),
            "hypervolume": self.hypervolume,
            "reference": {"metric": worst, **self._by_name(costs)},
        }

    def _by_name(self, values: Sequence[float | None]) -> dict[str, float | None]:
        return {cost.name: value for cost, value in zip(self.costs, values, strict=True)}


@dataclass(frozen=True, kw_only=True)
class RunFront:
    """The front of a run, which is read when it is first asked for: it takes all of the run's children.

    Attributes:
        folder: the run's folder.
        measure: what the children's metric is.
        costs: the objectives beside it, at least one.
    """

    folder: RunFolder
    measure: Measure
    costs: tuple[Cost, ...]

    @cached_property
    def value(self) -> Front:
        """The front at the moment of the first call.

        Raises:
            RunFolderError: the ledger is damaged.
        """
        with reading(self.folder) as db:
            return read_front(db, self.measure, self.costs)


def read_front(db: LedgerConnection, measure: Measure, costs: Sequence[Cost]) -> Front:
    """Read the front of a run's finished children.

    Args:
        db: the ledger.
        measure: what their metric is.
        costs: the objectives beside it, at least one.
    """
    children = children_with(db, [cost.name for cost in costs])
    sign = 1.0 if measure.lower_is_better else -1.0
    points = [(sign * child.metric, *child.costs) for child in children]
    places = front(points)
    members = [children[place] for place in places]
    worst = tuple(map(max, zip(*points, strict=True))) if points else ()
    return Front(
        measure=measure,
        costs=tuple(costs),
        count=len(children),
        members=tuple(sorted(members, key=lambda member: (*member.costs, member.child_id))),
        reference=(sign * worst[0], *worst[1:]) if worst else (),
        hypervolume=hypervolume([points[place] for place in places], worst) if worst else 0.0,
    )
