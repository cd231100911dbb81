"""What an evaluation of given architectures asks of its ledger."""

import sqlite3
from typing import NamedTuple

from child_trainer.outcome import Outcome
from cluster.storage.ledger.compact import OUTCOME_COLUMNS, outcome_of


class EvaluatedRow(NamedTuple):
    """A child of a run that trains the architectures of a list.

    Attributes:
        child_id, architecture_id: of the child.
        place: of its architecture in the list, from 0.
        outcome: `None` if it has not ended.
    """

    child_id: int
    architecture_id: str
    place: int
    outcome: Outcome | None


def evaluated_children(db: sqlite3.Connection) -> list[EvaluatedRow]:
    """Return the children in the order of sampling."""
    query = f"""
    SELECT id, architecture_id, json_extract(tokens, '$[0]'), {OUTCOME_COLUMNS}
    FROM children ORDER BY id
    """
    return [EvaluatedRow._make((*row[:3], outcome_of(*row[3:]))) for row in db.execute(query)]
