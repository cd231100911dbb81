"""Checks, before a search begins, that networks of its space can be trained on its task."""

import random

from child_trainer import own_files
from child_trainer.architectures.architecture import InvalidArchitecture
from child_trainer.tasks.table_file import SampleTable
from cluster.config.run_config import RunConfig
from cluster.runners.trainer import loaded_task
from controller.space import first_tokens
from controller.zoo.entry import Images

TABLE_FILE = "table-file"
"""The task of a table of the user's own."""

GIVEN_SPACES = ("listed", "settings")
"""Spaces of given architectures, whose samples are places in a list."""

SAMPLES = 20
"""Random networks that are tried at most; one that can be trained is enough."""


def check_networks(config: RunConfig) -> None:
    """Raise `ValueError` if no random network of the space takes the task's images, or a step's batch is too small.

    Nothing is known of the networks of a space of the user's own, nor of tasks without images.
    """
    _check_batch(config)
    _check_table(config)
    problem, space, rng = config.task.entry.problem, config.search_space, random.Random(0)
    if problem is None or own_files.is_own(config.space):
        return
    from child_trainer.networks.build import classifier_on_meta  # imports PyTorch

    images = Images(input_shape=problem.shape, num_classes=problem.classes)
    errors: list[InvalidArchitecture] = []
    for number in range(SAMPLES):
        # Of all stages of the search, as some spaces grow with it.
        tokens = first_tokens(space, config.max_children * number // SAMPLES, rng)
        try:
            classifier_on_meta(space.decode(tokens), images)
        except InvalidArchitecture as error:
            errors.append(error)
        else:
            return
    raise ValueError(
        f"none of {SAMPLES} random networks of the space {config.space!r} takes the images of the task"
        f" {config.task.task!r}, {'x'.join(map(str, problem.shape))}: {errors[0]}"
    )


def _check_table(config: RunConfig) -> None:
    """Raise `ValueError` if a table of the user's own is named by samples of another space than the run's."""
    if config.task.task != TABLE_FILE:
        return
    table = loaded_task(config.task)
    if not isinstance(table, SampleTable):
        return
    if config.space in GIVEN_SPACES:
        raise ValueError(
            f"the rows of the table are named by `tokens`, samples of another space than {config.space!r}: name them by"
            " `architecture`"
        )
    table.of_space(config.search_space.decode)


def _check_batch(config: RunConfig) -> None:
    """Raise `ValueError` if cells normalise over the sequences of a batch, and a batch has only one."""
    space = config.search_space
    if config.budget.batch_size > 1 or space.kind != "recurrent" or own_files.is_own(config.space):
        return
    cell = space.decode(first_tokens(space, 0, random.Random(0)))
    if any(node.op == "batch_norm" for node in cell.nodes):
        raise ValueError(
            f"`batch_size` must be at least 2 with the space {config.space!r}, whose cells have batch normalisation,"
            f" got {config.budget.batch_size}"
        )
