"""MLflow: a run for the search, and one below it for each child.

`MLFLOW_TRACKING_URI` says where, and `MLFLOW_EXPERIMENT_NAME` in which experiment (else `nascluster`), as for every
program that uses MLflow. A child's run carries the child's id as a tag, by which a resume knows those that are there
already: no child has two.
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
LONGEST_TAG = 5000
LONGEST_PARAM = 500
MOST_EPOCHS = 900
"""MLflow's limits, or a little less: characters of a tag and of a parameter, and metrics of one call."""

PAGE = 1000


class MlflowCallback(Callback):
    """Writes to MLflow's tracking server, or to a local store. `pip install nascluster[mlflow]`.

    Raises:
        Exception: MLflow's own, if it has no store that can be used.
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
        """Find the search's run, or make it, and see which children it has already."""
        search: Search = info["search"]
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self._client.get_experiment_by_name(name)
        self._experiment = found.experiment_id if found else self._client.create_experiment(name)
        note = Path(search.folder) / "mlflow.json"
        parent = self._found(search, note)
        if parent is None:
            self._parent = self._created(search)
            note.write_text(json.dumps({"run_id": self._parent}))
            return
        self._parent = parent
        self._client.update_run(parent, status="RUNNING")
        self._best = self._client.get_run(parent).data.metrics.get("best_reward")
        for run in self._search(f"tags.`{PARENT_TAG}` = '{parent}'"):
            if run.info.status == "RUNNING":  # a driver was killed while it wrote it
                self._client.delete_run(run.info.run_id)
            else:
                self._known.add(int(run.data.tags[CHILD_TAG]))

    def on_trial_result(
        self, iteration: int, trials: Sequence[Trial], trial: Trial, result: Mapping[str, Any], **info: Any
    ) -> None:
        """Write the child with its figures and its curve, and the best so far beside the search."""
        names = ("reward", "metric", "time_total_s", "parameters", "flops")
        values = {name: result[name] for name in names if result[name] is not None}
        self._write(trial, "FINISHED", values, result["curve"][-MOST_EPOCHS:])
        reward = result["reward"]
        if reward is not None and (self._best is None or reward > self._best):
            self._best = reward
            self._client.log_metric(self._parent, "best_reward", reward, step=iteration)

    def on_trial_error(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """Write the child with the cause of its failure."""
        self._write(trial, "FAILED", {}, [])

    def on_experiment_end(self, trials: Sequence[Trial], **info: Any) -> None:
        """The search's run has ended, until it is resumed."""
        self._client.set_terminated(self._parent, "FINISHED")

    def _found(self, search: Search, note: Path) -> str | None:
        """The search's run: as this folder knows it or, where an object store has brought the folder, by its URL."""
        if note.is_file():
            return json.loads(note.read_text())["run_id"]
        if "://" not in search.place:
            return None
        place = search.place.replace("'", "")
        return next((run.info.run_id for run in self._search(f"tags.`{PLACE_TAG}` = '{place}'")), None)

    def _created(self, search: Search) -> str:
        tags = {NAME_TAG: search.name, PLACE_TAG: search.place.replace("'", "")}
        run = self._client.create_run(self._experiment, tags=tags)
        for name, value in _flat(search.config):
            self._client.log_param(run.info.run_id, name, str(value)[:LONGEST_PARAM])
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
            "nascluster.architecture": json.dumps(trial.config["architecture"])[:LONGEST_TAG],
            **({"nascluster.message": (trial.message or "")[-LONGEST_TAG:]} if trial.cause else {}),
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
            page = self._client.search_runs([self._experiment], condition, max_results=PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return


def _flat(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The settings by their names, with those of the groups that they are in."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        elif value is not None:
            yield f"{above}{name}", value
