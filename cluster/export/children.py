"""Finds the child that is exported, and its weights."""

from collections.abc import Iterator
from pathlib import Path

from child_trainer import own_files
from child_trainer.inheritance.trained_weights import TrainedWeights, WeightsError
from child_trainer.tasks.catalogue import load_task
from child_trainer.tasks.image import ImageTask
from child_trainer.weights_flags import read_weights
from cluster.config.run_config import RunConfig
from cluster.export.formats import ExportError
from cluster.monitoring.summary import config_of, training_command
from cluster.pool.child_weights import WeightsFolder, load_weights, weights_file
from cluster.storage.dataset_cache import local_data
from cluster.storage.ledger.queries import status
from cluster.storage.ledger.queries.continued import continued
from cluster.storage.ledger.queries.status import Best
from cluster.storage.ledger.queries.weights import children_with_weights, measured_child
from cluster.storage.ledger.reader import LedgerConnection, reading
from cluster.storage.run_folder import RunFolder

SHOWN = 5
"""Children that an error names at most."""


def check_task(config: RunConfig) -> None:
    """Raise `ExportError` if trainings on the run's task leave no language model, nor a classifier of images like ours.

    A task of the user's own is loaded with its data, as only then its kind is known.
    """
    task, entry = config.task.task, config.task.entry
    if entry.family == "language" and not own_files.is_own(task):
        return
    if entry.family != "images" or entry.problem is None:
        raise ExportError(
            f"the task {task!r} trains no networks that could be exported: export is for tasks of images and our tasks"
            " of text"
        )
    if own_files.is_own(task):
        with config.task.own_file():
            loaded = load_task(task, data=local_data(config.task.data), options=config.task.options)
        if not isinstance(loaded, ImageTask) or type(loaded).centred is not ImageTask.centred:
            raise ExportError(f"the task {task!r} prepares images in a way of its own, which an export does not know")


def child_to_export(folder: RunFolder, config: RunConfig, child_id: int | None, file: Path | None) -> Best:
    """Return the child with this id; without one, the best child whose weights are there, or are given.

    In a run whose children train on the validation images, too, the best is the first: its networks are in the order
    of the search before it, and what they reach on images that they have seen says nothing.

    Args:
        folder, config: the run's.
        child_id: of a child that has ended with a metric.
        file: the weights to export, if they are not those that the run has kept.

    Raises:
        ExportError: there is no such child, or its weights are neither there nor given.
    """
    with reading(folder) as db:
        if child_id is not None and measured_child(db, child_id) is None:
            raise ExportError(f"the run {folder.name!r} has no child {child_id} that has ended with a metric")
        best = status.best(db)
        if best is None:
            raise ExportError(f"no child of the run {folder.name!r} has ended with a metric yet")
        child = measured_child(db, child_id) if child_id is not None else None
        if file is not None:
            return child or best
        if child is not None and _kept(folder, child):
            return child
        there = _children_there(db, folder, by_reward=not config.task.all_training)
        if child is None and (found := next(there, None)) is not None:
            return found
        others = [one.child_id for one, _ in zip(there, range(SHOWN), strict=False)]
    raise ExportError(_no_weights(folder, config, child or best, best, others))


def weights_of(folder: RunFolder, child: Best, file: Path | None) -> TrainedWeights:
    """Return a child's weights, from the run or from a file that `python -m child_trainer --save-weights` wrote.

    Raises:
        ExportError: they are damaged, cannot be read, or are of another network.
    """
    if file is None:
        return _kept_weights(folder, child)
    try:
        weights = read_weights(file, "--weights")
    except ValueError as error:
        raise ExportError(str(error)) from error
    if weights.architecture.id != child.architecture.id:
        raise ExportError(
            f"`--weights` {file} has the weights of the architecture {weights.architecture.id}, and child"
            f" {child.child_id} is {child.architecture.id}"
        )
    return weights


def _kept_weights(folder: RunFolder, child: Best) -> TrainedWeights:
    owner, checksum = _owner(child), child.weights or ""
    try:
        return load_weights(WeightsFolder(folder.child_weights), owner, checksum)
    except OSError as error:
        fault = f"cannot be read ({error.strerror})"
    except WeightsError as error:
        fault = str(error)
    path = weights_file(folder.child_weights, owner, checksum)
    raise ExportError(f"the weights of child {child.child_id} cannot be exported: their file {path} {fault}")


def _owner(child: Best) -> int:
    """Return the child whose training left a child's weights."""
    return child.child_id if child.same_as is None else child.same_as


def _kept(folder: RunFolder, child: Best) -> bool:
    return child.weights is not None and weights_file(folder.child_weights, _owner(child), child.weights).exists()


def _children_there(db: LedgerConnection, folder: RunFolder, *, by_reward: bool) -> Iterator[Best]:
    """Yield the children whose weights are there."""
    return (child for child in children_with_weights(db, by_reward=by_reward) if _kept(folder, child))


def _no_weights(folder: RunFolder, config: RunConfig, child: Best, best: Best, others: list[int]) -> str:
    """Return why a child cannot be exported, and what would give its weights."""
    kept = f"the run {folder.name!r} has kept no weights of child {child.child_id}"
    if others:
        return f"{kept}, only such as those of {'child' if len(others) == 1 else 'children'} {_list(others)}"
    if child.child_id != best.child_id:
        return f"{kept}, nor of any other: `{folder.command('export')}` says how to get those of the best child"
    with reading(folder) as db:
        trained_with = config_of(config, continued(db), best)
    by_hand = f"{training_command(trained_with, best, 'best.json')} --save-weights best.safetensors"
    with config.task.own_file():
        tests = config.task.entry.family == "language" or config.task.entry.load_test() is not None
    finish = f"`{folder.command('finish')}` trains the best networks for good and keeps theirs; or "
    return (
        f"{kept}: {finish if tests else ''}`{folder.command('best')} --json > best.json` and `{by_hand}` train it"
        " again, and `--weights best.safetensors` then exports it"
    )


def _list(numbers: list[int]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last
