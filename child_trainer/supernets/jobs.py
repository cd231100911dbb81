"""What a worker does with a child, instead of training it from scratch. Standard library only."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from child_trainer.inheritance.changes import Change, change_from_json, change_to_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Steps:
    """Steps of training the shared weights. Such a child has no metric, and nothing is learnt from it.

    Attributes:
        objective: the name of what each step descends.
        count: how many steps.
        settings: numbers and words that the objective reads, by name.
        paths: the tokens of each step's path; empty: the objective draws what each step trains.
        first: how many steps of the search come before these. An objective with something due at every few steps counts
            from the search's first one.
        total: the steps of the whole search, by which the objective's `progress` follows from a step's number; 0: the
            progress is that in `settings`.
        rate: the learning rate of the weights in these steps; `None`: that of their optimizer.

    Raises:
        ValueError: the count is impossible, there is not one path for each step, the search has fewer steps than come
            with these, or the rate is negative.
    """

    objective: str
    count: int
    settings: Mapping[str, float | str] = field(default_factory=dict)
    paths: tuple[tuple[int, ...], ...] = ()
    first: int = 0
    total: int = 0
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"`count` must be at least 1 step, got {self.count}")
        if self.paths and len(self.paths) != self.count:
            raise ValueError(f"`paths` must be one for each of the {self.count} steps or none, got {len(self.paths)}")
        if self.first < 0:
            raise ValueError(f"`first` must be 0 or more steps, got {self.first}")
        if self.total and self.total < self.first + self.count:
            raise ValueError(
                f"`total` must be at least the {self.first + self.count:,} steps up to the last of these, or 0, got"
                f" {self.total:,}"
            )
        if self.rate is not None and not (math.isfinite(self.rate) and self.rate >= 0):
            raise ValueError(f"`rate` must be a number of at least 0, got {self.rate}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One evaluation of the child's path with the shared weights as they are.

    Attributes:
        settings: numbers that the evaluation reads, by name: `refit_batches`, batches of training images from which
            batch normalisation is refit first, or 0; and `batches`, random batches of validation images that it is
            scored on, or 0 for all of them, as without it.
    """

    settings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOn:
    """A training that begins with the weights of another child, the parent.

    Attributes:
        parent: its id.
        checksum: of its weights, as in its `Outcome.weights`: every attempt begins with the same ones.
        changes: what makes the child's network of the parent's.
    """

    parent: int
    checksum: str
    changes: tuple[Change, ...] = ()


Job: TypeAlias = Steps | Score | TrainOn

_NAMES: Mapping[type, str] = {Steps: "steps", Score: "score", TrainOn: "train-on"}


def job_to_json(job: Job) -> dict[str, Any]:
    """Return plain data for `json.dumps`, from which `job_from_json` makes an equal job."""
    data = {"kind": _NAMES[type(job)]} | asdict(job)
    return data | {"changes": [change_to_json(change) for change in job.changes]} if isinstance(job, TrainOn) else data


def job_from_json(data: Mapping[str, Any]) -> Job:
    """Return the job that `job_to_json` wrote.

    Raises:
        ValueError: it is of a kind that this version does not know.
    """
    values: dict[str, Any] = {name: value for name, value in data.items() if name != "kind"}
    match data["kind"]:
        case "steps":
            values["paths"] = tuple(map(tuple, values["paths"]))
            return Steps(**values)
        case "score":
            return Score(**values)
        case "train-on":
            values["changes"] = tuple(map(change_from_json, values["changes"]))
            return TrainOn(**values)
        case kind:
            raise ValueError(f"a job is {', '.join(_NAMES.values())}, got {kind!r}")
