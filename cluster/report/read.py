"""A run's facts, read from its folder: while it runs, or after, and from any process. Imports no torch."""

from collections.abc import Iterator
from dataclasses import replace

from cluster.config.run_config import RunConfig
from cluster.formatting import last_line
from cluster.monitoring.benchmark_results import table_facts
from cluster.monitoring.status import FIRST, Best, Status, read_status
from cluster.report.facts import Facts, Learned, Progress, Troubles, Work
from cluster.report.read_children import COSTS, read_cloud, read_progress
from cluster.storage.errors import RunFolderError
from cluster.storage.ledger.queries import failures
from cluster.storage.ledger.queries import report as queries
from cluster.storage.ledger.queries.report_children import gather_ended
from cluster.storage.ledger.queries.run import num_children, program_versions
from cluster.storage.ledger.reader import LedgerConnection, reading
from cluster.storage.run_folder import RunFolder
from controller.preferences import Preference, Sample, num_windows, preferences

SHOWN = 5
"""Architectures and errors that are shown."""

SLICES = 100
"""Slices of the time and of the batches."""

MOST_SAMPLES = 100_000
"""Children whose tokens are read; of more than these every second, third, ... child's."""


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
        gather_ended(db)
        progress = read_progress(db, folder.name, config, FIRST)
    equal = {
        "task": config.task == beside.task,
        "search space": config.search_space == beside.search_space,
        "budget": config.budget == beside.budget,
    }
    return replace(progress, unlike=tuple(name for name, same in equal.items() if not same))


def _facts(
    db: LedgerConnection, folder: RunFolder, run: tuple[RunConfig, Status], other: Progress | None, now: float
) -> Facts:
    config, status = run
    zero = gather_ended(db) or 0.0
    best = tuple(Best.of(row) for row in queries.best_architectures(db, SHOWN))
    told = table_facts(config, [each.architecture for each in best], running=status.state == "running")
    clouds = (read_cloud(db, cost, config.measure) for cost in COSTS)
    return Facts(
        status=status,
        config=config,
        place=folder.place,
        now=now,
        distinct=queries.num_architectures(db),
        best=best,
        told=told,
        progress=read_progress(db, folder.name, config, FIRST),
        other=other,
        learned=_learned(db, zero),
        clouds=tuple(cloud for cloud in clouds if cloud is not None),
        preferences=_preferences(db, config),
        troubles=_troubles(db, status),
        work=_work(db, zero, now if status.state == "running" else None),
        versions=program_versions(db),
    )


def _learned(db: LedgerConnection, zero: float) -> tuple[Learned, ...]:
    if not queries.gather_batches(db, SLICES, zero):
        return ()
    pulls, pushes = queries.slice_waits(db, "pull_seconds"), queries.slice_waits(db, "push_seconds")
    stale = queries.slice_staleness(db)
    nothing = (None, None)
    return tuple(
        Learned(
            seconds=at,
            figures=figures,
            staleness=stale.get(s, nothing)[0],
            worst_staleness=stale.get(s, nothing)[1],
            pull=pulls.get(s, nothing)[0],
            slow_pull=pulls.get(s, nothing)[1],
            push=pushes.get(s, nothing)[0],
            slow_push=pushes.get(s, nothing)[1],
        )
        for s, at, figures in queries.slice_figures(db)
    )


def _preferences(db: LedgerConnection, config: RunConfig) -> tuple[Preference, ...]:
    children = num_children(db)
    windows, stride = num_windows(children), -(-children // MOST_SAMPLES) or 1

    def samples() -> Iterator[Sample]:
        for place, tokens in enumerate(queries.all_tokens(db)):
            if place % stride == 0:
                yield place * windows // children, queries.tokens_of(tokens)

    return preferences(samples(), config.search_space, windows)


def _troubles(db: LedgerConnection, status: Status) -> Troubles:
    latest = failures.failed_attempts(db, limit=SHOWN)
    return Troubles(
        attempts=failures.failed_attempts_by_cause(db),
        retried=status.retried,
        children=status.causes,
        verdicts=failures.attempts_by_verdict(db),
        latest=tuple((row.child_id, row.cause, last_line(row.message or "")) for row in latest),
    )


def _work(db: LedgerConnection, zero: float, now: float | None) -> Work:
    """What the workers did; attempts that have not ended run up to `now`, or nobody knows for how long they ran."""
    attempts, useful, last = queries.attempt_totals(db)
    if last is None:
        return Work(seconds=0.0, useful=0.0, attempts=0, busy=())
    width = max((now or last) - zero, 1e-3) / SLICES
    edges = queries.busy_edges(db, SLICES, width, zero, now)
    busy: list[tuple[float, float]] = []
    open_before = 0
    for s in range(SLICES):
        part, count = edges.get(s, (0.0, 0))
        busy.append(((s + 1) * width, max(0.0, open_before + part / width)))
        open_before += count
    return Work(seconds=queries.attempt_seconds(db, now), useful=useful, attempts=attempts, busy=tuple(busy))
