"""What a training of a run's best children asks of its ledger."""

import json
import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """An architecture of a run, by the best of its children.

    Attributes:
        child_id, reward, metric, tokens: of the child.
        scored: whether it was scored with shared weights, and not trained.
    """

    child_id: int
    reward: float
    metric: float
    tokens: tuple[int, ...]
    scored: bool


def candidates(db: sqlite3.Connection) -> list[Candidate]:
    """Return the run's different architectures that have a reward, the best first.

    Where children have jobs, only those count that were judged as the last one was: a policy's paths are scored on a
    few images while it learns, and on all of them at last.
    """
    query = """
    SELECT id, reward, metric, tokens, job IS NOT NULL, architecture_id FROM children
    WHERE state = 'finished' AND metric IS NOT NULL AND reward IS NOT NULL AND job IS (
        SELECT job FROM children WHERE state = 'finished' AND metric IS NOT NULL ORDER BY completion DESC LIMIT 1
    )
    ORDER BY reward DESC, id
    """
    best: dict[str, Candidate] = {}
    for child, reward, metric, tokens, scored, architecture in db.execute(query):
        if architecture not in best:
            best[architecture] = Candidate(child, reward, metric, tuple(json.loads(tokens)), bool(scored))
    return list(best.values())
