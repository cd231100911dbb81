"""The tasks by name. Standard library only: PyTorch is imported when a task that needs it is asked for."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from child_trainer.language_options import LanguageOptions
from child_trainer.outcome import Measure
from child_trainer.tasks.fault_injection import check_faults
from child_trainer.tasks.summaries import TASKS
from child_trainer.tasks.synthetic import SyntheticTask
from child_trainer.tasks.tables import TABLES, load_table
from child_trainer.training.task import Task, TaskError

if TYPE_CHECKING:
    from child_trainer.training.image_classifier import Images

NO_FAULTS: Mapping[str, float] = MappingProxyType({})
"""Nothing is rehearsed."""

USUAL_LANGUAGE = LanguageOptions()

LANGUAGE_TASKS = tuple(name for name, task in TASKS.items() if task.measure is Measure.PERPLEXITY)
"""The tasks of language modelling."""


def check_task(
    name: str,
    data: Path | None = None,
    *,
    download: bool = False,
    child_seconds: float = 0.0,
    child_spread: float = 0.0,
    faults: Mapping[str, float] = NO_FAULTS,
    language: LanguageOptions = USUAL_LANGUAGE,
) -> None:
    """Make sure, before anything is started, that `load_task` would succeed; loads no images and trains nothing.

    With `download`, what is missing is fetched now, so that no worker has to.

    Raises:
        TaskError: the name is unknown, its data is not there, is corrupt or cannot be downloaded, or an option is
            wrong or for another task.
    """
    check_options(name, child_seconds, faults, child_spread=child_spread)
    if name in ("fashion-mnist", "cifar10"):
        from child_trainer.tasks import torchvision_images

        torchvision_images.check(name, data, download=download)
    elif name in LANGUAGE_TASKS:
        from child_trainer.tasks import language as texts

        texts.load(name, data, language)  # what may be wrong is only seen as the texts are read, in a few seconds
    elif name in TABLES:
        load_table(name, data=data)


def load_task(  # noqa: PLR0913  (all but the first are options)
    name: str,
    *,
    data: Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    download: bool = False,
    child_seconds: float = 0.0,
    child_spread: float = 0.0,
    faults: Mapping[str, float] = NO_FAULTS,
    language: LanguageOptions = USUAL_LANGUAGE,
) -> Task:
    """The task, its data already on the device.

    Args:
        name: one of `TASKS`.
        data: the folder with the images, in torchvision's layout, or with the texts; tasks that need none ignore it.
        seed: of the split into training and validation images; texts are split already.
        device: where the data is to stay, as PyTorch names it.
        download: fetch what is missing in `data`.
        child_seconds, child_spread: how long a child of the synthetic task pretends to train: the median, and how
            unlike the children are (`SyntheticTask` has it).
        faults: how probable each rehearsed fault of the synthetic task is (`faults.parse_faults` reads them).
        language: the model around a recurrent cell, and the vocabulary.

    Raises:
        TaskError: as `check_task` does.
    """
    check_options(name, child_seconds, faults, child_spread=child_spread)
    if name == "synthetic":
        return SyntheticTask(child_seconds=child_seconds, child_spread=child_spread, faults=faults)
    if name in TABLES:
        return load_table(name, data=data)
    if name == "digits":
        from child_trainer.tasks import digits

        return digits.load(seed).to(device)
    if name in LANGUAGE_TASKS:
        from child_trainer.tasks import language as texts

        return texts.load(name, data, language).to(device)
    from child_trainer.tasks import torchvision_images

    return torchvision_images.load(name, data, seed, download=download).to(device)


def load_test(name: str, *, data: Path | None = None, device: str = "cpu") -> "Images":
    """The test images of a task, for after the search; nothing else ever reads them.

    Raises:
        TaskError: the name is unknown, the task has no test images, or its data is not there or corrupt.
    """
    check_options(name, 0.0, NO_FAULTS)
    if not TASKS[name].trains or name in LANGUAGE_TASKS:
        raise TaskError(f"the task {name!r} has no test images")
    if name == "digits":
        from child_trainer.tasks import digits

        return digits.load_test().to(device)
    from child_trainer.tasks import torchvision_images

    return torchvision_images.load_test(name, data).to(device)


def check_options(name: str, child_seconds: float, faults: Mapping[str, float], *, child_spread: float = 0.0) -> None:
    """The part of `check_task` that needs no data.

    Raises:
        TaskError: the name is unknown, or an option is wrong or for another task.
    """
    if name not in TASKS:
        raise TaskError(f"there is no task {name!r}; the tasks are {', '.join(TASKS)}")
    if not (math.isfinite(child_seconds) and child_seconds >= 0):
        raise TaskError(f"`child_seconds` must be 0 or more, got {child_seconds}")
    if child_seconds and name != "synthetic":
        raise TaskError(f"`child_seconds` is for the task 'synthetic' only, got {child_seconds} for {name!r}")
    if not (math.isfinite(child_spread) and child_spread >= 0):
        raise TaskError(f"`child_spread` must be 0 or more, got {child_spread}")
    if child_spread and not child_seconds:
        raise TaskError(f"`child_spread` needs a `child_seconds` above 0, got {child_spread} with 0 seconds")
    check_faults(faults)
    if faults and name != "synthetic":
        raise TaskError(f"`faults` are for the task 'synthetic' only, got {', '.join(faults)} for {name!r}")
