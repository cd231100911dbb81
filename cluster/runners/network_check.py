"""Checks, before a search begins, that networks of its space can be trained on its task."""

import random
from collections.abc import Iterator

from child_trainer import own_files
from child_trainer.architectures.architecture import Architecture, InvalidArchitecture
from child_trainer.networks.build import classifier_on_meta
from cluster.config.run_config import RunConfig
from controller.space import first_tokens
from controller.zoo.entry import Images

SAMPLES = 20
"""Random networks that are tried at most; one that can be trained is enough."""


def check_networks(config: RunConfig) -> None:
    """Raise `ValueError` if no random network takes the task's images, or none has what a setting is for.

    Nothing is known of the networks of a space of the user's own, nor of tasks without images.
    """
    problem, regime = config.task.entry.problem, config.budget.regime
    if problem is None or own_files.is_own(config.space):
        return
    needed = {"path_keep": regime.path_keep < 1, "auxiliary_weight": regime.auxiliary_weight > 0}
    missing = {name for name, is_set in needed.items() if is_set}
    found = False
    error: InvalidArchitecture | None = None
    for architecture in _samples(config):
        try:
            if not found:
                classifier_on_meta(architecture, Images(input_shape=problem.shape, num_classes=problem.classes))
            found = True
        except InvalidArchitecture as invalid:
            error = error or invalid
        missing -= _has(architecture)
        if found and not missing:
            return
    if not found:
        shape = "x".join(map(str, problem.shape))
        raise ValueError(
            f"none of {SAMPLES} random networks of the space {config.space!r} takes the images of the task"
            f" {config.task.task!r}, {shape}: {error}"
        )
    name = min(missing)
    what, option = ("paths to drop", "drop_path") if name == "path_keep" else ("auxiliary head", "auxiliary")
    remedy = f"; the space's option `{option}` gives them" if hasattr(config.search_space, option) else ""
    raise ValueError(f"`{name}` has no effect: the networks of the space {config.space!r} have no {what}{remedy}")


def _samples(config: RunConfig) -> Iterator[Architecture]:
    """Yield random networks of all stages of the search, as some spaces grow with it."""
    space, rng = config.search_space, random.Random(0)
    for number in range(SAMPLES):
        yield space.decode(first_tokens(space, config.max_children * number // SAMPLES, rng))


def _has(architecture: Architecture) -> set[str]:
    """Return the settings that concern this architecture."""
    has_paths = any(n.op == "drop_path" for n in architecture.nodes)
    return ({"path_keep"} if has_paths else set()) | ({"auxiliary_weight"} if len(architecture.outputs) > 1 else set())
