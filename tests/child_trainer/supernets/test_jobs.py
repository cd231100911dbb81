import json

import pytest

from child_trainer.supernets.jobs import Job, Score, Steps, job_from_json, job_to_json


@pytest.mark.parametrize(
    "job",
    [
        Steps(objective="path", count=3, settings={"rate": 0.025}),
        Steps(objective="path", count=2, paths=((0, 1), ())),
        Score(),
        Score(settings={"batches": 4.0}),
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


def test_a_job_of_another_version_is_named() -> None:
    with pytest.raises(ValueError, match="a job is steps or score, got 'train_on'"):
        job_from_json({"kind": "train_on"})
