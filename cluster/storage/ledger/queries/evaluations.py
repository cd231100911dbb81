"""What an evaluation of given architectures asks of its ledger."""

import sqlite3
from typing import NamedTuple


class EvaluatedRow(NamedTuple):
    """A child of a run that trains the architectures of a list.

    Attributes:
        child_id, architecture_id: of the child.
        place: of its architecture in the list, from 0.
        outcome: JSON; `None` if it has not ended.
    """

    child_id: int
    architecture_id: str
    place: int
    outcome: str | None


def evaluated_children(db: sqlite3.Connection) -> list[EvaluatedRow]:
    """Return the children in the order of sampling."""
    query = """
    SELECT id, architecture_id, json_extract(tokens, '$[0]'), iif(completion IS NULL, NULL, outcome)
    FROM children ORDER BY id
    """
    return [EvaluatedRow(*row) for row in db.execute(query)]
