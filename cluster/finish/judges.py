"""What finished networks are judged by: the test data of a run's task, images or text."""

from typing import Protocol

import torch

from child_trainer import own_files
from child_trainer.inheritance.trained_weights import TrainedWeights
from child_trainer.networks import language_weights
from child_trainer.networks.build import build
from child_trainer.networks.language_model import build_language_model
from child_trainer.networks.weights import load
from child_trainer.tasks.catalogue import load_test
from child_trainer.tasks.image import ImageTask
from child_trainer.tasks.language import LanguageTask, load_test_text
from child_trainer.threads import computing_with
from child_trainer.training.epochs import with_own_options
from child_trainer.training.image_classifier import Images
from child_trainer.training.task import TaskError
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.runners.trainer import loaded_task
from cluster.search.seeding import derive
from cluster.storage.dataset_cache import local_data


class Judge(Protocol):
    """Computes what networks reach on the test data of a run's task."""

    @property
    def examples(self) -> int:
        """How many images or words there are."""
        ...

    def __call__(self, weights: TrainedWeights) -> float:
        """Return a network's metric.

        Raises:
            InvalidArchitecture, WrongWeights: these are not the weights of their network.
            Diverged: an output is not finite.
        """
        ...


def make_judge(config: RunConfig) -> Judge:
    """Return the judge of the networks of a run of images or text.

    Raises:
        TaskError, StorageError: the data cannot be loaded here.
    """
    return TextJudge(config) if has_text(config.task) else ImageJudge(config)


def has_text(options: TaskOptions) -> bool:
    """Return whether a task is one of ours that trains language models, each of which has a test text."""
    return options.entry.family == "language" and not own_files.is_own(options.task)


def check_test_data(options: TaskOptions) -> None:
    """Make sure that the test data of a task of images or text can be loaded.

    Raises:
        TaskError, StorageError: it is missing or corrupt, or too little.
    """
    if has_text(options):
        _load_text(options, "cpu")
    else:
        load_test_images(options)


class ImageJudge:
    """Computes the share of the test images that networks get right, prepared as validation images are.

    Args:
        config: of the run whose children they are.

    Raises:
        TaskError, StorageError: the data cannot be loaded here.
    """

    def __init__(self, config: RunConfig) -> None:
        device = _device()
        task = loaded_task(config.task, seed=derive(config.seed, "split"), device=device)
        assert isinstance(task, ImageTask)  # `plan` refuses others
        self._task, self._device = task, device
        self._images = load_test_images(config.task, device)
        self._regime, self._threads = config.budget.regime, config.topology.threads_per_child

    @property
    def examples(self) -> int:
        """How many images there are."""
        return len(self._images)

    def __call__(self, weights: TrainedWeights) -> float:
        """Return a network's accuracy; raises as `Judge` does."""
        network = build(weights.architecture, self._task, generator=torch.Generator(), regime=self._regime)
        load(network, weights.tensors)
        network.to(self._device)
        with computing_with(self._threads):
            return self._task.accuracy(network, self._images)


class TextJudge:
    """Computes the perplexity of language models on the test text, read as the validation text is.

    Args:
        config: of the run whose children they are.

    Raises:
        TaskError, StorageError: the data cannot be loaded here.
    """

    def __init__(self, config: RunConfig) -> None:
        self._device, self._threads = _device(), config.topology.threads_per_child
        self._task, self._text = _load_text(config.task, self._device)

    @property
    def examples(self) -> int:
        """How many words the text has, ends of lines included."""
        return len(self._text)

    def __call__(self, weights: TrainedWeights) -> float:
        """Return a model's perplexity; raises as `Judge` does."""
        task, cell = self._task, weights.architecture
        options = with_own_options(task.options, cell)
        model = build_language_model(cell, len(task.vocabulary), options, generator=torch.Generator())
        language_weights.load(model, task.vocabulary, weights.tensors)
        model.to(self._device)
        with computing_with(self._threads):
            return task.perplexity(model, self._text)


def load_test_images(options: TaskOptions, device: str = "cpu") -> Images:
    """Return the test images of a run's task.

    Raises:
        TaskError, StorageError: they are missing or corrupt, or no images.
    """
    data = local_data(options.data)
    with options.own_file():
        options.check_files(data)
        images = load_test(options.task, data=data, device=device, options=options.options)
    if not isinstance(images, Images) or not len(images):
        raise TaskError(
            f"the function `load_test` of the task {options.task!r} must return test images, `Images(...)`, got"
            f" {'none' if isinstance(images, Images) else type(images).__name__}"
        )
    return images


def _load_text(options: TaskOptions, device: str) -> tuple[LanguageTask, torch.Tensor]:
    task = loaded_task(options, device=device)
    assert isinstance(task, LanguageTask)
    return task, load_test_text(task, local_data(options.data)).to(device)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
