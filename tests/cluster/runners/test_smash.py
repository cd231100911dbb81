"""A whole SMASH search in one process: the shards have the hypernetwork's weights, and they survive any death."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from child_trainer.supernets.hypernetwork import generated_nodes
from cluster.cli import main as cli
from cluster.storage.run_folder import RunFolder
from controller.spaces.smash import SmashSpace
from tests.cluster.runners.killed_runs import copies, copying

FLAGS = (
    *("--space", "smash", "--layers-per-stage", "1", "--banks", "2", "--bank-channels", "2", "--units", "4"),
    *("--kernels", "3", "--dilations", "1", "--groups", "1", "2", "--hyper-growth", "2", "--hyper-depths", "2", "1"),
    *("--searcher", "smash", "--supernet-steps", "6", "--steps-per-child", "2", "--random-paths", "3"),
    *("--refit-batches", "1", "--batch-size", "16", "--max-children", "8", "--replicas", "1", "--children", "1"),
    *("--weights-shards", "1", "--weights-snapshot", "0", "--reward", "accuracy"),
)
"""Three children that train, three random paths, and two that are close to the best."""

DEATHS = (2, 5, 10, 15)


def values(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "weights" / "shard-000.safetensors")


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db:
        return db.execute(query).fetchall()


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A search that went undisturbed (0), and copies of its folder as SIGKILL would have left it at some calls."""
    place = tmp_path_factory.mktemp("smash")
    with copying(place, DEATHS) as calls:
        words = ["launch", "digits", "--name", "run", "--local", "--storage-path", str(place / "0"), *FLAGS]
        assert cli.run(words) == 0
    assert len(calls) > max(DEATHS)
    return copies(place)


def test_the_shards_have_the_hypernetworks_weights_and_no_generated_ones(killed: dict[int, Path]) -> None:
    """T10.2: no free weight of a 1x1 convolution exists."""
    names = {name.removeprefix("value/") for name in values(killed[0]) if name.startswith("value/")}
    assert any(name.startswith("hypernetwork/") for name in names)
    space = RunFolder(killed[0]).read_config().search_space
    assert isinstance(space, SmashSpace)
    assert not names & {f"{node.name}/conv.weight" for node in generated_nodes(space.supernet())}
    assert any(name.endswith("conv.weight") for name in names)


def test_random_paths_are_scored_and_then_ones_close_to_the_best(killed: dict[int, Path]) -> None:
    found = rows(killed[0], "SELECT metric, notes FROM children ORDER BY id")
    assert [metric is None for metric, _ in found] == [True] * 3 + [False] * 5
    parents = [json.loads(notes or "{}").get("parent") for _, notes in found]
    assert parents[:6] == [None] * 6
    assert set(parents[6:]) <= set(range(4, 8))


@pytest.mark.parametrize("death", DEATHS)
def test_a_search_that_was_killed_ends_with_the_weights_of_one_that_was_not(
    killed: dict[int, Path], death: int, tmp_path: Path
) -> None:
    shutil.copytree(killed[death], tmp_path / "run")
    assert cli.run(["resume", "run", "--storage-path", str(tmp_path)]) == 0
    ours, theirs = values(tmp_path / "run"), values(killed[0])
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    scores = "SELECT id, tokens, metric, reward FROM children ORDER BY id"
    assert rows(tmp_path / "run", scores) == rows(killed[0], scores)
