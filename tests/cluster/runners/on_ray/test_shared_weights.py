"""Shared weights on real Ray: workers and shards are killed, and every step is applied exactly once."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from cluster.runners.on_ray.handles import worker_name
from cluster.runners.shared_weights import make_weights, weights_layout
from cluster.storage.run_folder import RunFolder
from ps.shard.snapshot import SnapshotFile
from tests.cluster.runners.on_ray.dying_steps import met, write_reward
from tests.cluster.searches import actor_process, finish, nascluster, run_folder, select, status, wait_for
from tests.lengths import LONG

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(300)]

STEPS = 160

FLAGS = (
    *("--space", "enas-macro", "--layers", "3", "--operations", "conv_3x3", "max_3x3", "--filters", "4"),
    *("--searcher", "one-shot", "--supernet-steps", str(STEPS), "--steps-per-child", "10", "--batch-size", "32"),
    *("--refit-batches", "1", "--reward", "accuracy", "--max-children", "20", "--weights-snapshot", "0"),
)
"""16 children that train, and 4 that score."""


DARTS = (
    *("--space", "nasbench201", "--cells-per-stage", "1", "--stem-channels", "2", "--searcher", "darts"),
    *("--search-epochs", "3", "--steps-per-epoch", "20", "--steps-per-child", "10", "--batch-size", "8"),
    *("--refit-batches", "1", "--reward", "accuracy", "--max-children", "20", "--weights-snapshot", "0"),
    *("--replicas", "1", "--children", "1", "--shards", "1"),
)
"""Three epochs, each of two children that move strengths and weights, and of a network that the strengths favour."""


def weights(name: str, store: str = "weights") -> Mapping[str, Tensor]:
    return load_file(run_folder(name) / store / "shard-000.safetensors")


def pushes(name: str) -> list[int]:
    """How many steps each shard has applied, as its last snapshot says."""
    folder = RunFolder(run_folder(name))
    config = folder.read_config()
    group = make_weights(config, config.make_searcher())
    assert group is not None
    layout = weights_layout(config, folder.identity(config), group)
    counts = []
    for index in range(layout.shards):
        loaded = SnapshotFile(folder.weights, layout, index).load()
        assert loaded is not None
        counts.append(loaded[0].metadata["pushes"])
    return counts


def kill(name: str, actor: str) -> None:
    os.kill(actor_process(name, actor), signal.SIGKILL)


@LONG
def test_one_worker_that_is_killed_like_its_shard_ends_with_the_weights_of_a_search_in_one_process(
    cluster: str,
) -> None:
    flags = [*FLAGS, "--replicas", "1", "--children", "1", "--weights-shards", "1"]
    search = nascluster("launch", "digits", "--name", "one-worker", "--workers", "1", *flags, address=cluster)
    for finished, actor in ((3, worker_name(0)), (8, "ShardHost")):
        wait_for("one-worker", finished)
        kill("one-worker", actor)
    finish(search)
    finish(nascluster("launch", "digits", "--name", "no-worker", "--local", *flags))
    assert pushes("one-worker") == pushes("no-worker") == [STEPS]
    ours, theirs = weights("one-worker"), weights("no-worker")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    scores = "SELECT id, tokens, metric FROM children ORDER BY id"
    assert select("one-worker", scores) == select("no-worker", scores)


@LONG
def test_many_lanes_lose_and_repeat_no_step_whatever_is_killed(cluster: str) -> None:
    flags = [*FLAGS, "--replicas", "2", "--children", "3", "--weights-shards", "3", "--workers", "2"]
    search = nascluster("launch", "digits", "--name", "many-lanes", *flags, "--batching", "stream", address=cluster)
    for finished, actor in ((2, "ShardHost"), (6, worker_name(1)), (10, "ReplicaHost")):
        wait_for("many-lanes", finished)
        kill("many-lanes", actor)
    wait_for("many-lanes", 14)
    search.kill()
    search.communicate()
    finish(nascluster("resume", "many-lanes", address=cluster))
    after = status("many-lanes")
    assert (after["state"], after["children"]["finished"]) == ("finished", 20)
    steps = select("many-lanes", "SELECT sum(json_extract(job, '$.count')) FROM children WHERE lane IS NOT NULL")
    assert pushes("many-lanes") == [steps[0][0]] * 3
    lanes = {row[0] for row in select("many-lanes", "SELECT DISTINCT replica || '.' || lane FROM children")}
    assert lanes - {None} <= {f"{replica}.{lane}" for replica in range(2) for lane in range(3)}


def test_steps_that_die_half_made_move_strengths_and_weights_as_those_of_an_undisturbed_search_do(
    cluster: str, tmp_path: Path
) -> None:
    """All five points of a step, and of the whole run: `tests/chaos/test_shared_weights.py`."""
    points = ["after the strengths are pushed", "after the weights are pushed"]
    reward = write_reward(tmp_path, points)
    flags = ["--name", "strengths", "--workers", "1", *DARTS, "--reward", reward]
    finish(nascluster("launch", "digits", *flags, address=cluster))
    assert met(tmp_path) == points
    crashed = "SELECT count(*) FROM attempts WHERE cause = 'crashed'"
    assert select("strengths", crashed) == [(len(points),)]
    finish(nascluster("launch", "digits", "--name", "strengths-here", "--local", *DARTS))
    for store in ("shards", "weights"):
        ours, theirs = weights("strengths", store), weights("strengths-here", store)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), store
    scores = "SELECT id, tokens, metric FROM children ORDER BY id"
    assert select("strengths", scores) == select("strengths-here", scores)
