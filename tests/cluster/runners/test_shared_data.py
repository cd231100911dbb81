"""Which data a task has for jobs on shared weights."""

from typing import Any

import pytest
import torch

from child_trainer.language_options import LanguageOptions
from child_trainer.tasks.image import ImageTask
from child_trainer.tasks.language import LanguageTask
from child_trainer.training.image_classifier import Images
from cluster.runners.shared_data import ImageData, TextData, data_of


class OwnImages(ImageTask):
    """A user's task of images."""


class OwnText(LanguageTask):
    """A user's task of text."""


class Numbers:
    """A task of neither."""

    name = "numbers"


@pytest.mark.parametrize("kind", [ImageTask, OwnImages])
def test_a_task_of_images_has_images_also_one_that_is_derived(kind: type[ImageTask]) -> None:
    images = Images(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]))
    task = kind(name="own", num_classes=2, flip=False, training=images, validation=images)
    data = data_of(task)
    assert isinstance(data, ImageData)
    assert data.task is task


@pytest.mark.parametrize("kind", [LanguageTask, OwnText])
def test_a_task_of_text_has_text_also_one_that_is_derived(kind: type[LanguageTask]) -> None:
    words = torch.tensor([0, 1, 0])
    task = kind(name="own", options=LanguageOptions(), vocabulary=("a", "b"), training=words, validation=words)
    data = data_of(task)
    assert isinstance(data, TextData)
    assert data.task is task


def test_any_other_task_is_refused_by_its_name() -> None:
    task: Any = Numbers()
    with pytest.raises(TypeError, match="the task 'numbers' must have images or text, got a Numbers"):
        data_of(task)
