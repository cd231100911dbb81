"""Whole searches in this process, without Ray."""

import io
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from child_trainer.outcome import Budget
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.monitoring.status import Status
from cluster.runners.driver import execute
from cluster.storage.find_run import run_folder
from controller.searchers.policy_gradient.options import ReinforceOptions
from controller.spaces.convolutional import ConvolutionalSpace

SYNTHETIC = replace(RECIPES["synthetic"](), local=True, max_children=24)
DIGITS = replace(
    RECIPES["digits"](),
    local=True,
    max_children=6,
    topology=Topology(replicas=1, shards=3, children=2),
    budget=Budget(epochs=2, batch_size=32, train_fraction=0.5),
)
TIMES = {"seconds", "outcome", "pull_seconds", "push_seconds"}
"""Columns that measure time (the outcome repeats the seconds), besides all that end in _at."""


def search(config: RunConfig, storage: Path, name: str = "run") -> Status:
    return execute(config, run_folder(storage, name), Console(file=io.StringIO()))


def ledger(storage: Path, name: str = "run") -> dict[str, list[tuple[Any, ...]]]:
    """Everything in the ledger but times, and how often the shards had been started."""
    db = sqlite3.connect(storage / name / "ledger.sqlite")
    found = {}
    for table in ("children", "attempts", "batches"):
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        kept = [c for c in columns if not c.endswith("_at") and c not in (*TIMES, "origin")]
        found[table] = db.execute(f"SELECT {', '.join(kept)} FROM {table} ORDER BY 1, 2").fetchall()
    db.close()
    return found


@pytest.mark.parametrize("config", [replace(SYNTHETIC, topology=Topology(replicas=1, shards=2, children=4)), DIGITS])
def test_one_seed_gives_one_ledger(config: RunConfig, tmp_path: Path) -> None:
    """Spec T0.7."""
    for name in ("first", "second"):
        assert search(config, tmp_path, name).state == "finished"
    first, second = ledger(tmp_path, "first"), ledger(tmp_path, "second")
    assert first == second
    assert len(first["children"]) == config.max_children
    search(replace(config, seed=1), tmp_path, "other")
    assert ledger(tmp_path, "other")["children"] != first["children"]


def assert_threads_change_nothing(config: RunConfig, root: Path) -> None:
    """Search `with-1` and `with-2` threads in this process, and compare the ledgers."""
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            search(config, root, f"with-{threads}")
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert ledger(root, "with-1") == ledger(root, "with-2")


def test_one_seed_gives_one_ledger_however_many_threads_there_are(tmp_path: Path) -> None:
    """With two threads instead of one the last bits of a few gradients of this search differ."""
    topology = Topology(replicas=2, shards=2, children=3, batching="stream", accumulate=2)
    assert_threads_change_nothing(replace(SYNTHETIC, max_children=60, topology=topology), tmp_path)


def test_a_search_that_trains_has_one_thread_for_a_child_and_says_so(tmp_path: Path) -> None:
    assert_threads_change_nothing(replace(DIGITS, max_children=2), tmp_path)
    db = sqlite3.connect(tmp_path / "with-2" / "ledger.sqlite")
    (start,) = json.loads(db.execute("SELECT value FROM run WHERE key = 'versions'").fetchone()[0])
    db.close()
    assert start["threads"] == "1"
    assert torch.backends.cpu.get_cpu_capability() in start["processor"]
    assert json.loads((tmp_path / "with-2" / "config.json").read_text())["topology"]["threads_per_child"] == 1


@pytest.mark.parametrize("shards", [3, 20])
def test_shards_do_not_change_a_search(shards: int, tmp_path: Path) -> None:
    alone = replace(SYNTHETIC, topology=Topology(replicas=1, shards=1, children=4))
    search(alone, tmp_path, "one")
    search(replace(alone, topology=replace(alone.topology, shards=shards)), tmp_path, "many")
    assert ledger(tmp_path, "one")["children"] == ledger(tmp_path, "many")["children"]


@pytest.mark.parametrize(
    ("consistency", "largest"), [({"consistency": "sync"}, 0), ({"consistency": "ssp", "staleness_bound": 1}, 4)]
)
def test_replicas_that_wait_for_each_other_come_to_the_end(
    consistency: dict[str, Any], largest: int, tmp_path: Path
) -> None:
    topology = Topology(replicas=3, shards=2, children=2, **consistency)
    status = search(replace(SYNTHETIC, max_children=26, topology=topology), tmp_path)  # 13 batches: one has one more
    assert (status.state, status.finished, status.updates) == ("finished", 26, 13)
    assert status.staleness is not None
    assert status.staleness[1] <= largest


def test_replicas_share_what_they_learn(tmp_path: Path) -> None:
    status = search(replace(SYNTHETIC, topology=Topology(replicas=3, shards=2, children=2)), tmp_path)
    assert (status.state, status.finished, status.updates) == ("finished", 24, 12)
    assert status.staleness is not None
    assert status.staleness[1] > 0  # they take turns, so that one pushes while others wait for their children
    assert {row[1] for row in ledger(tmp_path)["children"]} == {0, 1, 2}


def test_random_search_runs_through_the_same_seam(tmp_path: Path) -> None:
    status = search(SYNTHETIC.with_searcher("random"), tmp_path)
    assert (status.state, status.finished, status.updates) == ("finished", 24, 0)


def test_accumulating_pushes_makes_fewer_steps(tmp_path: Path) -> None:
    topology = Topology(replicas=1, shards=1, children=2, accumulate=4)
    search(replace(SYNTHETIC, topology=topology), tmp_path)
    versions = [row[2] for row in ledger(tmp_path)["batches"]]
    assert versions == [f"[{n // 4}]" for n in range(12)]


def test_depth_follows_the_completed_children(tmp_path: Path) -> None:
    space = ConvolutionalSpace(initial_depth=2, depth_step=1, depth_interval=8, max_depth=9)
    topology = Topology(replicas=1, shards=1, children=4)
    search(replace(SYNTHETIC, space_options=space, topology=topology), tmp_path)
    with closing(sqlite3.connect(tmp_path / "run" / "ledger.sqlite")) as db:
        tokens = [json.loads(sample) for (sample,) in db.execute("SELECT tokens FROM children ORDER BY id")]
    layers = [sum(node.op == "conv" for node in space.decode(sample).nodes) for sample in tokens]
    assert layers == [2] * 8 + [3] * 8 + [4] * 8


def test_failed_children_are_outcomes_and_the_search_goes_on(tmp_path: Path) -> None:
    """Every child diverges: the learning rate is absurd."""
    budget = replace(DIGITS.budget, learning_rate=1e30)
    status = search(replace(DIGITS, budget=budget), tmp_path)
    assert (status.state, status.finished, status.failed, status.updates) == ("finished", 0, 6, 3)
    assert status.causes == {"diverged": 6}
    assert status.mean_reward == 0.0


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster.runners.trainer import Trainer

    whole = replace(SYNTHETIC, topology=Topology(replicas=1, shards=2, children=4))
    search(whole, tmp_path, "whole")
    train, count = Trainer.train, iter(range(100))

    def interrupted(self: Trainer, assignment: Any, **options: Any) -> Any:
        if next(count) == 9:
            raise KeyboardInterrupt
        return train(self, assignment, **options)

    monkeypatch.setattr(Trainer, "train", interrupted)
    stopped = search(whole, tmp_path, "parts")
    assert (stopped.state, stopped.finished) == ("stopped", 9)
    resumed = search(whole, tmp_path, "parts")
    assert (resumed.state, resumed.finished, resumed.updates) == ("finished", 24, 6)
    # The batch of the interruption is complete and trained with the seeds that it would have had.
    assert ledger(tmp_path, "parts")["children"][:12] == ledger(tmp_path, "whole")["children"][:12]


def test_an_error_of_our_own_is_a_failed_run_that_can_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from controller.searchers.policy_gradient.reinforce import Reinforce

    with monkeypatch.context() as patch:
        patch.setattr(Reinforce, "learn", lambda *_: 1 / 0)
        failed = search(SYNTHETIC, tmp_path)
    assert (failed.state, failed.message, failed.updates) == ("failed", "division by zero", 0)
    assert search(SYNTHETIC, tmp_path).state == "finished"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_reinforce_beats_random_search_on_the_synthetic_task(seed: int, tmp_path: Path) -> None:
    config = replace(
        SYNTHETIC,
        seed=seed,
        max_children=320,
        task=TaskOptions(task="synthetic"),
        topology=Topology(replicas=2, shards=2, children=8),
        searcher_options=ReinforceOptions(controller_learning_rate=0.005),
    )
    learnt = search(config, tmp_path, "reinforce").recent_reward
    drawn = search(config.with_searcher("random"), tmp_path, "random").recent_reward
    assert learnt is not None
    assert drawn is not None
    assert learnt > drawn + 0.05


def test_a_search_without_parameters_imports_no_torch(tmp_path: Path) -> None:
    words = ["launch", "synthetic", "--local", "--searcher", "random", "--max-children", "4", "--child-seconds", "0"]
    words += ["--storage-path", str(tmp_path), "--name", "run"]
    code = (
        f"import sys; from cluster.cli import main as cli; assert cli.run({words}) == 0; print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout
    assert out.splitlines()[-1] == "False"
