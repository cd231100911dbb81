"""Passes the children in a run's ledger on to a callback, each once.

Children are passed on in the order in which they ended, which the ledger numbers; a file in the run's folder records
the callback's progress. It is written after the callback's hooks have returned, so that no child is left out; if the
driver is killed in between, the children of that step are passed on again.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from child_trainer.atomic_file import replace_file
from cluster.monitoring.callbacks.callback import Trial
from cluster.storage.ledger.queries.callbacks import ResultRow, TrialRow, in_training, next_ended
from cluster.storage.ledger.reader import LedgerConnection

MAX_STEP = 500
"""Upper bound for the number of ended children in one step."""

EndedTrial = tuple[Trial, dict[str, Any]]
"""A child that has ended, and its result."""


class LedgerFeed:
    """Calls one callback's hooks. Not safe for use by several threads.

    Args:
        callback: has hooks; see `cluster.monitoring.callbacks.callback.Callback`.
        progress: the file that records the callback's progress; its folder is created.
    """

    def __init__(self, callback: Any, progress: Path) -> None:
        self._callback, self._progress = callback, progress
        self._started: set[int] = set()
        self.completed = 0
        """`Trial.completion` of the last child that was passed on, 0 before the first."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            self.completed = int(json.loads(progress.read_text())["completed"])

    def step(self, ended: list[EndedTrial], running: list[Trial]) -> None:
        """Call the hooks for these children, in order. Raises what the hooks raise."""
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
            self._write_progress()

    def begin(self, **info: Any) -> None:
        """Call the callback's `setup`. Raises what it raises."""
        self._call("setup", **info)

    def end(self) -> None:
        """Call the callback's `on_experiment_end`. Raises what it raises."""
        self._call("on_experiment_end", trials=[])

    def poll(self, db: LedgerConnection) -> tuple[list[EndedTrial], list[Trial]]:
        """Return the next children that have ended, and those that are in training since the last poll."""
        ended = next_ended(db, self.completed, MAX_STEP)
        running = in_training(db) if len(ended) < MAX_STEP else []
        started = [_trial(row, "RUNNING") for row in running if row.child_id not in self._started]
        return [_ended_trial(*row) for row in ended], started

    def _start(self, trial: Trial, iteration: int) -> None:
        if trial.child not in self._started:
            self._started.add(trial.child)
            self._call("on_trial_start", iteration=iteration, trials=[trial], trial=trial)

    def _call(self, hook: str, **arguments: Any) -> None:
        method = getattr(self._callback, hook, None)
        if method is not None:
            method(**arguments)

    def _write_progress(self) -> None:
        with suppress(OSError):  # full disk: these children are passed on again after a resume
            self._progress.parent.mkdir(exist_ok=True)
            replace_file(self._progress, json.dumps({"completed": self.completed}).encode(), durable=False)


def _ended_trial(row: TrialRow, result_row: ResultRow) -> EndedTrial:
    failure, curve = result_row.outcome["failure"], result_row.outcome["curve"]
    result = {
        "training_iteration": len(curve),
        "time_total_s": result_row.seconds,
        "reward": result_row.reward,
        "metric": result_row.metric,
        "curve": curve,
        "parameters": result_row.parameters,
        "flops": result_row.flops,
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
