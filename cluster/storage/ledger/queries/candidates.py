"""What a training of a run's best children asks of its ledger."""

import json
import sqlite3
from dataclasses import dataclass

from cluster.storage.ledger.rows import ON_SHARED_WEIGHTS


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

    Where children have jobs on shared weights, only those count that were judged as the last one was: a policy's paths
    are scored on a few images while it learns, and on all of them at last.
    """
    shared_job = f"iif({ON_SHARED_WEIGHTS}, job, NULL)"
    judged = "state = 'finished' AND metric IS NOT NULL"
    query = f"""
    SELECT id, reward, metric, tokens, {ON_SHARED_WEIGHTS}, architecture_id FROM children
    WHERE {judged} AND reward IS NOT NULL AND {shared_job} IS (
        SELECT {shared_job} FROM children WHERE {judged} ORDER BY completion DESC LIMIT 1
    )
    ORDER BY reward DESC, id
    """
    best: dict[str, Candidate] = {}
    for child, reward, metric, tokens, scored, architecture in db.execute(query):
        if architecture not in best:
            best[architecture] = Candidate(child, reward, metric, tuple(json.loads(tokens)), bool(scored))
    return list(best.values())
