"""What the displays ask of a ledger about a child's ancestors."""

import sqlite3
from typing import NamedTuple

from child_trainer.outcome import ACCURACY_BEFORE


class Ancestor(NamedTuple):
    """A child in the line of another.

    Attributes:
        child_id, metric, parameters: of the child.
        parent: the child that it came from; `None` at the beginning of the line.
        change: what was changed in that, in a few words.
        weights_of: the child with whose weights it began; `None` if its own were drawn.
        checksum: of these weights.
        before: its validation accuracy with these weights, before it was trained.
        pooled: whether a pool came in the place of an identity, so that it does not begin with its parent's function.
    """

    child_id: int
    metric: float | None
    parameters: int | None
    parent: int | None
    change: str | None
    weights_of: int | None
    checksum: str | None
    before: float | None
    pooled: bool


def lineage(db: sqlite3.Connection, child_id: int, most: int) -> list[Ancestor]:
    """Return a child and its ancestors, at most so many of the nearest, the eldest first; none if it has no parent.

    The line goes along the first parent that a child's notes name.
    """
    query = f"""
    WITH RECURSIVE line (id, generation) AS (
        SELECT ?, 0
        UNION ALL
        SELECT json_extract(notes, '$.parent'), generation + 1 FROM line JOIN children USING (id)
        WHERE json_extract(notes, '$.parent') < id
        LIMIT ?
    )
    SELECT id, metric, parameters, json_extract(notes, '$.parent'), json_extract(notes, '$.change'),
        json_extract(job, '$.parent'), json_extract(job, '$.checksum'),
        json_extract(outcome, '$.measurements.{ACCURACY_BEFORE}'),
        EXISTS (
            SELECT 1 FROM json_each(job, '$.changes')
            WHERE json_extract(value, '$.op') IN ('max_pool', 'avg_pool')
        )
    FROM line JOIN children USING (id) ORDER BY generation DESC
    """
    line = [Ancestor(*row[:-1], pooled=bool(row[-1])) for row in db.execute(query, (child_id, most))]
    return line if line and line[-1].parent else []
