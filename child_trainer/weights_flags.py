"""The flags `--from` and `--save-weights` of `python -m child_trainer`: weights to begin with, and weights to keep."""

import os
from dataclasses import dataclass
from pathlib import Path

from child_trainer.architectures.architecture import Architecture
from child_trainer.atomic_file import write_output
from child_trainer.inheritance.trained_weights import Start, TrainedWeights, WeightsError
from child_trainer.regime import Regime
from child_trainer.training.task import Task


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """The file that gets the weights after a training (a `WeightsSlot`)."""

    path: Path

    def save(self, checksum: str, data: bytes) -> None:
        """Replace the file, durably."""
        write_output(self.path, data)


def read_start(path: Path | None) -> Start | None:
    """Return the weights in the file of `--from`, if it is given.

    Raises:
        ValueError: the file cannot be read, or holds no weights.
    """
    return None if path is None else Start(parent=read_weights(path, "--from"))


def read_weights(path: Path, flag: str) -> TrainedWeights:
    """Return the weights in a file that `--save-weights` wrote.

    Args:
        path: the file.
        flag: by which it was given.

    Raises:
        ValueError: the file cannot be read, or holds no weights.
    """
    try:
        return TrainedWeights.from_bytes(path.read_bytes())
    except OSError as error:
        raise ValueError(
            f"`{flag}` {path} cannot be read ({error.strerror}); give a file that --save-weights wrote"
        ) from error
    except WeightsError as error:
        raise ValueError(f"`{flag}` {path} {error}; give a file that --save-weights wrote") from error


def weights_file(path: Path | None) -> WeightsFile | None:
    """Return the file of `--save-weights`, if it is given.

    Raises:
        ValueError: it cannot be written there.
    """
    if path is None:
        return None
    if path.is_dir():
        raise ValueError(f"`--save-weights` {path} is a folder; give a file")
    if not path.parent.is_dir():
        raise ValueError(f"`--save-weights` {path} cannot be written, because {path.parent} is not a folder")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"`--save-weights` {path} cannot be written: you may not write in {path.parent}")
    return WeightsFile(path)


def check_weights(
    architecture: Architecture, task: Task, regime: Regime, start: Start | None, keep: WeightsFile | None
) -> None:
    """Raise `ValueError` unless the task takes and keeps weights, and those to begin with are the network's."""
    if start is None and keep is None:
        return
    if not getattr(task, "inherits", False):
        flag = "--save-weights" if start is None else "--from"
        raise ValueError(f"`{flag}` is for tasks of images and text, and {task.name!r} is none: leave it out")
    if start is None:
        return
    from child_trainer.networks.weights import WrongWeights

    try:
        _check_fit(architecture, task, regime, start.parent)
    except WrongWeights as error:
        raise ValueError(f"the weights of `--from` are of another network: {error}") from error


def _check_fit(architecture: Architecture, task: Task, regime: Regime, weights: TrainedWeights) -> None:
    """Raise `WrongWeights` unless the weights are those of a network on this task."""
    from child_trainer.networks.build import classifier_on_meta
    from child_trainer.networks.language_model import build_language_model
    from child_trainer.networks.language_weights import check_fit as check_language_model
    from child_trainer.networks.weights import check_fit
    from child_trainer.tasks.image import ImageTask
    from child_trainer.tasks.language import LanguageTask

    if isinstance(task, LanguageTask):
        model = build_language_model(architecture, len(task.vocabulary), task.options)
        check_language_model(model, task.vocabulary, weights.tensors)
    else:
        assert isinstance(task, ImageTask)
        check_fit(classifier_on_meta(architecture, task, regime), weights.tensors)
