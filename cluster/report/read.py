"""A run's facts, read from its folder: while it runs, or after, and from any process. Imports no torch."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace

from cluster.config.run_config import RunConfig
from cluster.formatting import last_line
from cluster.monitoring.benchmark_results import table_facts
from cluster.monitoring.failed_attempts import FAILED
from cluster.monitoring.status import BEST_COLUMNS, FIRST, Best, Status, read_status
from cluster.report.facts import Facts, Learned, Progress, Troubles, Work
from cluster.report.read_children import COSTS, gather, read_cloud, read_progress
from cluster.storage.errors import RunFolderError
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from controller.preferences import Preference, Sample, num_windows, preferences

SHOWN = 5
"""Architectures and errors that are shown."""

SLICES = 100
"""Slices of the time and of the batches."""

MOST_SAMPLES = 100_000
"""Children whose tokens are read; of more than these every second, third, ... child's."""

# The rows are wide: who the best are is settled by narrow columns.
CHAMPIONS = f"""
SELECT {BEST_COLUMNS} FROM children WHERE id IN (
    SELECT id FROM (
        SELECT id, reward, row_number() OVER (PARTITION BY architecture_id ORDER BY reward DESC, id) AS place
        FROM children WHERE state = 'finished'
    ) WHERE place = 1 ORDER BY reward DESC, id LIMIT ?
) ORDER BY reward DESC, id
"""

LEARNED = """
CREATE TEMP TABLE learned AS
SELECT (row_number() OVER (ORDER BY learned_at, replica, number) - 1) * {slices} / count(*) OVER () AS slice,
    learned_at - {zero} AS at, CASE WHEN pushed = 1 THEN staleness END AS staleness,
    json_extract(figures, '$.entropy') AS entropy, json_extract(figures, '$.baseline') AS baseline,
    pull_seconds, push_seconds
FROM batches WHERE learned_at IS NOT NULL
"""

QUANTILES = """
SELECT slice, max(CASE WHEN place = (many + 1) / 2 THEN value END),
    max(CASE WHEN place = (many * 95 + 99) / 100 THEN value END)
FROM (
    SELECT slice, {column} AS value, row_number() OVER (PARTITION BY slice ORDER BY {column}) AS place,
        count(*) OVER (PARTITION BY slice) AS many FROM learned WHERE {column} IS NOT NULL
) GROUP BY slice
"""

# What an attempt adds to the busy time of the slice in which it begins or ends, and to that of each later one.
EDGES = """
SELECT slice, sum(sign * ((slice + 1) * {width} - at)), sum(sign) FROM (
    SELECT at, sign, max(0, min({slices} - 1, CAST(at / {width} AS INTEGER))) AS slice FROM (
        SELECT started_at - {zero} AS at, 1 AS sign FROM attempts
        UNION ALL SELECT max(started_at, coalesce(ended_at, {end})) - {zero}, -1 FROM attempts
    )
) GROUP BY slice
"""


def read_facts(folder: RunFolder, now: float, other: RunFolder | None = None) -> Facts:
    """All that a report of the run shows at the Unix time `now`, beside another run if one is given.

    Raises:
        RunFolderError: the configuration or the ledger of one of them is damaged, or they measure different things.
    """
    config, status = folder.read_config(), read_status(folder, now)
    beside = None if other is None else _progress_of(other, config)
    with reading(folder) as db:
        return _facts(db, folder, (config, status), beside, now)


def _progress_of(folder: RunFolder, beside: RunConfig) -> Progress:
    config = folder.read_config()
    if config.measure is not beside.measure or config.reward != beside.reward:
        raise RunFolderError(
            f"the run {folder.name!r} cannot be shown beside one of another measure: it has the {config.measure} and"
            f" the reward {config.reward!r}, and the other the {beside.measure} and {beside.reward!r}"
        )
    with reading(folder) as db:
        gather(db)
        progress = read_progress(db, folder.name, config, FIRST)
    equal = {
        "task": config.task == beside.task,
        "search space": config.search_space == beside.search_space,
        "budget": config.budget == beside.budget,
    }
    return replace(progress, unlike=tuple(name for name, same in equal.items() if not same))


def _facts(
    db: sqlite3.Connection, folder: RunFolder, run: tuple[RunConfig, Status], other: Progress | None, now: float
) -> Facts:
    config, status = run
    zero = gather(db) or 0.0
    (distinct,) = db.execute("SELECT count(DISTINCT architecture_id) FROM children").fetchone()
    best = _best(db)
    told = table_facts(config, [each.architecture for each in best], running=status.state == "running")
    clouds = (read_cloud(db, cost, config.measure) for cost in COSTS)
    return Facts(
        status=status,
        config=config,
        place=folder.place,
        now=now,
        distinct=distinct,
        best=best,
        told=told,
        progress=read_progress(db, folder.name, config, FIRST),
        other=other,
        learned=_learned(db, zero),
        clouds=tuple(cloud for cloud in clouds if cloud is not None),
        preferences=_preferences(db, config),
        troubles=_troubles(db, status),
        work=_work(db, zero, now if status.state == "running" else None),
        versions=_versions(db),
    )


def _versions(db: sqlite3.Connection) -> tuple[dict[str, str], ...]:
    row = db.execute("SELECT value FROM run WHERE key = 'versions'").fetchone()
    return tuple(json.loads(row[0])) if row else ()


def _best(db: sqlite3.Connection) -> tuple[Best, ...]:
    return tuple(Best.of(*row) for row in db.execute(CHAMPIONS, (SHOWN,)))


def _learned(db: sqlite3.Connection, zero: float) -> tuple[Learned, ...]:
    (batches,) = db.execute("SELECT count(*) FROM batches WHERE learned_at IS NOT NULL").fetchone()
    if not batches:
        return ()
    db.execute(LEARNED.format(slices=min(SLICES, batches), zero=zero))
    waits = {
        column: {s: (half, most) for s, half, most in db.execute(QUANTILES.format(column=column))}
        for column in ("pull_seconds", "push_seconds")
    }
    stale = {
        s: (mean, worst)
        for s, mean, worst in db.execute(
            "SELECT slice, avg(s.value), max(s.value) FROM learned, json_each(learned.staleness) AS s GROUP BY slice"
        )
    }
    rows = db.execute("SELECT slice, max(at), avg(entropy), avg(baseline) FROM learned GROUP BY slice ORDER BY slice")
    nothing = (None, None)
    return tuple(
        Learned(
            seconds=at,
            entropy=entropy,
            baseline=baseline,
            staleness=stale.get(s, nothing)[0],
            worst_staleness=stale.get(s, nothing)[1],
            pull=waits["pull_seconds"].get(s, nothing)[0],
            slow_pull=waits["pull_seconds"].get(s, nothing)[1],
            push=waits["push_seconds"].get(s, nothing)[0],
            slow_push=waits["push_seconds"].get(s, nothing)[1],
        )
        for s, at, entropy, baseline in rows
    )


def _preferences(db: sqlite3.Connection, config: RunConfig) -> tuple[Preference, ...]:
    (children,) = db.execute("SELECT count(*) FROM children").fetchone()
    windows, stride = num_windows(children), -(-children // MOST_SAMPLES) or 1

    def samples() -> Iterator[Sample]:
        rows = db.execute("SELECT tokens FROM children ORDER BY id")
        for place, (tokens,) in enumerate(rows):
            if place % stride == 0:
                yield place * windows // children, json.loads(tokens)

    return preferences(samples(), config.search_space, windows)


def _troubles(db: sqlite3.Connection, status: Status) -> Troubles:
    latest = db.execute(
        f"SELECT child, cause, message FROM ({FAILED}) ORDER BY ended_at DESC, child DESC, number DESC LIMIT ?",
        (SHOWN,),
    )
    return Troubles(
        attempts=dict(db.execute(f"SELECT cause, count(*) FROM ({FAILED}) GROUP BY cause ORDER BY 2 DESC, 1")),
        retried=status.retried,
        children=status.causes,
        verdicts=dict(
            db.execute(
                "SELECT verdict, count(*) FROM attempts WHERE verdict IS NOT NULL GROUP BY verdict ORDER BY 2 DESC"
            )
        ),
        latest=tuple((child, cause, last_line(message or "")) for child, cause, message in latest),
    )


def _work(db: sqlite3.Connection, zero: float, now: float | None) -> Work:
    """What the workers did; attempts that have not ended run up to `now`, or nobody knows for how long they ran."""
    attempts, useful, last = db.execute(
        "SELECT count(*), total(CASE WHEN verdict = 'outcome' AND cause IS NULL THEN ended_at - started_at END),"
        " max(coalesce(ended_at, started_at)) FROM attempts"
    ).fetchone()
    if not attempts:
        return Work(seconds=0.0, useful=0.0, attempts=0, busy=())
    # Without `now` an attempt that never ended counts for nothing.
    end = "started_at" if now is None else repr(now)
    (seconds,) = db.execute(f"SELECT total(max(0, coalesce(ended_at, {end}) - started_at)) FROM attempts").fetchone()
    width = max((now or last) - zero, 1e-3) / SLICES
    edges = {
        s: (part, count) for s, part, count in db.execute(EDGES.format(slices=SLICES, width=width, zero=zero, end=end))
    }
    busy: list[tuple[float, float]] = []
    open_before = 0
    for s in range(SLICES):
        part, count = edges.get(s, (0.0, 0))
        busy.append(((s + 1) * width, max(0.0, open_before + part / width)))
        open_before += count
    return Work(seconds=seconds, useful=useful, attempts=attempts, busy=tuple(busy))
