"""The ledger's tables, and the migrations from earlier versions. Standard library only."""

import sqlite3
from pathlib import Path

from cluster.storage.ledger import compact, graphs, totals
from cluster.storage.ledger.graphs import JOINS

IN_MEMORY = Path(":memory:")
"""SQLite's name for a database without a file."""

TABLES = """
CREATE TABLE run (
    key TEXT PRIMARY KEY,               -- state, message, started_at, beat_at, seconds_before, workers, versions
    value
);
CREATE TABLE children (
    id INTEGER PRIMARY KEY,
    replica INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    tokens TEXT NOT NULL,               -- JSON
    architecture TEXT NOT NULL,         -- JSON
    architecture_id TEXT NOT NULL,
    log_prob REAL,                      -- nats, when it was sampled
    seed INTEGER NOT NULL,
    state TEXT NOT NULL,                -- sampled, running, finished, failed
    sampled_at REAL NOT NULL,           -- Unix time, like every column that ends in _at
    ended_at REAL,
    completion INTEGER UNIQUE,          -- 1 for the child that ended first
    reward REAL,                        -- NULL for a child that ended and is not learnt from
    metric REAL,
    parameters INTEGER,
    flops INTEGER,
    seconds REAL,
    cause TEXT,
    outcome TEXT                        -- JSON
);
CREATE INDEX children_by_batch ON children (replica, batch);
CREATE INDEX children_by_state ON children (state);
CREATE TABLE attempts (
    child INTEGER NOT NULL REFERENCES children (id),
    number INTEGER NOT NULL,
    worker TEXT NOT NULL,               -- where it ran
    key TEXT UNIQUE,                    -- tells a start that is delivered twice from two starts
    started_at REAL NOT NULL,
    ended_at REAL,
    PRIMARY KEY (child, number)
);
CREATE TABLE batches (
    replica INTEGER NOT NULL,
    number INTEGER NOT NULL,            -- the sequence of its push
    versions TEXT NOT NULL,             -- JSON, the shards' versions that it was sampled from
    sampled_at REAL NOT NULL,
    learned_at REAL,
    pushed INTEGER,                     -- 1 if a gradient was pushed, 0 if there was none
    staleness TEXT,                     -- JSON, by shard
    figures TEXT,                       -- JSON
    PRIMARY KEY (replica, number)
);
"""
"""Version 1."""

RECORDED = ("run", "children", "attempts", "batches", "architectures")
"""The tables of the run's record. The object store gets copies of their rows as these change."""


KEPT_CHANGES = 100_000
"""Changes that are kept at least: minutes of a fast search. A reader that is further behind reads all rows."""

FORGOTTEN_TOGETHER = 1_000
"""Changes that are forgotten at once."""


def _noting_changes(table: str) -> str:
    # Not by a conflict clause: in a trigger, the one of the statement that fires it takes precedence.
    note = (
        f"BEGIN DELETE FROM changes WHERE kind = '{table}' AND row = new.rowid;"
        f" INSERT INTO changes (kind, row) VALUES ('{table}', new.rowid); END;"
    )
    return "\n".join(
        f"CREATE TRIGGER {table}_{event.lower()} AFTER {event} ON {table} {note}" for event in ("INSERT", "UPDATE")
    )


VERSION_8 = f"""
CREATE TABLE graphs (
    graph_id INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,         -- see `Architecture.digest`
    graph BLOB NOT NULL,                 -- see `graphs.pack`
    nodes INTEGER NOT NULL               -- its operations, without those that only join others
);
INSERT INTO graphs SELECT rowid, digest, graph, nodes FROM architectures ORDER BY rowid;
DROP TABLE architectures;
ALTER TABLE graphs RENAME TO architectures;
CREATE TABLE compact (
    id INTEGER PRIMARY KEY,
    replica INTEGER NOT NULL,
    batch INTEGER NOT NULL,              -- 0: in none yet
    lane INTEGER,                        -- of its steps on shared weights; NULL: it makes none
    steps_before INTEGER,                -- on the lane, of the children before it
    tokens TEXT NOT NULL,                -- JSON
    graph INTEGER REFERENCES architectures (graph_id),  -- NULL: its job needs none
    architecture_id TEXT NOT NULL,
    log_prob REAL,                       -- nats, when it was sampled
    seed INTEGER NOT NULL,
    state TEXT NOT NULL,                 -- sampled, running, finished, failed
    sampled_at REAL NOT NULL,            -- Unix time, like every column that ends in _at
    ended_at REAL,
    completion INTEGER UNIQUE,           -- 1 for the child that ended first
    reward REAL,                         -- NULL for a child that ended and is not learnt from
    metric REAL,
    parameters INTEGER,
    flops INTEGER,
    seconds REAL,
    outcome TEXT,                        -- JSON, what other columns do not say; see `compact.child_text`
    cause TEXT,
    batch_size INTEGER,                  -- of the attempt that gave the outcome; NULL: the budget's
    versions TEXT,                       -- JSON, as of batches; NULL: its batch's
    notes TEXT,                          -- JSON that the searcher reads back; NULL: none
    same_as INTEGER REFERENCES children (id),  -- whose outcome it took; NULL: trained
    job TEXT                             -- JSON, what to do on shared weights; NULL: train it
);
INSERT INTO compact
    SELECT id, replica, batch, lane, steps_before, tokens,
        (SELECT graph_id FROM architectures WHERE digest = children.graph), architecture_id, log_prob, seed,
        state, sampled_at, ended_at, completion, reward, metric, parameters, flops, seconds,
        shortened(outcome, seed, seconds, parameters, flops, metric), cause, batch_size, versions, notes, same_as, job
    FROM children ORDER BY id;
DROP TABLE children;
ALTER TABLE compact RENAME TO children;
CREATE INDEX children_by_batch ON children (replica, batch);
CREATE INDEX children_by_lane ON children (replica, lane) WHERE lane IS NOT NULL;
CREATE INDEX children_failed ON children (cause, completion) WHERE state = 'failed';
CREATE TABLE tries (
    attempt_id INTEGER PRIMARY KEY,      -- counts the attempts of the run
    child INTEGER NOT NULL REFERENCES children (id),
    number INTEGER NOT NULL,
    worker TEXT NOT NULL,                -- where it ran
    key,                                 -- tells a start that is delivered twice from two; see `compact.stored_key`
    started_at REAL NOT NULL,
    ended_at REAL,
    slot INTEGER,                        -- the worker's number in the run
    batch_size INTEGER,                  -- NULL: the budget's
    verdict TEXT,                        -- NULL while it runs; then a `search.records.Verdict`
    cause TEXT,                          -- of its failure
    message TEXT,                        -- the error's text
    outcome TEXT                         -- JSON; NULL also where it is the child's
);
INSERT INTO tries
    SELECT attempts.rowid, child, number, worker, nullif(key, child || '-' || number), started_at, attempts.ended_at,
        slot, attempts.batch_size, verdict, attempts.cause, message,
        iif(verdict = 'outcome' AND completion IS NOT NULL, NULL, shortened(attempts.outcome))
    FROM attempts LEFT JOIN children ON children.id = child ORDER BY attempts.rowid;
DROP TABLE attempts;
ALTER TABLE tries RENAME TO attempts;
CREATE UNIQUE INDEX attempts_by_child ON attempts (child, number);
CREATE UNIQUE INDEX attempts_by_key ON attempts (key) WHERE key IS NOT NULL;
CREATE INDEX attempts_running ON attempts (child) WHERE ended_at IS NULL;
CREATE INDEX attempts_failed ON attempts (cause) WHERE cause IS NOT NULL;
{"".join(map(_noting_changes, ("children", "attempts", "architectures")))}
CREATE TRIGGER changes_forgotten AFTER INSERT ON changes WHEN new.revision % {FORGOTTEN_TOGETHER} = 0
    BEGIN DELETE FROM changes WHERE revision <= new.revision - {KEPT_CHANGES}; END;
DELETE FROM changes WHERE revision <= (SELECT max(revision) FROM changes) - {KEPT_CHANGES};
{totals.TABLES}
{totals.COUNT}
"""
"""What brings a file to version 8: rows say nothing twice, and totals are kept."""


MIGRATIONS = (
    TABLES,
    """
    ALTER TABLE children ADD COLUMN batch_size INTEGER;  -- of the attempt that gave the outcome; NULL: the budget's
    ALTER TABLE attempts ADD COLUMN slot INTEGER;        -- the worker's number in the run
    ALTER TABLE attempts ADD COLUMN batch_size INTEGER;  -- NULL: the budget's
    ALTER TABLE attempts ADD COLUMN verdict TEXT;        -- NULL while it runs; then a `search.records.Verdict`
    ALTER TABLE attempts ADD COLUMN cause TEXT;          -- of its failure
    ALTER TABLE attempts ADD COLUMN message TEXT;        -- the error's text
    ALTER TABLE attempts ADD COLUMN outcome TEXT;        -- JSON
    UPDATE attempts SET
        verdict = CASE
            WHEN ended_at IS NULL THEN NULL
            WHEN EXISTS (SELECT 1 FROM children WHERE id = child AND completion IS NOT NULL)
                AND number = (SELECT max(number) FROM attempts AS others WHERE others.child = attempts.child)
            THEN 'outcome' ELSE 'lost' END;
    UPDATE attempts SET
        outcome = (SELECT outcome FROM children WHERE id = child),
        cause = (SELECT cause FROM children WHERE id = child),
        message = (SELECT json_extract(outcome, '$.failure.message') FROM children WHERE id = child)
    WHERE verdict = 'outcome';
    CREATE INDEX attempts_running ON attempts (child) WHERE ended_at IS NULL;
    CREATE INDEX attempts_failed ON attempts (cause) WHERE cause IS NOT NULL;
    CREATE TABLE addresses (                             -- where the shards are served now
        shard INTEGER PRIMARY KEY,
        address TEXT NOT NULL
    );
    CREATE TABLE changes (                               -- the newest change of each row of the record
        revision INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,                              -- the table
        row INTEGER NOT NULL,                            -- its rowid
        UNIQUE (kind, row)
    );
    """
    + "\n".join(_noting_changes(table) for table in ("run", "children", "attempts", "batches")),
    """
    ALTER TABLE batches ADD COLUMN pull_seconds REAL;    -- what the replica waited for its last pull before the push
    ALTER TABLE batches ADD COLUMN push_seconds REAL;    -- and for the ack
    """,
    # From here on a child's batch may be 0: it is in no batch yet.
    """
    ALTER TABLE children ADD COLUMN versions TEXT;       -- JSON, as of batches; NULL: its batch's
    """,
    # Each graph once, compressed. Graphs with one `architecture_id` stay apart: training depends on the nodes' order.
    f"""
    CREATE TABLE architectures (
        digest TEXT PRIMARY KEY,                         -- see `Architecture.digest`
        graph BLOB NOT NULL,                             -- see `graphs.pack`
        nodes INTEGER NOT NULL                           -- its operations, without those that only join others
    );
    {_noting_changes("architectures")}
    ALTER TABLE children ADD COLUMN graph TEXT REFERENCES architectures (digest);
    UPDATE children SET graph = digest_of(architecture);
    INSERT INTO architectures
        SELECT graph, pack(columns_of(architecture)), (
            SELECT count(*) FROM json_each(architecture, '$.nodes') WHERE json_extract(value, '$.op') NOT IN {JOINS}
        )
        FROM children WHERE id IN (SELECT min(id) FROM children GROUP BY graph) ORDER BY id;
    ALTER TABLE children DROP COLUMN architecture;
    """,
    """
    ALTER TABLE children ADD COLUMN notes TEXT;          -- JSON that the searcher reads back; NULL: none
    ALTER TABLE children ADD COLUMN same_as INTEGER REFERENCES children (id);  -- whose outcome it took; NULL: trained
    """,
    # From here on a child with a job may have no graph, and then no tokens and an empty `architecture_id`.
    """
    ALTER TABLE children ADD COLUMN job TEXT;            -- JSON, what to do on shared weights; NULL: train it
    ALTER TABLE children ADD COLUMN lane INTEGER;        -- of its steps on them; NULL: it makes none
    ALTER TABLE children ADD COLUMN steps_before INTEGER;  -- on the lane, of the children before it
    CREATE INDEX children_by_lane ON children (replica, lane) WHERE lane IS NOT NULL;
    DROP TABLE addresses;
    CREATE TABLE addresses (                             -- where the shards are served now
        store TEXT NOT NULL,                             -- policy or weights
        shard INTEGER NOT NULL,
        address TEXT NOT NULL,
        PRIMARY KEY (store, shard)
    );
    """,
    VERSION_8,
    """
    ALTER TABLE children ADD COLUMN origin TEXT;  -- see `cluster.search.origin`, `rows.AS_BEFORE`; NULL: not recorded
    """,
    """
    ALTER TABLE attempts ADD COLUMN gpu TEXT;            -- the GPU, where children get parts by what they need
    ALTER TABLE attempts ADD COLUMN gpu_share REAL;      -- the part; NULL: the run's GPUs for each child
    ALTER TABLE attempts ADD COLUMN gpu_bytes INTEGER;   -- that it was predicted to allocate; NULL: unknown
    CREATE INDEX attempts_on_gpus ON attempts (gpu_share, started_at, ended_at) WHERE gpu_share IS NOT NULL;
    """,
    # A replica asks for its first open batch in every turn, which would look at all that it has learnt from.
    """
    CREATE INDEX batches_open ON batches (replica, number) WHERE learned_at IS NULL;
    """,
)
"""The SQL that brings a file from version n (an empty one has 0) to n + 1."""

VERSION = len(MIGRATIONS)


class LedgerVersionError(ValueError):
    """A newer nascluster wrote the ledger, or its version number is invalid."""


def migrate(db: sqlite3.Connection, name: str, upto: int = VERSION) -> None:
    """Bring the tables to this version. Each step is one transaction; an empty file gets all tables.

    Args:
        db: the ledger.
        name: the file's, for the messages.
        upto: the version to stop at.

    Raises:
        LedgerVersionError: the file has a version that this program does not know.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version < 0:
        raise LedgerVersionError(f"{name} is damaged: it has the ledger version {version}, which none ever had")
    if version > VERSION:
        raise LedgerVersionError(
            f"{name} has the ledger version {version}, but this nascluster knows up to {VERSION}: use a newer one"
        )
    graphs.define_functions(db)
    compact.define_functions(db)
    for number in range(version, upto):
        # In a transaction of our own: `executescript` would leave half a step behind if the process died in it.
        db.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[number]}; PRAGMA user_version = {number + 1}; COMMIT;")
