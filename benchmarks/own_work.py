"""Parts of the cluster's own work for a child, each in the present way and in the one before it, in turn.

    python -m benchmarks.own_work

A child's start, end and outcome in a ledger on disk; a policy's samples and what it learns from them; a large graph in
a message and in the ledger.
"""

import pickle
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import torch

from benchmarks.command_words import words as command_words
from child_trainer.architectures import nasbench201
from child_trainer.architectures.architecture import Architecture, node
from child_trainer.outcome import Outcome
from cluster.config.instant_recipes import nasbench201 as table_recipe
from cluster.config.instant_recipes import rehearsal
from cluster.config.run_config import RunConfig
from cluster.runners.build import first_view, make_parameters
from cluster.search.records import Ended, LedgerCall, Verdict
from cluster.storage.ledger.graphs import columns_of, columns_of_graph
from cluster.storage.ledger.ledger import Ledger
from controller.policies.rollout import decide, drawing
from controller.searcher import Child, Proposal
from controller.searchers.policy_gradient.reinforce import Reinforce

REPETITIONS = 7

CHILDREN = 100
"""Children of one measurement of the ledger."""

GRAPHS = 100

OUTCOME = Outcome(curve=(0.5,), seconds=2.0, parameters=1, flops=2, seed=1)

Timed = Callable[[], float]
"""Does a piece of work, and returns milliseconds for one of its units."""


def ledger(size: int) -> Timed:
    """Record children, so many to a message, or with 0 each by three calls; milliseconds of the clock for a child."""
    network = Architecture("feedforward", (node("a", "conv", "image", height=1, width=1, filters=8),), ("a",))

    def record() -> float:
        with (
            tempfile.TemporaryDirectory() as folder,
            closing(Ledger(Path(folder) / "ledger.sqlite", 1, CHILDREN)) as book,
        ):
            book.admit(0, 1, [Proposal(tokens=(0,), architecture=network)] * CHILDREN, ())
            began = time.perf_counter()
            for first in range(1, CHILDREN + 1, max(size, 1)):
                _record(book, range(first, min(first + max(size, 1), CHILDREN + 1)), together=size > 0)
            return (time.perf_counter() - began) / CHILDREN * 1e3

    return record


def _record(book: Ledger, children: Sequence[int], *, together: bool) -> None:
    starts = [LedgerCall("start", (child, "worker", f"key-{child}")) for child in children]
    ends = [LedgerCall("end_attempt", (f"key-{child}", OUTCOME, Verdict.OUTCOME)) for child in children]
    finished = LedgerCall("finish_all", ([Ended(child, OUTCOME, 0.5) for child in children],))
    for calls in (starts, ends, [finished]):
        if together:
            assert book.make_all(calls) is not None
        else:
            for call in calls:
                getattr(book, call.method)(*call.arguments)


def policy(config: RunConfig, *, reuse: bool) -> Timed:
    """Sample a batch and learn from it; milliseconds of the processor."""
    searcher = config.make_searcher()
    assert isinstance(searcher, Reinforce)
    groups = make_parameters(config, searcher)

    def step() -> float:
        view = first_view(groups)
        began = time.process_time()
        proposals = searcher.ask(config.topology.children, view)
        children = [
            Child(id=number, proposal=one, outcome=OUTCOME, reward=number / 10).record
            for number, one in enumerate(proposals, 1)
        ]
        if not reuse:
            searcher._drawn = None
        searcher.learn(children, view)
        return (time.process_time() - began) * 1e3

    return step


def passes(config: RunConfig, *, written_out: bool) -> Timed:
    """Sample a batch, and take a gradient, by PyTorch's automatic differentiation or as it is written out."""
    searcher = config.make_searcher()
    assert isinstance(searcher, Reinforce)
    made, decisions = searcher._policy, searcher._space.decisions(0)
    made.load(first_view(make_parameters(config, searcher)).parameters)
    generator, count = torch.Generator().manual_seed(1), config.topology.children

    def step() -> float:
        began = time.process_time()
        if written_out:
            rollout = made.sample(decisions, count, generator, differentiable=True)
        else:
            rollout = made._unroll(decisions, count, drawing(generator), decide)
        made.gradients(rollout.log_prob.mean())
        return (time.process_time() - began) * 1e3

    return step


def graphs(work: Callable[[Architecture], object]) -> Timed:
    """Do something with networks of the table; milliseconds of the processor for one."""
    rng = random.Random(1)
    cells = {tuple(rng.choices(nasbench201.CELL_OPERATIONS, k=len(nasbench201.EDGES))) for _ in range(GRAPHS)}
    networks = [nasbench201.network(cell) for cell in sorted(cells)]

    def all_of_them() -> float:
        began = time.process_time()
        for network in networks:
            work(network)
        return (time.process_time() - began) / len(networks) * 1e3

    return all_of_them


def main() -> None:
    """Measure, and print a table of medians with the lowest and the highest."""
    torch.set_num_threads(1)
    pairs: Mapping[str, tuple[Timed, Timed]] = {
        "a child in the ledger, 8 to a message": (ledger(0), ledger(8)),
        "a child in the ledger, 100 to a message": (ledger(0), ledger(100)),
        "REINFORCE, 8 children of the rehearsal": (policy(rehearsal(), reuse=False), policy(rehearsal(), reuse=True)),
        "REINFORCE, 4 children of NAS-Bench-201": (
            policy(table_recipe(), reuse=False),
            policy(table_recipe(), reuse=True),
        ),
        "its pass and the gradient, 8 children of the rehearsal": (
            passes(rehearsal(), written_out=False),
            passes(rehearsal(), written_out=True),
        ),
        "its pass and the gradient, 4 children of NAS-Bench-201": (
            passes(table_recipe(), written_out=False),
            passes(table_recipe(), written_out=True),
        ),
        "a network of NAS-Bench-201 through a message": (
            graphs(lambda one: pickle.loads(pickle.dumps((one.kind, one.nodes, one.outputs)))),
            graphs(lambda one: pickle.loads(pickle.dumps(one))),
        ),
        "its columns for the ledger": (graphs(lambda one: columns_of(one.to_json())), graphs(columns_of_graph)),
    }
    print("| ms | before | now | factor |\n|---|---|---|---|")
    for what, ways in pairs.items():
        found: list[list[float]] = [[], []]
        for _ in range(REPETITIONS):
            for times, way in zip(found, ways, strict=True):
                times.append(way())
        before, now = map(statistics.median, found)
        cells = [f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})" for times in found]
        print(f"| {what} | {cells[0]} | {cells[1]} | {before / now:.1f} |", flush=True)


if __name__ == "__main__":
    command_words(__doc__)
    main()
