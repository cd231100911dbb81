"""Checks what is asked for after a search: that its networks can be trained for good, and the settings tried."""

from collections.abc import Sequence

from child_trainer import own_files
from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.operation_types import BUILDERS
from child_trainer.hyperparameters import lacks_effect, with_hyperparameters
from child_trainer.tasks.catalogue import load_task
from child_trainer.tasks.image import ImageTask
from cluster.config.flags import UsageError
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.finish.judges import has_text
from cluster.storage.dataset_cache import local_data
from cluster.storage.errors import RunFolderError
from controller.spaces.settings import setting_of


def check_task(config: RunConfig) -> None:
    """Raise `RunFolderError` unless the run's children are networks on images or text with test data."""
    task = config.task
    if has_text(task):
        return
    with task.own_file():
        tests = task.entry.problem is not None and task.entry.spaces is None and task.entry.load_test() is not None
    if not tests:
        raise RunFolderError(
            "`finish` trains networks on images or text and tests them on test data, and the task"
            f" {task.task!r} of the run {config.name!r} is none that has them"
        )
    if own_files.is_own(task.task):
        _check_own_task(task)


def _check_own_task(options: TaskOptions) -> None:
    """Raise `RunFolderError` if a task of the user's own lacks what trainings for good need; its data is loaded."""
    with options.own_file():
        task = load_task(options.task, data=local_data(options.data), options=options.options)
    if not isinstance(task, ImageTask):
        lacking = f"its function `load` returns no `ImageTask`, but {type(task).__name__}"
    elif not getattr(task, "inherits", False):
        lacking = "its trainings keep no weights, as its attribute `inherits` is not true"
    elif not callable(getattr(task, "on_all_training", None)):
        lacking = "it has no function `on_all_training`, which returns it with the validation images for training, too"
    else:
        return
    raise RunFolderError(f"`finish` cannot train networks for good on the task {options.task!r}: {lacking}")


def check_settings(grid: Sequence[str], made: RunConfig) -> None:
    """Raise `UsageError` if the run's task cannot train with a value of the grid."""
    for text in grid:
        name, values = setting_of(text)
        for value in values:
            try:
                made.task.entry.check_budget(with_hyperparameters(made.budget, {name: value}))
            except ValueError as error:
                raise UsageError(f"`--grid`: {name.replace('_', '-')} cannot be {value:g}: {error}") from error


def check_effects(grid: Sequence[str], made: RunConfig, architectures: Sequence[Architecture]) -> None:
    """Raise `UsageError` if a setting of the grid changes no training, so that its values differ by seeds alone."""
    settings = dict(map(setting_of, grid))
    for name in settings:
        others = {other: values[0] for other, values in settings.items() if other != name}
        causes = [
            lacks_effect(
                name,
                with_hyperparameters(made.budget, dict(architecture.hyperparameters) | others),
                architecture,
            )
            for architecture in architectures
        ]
        if all(causes):
            raise UsageError(f"`--grid`: {name.replace('_', '-')} changes no training here: {causes[0]}")


def check_operations(architectures: Sequence[Architecture], config: RunConfig) -> None:
    """Raise `RunFolderError` if a network has an operation of the user's own, which only the search's space loads."""
    names = {node.op for architecture in architectures for node in architecture.nodes} & BUILDERS.keys()
    if own_files.is_own(config.space) and names:
        raise RunFolderError(
            f"the networks of the run {config.name!r} have the operation {min(names)!r} of {config.space}, which"
            " `finish` cannot train: use `nascluster launch ... --from-run`"
        )
