"""Checks, before a search begins, that networks of its space can be trained on its task."""

import random
from collections.abc import Callable

from child_trainer import own_files
from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.own_calls import failures_of
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


OWN_SAMPLES = 50
"""Random networks of a space of the user's own: each of its operations should be in some of them."""

UNITS = 32
"""Units of the recurrent cells that are built."""


def check_networks(config: RunConfig) -> None:
    """Raise `ValueError` if no random network of the space can be built for the task, or a step's batch is too small.

    Nothing is known of tasks without images, but for the operations of a space of the user's own.
    """
    _check_batch(config)
    _check_table(config)
    if own_files.is_own(config.space):
        _check_own_operations(config)
    elif config.task.entry.problem is not None:
        _check_images(config)


def _check_images(config: RunConfig) -> None:
    space, rng = config.search_space, random.Random(0)
    build = _builder(config)
    errors: list[InvalidArchitecture] = []
    for number in range(SAMPLES):
        # Of all stages of the search, as some spaces grow with it.
        tokens = first_tokens(space, config.max_children * number // SAMPLES, rng)
        try:
            build(space.decode(tokens))
        except InvalidArchitecture as error:
            errors.append(error)
        else:
            return
    raise ValueError(_none_fits(config, SAMPLES, errors[0]))


def _none_fits(config: RunConfig, samples: int, error: InvalidArchitecture) -> str:
    what, problem = f"none of {samples} random networks of the space {config.space!r}", config.task.entry.problem
    if problem is None:
        return f"{what} can be built: {error}"
    return f"{what} takes the images of the task {config.task.task!r}, {'x'.join(map(str, problem.shape))}: {error}"


def _check_own_operations(config: RunConfig) -> None:
    """Raise `ValueError` if an operation of the user's own can be built in none of the random networks that have it.

    One that is in none of them is not checked.
    """
    entry, space, rng = config.task.entry, config.search_space, random.Random(0)
    if not entry.trains or (entry.problem is None and space.kind != "recurrent"):
        return
    with own_files.using(config.files):
        module = own_files.load_module(own_files.file_of(config.space))
    own, build = frozenset(getattr(module, "OPERATIONS", {})), _builder(config)
    built, failed, any_built = set[str](), dict[str, InvalidArchitecture](), False
    for number in range(OWN_SAMPLES):
        with failures_of(config.space, "first", "decode"):
            tokens = first_tokens(space, config.max_children * number // OWN_SAMPLES, rng)
            network = space.decode(tokens)
        has = own & {node.op for node in network.live_nodes()}
        if any_built and has <= built:
            continue
        try:
            build(network)
        except InvalidArchitecture as error:
            failed |= {name: error for name in has - failed.keys()}
            failed.setdefault("", error)
        else:
            any_built = True
            built |= has
    if never := sorted(failed.keys() - built - {""}):
        raise ValueError(
            f"the operation {never[0]!r} of {own_files.file_of(config.space)} can be built in none of {OWN_SAMPLES}"
            f" random networks: {failed[never[0]]}"
        )
    if not any_built:
        raise ValueError(_none_fits(config, OWN_SAMPLES, failed[""]))


def _builder(config: RunConfig) -> Callable[[Architecture], object]:
    """Return what builds a network, or a cell, without memory for its weights."""
    from child_trainer.networks.build import cell_on_meta, classifier_on_meta  # imports PyTorch

    if (problem := config.task.entry.problem) is None:
        return lambda cell: cell_on_meta(cell, UNITS, UNITS)
    images = Images(input_shape=problem.shape, num_classes=problem.classes)
    return lambda network: classifier_on_meta(network, images)


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
