"""Failed attempts, read from a run's folder during the run or after it. Imports no torch."""

from collections import Counter
from collections.abc import Sequence

from child_trainer import portable_json
from cluster.formatting import counted, last_line, utc_time
from cluster.storage.errors import RunFolderError
from cluster.storage.ledger.queries.failures import FailedAttempt, failed_attempts
from cluster.storage.ledger.queries.run import has_child, num_children
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder

VERDICT_TEXTS = {
    "retry": "retried",
    "outcome": "failed permanently",
    "late": "timed out, and its late result ignored",
}
"""What happened to the child after a failed attempt, by the attempt's verdict."""


def read_failures(folder: RunFolder, child_id: int | None = None) -> list[FailedAttempt]:
    """Return the failed attempts of a run, or of one child, latest first.

    Raises:
        RunFolderError: the ledger is damaged, or the child does not exist.
    """
    with reading(folder) as db:
        if child_id is not None and not has_child(db, child_id):
            sampled = num_children(db)
            raise RunFolderError(f"the run {folder.name!r} has no child {child_id}: it has sampled {sampled:,} so far")
        return failed_attempts(db, child_id)


def failure_lines(failures: Sequence[FailedAttempt], last: int, *, whole: bool) -> list[str]:
    """Return lines for people: counts by cause, then the latest attempts.

    Args:
        failures: the failed attempts, latest first.
        last: how many attempts are listed.
        whole: print each error's complete text rather than its last line.
    """
    if not failures:
        return ["No attempt has failed."]
    causes = Counter(failure.cause for failure in failures)
    permanent = Counter(failure.cause for failure in failures if failure.verdict == "outcome")
    children = len({failure.child_id for failure in failures})
    lines = [f"{counted(len(failures), 'failed attempt')} at {counted(children, 'child')}, by cause:"]
    for cause, count in causes.most_common():
        fate = f"{permanent[cause] or 'none'} failed permanently"
        lines.append(f"  {cause:13} {count:6,}   {fate}")
    shown = failures[:last]
    lines += ["", f"The latest {len(shown)} of {len(failures)}:" if len(shown) < len(failures) else "Latest first:"]
    for failure in shown:
        lines += _attempt_lines(failure, whole=whole)
    return lines


def _attempt_lines(failure: FailedAttempt, *, whole: bool) -> list[str]:
    fate = VERDICT_TEXTS.get(failure.verdict, failure.verdict)
    shown = failure.message.strip().splitlines() if whole else [last_line(failure.message)]
    return [
        f"  child {failure.child_id}, attempt {failure.number}: {failure.cause}, {fate}",
        f"      {utc_time(failure.ended_at)} on {failure.worker} after {failure.ended_at - failure.started_at:.1f} s",
        *(f"      {line}" for line in shown if line),
    ]


def failures_json(failures: Sequence[FailedAttempt], unknown: Sequence[str] = ()) -> str:
    """Return a JSON object with counts by cause, every attempt, and what this version does not know of the run."""
    by_cause = dict(Counter(failure.cause for failure in failures))
    also = {"unknown": list(unknown)} if unknown else {}
    attempts = [failure.to_json() for failure in failures]
    return portable_json.dumps({"by_cause": by_cause, "attempts": attempts} | also, indent=2)
