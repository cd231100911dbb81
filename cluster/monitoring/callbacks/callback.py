"""The interface of callbacks: hooks with the names and arguments of Ray Tune's `Callback`. Standard library only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A child as callbacks see it, with data from the ledger.

    Attributes:
        trial_id: its id as text, padded with zeros.
        child: its id, from 1.
        replica, batch: the replica that sampled it, and its batch; with `--batching stream`, `batch` is 0 until the
            child is put into a batch, some time after it has ended.
        status: RUNNING, TERMINATED or ERROR, as in Ray Tune.
        config: its architecture in JSON's types, and the architecture's id.
        completion: 1 for the child that ended first, and so on without gaps; `None` before it has ended.
        sampled_at, ended_at: Unix time.
        cause, message: why it failed, if it did.
    """

    trial_id: str
    child: int
    replica: int
    batch: int
    status: str
    config: Mapping[str, Any]
    completion: int | None = None
    sampled_at: float = 0.0
    ended_at: float | None = None
    cause: str | None = None
    message: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """The search as callbacks see it.

    Attributes:
        name: the run's name.
        place: the folder or URL that holds the run, for people.
        folder: the run's folder on this machine, for files that a callback writes.
        config: the run's whole configuration, in JSON's types.
        completed: the last `Trial.completion` that this callback received before, 0 at first.
    """

    name: str
    place: str
    folder: str
    config: Mapping[str, Any]
    completed: int


class Callback:
    """Receives the events of a search, in a thread of its own. Hooks do nothing unless they are overridden.

    Hooks are called with keyword arguments. `iteration` is the number of children that have ended, `trials` holds the
    one child that the call is about. If a hook raises, the callback is disabled and the search continues.

    Children arrive in the order in which they ended, each once, also after a resume. The one exception: if the driver
    was killed, the children of its last second may arrive again; `Trial.completion` identifies them.
    """

    def setup(
        self,
        stop: Mapping[str, Any] | None = None,
        num_samples: int | None = None,
        total_num_samples: int | None = None,
        **info: Any,
    ) -> None:
        """Handle the start or resume of the search.

        `info["search"]` is the `Search`; `num_samples` and `total_num_samples` are its limit of children.
        """

    def on_trial_start(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """Handle a child that is in training; called again after a resume if the child has not ended."""

    def on_trial_result(
        self, iteration: int, trials: Sequence[Trial], trial: Trial, result: Mapping[str, Any], **info: Any
    ) -> None:
        """Handle a child's result; called once for each, before `on_trial_complete`.

        `result` has `training_iteration` (epochs), `time_total_s` (wall seconds), `reward`, `metric`, `curve`,
        `parameters`, `flops`, `replica`.
        """

    def on_trial_complete(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """Handle a child that has ended with a metric."""

    def on_trial_error(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """Handle a child that has failed."""

    def on_step_end(self, iteration: int, trials: Sequence[Trial], **info: Any) -> None:
        """Handle the end of a step, about one a second. Data that is not durable when this returns may be lost."""

    def on_experiment_end(self, trials: Sequence[Trial], **info: Any) -> None:
        """Handle the end of the search, or of this driver's part if the search is resumed later."""
