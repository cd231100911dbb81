"""Real workers on Ray that are preempted, killed, stopped, drained or worn: what becomes of their children."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from child_trainer.outcome import Budget, Cause, Outcome
from child_trainer.tasks.catalogue import load_task
from child_trainer.training.checkpoint import Checkpoint
from child_trainer.training.train import train
from cluster.config.failure_options import FailureOptions
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.periodic import repeating
from cluster.runners.on_ray.handles import PoolEvaluator
from cluster.search.records import Verdict
from cluster.search.seeding import derive
from tests.cluster.searches import SLOW, Rig, end, process_of
from tests.contracts.evaluator import assignment, gather
from tests.lengths import LONG

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(180)]

Open = Callable[..., Rig]

DIGITS = RunConfig(task=TaskOptions(task="digits"), budget=Budget(epochs=8, batch_size=32))


@pytest.fixture
def open_rig(cluster: str, tmp_path: Path) -> Iterator[Open]:
    """Open a rig, which ends with the test."""
    actors = []

    def open_rig(config: RunConfig, *, workers: int = 1) -> Rig:
        rig = Rig(tmp_path, config, workers=workers)
        actors.extend(rig.actors)
        return rig

    yield open_rig
    end(actors)


def undisturbed(config: RunConfig, child: int) -> Outcome:
    """Return the child's outcome without interruptions."""
    given = assignment(child)
    task = load_task(config.task.task, seed=derive(config.seed, "split"))
    assert given.architecture is not None
    return train(given.architecture, task, config.budget, seed=given.seed)


def as_undisturbed(outcome: Outcome, config: RunConfig, child: int) -> bool:
    """Equal to the bit, the seconds apart, and the processor, which the worker adds."""
    expected = replace(undisturbed(config, child), seconds=0.0, processor=outcome.processor)
    return replace(outcome, seconds=0.0) == expected and len(outcome.curve) > 1


def epochs_saved(folder: Path) -> int:
    """How many epochs of child 1 are in its checkpoint."""
    try:
        return len(Checkpoint.from_bytes((folder / "checkpoints/child-00000001.safetensors").read_bytes()).curve)
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        # What the signal alone does is in `test_topology.py`.
        pytest.param(
            *(signal.SIGTERM, Cause.PREEMPTED),
            id="term",
            marks=LONG,
        ),
        pytest.param(signal.SIGKILL, Cause.CRASHED, id="kill"),
    ],
)
def test_a_child_goes_on_elsewhere_from_its_last_state(
    number: signal.Signals, cause: Cause, open_rig: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(DIGITS, failures=FailureOptions(checkpoint_children=True))
    rig = open_rig(config, workers=2)
    evaluator = PoolEvaluator(rig.pool)
    evaluator.submit(assignment(1))
    process = rig.in_training(1, 1)
    saved = rig.until(lambda: epochs_saved(tmp_path), "a state is saved")
    seen = [saved]
    # By a thread of its own: a file is there for one epoch only, and the actors may be slow to answer.
    with repeating(lambda: seen.append(epochs_saved(tmp_path) or seen[-1]), 0.005, name="epochs", at_once=True):
        os.kill(process, number)
        found = gather(evaluator, 1)
    assert "epochs has failed" not in caplog.text, "a file was not whole"
    assert seen == sorted(seen), "an epoch was trained that had been saved"
    # Which epochs are saved is fixed in tests/child_trainer; the file of the last one lives too short to be seen here.
    assert seen[-1] > saved, "the second worker has saved nothing"
    assert as_undisturbed(found[0][1], DIGITS, 1)
    rig.ended_attempts()
    first, second = rig.history(1)
    assert (first.verdict, first.cause) == (Verdict.RETRY, cause)
    assert (second.verdict, second.cause) == (Verdict.OUTCOME, None)
    assert first.slot != second.slot
    rig.until(lambda: not list((tmp_path / "checkpoints").iterdir()), "the child's file is removed")


def test_a_retried_child_gives_what_it_would_have_given(open_rig: Open) -> None:
    rig = open_rig(DIGITS)
    evaluator = PoolEvaluator(rig.pool)
    evaluator.submit(assignment(1))
    os.kill(rig.in_training(1, 1), signal.SIGKILL)
    assert as_undisturbed(dict(gather(evaluator, 1))[1], DIGITS, 1)
    assert rig.ended_attempts() == [(1, 1, "retry", "crashed"), (1, 2, "outcome", None)]


def test_an_idle_worker_that_is_told_to_go_is_replaced(open_rig: Open) -> None:
    rig = open_rig(SLOW)
    evaluator = PoolEvaluator(rig.pool)
    evaluator.submit(assignment(1))
    gather(evaluator, 1)
    before = process_of(rig.history(1)[0])
    os.kill(before, signal.SIGTERM)
    rig.until(lambda: not Path(f"/proc/{before}").exists(), "the process has gone")
    evaluator.submit(assignment(2))
    assert dict(gather(evaluator, 1))[2].failure is None
    assert process_of(rig.history(2)[-1]) != before
    # The order may have been sent to the dead process: it has left behind that it did not begin.
    assert all(attempt.cause is None for attempt in rig.history(2))


def test_a_stopped_workers_child_is_trained_elsewhere_and_ends_once(open_rig: Open) -> None:
    config = replace(SLOW, failures=FailureOptions(worker_silence="5s"))
    rig = open_rig(config, workers=2)
    evaluator = PoolEvaluator(rig.pool)
    evaluator.submit(assignment(1))
    process = rig.in_training(1, 1)
    os.kill(process, signal.SIGSTOP)
    try:
        assert dict(gather(evaluator, 1))[1].failure is None
    finally:
        os.kill(process, signal.SIGCONT)
    # Ray has ended the process, or ends it now: either way the first outcome stays the only one.
    rig.until(lambda: not Path(f"/proc/{process}").exists(), "the process has gone")
    rig.ended_attempts()
    first, second = rig.history(1)
    assert first.cause == Cause.CRASHED
    assert first.outcome is not None
    assert first.outcome.failure is not None
    assert "has sent no heartbeat for" in first.outcome.failure.message
    assert (second.verdict, second.cause) == (Verdict.OUTCOME, None)
    assert first.slot != second.slot
    assert 5 < second.started_at - first.started_at < 30


def test_processes_are_recycled(open_rig: Open) -> None:
    rig = open_rig(replace(SLOW, task=TaskOptions(task="synthetic"), failures=FailureOptions(recycle_after=2)))
    evaluator = PoolEvaluator(rig.pool)
    for child in range(1, 6):
        evaluator.submit(assignment(child))
    gather(evaluator, 5)
    workers = Counter(rig.history(child)[0].worker for child in range(1, 6))
    assert sorted(workers.values()) == [1, 2, 2]
    assert [row[2:] for row in rig.ended_attempts()] == [("outcome", None)] * 5
