"""The TensorBoard callback: one point for each child, in event files in the run's folder.

    tensorboard --logdir ~/nascluster_runs

The step is `Trial.completion`, which counts children in the order in which they end. Each start of the run writes its
own file. The file's first record makes TensorBoard ignore later steps of earlier files, which a killed driver may have
written (`purge_step` in other writers). So no child is shown twice.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.monitoring.callbacks.callback import Callback, Search, Trial

FOLDER = "tensorboard"
"""Folder of the event files, in the run's folder."""

SCALARS = {
    "child/reward": "reward",
    "child/metric": "metric",
    "child/seconds": "time_total_s",
    "child/epochs": "training_iteration",
    "child/parameters": "parameters",
    "child/flops": "flops",
    "child/replica": "replica",
}
"""The results of a child that are plotted, by the names in TensorBoard."""


class TensorBoardCallback(Callback):
    """Writes event files. It needs the extra `tensorboard`."""

    def __init__(self) -> None:
        self._writer: Any = None
        self._best: float | None = None

    def setup(
        self,
        stop: Mapping[str, Any] | None = None,
        num_samples: int | None = None,
        total_num_samples: int | None = None,
        **info: Any,
    ) -> None:
        """Create an event file that begins with the next child."""
        from tensorboard.compat.proto.event_pb2 import SessionLog  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        search: Search = info["search"]
        self._writer = EventFileWriter(str(Path(search.folder) / FOLDER))
        self._add(search.completed + 1, session_log=SessionLog(status=SessionLog.START))
        if search.completed == 0:
            self._text(0, "run/config", json.dumps(search.config, indent=2))

    def on_trial_result(
        self, iteration: int, trials: Sequence[Trial], trial: Trial, result: Mapping[str, Any], **info: Any
    ) -> None:
        """Plot a child's results; write its architecture if it is the best since this start."""
        values = {tag: result[name] for tag, name in SCALARS.items() if result[name] is not None}
        reward = result["reward"]
        if reward is not None and (self._best is None or reward > self._best):
            self._best = reward
            self._text(iteration, "best/architecture", json.dumps(trial.config["architecture"]))
        self._scalars(iteration, values, trial)

    def on_trial_error(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """Plot a child's failure, by its cause."""
        self._scalars(iteration, {f"failed/{trial.cause}": 1.0}, trial)

    def on_step_end(self, iteration: int, trials: Sequence[Trial], **info: Any) -> None:
        """Write all records to disk."""
        self._writer.flush()

    def on_experiment_end(self, trials: Sequence[Trial], **info: Any) -> None:
        """Close the file."""
        self._writer.close()

    def _scalars(self, step: int, values: Mapping[str, float], trial: Trial) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        scalars = {"child/id": float(trial.child), **values}
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=float(value)) for tag, value in scalars.items()])
        self._add(step, trial.ended_at, summary=summary)

    def _text(self, step: int, tag: str, text: str) -> None:
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._add(step, summary=text_pb(tag, f"```\n{text}\n```"))

    def _add(self, step: int, wall_time: float | None = None, **what: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

        self._writer.add_event(Event(step=step, wall_time=time.time() if wall_time is None else wall_time, **what))
