"""A folder that is one level too high is refused with the one that was meant."""

from pathlib import Path

import pytest

from child_trainer.tasks.catalogue import check_task
from child_trainer.training.task import TaskError

FILES = {
    "nasbench201": "times_1000.csv",
    "nasbench201-200": "nasbench201.csv",
    "ptb": "ptb.train.txt",
    "wikitext2": "wiki.train.tokens",
    "text-folder": "train.txt",
    "cifar10": "cifar-10-batches-py/data_batch_1",
    "fashion-mnist": "FashionMNIST/raw/train-images-idx3-ubyte.gz",
}


def refusal(task: str, data: Path) -> str:
    with pytest.raises(TaskError) as refused:
        check_task(task, data)
    return str(refused.value)


@pytest.mark.parametrize("task", FILES)
def test_the_folder_that_was_meant_is_suggested(task: str, tmp_path: Path) -> None:
    assert "did you mean" not in refusal(task, tmp_path)
    for folder in ("second", "first"):
        file = tmp_path / folder / FILES[task]
        file.parent.mkdir(parents=True)
        file.touch()
    assert refusal(task, tmp_path).endswith(f"; did you mean {tmp_path}/first?")


@pytest.mark.parametrize("task", ["nasbench201", "text-folder"])
def test_what_is_no_folder_is_refused_as_such(task: str, tmp_path: Path) -> None:
    assert refusal(task, tmp_path / "none").startswith(f"`--data` {tmp_path}/none is not a folder; the task '{task}'")
