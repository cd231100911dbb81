"""Reading a report's data from a run's folder, by any process, during the run or after it. Imports no torch."""

from dataclasses import replace

from child_trainer.outcome import Measure
from cluster.config.known_config import KnownConfig
from cluster.formatting import last_line
from cluster.monitoring.benchmark_results import table_facts
from cluster.monitoring.status import FIRST, Status, read_status
from cluster.report.facts import Facts, Learned, ProgressCurve, Troubles, Work
from cluster.report.lineage_section import MAX_ANCESTORS
from cluster.report.read_children import COSTS, read_cloud, read_progress
from cluster.report.read_preferences import read_learnt, read_preferences
from cluster.storage.errors import RunFolderError
from cluster.storage.ledger.queries import failures
from cluster.storage.ledger.queries import report as queries
from cluster.storage.ledger.queries.final_tests import network_tests
from cluster.storage.ledger.queries.lineage import lineage
from cluster.storage.ledger.queries.report_children import gather_ended, predictions
from cluster.storage.ledger.queries.run import program_versions
from cluster.storage.ledger.queries.supernet import supernet_slices
from cluster.storage.ledger.reader import LedgerConnection, reading
from cluster.storage.run_folder import RunFolder

SHOWN = 5
"""Number of architectures, and of errors, that a report shows."""

SLICES = 100
"""Number of slices into which time and batches are divided."""


def read_facts(folder: RunFolder, now: float, other: RunFolder | None = None) -> Facts:
    """Read what a report of the run shows at the Unix time `now`, compared with `other` if given.

    Raises:
        RunFolderError: a configuration or ledger is damaged, or the runs have different measures or rewards.
    """
    known, status = folder.read_known(), read_status(folder, now)
    other_progress = None if other is None else _progress_of(other, now, known, status.measure)
    with reading(folder) as db:
        return _facts(db, folder, (known, status), other_progress, now)


def _progress_of(folder: RunFolder, now: float, other: KnownConfig, other_measure: Measure) -> ProgressCurve:
    known, measure = folder.read_known(), read_status(folder, now).measure
    reward, other_reward = known.names["reward"], other.names["reward"]
    if measure is not other_measure or reward != other_reward:
        raise RunFolderError(
            f"the run {folder.name!r} cannot be compared with a run of another measure: it has the {measure} and"
            f" the reward {reward!r}, and the other run the {other_measure} and {other_reward!r}"
        )
    with reading(folder) as db:
        gather_ended(db)
        progress = _progress(db, folder, known, measure)
    return replace(progress, unlike=_unlike(known, other))


def _unlike(one: KnownConfig, other: KnownConfig) -> tuple[str, ...]:
    """Return what differs between two runs though a fair comparison needs it equal."""
    equal = {
        "task": _equal(one, other, "task") and one.config.task.files == other.config.task.files,
        "data folder": _place(one) == _place(other),
        "search space": _equal(one, other, "space") and _equal(one, other, "space_options"),
        "budget": _equal(one, other, "budget"),
        "objectives": _equal(one, other, "objectives"),
        "early stopping": _equal(one, other, "stopping") or not (_stops(one) or _stops(other)),
    }
    return tuple(what for what, same in equal.items() if not same)


def _stops(known: KnownConfig) -> bool:
    return known.config.stopping.early_stop is not None or bool(known.unknown)


def _place(known: KnownConfig) -> str:
    data = known.config.task.data
    return "" if data is None else str(data).rstrip("/")


def _progress(db: LedgerConnection, folder: RunFolder, known: KnownConfig, measure: Measure) -> ProgressCurve:
    progress = read_progress(db, folder.name, known.measured_by(measure), FIRST)
    return replace(progress, searcher=known.names["searcher"])


def _equal(one: KnownConfig, other: KnownConfig, name: str) -> bool:
    """Return whether a field of two configurations is equal, also in what this version does not know of it.

    Where the data are does not count.
    """
    as_written = _without_place(one.data.get(name)) == _without_place(other.data.get(name))
    ours, theirs = one.config.to_json(), other.config.to_json()
    known = _without_place(ours.get(name)) == _without_place(theirs.get(name))
    return known and (as_written or not (one.unknown or other.unknown))


def _without_place(value: object) -> object:
    """Return a field without the folder of the task's data."""
    return {k: v for k, v in value.items() if k not in ("data", "download")} if isinstance(value, dict) else value


def _facts(
    db: LedgerConnection, folder: RunFolder, run: tuple[KnownConfig, Status], other: ProgressCurve | None, now: float
) -> Facts:
    known, status = run
    config = known.measured_by(status.measure)
    zero = gather_ended(db) or 0.0
    best = tuple(queries.best_architectures(db, SHOWN))
    facts = table_facts(config, best, running=status.state == "running")
    learnt = read_learnt(db, known)
    clouds = (read_cloud(db, cost, config.measure) for cost in COSTS)
    distinct, with_architecture = queries.num_architectures(db)
    return Facts(
        status=status,
        config=config,
        known=known,
        place=folder.place,
        now=now,
        distinct=distinct,
        with_architecture=with_architecture,
        best=best,
        table_facts=facts,
        progress=_progress(db, folder, known, status.measure),
        other=other,
        learned=_learned(db, zero),
        clouds=tuple(cloud for cloud in clouds if cloud is not None),
        preferences=read_preferences(db, known),
        option_values=learnt.values,
        values_missing=learnt.missing,
        derived=learnt.derived,
        supernet=tuple(supernet_slices(db, SLICES, zero)),
        predictions=tuple(predictions(db)),
        tested=tuple(network_tests(db)),
        lineage=tuple(lineage(db, best[0].child_id, MAX_ANCESTORS)) if best else (),
        troubles=_troubles(db, status),
        work=_work(db, zero, now if status.state == "running" else None),
        versions=program_versions(db),
    )


def _learned(db: LedgerConnection, zero: float) -> tuple[Learned, ...]:
    if not queries.gather_batches(db, SLICES, zero):
        return ()
    pulls, pushes = queries.slice_waits(db, "pull_seconds"), queries.slice_waits(db, "push_seconds")
    stale = queries.slice_staleness(db)
    unknown = (None, None)
    return tuple(
        Learned(
            seconds=at,
            figures=figures,
            staleness=stale.get(s, unknown)[0],
            worst_staleness=stale.get(s, unknown)[1],
            pull=pulls.get(s, unknown)[0],
            slow_pull=pulls.get(s, unknown)[1],
            push=pushes.get(s, unknown)[0],
            slow_push=pushes.get(s, unknown)[1],
        )
        for s, at, figures in queries.slice_figures(db)
    )


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
    """Return how the workers' time was used.

    Attempts that have not ended count up to `now`; if `now` is `None`, their duration is unknown and not counted.
    """
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
