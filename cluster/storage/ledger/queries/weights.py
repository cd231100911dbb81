"""What an export asks of a ledger: children with a metric, and those whose weights were kept."""

import sqlite3
from collections.abc import Iterator

from cluster.storage.ledger.queries.status import BEST_COLUMNS, Best, best_child

_MEASURED = "state = 'finished' AND metric IS NOT NULL"


def measured_child(db: sqlite3.Connection, child_id: int) -> Best | None:
    """Return the child with this id, or `None` if there is none with a metric."""
    query = f"SELECT {BEST_COLUMNS} FROM children WHERE {_MEASURED} AND id = ?"
    row = db.execute(query, (child_id,)).fetchone()
    return best_child(*row) if row else None


def children_with_weights(db: sqlite3.Connection, *, by_reward: bool) -> Iterator[Best]:
    """Yield the children whose outcome has the checksum of weights; the weights may be gone since.

    Args:
        db: the ledger.
        by_reward: the best first; else in the order of their ids.
    """
    query = (
        f"SELECT {BEST_COLUMNS} FROM children WHERE {_MEASURED} AND json_extract(outcome, '$.weights') IS NOT NULL"
        f" ORDER BY {'reward DESC, ' if by_reward else ''}id"
    )
    return (best_child(*row) for row in db.execute(query))
