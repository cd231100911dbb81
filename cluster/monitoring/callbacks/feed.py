"""What of a run's ledger a callback has not been told yet.

Children that have ended are told in the order in which they did, by the number that the ledger gives them then; a file
in the run's folder says how far a callback has come. It is written when the callback was told, so that no child is left
out; where a driver is killed in between, the children of that look are told again by the next.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from cluster.monitoring.callbacks.callback import Trial
from cluster.storage.ledger.queries.callbacks import ResultRow, TrialRow, in_training, next_ended
from cluster.storage.ledger.reader import LedgerConnection

MOST = 500
"""Children that are told in one step, at most."""

Told = tuple[Trial, dict[str, Any]]
"""A child that has ended, and its result."""


class Feed:
    """One callback's. Not for several threads at once.

    Args:
        callback: has hooks; see `cluster.monitoring.callbacks.callback.Callback`.
        progress: the file that says how far it has come; its folder is made.
    """

    def __init__(self, callback: Any, progress: Path) -> None:
        self._callback, self._progress = callback, progress
        self._started: set[int] = set()
        self.completed = 0
        """The last child that it was told of, in the order in which they ended."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            self.completed = int(json.loads(progress.read_text())["completed"])

    def step(self, ended: list[Told], running: list[Trial]) -> None:
        """Tell it of these children, in their order. Raises what its hooks raise."""
        for trial, result in ended:
            assert trial.completion is not None
            self._start(trial, trial.completion)
            self._started.discard(trial.child)
            if trial.cause is None:
                self._call("on_trial_result", iteration=trial.completion, trials=[trial], trial=trial, result=result)
            hook = "on_trial_complete" if trial.cause is None else "on_trial_error"
            self._call(hook, iteration=trial.completion, trials=[trial], trial=trial)
            self.completed = trial.completion
        for trial in running:
            self._start(trial, self.completed)
        if ended:
            self._call("on_step_end", iteration=self.completed, trials=[trial for trial, _ in ended])
            self._note()

    def begin(self, **info: Any) -> None:
        """Call its `setup`; raises what that raises."""
        self._call("setup", **info)

    def end(self) -> None:
        """Call its `on_experiment_end`; raises what that raises."""
        self._call("on_experiment_end", trials=[])

    def look(self, db: LedgerConnection) -> tuple[list[Told], list[Trial]]:
        """The next children that have ended, and those in training that are news, by the ledger."""
        ended = next_ended(db, self.completed, MOST)
        running = in_training(db) if len(ended) < MOST else []
        new = [row for row in running if row.child_id not in self._started]
        return [_told(*row) for row in ended], [_trial(row, "RUNNING") for row in new]

    def _start(self, trial: Trial, iteration: int) -> None:
        if trial.child not in self._started:
            self._started.add(trial.child)
            self._call("on_trial_start", iteration=iteration, trials=[trial], trial=trial)

    def _call(self, hook: str, **arguments: Any) -> None:
        method = getattr(self._callback, hook, None)
        if method is not None:
            method(**arguments)

    def _note(self) -> None:
        with suppress(OSError):  # a full disk; the children are told once more after a resume, and none is left out
            self._progress.parent.mkdir(exist_ok=True)
            draft = self._progress.with_name(f".{self._progress.name}")
            draft.write_text(json.dumps({"completed": self.completed}))
            draft.replace(self._progress)


def _told(row: TrialRow, given: ResultRow) -> Told:
    failure, curve = given.outcome["failure"], given.outcome["curve"]
    result = {
        "training_iteration": len(curve),
        "time_total_s": given.seconds,
        "reward": given.reward,
        "metric": given.metric,
        "curve": curve,
        "parameters": given.parameters,
        "flops": given.flops,
        "replica": row.replica,
    }
    return _trial(row, "ERROR" if failure else "TERMINATED", failure and failure["message"]), result


def _trial(row: TrialRow, status: str, message: str | None = None) -> Trial:
    return Trial(
        trial_id=f"{row.child_id:08d}",
        child=row.child_id,
        replica=row.replica,
        batch=row.batch,
        status=status,
        config={"architecture": row.architecture, "architecture_id": row.architecture_id},
        completion=row.completion,
        sampled_at=row.sampled_at,
        ended_at=row.ended_at,
        cause=row.cause,
        message=message,
    )
