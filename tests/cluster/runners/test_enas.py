"""A whole ENAS search in one process: it is the plain algorithm, and survives any death."""

import json
import math
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from child_trainer.seeding import derive as derive_for
from child_trainer.supernets.batches import Batches, ImageSource
from child_trainer.tasks.image import ImageTask
from cluster.cli import main as cli
from cluster.config.flags import parse_run
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.runners.shared_weights import make_network, make_weights
from cluster.runners.trainer import loaded_task
from cluster.search.seeding import child_seed, derive
from controller.policies.enas import EnasConstants, EnasPolicy
from controller.searcher import shared_weights_of
from controller.spaces.enas_macro import EnasMacroSpace
from tests.cluster.runners.killed_runs import copies, copying

FLAGS = (
    *("--space", "enas-macro", "--layers", "3", "--operations", "conv_3x3", "max_3x3", "--filters", "4"),
    *("--searcher", "enas", "--search-epochs", "2", "--steps-per-epoch", "5", "--steps-per-child", "2"),
    *(
        "--policy-children",
        "3",
        "--controller-units",
        "8",
        "--controller-learning-rate",
        "0.01",
        "--weights-clip-norm",
        "0",
    ),
    *("--restart-epochs", "3", "--refit-batches", "0", "--batch-size", "16", "--max-children", "14"),
    *("--replicas", "1", "--children", "1", "--shards", "1", "--batching", "barrier", "--reward", "accuracy"),
    *("--weights-shards", "1", "--weights-snapshot", "0"),
)
"""Two epochs of three children that train the weights and three that train the policy; two more are scored at last."""

DEATHS = (2, 7, 12, 20, 26, 33, 41, 48, 55)


def config() -> RunConfig:
    return parse_run(RECIPES["digits"](), list(FLAGS), "digits")


def launch(place: Path) -> None:
    assert cli.run(["launch", "digits", "--name", "run", "--local", "--storage-path", str(place), *FLAGS]) == 0


def tensors(folder: Path) -> dict[str, Tensor]:
    """All that the shards have, the state of their optimizers included."""
    return {
        f"{part}/{name}": value
        for part in ("shards", "weights")
        for name, value in load_file(folder / part / "shard-000.safetensors").items()
    }


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db:
        return db.execute(query).fetchall()


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A search that went undisturbed (0), and copies of its folder as SIGKILL would have left it at some calls."""
    place = tmp_path_factory.mktemp("enas")
    with copying(place, DEATHS) as calls:
        launch(place / "0")
    assert len(calls) > max(DEATHS)
    return copies(place)


class PlainEnas:
    """ENAS as one loop, without shards, ledger and workers."""

    def __init__(self, config: RunConfig) -> None:
        task, searcher = loaded_task(config.task, seed=derive(config.seed, "split")), config.make_searcher()
        shared, first = shared_weights_of(searcher), make_weights(config, searcher)
        assert isinstance(config.search_space, EnasMacroSpace)
        assert isinstance(task, ImageTask)
        assert shared
        assert first
        self.space, self.seed, self.network = config.search_space, config.seed, make_network(config, shared)
        self.source = ImageSource(task.training, task.validation, task.augmented, task.centred)
        self.weights = {name: value.clone() for name, value in first.values.items()}
        self.momenta: dict[str, Tensor] = {}
        self.policy = EnasPolicy(self.space.decisions(0), hidden=8, constants=EnasConstants(tanh_constant=1.5))
        self.policy.initialize(torch.Generator().manual_seed(derive(self.seed, "parameters")), 0.1)
        self.adam = torch.optim.Adam(self.policy.parameters(), lr=0.01, betas=(0.0, 0.999), eps=1e-3)
        self.baseline, self.child, self.scored = torch.zeros(()), 0, list[list[int]]()

    def run(self) -> None:
        for epoch in range(2):
            rate = 0.0005 + (0.05 - 0.0005) * (1 + math.cos(math.pi * epoch / 3)) / 2
            for count in (2, 2, 1):
                for step, path in enumerate(self.sample(count).tolist()):
                    self.train_weights(step, self.gates(path), rate)
            for _ in range(3):
                self.train_policy(self.sample(1))
        self.scored += [self.sample(1)[0].tolist() for _ in range(2)]

    def sample(self, count: int) -> Tensor:
        self.child += 1
        rng = Random(derive(self.seed, "ask", 0, self.child))
        return self.policy.sample(count, torch.Generator().manual_seed(rng.getrandbits(63))).tokens

    def gates(self, tokens: list[int]) -> dict[str, Tensor]:
        return {name: torch.tensor(gate) for name, gate in self.space.gates(tokens).items()}

    def batches(self, purpose: str) -> Batches:
        seed = derive_for(child_seed(self.seed, self.child), purpose)
        return Batches(self.source, 16, torch.Generator().manual_seed(seed))

    def train_weights(self, step: int, gates: dict[str, Tensor], rate: float) -> None:
        images, labels = self.batches(f"images of step {step}").training()
        read = {name: self.weights[name].clone().requires_grad_() for name in self.network.names(gates)}
        loss = F.cross_entropy(self.network(read, images, gates), labels)
        for (name, weight), gradient in zip(read.items(), torch.autograd.grad(loss, list(read.values())), strict=True):
            penalised, before = 2 * 2.5e-4 * weight.detach() + gradient, self.momenta.get(name)
            self.momenta[name] = penalised if before is None else before.mul(0.9).add(penalised)
            self.weights[name] = weight.detach().add(penalised.add(self.momenta[name], alpha=0.9), alpha=-rate)

    def train_policy(self, tokens: Tensor) -> None:
        gates = self.gates(tokens[0].tolist())
        images, labels = self.batches("images to refit").validation()
        right = (self.network(self.weights, images, gates).argmax(1) == labels).float().mean()
        rollout = self.policy.score(tokens)
        reward = right + 1e-4 * rollout.sample_entropy
        self.baseline = self.baseline.mul(0.99).add(reward.mean(), alpha=1 - 0.99)
        self.adam.zero_grad()
        (-(reward - self.baseline) * rollout.log_prob + 0.8 * rollout.skip_kl).mean().backward()
        self.adam.step()
        self.scored.append(tokens[0].tolist())


def test_one_replica_with_one_child_and_one_shard_is_a_plain_loop(killed: dict[int, Path]) -> None:
    plain, found = PlainEnas(config()), tensors(killed[0])
    plain.run()
    of_scores = rows(killed[0], "SELECT tokens FROM children WHERE metric IS NOT NULL ORDER BY id")
    assert [json.loads(tokens) for (tokens,) in of_scores] == plain.scored
    assert torch.equal(found["shards/value/baseline"][0], plain.baseline)
    for part, values in (("shards", plain.policy.values()), ("weights", plain.weights)):
        for name, value in values.items():
            assert torch.equal(found[f"{part}/value/{name}"].reshape(value.shape), value), name


@pytest.mark.parametrize("death", DEATHS)
def test_a_search_that_was_killed_ends_as_one_that_was_not(killed: dict[int, Path], death: int, tmp_path: Path) -> None:
    def equal(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
        return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)

    shutil.copytree(killed[death], tmp_path / "run")
    assert cli.run(["resume", "run", "--storage-path", str(tmp_path)]) == 0
    assert equal(tensors(tmp_path / "run"), tensors(killed[0]))
    scores = "SELECT id, tokens, metric, reward FROM children ORDER BY id"
    assert rows(tmp_path / "run", scores) == rows(killed[0], scores)
