"""Causal order on real Ray: three workers, of which one is killed, give what one process gives, to the bit."""

import os
import signal
from collections.abc import Mapping

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from cluster.runners.on_ray.handles import worker_name
from tests.cluster.searches import actor_process, finish, nascluster, run_folder, select, wait_for
from tests.lengths import LONG

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(300)]

FLAGS = (
    *("--space", "nasbench201", "--cells-per-stage", "1", "--stem-channels", "2", "--batch-size", "8"),
    *("--searcher", "enas", "--search-epochs", "2", "--steps-per-epoch", "48", "--steps-per-child", "1"),
    *("--policy-children", "8", "--controller-units", "8", "--controller-learning-rate", "0.05"),
    *("--refit-batches", "0", "--max-children", "113", "--replicas", "1", "--children", "8", "--shards", "1"),
    *("--batching", "barrier", "--reward", "accuracy", "--weights-consistency", "causal"),
    *("--weights-shards", "1", "--weights-snapshot", "0"),
)
"""96 children that each train one path, 16 that the policy learns from, and one that is scored at last."""

AT_ONCE = """
SELECT max((SELECT count(*) FROM attempts AS b WHERE b.started_at <= a.started_at AND b.ended_at > a.started_at))
FROM attempts AS a JOIN children ON id = child WHERE lane IS NOT NULL
"""
"""How many attempts at training children there were at once."""


def state(name: str) -> Mapping[str, Tensor]:
    """All that the shards of both kinds have, what their optimizers keep included."""
    return {
        f"{kind}/{key}": value
        for kind in ("shards", "weights")
        for key, value in load_file(run_folder(name) / kind / "shard-000.safetensors").items()
    }


@LONG
def test_three_workers_of_which_one_is_killed_give_the_weights_and_the_policy_of_one_process(cluster: str) -> None:
    search = nascluster("launch", "digits", "--name", "causal", "--workers", "3", *FLAGS, address=cluster)
    for finished, actor in ((3, worker_name(0)), (12, "ReplicaHost")):
        wait_for("causal", finished)
        os.kill(actor_process("causal", actor), signal.SIGKILL)
    finish(search)
    finish(nascluster("launch", "digits", "--name", "one-process", "--local", *FLAGS))
    assert select("causal", AT_ONCE)[0][0] > 1
    found = "SELECT id, tokens, metric, reward, lane, steps_before FROM children ORDER BY id"
    assert select("causal", found) == select("one-process", found)
    ours, theirs = state("causal"), state("one-process")
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
