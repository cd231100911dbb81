"""The checker itself: it passes a good run, and names what was tampered with."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from child_trainer.outcome import Budget
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.runners.build import make_layout, make_parameters
from cluster.runners.driver import execute
from cluster.storage.run_folder import RunFolder
from controller.searchers.policy_gradient.policy_searcher import BASELINE
from controller.spaces.convolutional import ConvolutionalSpace
from ps.shard.snapshot import SnapshotFile
from tests.chaos.invariants import INVARIANTS, Broken, Report, check

CONFIG = RunConfig(
    local=True,
    task=TaskOptions(task="synthetic"),
    budget=Budget(epochs=6),
    topology=Topology(replicas=2, shards=3, children=2),
    max_children=9,
    reward="accuracy",
    # Deeper after four children, so that the first batches do not name all tensors.
    space_options=ConvolutionalSpace(initial_depth=1, depth_step=1, depth_interval=4, max_depth=2),
)

STREAM = replace(CONFIG, topology=replace(CONFIG.topology, batching="stream"))

Tamper = Callable[[RunFolder], None]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("good") / "run")
    execute(CONFIG, folder, Console(quiet=True))
    return folder


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("streamed") / "run")
    execute(STREAM, folder, Console(quiet=True))
    return folder


@pytest.fixture(params=["barrier", "stream"])
def copy(good: RunFolder, streamed: RunFolder, tmp_path: Path, request: pytest.FixtureRequest) -> RunFolder:
    source = streamed if request.param == "stream" else good
    shutil.copytree(source.path, tmp_path / source.name)
    return RunFolder(tmp_path / source.name)


def sql(*statements: str) -> Tamper:
    def tamper(folder: RunFolder) -> None:
        with closing(sqlite3.connect(folder.ledger, isolation_level=None)) as db:
            for statement in statements:
                assert db.execute(statement).rowcount, statement

    return tamper


def on_a_shard(index: int, change: Callable[[dict[str, torch.Tensor], dict], None]) -> Tamper:
    def tamper(folder: RunFolder) -> None:
        groups = make_parameters(CONFIG, CONFIG.make_searcher())
        file = SnapshotFile(folder.shards, make_layout(CONFIG, folder.name, groups), index)
        loaded = file.load()
        assert loaded is not None
        change(loaded[0].tensors, loaded[0].metadata)
        file.write(loaded[0])

    return tamper


def one_push_more(tensors: dict[str, torch.Tensor], metadata: dict) -> None:
    metadata["pushes"] += 1


def forget_a_client(tensors: dict[str, torch.Tensor], metadata: dict) -> None:
    metadata["clients"]["replica-1"][0] -= 1


def one_step_more(tensors: dict[str, torch.Tensor], metadata: dict) -> None:
    next(value for name, value in tensors.items() if name.startswith("optimizer/step/")).add_(1)


def average_once_more(tensors: dict[str, torch.Tensor], metadata: dict) -> None:
    tensors[f"value/{BASELINE}"].mul_(0.95).add_(torch.ones(2), alpha=0.05)


def change_json(column: str, table: str, child: str, path: str, value: object) -> Tamper:
    return sql(f"UPDATE {table} SET {column} = json_set({column}, '{path}', {json.dumps(value)}) WHERE {child} = 4")


ATTEMPT = "INSERT INTO attempts (child, number, worker, key, started_at, ended_at, verdict)"

TAMPERS: dict[str, list[Tamper]] = {
    "every child has ended": [
        sql("DELETE FROM children WHERE id = 9"),
        sql("UPDATE children SET state = 'running' WHERE id = 2"),
        sql("UPDATE children SET outcome = NULL WHERE id = 2"),
    ],
    "completions count the children": [sql("UPDATE children SET completion = 90 WHERE id = 2")],
    "one attempt gave the outcome": [
        sql("UPDATE attempts SET verdict = 'lost' WHERE child = 4"),
        sql(f"{ATTEMPT} SELECT child, 2, worker, 'k', started_at, ended_at, verdict FROM attempts WHERE child = 4"),
        sql(
            """UPDATE attempts SET outcome = '{"curve":[0.5],"seconds":9,"parameters":1,"flops":1,"seed":1}'"""
            " WHERE child = 4"
        ),
    ],
    "attempts have ended": [
        sql(f"{ATTEMPT} VALUES (4, 2, 'w', 'k', 0, NULL, NULL)"),
        sql(f"{ATTEMPT} VALUES (4, 3, 'w', 'k', 0, 1, 'lost')"),
    ],
    "nothing is trained after its outcome": [sql(f"{ATTEMPT} VALUES (4, 2, 'w', 'k', 1e10, 2e10, 'lost')")],
    "outcomes are right": [
        change_json("outcome", "children", "id", "$.curve[0]", 0.99),
        change_json("outcome", "children", "id", "$.seed", 7),
        sql("UPDATE children SET metric = metric + 0.1 WHERE id = 4"),
        sql("UPDATE children SET seed = seed + 1 WHERE id = 4"),
        sql("UPDATE children SET graph = (SELECT graph FROM children WHERE id = 9) WHERE id = 1"),
        sql(
            "UPDATE children SET outcome = json_set(outcome, '$.failure',"
            """ json('{"cause": "crashed", "message": "died"}')) WHERE id = 4"""
        ),
    ],
    "rewards are right": [sql("UPDATE children SET reward = reward + 0.1 WHERE id = 4")],
    "batches are whole and learned": [
        sql("UPDATE batches SET learned_at = NULL WHERE replica = 1 AND number = 2"),
        sql("UPDATE batches SET pushed = 0 WHERE replica = 0 AND number = 1"),
        sql("UPDATE batches SET number = 9 WHERE replica = 0 AND number = 1"),
        sql("UPDATE children SET batch = 2 WHERE replica = 0 AND batch = 1"),
        sql("UPDATE batches SET replica = 2 WHERE replica = 1"),
    ],
    "batches are of those that ended first": [
        sql(
            "UPDATE children SET batch = 3 - batch WHERE id IN (SELECT id FROM children WHERE replica = 0 AND batch < 3"
            " ORDER BY id LIMIT 1 OFFSET 1) OR id IN (SELECT id FROM children WHERE replica = 0 AND batch < 3"
            " ORDER BY id LIMIT 1 OFFSET 2)"
        )
    ],
    "shards know each replicas last batch": [on_a_shard(1, forget_a_client)],
    "shards have counted each push once": [on_a_shard(2, one_push_more)],
    "optimizers have stepped once for each push": [on_a_shard(1, one_step_more)],
    "the baseline has averaged each push once": [on_a_shard(0, average_once_more)],
}


def test_a_good_run_passes(good: RunFolder) -> None:
    assert check(good.path) == Report(children=9, attempts=9, trainings=9, pushes=5, lost=0, duplicated=0, repeated=0)


def test_a_good_stream_passes(streamed: RunFolder) -> None:
    assert check(streamed.path) == Report(
        children=9, attempts=9, trainings=9, pushes=5, lost=0, duplicated=0, repeated=0
    )


def test_a_run_that_goes_on_in_another_process_passes_too(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    execute(replace(CONFIG, max_children=8), folder, Console(quiet=True))
    more = replace(CONFIG, max_children=14)
    folder.config.write_text(json.dumps(more.to_json()))
    execute(more, folder, Console(quiet=True))
    assert check(folder.path).children == 14


@pytest.mark.parametrize(
    ("invariant", "tamper"),
    [(invariant, tamper) for invariant, tampers in TAMPERS.items() for tamper in tampers],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) else "",
)
def test_what_was_tampered_with_is_named(copy: RunFolder, invariant: str, tamper: Tamper) -> None:
    tamper(copy)
    with pytest.raises(Broken, match=f"(?m)^{invariant}: "):
        check(copy.path)


def test_every_invariant_is_tampered_with() -> None:
    assert list(TAMPERS) == [invariant.__name__.strip("_").replace("_", " ") for invariant in INVARIANTS]


def test_a_missing_or_older_snapshot_is_named(copy: RunFolder) -> None:
    newest = copy.shards / "shard-001.safetensors"
    newest.unlink()
    with pytest.raises(Broken, match="shard 1 has only its previous snapshot"):
        check(copy.path)
    newest.with_name("shard-001.previous.safetensors").unlink()
    with pytest.raises(Broken, match="shard 1 has no snapshot"):
        check(copy.path)
