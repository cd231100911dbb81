"""SNAS on real Ray: a worker and shards are killed, and strengths and weights end as in an undisturbed search."""

import os
import signal

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from cluster.runners.on_ray.handles import worker_name
from tests.cluster.searches import actor_processes, finish, nascluster, run_folder, select, wait_for
from tests.lengths import LONG

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(300)]

FLAGS = (
    *("--space", "nasbench201", "--cells-per-stage", "1", "--stem-channels", "2", "--searcher", "snas"),
    *("--search-epochs", "3", "--steps-per-epoch", "60", "--steps-per-child", "10", "--batch-size", "16"),
    *("--refit-batches", "1", "--reward", "accuracy", "--max-children", "21", "--weights-snapshot", "0"),
    *("--replicas", "1", "--children", "1", "--shards", "1", "--weights-shards", "1"),
)
"""Three epochs of six children with steps and one that is scored."""


def state(name: str) -> dict[str, Tensor]:
    """All that the shards of both kinds have, what their optimizers keep included."""
    return {
        f"{kind}/{key}": value
        for kind in ("shards", "weights")
        for key, value in load_file(run_folder(name) / kind / "shard-000.safetensors").items()
    }


@LONG
def test_a_search_whose_worker_and_shards_are_killed_ends_as_one_in_one_process(cluster: str) -> None:
    search = nascluster("launch", "digits", "--name", "snas-killed", "--workers", "1", *FLAGS, address=cluster)
    for finished, actor in ((2, worker_name(0)), (4, "ShardHost"), (8, "ShardHost")):
        wait_for("snas-killed", finished)
        os.kill(actor_processes("snas-killed", actor)[0], signal.SIGKILL)  # of two hosts each once: the older one
    finish(search)
    finish(nascluster("launch", "digits", "--name", "snas-local", "--local", *FLAGS))
    ours, theirs = state("snas-killed"), state("snas-local")
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    found = "SELECT id, tokens, notes, metric FROM children ORDER BY id"
    assert select("snas-killed", found) == select("snas-local", found)
