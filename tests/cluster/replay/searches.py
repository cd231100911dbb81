"""Searches in one process whose replicas take turns at random, die and restart, and whose shards fall back."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from child_trainer.outcome import Budget
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.runners.build import initial_values, make_layout, make_parameters, make_replica
from cluster.runners.in_process_evaluator import InProcessEvaluator
from cluster.runners.trainer import Trainer
from cluster.search.replica_loop import replica_loop
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.run_folder import RunFolder
from controller.searchers.policy_gradient.options import PpoOptions, ReinforceOptions
from controller.spaces.convolutional import ConvolutionalSpace
from ps.local import LocalStore
from ps.split_merge import split_push
from ps.store import DEFAULT_MAX_BYTES, Ack, Push, Snapshot
from ps.validation import check_push

REINFORCE = ReinforceOptions(controller_units=6, controller_layers=1)
PPO = PpoOptions(controller_units=6, passes=2)


def config(searcher: str = "reinforce", options: Any = REINFORCE, children: int = 24, **topology: Any) -> RunConfig:
    """Return a search of small networks that takes no time."""
    return RunConfig(
        task=TaskOptions(task="synthetic"),
        budget=Budget(epochs=1),
        topology=Topology(**({"replicas": 3, "shards": 2, "children": 2, "batching": "stream"} | topology)),
        max_children=children,
        searcher=searcher,
        searcher_options=options,
        space_options=ConvolutionalSpace(initial_depth=2, max_depth=2),
    )


class Killed(BaseException):
    """The replica's process ends here."""


class Frail:
    """A store whose clients die in a push that has reached some of its shards, and whose shards lose their last state.

    Args:
        config: the run's.
        folder: the run's.
        rng: decides what happens.
        dies: how probable it is that the client dies in a push.
        falls: how probable it is that a shard falls back before one.
    """

    def __init__(self, config: RunConfig, folder: RunFolder, rng: random.Random, dies: float, falls: float) -> None:
        self._groups = make_parameters(config, config.make_searcher())
        self._layout = make_layout(config, folder.identity(config), self._groups)
        self._folder, self._rng, self._dies, self._falls = folder, rng, dies, falls
        self.fell = 0
        self.open()

    def open(self) -> None:
        self.inner = LocalStore(self._layout, self._folder.shards)
        self.inner.initialize(initial_values(self._groups))

    def pull(self, names: Sequence[str] | None = None, *, client: str | None = None) -> Snapshot:
        return self.inner.pull(names, client=client)

    def leave(self, client: str) -> None:
        self.inner.leave(client)

    def push(self, push: Push) -> Ack:
        if self._rng.random() < self._falls:
            self.inner.close()
            shard = self._rng.randrange(self._layout.shards)
            newest = self._folder.shards / f"shard-{shard:03d}.safetensors"
            if newest.with_suffix(".previous.safetensors").exists():
                newest.write_bytes(newest.read_bytes()[:-1])
                self.fell += 1
            self.open()
        if self._rng.random() < self._dies:
            parts = split_push(self.inner._parts, push, check_push(self._layout, push, DEFAULT_MAX_BYTES))
            reached = self._rng.sample(range(self._layout.shards), self._rng.randint(0, self._layout.shards))
            self.inner._shards.push({shard: parts[shard] for shard in reached})
            raise Killed
        return self.inner.push(push)


def search(run: RunConfig, folder: RunFolder, seed: int = 0, *, dies: float = 0.0, falls: float = 0.0) -> Frail | None:
    """Run a search to its end, with its files in the folder; return its store."""
    rng = random.Random(seed)
    folder.create(run)
    ledger = Ledger(folder.ledger, run.seed, run.max_children, clock=lambda: 0.0)
    ledger.begin(workers=1)
    has_parameters = bool(make_parameters(run, run.make_searcher()))
    store = Frail(run, folder, rng, dies, falls) if has_parameters else None

    def loop(index: int) -> Iterator[None]:
        evaluator = InProcessEvaluator(Trainer(run), ledger, run.failures.policy, batch_size=run.budget.batch_size)
        frail: Any = store
        return replica_loop(replace(make_replica(run, index, frail, evaluator, ledger)))

    loops = {index: loop(index) for index in range(run.topology.replicas)}
    while loops:
        index = rng.choice(sorted(loops))
        try:
            next(loops[index])
        except StopIteration:
            del loops[index]
        except Killed:
            loops[index] = loop(index)
    ledger.end("finished")
    ledger.close()
    if store:
        store.inner.close()
    return store
