"""The MLflow callback: a run for the search, with a nested run for each child.

As for every program that uses MLflow, `MLFLOW_TRACKING_URI` gives the server or store, and `MLFLOW_EXPERIMENT_NAME`
the experiment (default `nascluster`). A child's run has the child's id as a tag. After a resume, the tag shows which
children have a run already, so that no child gets two.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.monitoring.callbacks.callback import Callback, Search, Trial

EXPERIMENT = "nascluster"
PARENT_TAG, NAME_TAG, CHILD_TAG, PLACE_TAG = (
    "mlflow.parentRunId",
    "mlflow.runName",
    "nascluster.child",
    "nascluster.run",
)
MAX_TAG = 5000
"""Characters of a tag, at most MLflow's limit."""

MAX_PARAM = 500
"""Characters of a parameter, at most MLflow's limit."""

MAX_EPOCHS = 900
"""Epochs of a curve, so that a call stays below MLflow's limit for metrics."""

PAGE_SIZE = 1000
"""Runs that one query returns."""


class MlflowCallback(Callback):
    """Writes to an MLflow tracking server or a local store. It needs the extra `mlflow`.

    Raises:
        Exception: MLflow's own, if no store can be used.
    """

    def __init__(self) -> None:
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        self._experiment = self._parent = ""
        self._best: float | None = None
        self._known: set[int] = set()

    def setup(
        self,
        stop: Mapping[str, Any] | None = None,
        num_samples: int | None = None,
        total_num_samples: int | None = None,
        **info: Any,
    ) -> None:
        """Find or create the search's run, and find out which children have a run already."""
        search: Search = info["search"]
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        experiment = self._client.get_experiment_by_name(name)
        self._experiment = experiment.experiment_id if experiment else self._client.create_experiment(name)
        note = Path(search.folder) / "mlflow.json"
        parent = self._find_run(search, note)
        if parent is None:
            self._parent = self._create_run(search)
            note.write_text(json.dumps({"run_id": self._parent}))
            return
        self._parent = parent
        self._client.update_run(parent, status="RUNNING")
        self._best = self._client.get_run(parent).data.metrics.get("best_reward")
        for run in self._search(f"tags.`{PARENT_TAG}` = '{parent}'"):
            if run.info.status == "RUNNING":  # the driver was killed while it wrote this run
                self._client.delete_run(run.info.run_id)
            else:
                self._known.add(int(run.data.tags[CHILD_TAG]))

    def on_trial_result(
        self, iteration: int, trials: Sequence[Trial], trial: Trial, result: Mapping[str, Any], **info: Any
    ) -> None:
        """Write the child's results and curve, and the best reward so far to the search's run."""
        names = ("reward", "metric", "time_total_s", "parameters", "flops")
        values = {name: result[name] for name in names if result[name] is not None}
        self._write(trial, "FINISHED", values, result["curve"][-MAX_EPOCHS:])
        reward = result["reward"]
        if reward is not None and (self._best is None or reward > self._best):
            self._best = reward
            self._client.log_metric(self._parent, "best_reward", reward, step=iteration)

    def on_trial_error(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """Write the child and the cause of its failure."""
        self._write(trial, "FAILED", {}, [])

    def on_experiment_end(self, trials: Sequence[Trial], **info: Any) -> None:
        """Mark the search's run as finished; a resume reopens it."""
        self._client.set_terminated(self._parent, "FINISHED")

    def _find_run(self, search: Search, note: Path) -> str | None:
        """Return the id of the search's run, from this folder or, if the folder was restored, by the run's URL."""
        if note.is_file():
            return json.loads(note.read_text())["run_id"]
        if "://" not in search.place:
            return None
        place = search.place.replace("'", "")
        return next((run.info.run_id for run in self._search(f"tags.`{PLACE_TAG}` = '{place}'")), None)

    def _create_run(self, search: Search) -> str:
        tags = {NAME_TAG: search.name, PLACE_TAG: search.place.replace("'", "")}
        run = self._client.create_run(self._experiment, tags=tags)
        for name, value in _flat(search.config):
            self._client.log_param(run.info.run_id, name, str(value)[:MAX_PARAM])
        return run.info.run_id

    def _write(self, trial: Trial, status: str, values: Mapping[str, float], curve: Sequence[float]) -> None:
        from mlflow.entities import Metric, Param

        if trial.child in self._known:
            return
        began, ended = (round(1000 * (seconds or 0.0)) for seconds in (trial.sampled_at, trial.ended_at))
        tags = {
            PARENT_TAG: self._parent,
            NAME_TAG: f"child {trial.child}",
            CHILD_TAG: str(trial.child),
            "nascluster.architecture": json.dumps(trial.config["architecture"])[:MAX_TAG],
            **({"nascluster.message": (trial.message or "")[-MAX_TAG:]} if trial.cause else {}),
        }
        run = self._client.create_run(self._experiment, start_time=began, tags=tags).info.run_id
        metrics = [Metric(name, float(value), ended, trial.completion or 0) for name, value in values.items()]
        metrics += [Metric("epoch_metric", value, ended, epoch) for epoch, value in enumerate(curve, start=1)]
        about = {"architecture_id": trial.config["architecture_id"], "replica": trial.replica, "cause": trial.cause}
        params = [Param(name, str(value)) for name, value in about.items() if value is not None]
        self._client.log_batch(run, metrics=metrics, params=params)
        self._client.set_terminated(run, status, end_time=ended)
        self._known.add(trial.child)

    def _search(self, condition: str) -> Iterator[Any]:
        token = None
        while True:
            page = self._client.search_runs([self._experiment], condition, max_results=PAGE_SIZE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings with their full names, `group.name` for a setting in a group."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value
