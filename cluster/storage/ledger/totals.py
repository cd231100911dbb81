"""Running totals of a ledger: what its displays ask again and again, and what would need a look at all of its rows.

They follow from the record, and triggers keep them. A change that no search makes (a child that is removed, or ended
otherwise than it did) removes them; then `totals` counts the record, and the next start of the run makes them anew.
Standard library only.
"""

import sqlite3
from typing import NamedTuple

MEASURED = "state = 'finished' AND metric IS NOT NULL"
"""The children that have a metric: those that only train shared weights finish without one."""

_BEST = f"(SELECT {{}} FROM children WHERE {MEASURED} ORDER BY reward DESC, id LIMIT 1)"
_STOPPED = "state = 'finished' AND same_as IS NULL AND json_extract(outcome, '$.stopped.epoch') IS NOT NULL"
_PUSHED = "pushed = 1 AND staleness <> '[]'"

_COUNTED = f"""
    (SELECT count(reward) FROM children WHERE completion IS NOT NULL) AS rewarded,
    (SELECT total(reward) FROM children WHERE completion IS NOT NULL) AS reward,
    (SELECT count(*) FROM children WHERE state = 'failed') AS failed,
    (SELECT count(*) FROM children WHERE {_STOPPED}) AS stopped,
    (SELECT coalesce(sum(json_extract(outcome, '$.stopped.epoch')), 0) FROM children WHERE {_STOPPED})
        AS stopped_epochs,
    {_BEST.format("id")} AS best,
    {_BEST.format("reward")} AS best_reward,
    (SELECT total(max(0, ended_at - started_at)) FROM attempts WHERE ended_at IS NOT NULL) AS attempt_seconds,
    (SELECT count(*) FROM batches WHERE {_PUSHED}) AS updates,
    (SELECT figures FROM batches WHERE figures <> '{{}}' ORDER BY learned_at DESC LIMIT 1) AS figures
"""

_STALENESS = """
    SELECT s.value AS versions, count(*) AS pushes FROM batches, json_each(batches.staleness) AS s
    WHERE pushed = 1 GROUP BY s.value
"""

COUNT = f"""
    DELETE FROM totals;
    DELETE FROM staleness;
    INSERT INTO totals SELECT 1, {_COUNTED};
    INSERT INTO staleness {_STALENESS};
"""
"""Counts the record."""

_AGAIN = "BEGIN DELETE FROM totals; END"


def _new(condition: str) -> str:
    return condition.replace("state", "new.state").replace("same_as", "new.same_as").replace("outcome", "new.outcome")


_ENDED = f"""
UPDATE totals SET
    rewarded = rewarded + (new.reward IS NOT NULL),
    reward = reward + coalesce(new.reward, 0),
    failed = failed + (new.state = 'failed'),
    stopped = stopped + ({_new(_STOPPED)}),
    stopped_epochs = stopped_epochs + iif({_new(_STOPPED)}, json_extract(new.outcome, '$.stopped.epoch'), 0);
UPDATE totals SET best = new.id, best_reward = new.reward
    WHERE new.state = 'finished' AND new.metric IS NOT NULL AND (
        best IS NULL OR new.reward > best_reward OR (best_reward IS NULL AND new.reward IS NOT NULL)
        OR (new.reward IS best_reward AND new.id < best)
    );
"""

_LEARNED = """
UPDATE totals SET
    updates = updates + coalesce(new.pushed = 1 AND new.staleness <> '[]', 0)
        - coalesce(old.pushed = 1 AND old.staleness <> '[]', 0),
    figures = iif(new.figures <> '{}', new.figures, figures);
INSERT INTO staleness SELECT value, -count(*) FROM json_each(old.staleness) WHERE old.pushed = 1 GROUP BY value
    ON CONFLICT (versions) DO UPDATE SET pushes = pushes + excluded.pushes;
INSERT INTO staleness SELECT value, count(*) FROM json_each(new.staleness) WHERE new.pushed = 1 GROUP BY value
    ON CONFLICT (versions) DO UPDATE SET pushes = pushes + excluded.pushes;
"""

TABLES = f"""
CREATE TABLE totals (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    rewarded INTEGER NOT NULL,          -- ended children with a reward
    reward REAL NOT NULL,               -- their sum
    failed INTEGER NOT NULL,
    stopped INTEGER NOT NULL,           -- finished children that were stopped early
    stopped_epochs INTEGER NOT NULL,    -- that these were trained
    best INTEGER,                       -- the child with the highest reward
    best_reward REAL,
    attempt_seconds REAL NOT NULL,      -- of the attempts that have ended
    updates INTEGER NOT NULL,           -- pushes with gradients
    figures TEXT                        -- JSON, the newest that a batch gave
);
CREATE TABLE staleness (                -- how many pushes were how stale on a shard
    versions INTEGER PRIMARY KEY,
    pushes INTEGER NOT NULL
);
CREATE TRIGGER child_ended AFTER UPDATE OF completion ON children
    WHEN old.completion IS NULL AND new.completion IS NOT NULL BEGIN {_ENDED} END;
CREATE TRIGGER child_changed AFTER UPDATE OF completion, state, reward, metric, outcome, same_as ON children
    WHEN old.completion IS NOT NULL {_AGAIN};
CREATE TRIGGER child_removed AFTER DELETE ON children {_AGAIN};
CREATE TRIGGER child_inserted AFTER INSERT ON children WHEN new.completion IS NOT NULL {_AGAIN};
CREATE TRIGGER attempt_ended AFTER UPDATE OF ended_at ON attempts BEGIN
    UPDATE totals SET attempt_seconds = attempt_seconds + coalesce(max(0, new.ended_at - new.started_at), 0)
        - coalesce(max(0, old.ended_at - old.started_at), 0);
END;
CREATE TRIGGER attempt_removed AFTER DELETE ON attempts {_AGAIN};
CREATE TRIGGER attempt_inserted AFTER INSERT ON attempts WHEN new.ended_at IS NOT NULL {_AGAIN};
CREATE TRIGGER batch_learned AFTER UPDATE OF pushed, staleness, figures ON batches BEGIN {_LEARNED} END;
CREATE TRIGGER batch_removed AFTER DELETE ON batches {_AGAIN};
CREATE TRIGGER batch_inserted AFTER INSERT ON batches WHEN new.pushed IS NOT NULL OR new.figures IS NOT NULL {_AGAIN};
"""
"""The tables of the totals, which are no part of the record, and what keeps them."""


class Totals(NamedTuple):
    """Totals of a ledger; see `TABLES`."""

    rewarded: int
    reward: float
    failed: int
    stopped: int
    stopped_epochs: int
    best: int | None
    best_reward: float | None
    attempt_seconds: float
    updates: int
    figures: str | None


def totals(db: sqlite3.Connection) -> Totals:
    """Return the ledger's totals, counted if they are not there."""
    row = db.execute(f"SELECT {', '.join(Totals._fields)} FROM totals").fetchone()
    return Totals(*(row or db.execute(f"SELECT {_COUNTED}").fetchone()))


def staleness(db: sqlite3.Connection) -> tuple[float, int] | None:
    """Return the mean and the largest staleness of all pushes on all shards, in versions; `None` before the first."""
    known = db.execute("SELECT 1 FROM totals").fetchone()
    counts = "staleness" if known else f"({_STALENESS})"
    query = f"SELECT sum(versions * pushes) * 1.0 / sum(pushes), max(versions) FROM {counts} WHERE pushes > 0"
    mean, largest = db.execute(query).fetchone()
    return None if mean is None else (mean, largest)


def count_again(db: sqlite3.Connection) -> None:
    """Count the record where the totals were removed. It is one transaction, or part of the present one."""
    if db.execute("SELECT 1 FROM totals").fetchone():
        return
    if not db.in_transaction:
        db.executescript(f"BEGIN IMMEDIATE; {COUNT} COMMIT;")
        return
    for statement in COUNT.split(";")[:-1]:
        db.execute(statement)
