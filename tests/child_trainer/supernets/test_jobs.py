import json
from typing import Any

import pytest

from child_trainer.inheritance.changes import Widen
from child_trainer.supernets.jobs import Job, Score, Steps, TrainOn, job_from_json, job_to_json


@pytest.mark.parametrize(
    "job",
    [
        Steps(objective="path", count=3, settings={"rate": 0.025}),
        Steps(objective="path", count=2, paths=((0, 1), ())),
        Steps(objective="darts", count=2, settings={"order": 2, "cost_loss": "add"}, first=6, total=8, rate=0.0),
        Score(),
        Score(settings={"batches": 4.0}),
        TrainOn(parent=7, checksum="ab"),
        TrainOn(parent=7, checksum="ab", changes=(Widen(node="c", width=8), Widen(node="d", width=9))),
    ],
)
def test_a_job_survives_json(job: Job) -> None:
    assert job_from_json(json.loads(json.dumps(job_to_json(job)))) == job


def test_there_is_at_least_one_step() -> None:
    with pytest.raises(ValueError, match="`count` must be at least 1 step, got 0"):
        Steps(objective="path", count=0)


def test_steps_have_one_path_each_or_none() -> None:
    with pytest.raises(ValueError, match="one for each of the 3 steps or none, got 2"):
        Steps(objective="path", count=3, paths=((1,), (2,)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"first": -1}, "`first` must be 0 or more steps, got -1"),
        ({"first": 6, "total": 8}, "`total` must be at least the 9 steps up to the last of these, or 0, got 8"),
        ({"rate": -0.1}, "`rate` must be a number of at least 0, got -0.1"),
        ({"rate": float("nan")}, "`rate` must be a number of at least 0, got nan"),
    ],
)
def test_steps_have_a_place_in_their_search_and_a_possible_rate(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Steps(objective="path", count=3, **values)


def test_a_job_of_another_version_is_named() -> None:
    with pytest.raises(ValueError, match="a job is steps, score, train-on, got 'distil'"):
        job_from_json({"kind": "distil"})
