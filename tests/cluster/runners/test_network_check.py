"""A search whose space and task do not fit ends before it begins, with the reason."""

from typing import Any

import pytest

from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.runners.network_check import check_networks
from controller.spaces.cells import NasNetSpace
from controller.spaces.chain import ChainSpace
from controller.spaces.genomes import GenomeSpace

DIGITS = TaskOptions(task="digits")
SMALL: dict[str, Any] = {"blocks": 1, "cells_per_stage": 1, "filters": 8}
TRAINED = [name for name, recipe in RECIPES.items() if recipe().task.entry.problem is not None]


@pytest.mark.parametrize("name", TRAINED)
def test_the_recipes_fit_their_tasks(name: str) -> None:
    check_networks(RECIPES[name]())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            RunConfig(task=DIGITS, space="nasnet", space_options=NasNetSpace(**SMALL, macro="imagenet-mobile")),
            "none of 20 random networks of the space 'nasnet' takes the images of the task 'digits', 1x8x8: node",
        ),
        (
            RunConfig(task=DIGITS, searcher="random", space="genomes", space_options=GenomeSpace()),
            "none of 20 random networks of the space 'genomes' takes the images of the task 'digits', 1x8x8: node 'n0'",
        ),
    ],
    ids=["small images", "no images"],
)
def test_what_cannot_work_is_refused(config: RunConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_networks(config)


def test_a_chain_knows_the_size_of_the_tasks_images() -> None:
    with pytest.raises(ValueError, match="`image_size` of the space 'chain' must be 8, the side of the images of the"):
        RunConfig(task=DIGITS, searcher="random", space="chain", space_options=ChainSpace())
    RunConfig(task=DIGITS, searcher="random", space="chain", space_options=ChainSpace(image_size=8))


def test_exclusive_or_has_no_order_to_remember() -> None:
    with pytest.raises(ValueError, match="the task 'xor' trains feedforward architectures; the space 'genomes' has"):
        RunConfig(
            task=TaskOptions(task="xor"),
            space="genomes",
            space_options=GenomeSpace(recurrent=True),
            searcher="neat",
            reward="fitness",
        )
