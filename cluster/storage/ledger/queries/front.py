"""What a Pareto front asks of a ledger: the metric and the costs of each finished child."""

import sqlite3
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from child_trainer.outcome import LATENCY

COST_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "parameters": "parameters",
        "flops": "flops",
        "seconds": "seconds",
        "latency": f"json_extract(outcome, '$.measurements.{LATENCY}')",
        "memory": "json_extract(outcome, '$.gpu_bytes') / 1e6",
    }
)
"""The SQL of each cost of `controller.objectives`, in its unit."""

_FINISHED = "state = 'finished' AND metric IS NOT NULL"


class CostedChild(NamedTuple):
    """A finished child with its costs, in the order in which they were asked for."""

    child_id: int
    architecture_id: str
    metric: float
    costs: tuple[float, ...]


def children_with(db: sqlite3.Connection, costs: Sequence[str]) -> list[CostedChild]:
    """Return the finished children that have all of these costs, in the order of sampling."""
    columns = [COST_COLUMNS[cost] for cost in costs]
    known = "".join(f" AND {column} IS NOT NULL" for column in columns)
    query = f"""
    SELECT {", ".join(("id", "architecture_id", "metric", *columns))} FROM children
    WHERE {_FINISHED}{known} ORDER BY id
    """
    return [CostedChild(child, architecture, metric, tuple(c)) for child, architecture, metric, *c in db.execute(query)]


def known_costs(db: sqlite3.Connection) -> list[str]:
    """Return the costs that some finished child has."""
    columns = ", ".join(f"max({column} IS NOT NULL)" for column in COST_COLUMNS.values())
    row = db.execute(f"SELECT {columns} FROM children WHERE {_FINISHED}").fetchone()
    return [cost for cost, known in zip(COST_COLUMNS, row, strict=True) if known]
