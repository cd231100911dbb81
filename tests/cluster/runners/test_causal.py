"""Causal order: searches with four workers and random delays are, to the bit, those of one worker."""

import json
import random
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from child_trainer.outcome import Outcome
from child_trainer.supernets.jobs import Score, Steps
from child_trainer.supernets.network import SupernetNetwork
from child_trainer.threads import computing_with
from cluster.cli import main as cli
from cluster.compare.one_search import MemoryLedger
from cluster.config.flags import parse_run
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.runners import job_trainer
from cluster.runners.build import local_store
from cluster.runners.causal import access_in, in_order, order_note
from cluster.runners.in_process_evaluator import InProcessEvaluator
from cluster.runners.job_trainer import JobTrainer
from cluster.runners.local import take_turns
from cluster.runners.shared_weights import check_weights, deferred_names, local_weights
from cluster.runners.trainer import Trainer, loaded_task
from cluster.search.evaluator import Assignment, Evaluator
from cluster.search.seeding import derive
from controller.searcher import Lane, SharedWeights
from ps.local import LocalStore
from ps.store import Ack, ParameterStore, Push, Snapshot
from tests.cluster.runners.killed_runs import copies, copying

WORKERS = 4

SPACE = ("--space", "nasbench201", "--cells-per-stage", "1", "--stem-channels", "2")

CAUSAL = (
    *("--weights-consistency", "causal", "--weights-snapshot", "0", "--weights-shards", "3"),
    *("--replicas", "1", "--batching", "barrier", "--reward", "accuracy", "--batch-size", "8"),
)

ENAS = (
    *(*SPACE, *CAUSAL, "--searcher", "enas", "--search-epochs", "2", "--steps-per-epoch", "48"),
    *("--steps-per-child", "1", "--policy-children", "8", "--controller-units", "8", "--refit-batches", "0"),
    *("--controller-learning-rate", "0.05", "--max-children", "113", "--children", "8", "--shards", "1"),
)
"""96 children that each train one path, in two epochs after which the policy learns; a path is scored at last."""

ONE_SHOT = (
    *(*SPACE, *CAUSAL, "--weights-deferred", "all", "--searcher", "one-shot", "--supernet-steps", "24"),
    *("--steps-per-child", "2", "--refit-batches", "0", "--max-children", "13", "--children", "4"),
)
"""12 children that train nearly all of the supernet in each step, and one that scores a path."""


def config(*flags: str) -> RunConfig:
    return parse_run(RECIPES["digits"](), list(flags), "digits")


class Delayed:
    """A store whose answers come late, each after another time."""

    def __init__(self, store: LocalStore, seed: int) -> None:
        self._store, self._rng = store, random.Random(seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def pull(self, names: Sequence[str] | None = None, *, client: str | None = None) -> Snapshot:
        snapshot = self._store.pull(names, client=client)
        time.sleep(self._rng.expovariate(200))
        return snapshot

    def push(self, push: Push) -> Ack:
        time.sleep(self._rng.expovariate(200))
        return self._store.push(push)


class Threads:
    """An evaluator with workers in threads, each with a network of its own."""

    def __init__(self, config: RunConfig, weights: LocalStore, policy: ParameterStore | None, seed: int) -> None:
        task = loaded_task(config.task, seed=derive(config.seed, "split"))
        store: Any = Delayed(weights, seed)
        self._idle = [JobTrainer(config, task, store, policy) for _ in range(WORKERS)]
        self._batch_size = config.budget.batch_size
        self._threads, self._lock = ThreadPoolExecutor(WORKERS), threading.Lock()
        self._training: dict[Future[Outcome], int] = {}
        self._now = 0
        self.most = 0

    def submit(self, *assignments: Assignment) -> None:
        for assignment in assignments:
            self._training[self._threads.submit(self._train, assignment)] = assignment.child_id

    def completed(self) -> list[tuple[int, Outcome]]:
        done = wait(self._training, timeout=0.1, return_when=FIRST_COMPLETED).done
        return [(self._training.pop(future), future.result()) for future in done]

    def _train(self, assignment: Assignment) -> Outcome:
        with self._lock:
            trainer = self._idle.pop()
            self._now += 1
            self.most = max(self.most, self._now)
        outcome = trainer.do(assignment, batch_size=self._batch_size)
        with self._lock:
            self._idle.append(trainer)
            self._now -= 1
        return outcome


@dataclass(frozen=True, eq=False)
class Result:
    """What a search has found and learnt, but for the time that it took."""

    children: list[Any]
    weights: Mapping[str, Tensor]
    policy: Mapping[str, Tensor]

    def equals(self, other: "Result") -> bool:
        """Return whether all is equal, to the bit."""
        return self.children == other.children and all(
            ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
            for ours, theirs in ((self.weights, other.weights), (self.policy, other.policy))
        )


def states(store: LocalStore | None) -> dict[str, Tensor]:
    """All that the shards have, their optimizers' state included."""
    shards: Mapping[int, Any] = store._shards if store else {}
    return {
        f"{index}/{name}": value for index in shards for name, value in shards[index]._shard.state().tensors.items()
    }


def search(of: RunConfig, seed: int | None = None) -> tuple[Result, int]:
    """Search with one worker, or with four whose delays the seed gives; return also how many were busy at once."""
    weights, policy = local_weights(of, "run"), local_store(of, "run")
    assert weights
    with closing(MemoryLedger(of)) as ledger, computing_with(1):
        threads = None
        evaluator: Evaluator
        if seed is None:
            trainer = Trainer(of, weights=weights, policy=policy)
            evaluator = InProcessEvaluator(trainer, ledger, of.failures.policy, batch_size=of.budget.batch_size)
        else:
            threads = Threads(of, weights, policy, seed)
            evaluator = in_order(of, threads)
        assert take_turns(of, policy, [evaluator], ledger, lambda: False, weights)
        query = "SELECT id, tokens, json(job), metric, reward, lane, steps_before FROM children ORDER BY id"
        children = ledger._connection.execute(query).fetchall()
    return Result(children, states(weights), states(policy)), threads.most if threads else 1


@pytest.fixture(scope="module")
def sequential() -> Iterator[Result]:
    yield search(config(*ENAS))[0]


@pytest.fixture
def own_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one thread may use a network."""

    def make(config: RunConfig, shared: SharedWeights) -> SupernetNetwork:
        problem = config.task.entry.problem
        assert problem
        return SupernetNetwork(shared.supernet, problem, config.budget.regime)

    monkeypatch.setattr(job_trainer, "make_network", make)


def test_96_paths_on_four_workers_give_the_weights_and_the_policy_of_one(
    own_networks: None, sequential: Result
) -> None:
    found, most = search(config(*ENAS), 0)
    trained = [json.loads(child[2]) for child in found.children if child[5] is not None]
    assert sum(job["count"] for job in trained) == 96
    assert most > 1
    assert found.equals(sequential)


def test_paths_that_share_weights_and_do_not_wait_give_others(
    own_networks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the test above can fail: the ends of rounds alone do not suffice."""
    of = config(
        *ENAS, "--search-epochs", "1", "--steps-per-epoch", "32", "--policy-children", "2", "--max-children", "35"
    )
    monkeypatch.setattr("tests.cluster.runners.test_causal.in_order", lambda config, evaluator: evaluator)
    assert not search(of, 0)[0].equals(search(of)[0])


def test_steps_on_the_whole_supernet_need_not_wait_if_all_of_it_is_deferred(own_networks: None) -> None:
    of = config(*ONE_SHOT)
    found, most = search(of, 0)
    assert most == WORKERS
    assert found.equals(search(of)[0])


def test_one_child_of_one_step_at_a_time_gives_the_weights_of_a_search_without_any_order() -> None:
    """Its rounds are of one step, which is taken before the next one begins."""
    flags = [*ONE_SHOT, "--children", "1", "--steps-per-child", "1", "--supernet-steps", "6", "--max-children", "7"]
    plain = [*flags, "--weights-consistency", "async", "--weights-deferred", "common"]
    (ordered, _), (unordered, _) = search(config(*flags)), search(config(*plain))
    assert ordered.children == unordered.children
    assert all(torch.equal(ordered.weights[name], value) for name, value in unordered.weights.items())


DEATHS = (3, 14, 17, 18)
"""Calls to the weights' shards at which all dies: of steps, and of the ends of rounds."""


def launch(place: Path) -> None:
    flags = [*ENAS, "--steps-per-epoch", "4", "--search-epochs", "2", "--policy-children", "2", "--children", "3"]
    words = ["launch", "digits", "--name", "run", "--local", "--storage-path", str(place), *flags]
    assert cli.run([*words, "--weights-shards", "1", "--max-children", "13"]) == 0


def files(folder: Path) -> dict[str, Tensor]:
    paths = [folder / part / "shard-000.safetensors" for part in ("shards", "weights")]
    return {f"{path.parent.name}/{name}": value for path in paths for name, value in load_file(path).items()}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A search that went undisturbed (0), and copies of its folder as SIGKILL would have left it at some calls."""
    place = tmp_path_factory.mktemp("causal")
    with copying(place, DEATHS, lambda store: store._layout.run.endswith("/weights")):
        launch(place / "0")
    return copies(place)


@pytest.mark.parametrize("death", DEATHS)
def test_a_search_that_was_killed_in_a_round_or_at_its_end_ends_as_one_that_was_not(
    killed: dict[int, Path], death: int, tmp_path: Path
) -> None:
    shutil.copytree(killed[death], tmp_path / "run")
    ours, theirs = files(tmp_path / "run"), files(killed[0])
    assert ours.keys() != theirs.keys() or any(not torch.equal(ours[name], theirs[name]) for name in theirs)
    assert cli.run(["resume", "run", "--storage-path", str(tmp_path)]) == 0
    ours = files(tmp_path / "run")
    assert ours.keys() == theirs.keys()
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []


def test_a_ledger_that_lacks_a_batch_whose_end_the_shards_know_is_refused(
    killed: dict[int, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(killed[max(DEATHS)], tmp_path / "run")
    with closing(sqlite3.connect(tmp_path / "run" / "ledger.sqlite", isolation_level=None)) as db:
        db.execute("DELETE FROM batches WHERE number > 1")
    shutil.rmtree(tmp_path / "run" / "shards")
    assert cli.run(["resume", "run", "--storage-path", str(tmp_path)]) == 2
    assert "of the shared weights has applied step" in capsys.readouterr().err


class Recorded:
    """A store that keeps the names that were pulled and pushed."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self.pulled: set[str] = set()
        self.pushed: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def pull(self, names: Sequence[str], *, client: str | None = None) -> Snapshot:
        self.pulled |= set(names)
        return self._store.pull(names, client=client)

    def push(self, push: Push) -> Ack:
        self.pushed |= push.gradients.keys()
        return self._store.push(push)


@pytest.mark.parametrize("objective", ["path", "dropout", "score"])
def test_what_a_child_reads_and_writes_is_known_before_it_begins(objective: str) -> None:
    of = config(*ENAS)
    paths = (tuple([0, 1, 2, 3, 4, 0]), tuple([3] * 6))
    job = {
        "path": Steps(objective="path", count=2, paths=paths, rate=0.01),
        "dropout": Steps(objective="dropout", count=3, settings={"drop_rate": 0.9, "progress": 1.0}),
        "score": Score(settings={"refit_batches": 0, "batches": 1}),
    }[objective]
    child = Assignment(
        child_id=1, seed=5, architecture=None, tokens=paths[0], job=job, lane=Lane(replica=0, number=0, steps_before=0)
    )
    weights = local_weights(of, "run")
    assert weights
    store: Any = Recorded(weights)
    assert JobTrainer(of, loaded_task(of.task), store).do(child, batch_size=8).failure is None
    access, common = access_in(of)(child), deferred_names(of)
    assert access.reads == store.pulled
    assert access.writes == (store.pulled - common if objective != "score" else set())
    assert store.pushed <= store.pulled
    assert objective == "dropout" or common < store.pulled


def test_a_start_says_how_many_children_can_be_trained_at_once() -> None:
    note = order_note(config(*ENAS)) or ""
    (turns,) = map(int, re.findall(r"the first 8 children can be trained in (\d+) turns", note))
    assert 1 < turns < 8
    assert "can be trained in 1 turn: a child waits" in (order_note(config(*ONE_SHOT)) or "")
    assert "4 children can be trained in 4 turns" in (
        order_note(config(*ONE_SHOT, "--weights-deferred", "common", "--path-dropout", "0")) or ""
    )
    assert order_note(config(*ENAS, "--weights-consistency", "async")) is None
    assert "steps of these" not in note  # each child makes one
    several = order_note(config(*ENAS, "--steps-per-child", "6")) or ""
    assert ". The 48 steps of these move the weights that every path reads at the end of the batch" in several


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--replicas", "2"), "`replicas` must be 1 where `weights_consistency` is causal, as time decides which"),
        (("--batching", "stream"), "`batching` must be barrier where `weights_consistency` is causal"),
    ],
)
def test_what_cannot_be_in_causal_order_is_refused(flags: tuple[str, ...], message: str) -> None:
    check_weights(config(*ENAS), "run")
    with pytest.raises(ValueError, match=message):
        check_weights(config(*ENAS, *flags), "run")


def test_strengths_that_every_step_moves_cannot_be_in_causal_order(capsys: pytest.CaptureFixture[str]) -> None:
    flags = [*SPACE, *CAUSAL, "--searcher", "darts", "--search-epochs", "1", "--steps-per-epoch", "2"]
    assert cli.run(["launch", "digits", "--local", *flags, "--max-children", "8"]) == 2
    assert "must not be causal with the searcher 'darts': each of its steps reads" in capsys.readouterr().err
