"""What a callback is. The hooks have the names and the arguments of Ray Tune's `Callback`. Standard library only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A child as callbacks see it, by what the ledger has of it.

    Attributes:
        trial_id: its id as text, with zeros in front.
        child: its id, from 1.
        replica, batch: who sampled it, and in which batch; with `--batching stream` 0 while it is in none yet, and it
            comes into one some time after it has ended.
        status: RUNNING, TERMINATED or ERROR, as in Ray Tune.
        config: its architecture as JSON has it, and the architecture's id.
        completion: 1 for the child that ended first, and so on without a gap; `None` before it has ended.
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
        name: the run's.
        place: the folder or URL that holds everything, for people.
        folder: a folder of this machine, the run's own, for what a callback writes.
        config: all that the run was launched with, as JSON has it.
        completed: the last `Trial.completion` that this callback has had before, 0 at first.
    """

    name: str
    place: str
    folder: str
    config: Mapping[str, Any]
    completed: int


class Callback:
    """Told what becomes of a search, in a thread of its own; each hook does nothing unless it is overridden.

    Hooks are called by keyword. `iteration` is how many children have ended, `trials` the one child in question. What a
    hook raises switches the callback off, and the search goes on.

    Children come in the order in which they ended, none twice and none left out, also after a resume; except that those
    of the last second may come once more when the driver was killed: `Trial.completion` tells.
    """

    def setup(
        self,
        stop: Mapping[str, Any] | None = None,
        num_samples: int | None = None,
        total_num_samples: int | None = None,
        **info: Any,
    ) -> None:
        """The search begins or goes on; `info["search"]` is the `Search`, the two numbers its limit of children."""

    def on_trial_start(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """A child is in training; told again after a resume if it has not ended."""

    def on_trial_result(
        self, iteration: int, trials: Sequence[Trial], trial: Trial, result: Mapping[str, Any], **info: Any
    ) -> None:
        """A child has brought its metric; once for each, before `on_trial_complete`.

        `result` has `training_iteration` (epochs), `time_total_s` (wall seconds), `reward`, `metric`, `curve`,
        `parameters`, `flops`, `replica`.
        """

    def on_trial_complete(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """A child has ended with a metric."""

    def on_trial_error(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """A child has ended without one."""

    def on_step_end(self, iteration: int, trials: Sequence[Trial], **info: Any) -> None:
        """The children of the last second were told. What is not durable when this returns may be lost."""

    def on_experiment_end(self, trials: Sequence[Trial], **info: Any) -> None:
        """This driver's part of the search has ended, for good or to be resumed."""
