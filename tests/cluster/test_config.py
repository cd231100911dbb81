import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from child_trainer.outcome import Budget
from child_trainer.tasks.catalogue import TASKS
from cluster.config import RunConfig, TaskOptions, Topology
from cluster.recipes import RECIPES, differences
from controller.reward import REWARDS


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_configuration_survives_its_file(recipe: str) -> None:
    config = RECIPES[recipe]()
    assert RunConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_paths_and_tuples_survive_too() -> None:
    config = RunConfig(task=TaskOptions(data=Path("/data")), name="x", topology=Topology(gpus_per_child=0.25))
    assert RunConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_the_choices_are_those_that_exist() -> None:
    assert set(get_args(get_type_hints(TaskOptions)["task"])) == TASKS.keys()
    assert set(get_args(get_type_hints(RunConfig)["reward"])) == REWARDS.keys()


def test_the_papers_recipe_has_the_papers_constants() -> None:
    """Spec §1.5 and §1.6."""
    config = RECIPES["zoph2017-cifar10"]()
    assert (config.topology.shards, config.topology.replicas, config.topology.children) == (20, 100, 8)
    assert config.max_children == 12_800
    assert config.reward == "cubed-accuracy"
    assert config.budget == Budget(epochs=50, learning_rate=0.1, weight_decay=1e-4, momentum=0.9, train_fraction=1.0)
    space, controller = config.convolutional, config.reinforce
    assert (space.filter_heights, space.filter_widths, space.num_filters) == (
        (1, 3, 5, 7),
        (1, 3, 5, 7),
        (24, 36, 48, 64),
    )
    assert (space.initial_depth, space.depth_step, space.depth_interval) == (6, 2, 1600)
    assert (controller.controller_layers, controller.controller_units) == (2, 35)
    assert (controller.controller_init, controller.controller_learning_rate) == (0.08, 0.0006)


def test_differences_are_by_flag() -> None:
    assert differences(RunConfig(topology=Topology(replicas=3), seed=1)) == {"seed": 1, "replicas": 3}
    assert differences(RunConfig()) == {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Topology(replicas=0), "`replicas` must be at least 1, got 0"),
        (lambda: Topology(shards=-1), "`shards` must be at least 1, got -1"),
        (lambda: Topology(children=0), "`children` must be at least 1, got 0"),
        (lambda: Topology(workers=0), "`workers` must be at least 1, got 0"),
        (lambda: Topology(accumulate=0), "`accumulate` must be at least 1, got 0"),
        (lambda: Topology(gpus_per_child=-0.5), "`gpus_per_child` must be a fraction of one GPU or a whole number"),
        (lambda: Topology(gpus_per_child=1.5), "`gpus_per_child` .* got 1.5"),
        (lambda: Topology(gpus_per_child=float("inf")), "`gpus_per_child` .* got inf"),
        (lambda: Topology(gpus_per_child=float("nan")), "`gpus_per_child` .* got nan"),
        (lambda: RunConfig(max_children=0), "`max_children` must be at least 1, got 0"),
        (lambda: RunConfig(name="a/b"), "`name` must be a folder's name .* got 'a/b'"),
        (lambda: RunConfig(name=".hidden"), "`name` must be a folder's name"),
        (lambda: RunConfig(name=""), "`name` must be a folder's name"),
        (lambda: TaskOptions(child_seconds=-1), "`child_seconds` must be 0 or more, got -1"),
        (lambda: TaskOptions(child_seconds=float("nan")), "`child_seconds` must be 0 or more, got nan"),
    ],
)
def test_impossible_settings_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
