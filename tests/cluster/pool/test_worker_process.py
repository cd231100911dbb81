"""A worker's process: real signals and crashes in subprocesses, the heartbeat thread in this process."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from child_trainer.outcome import Cause, Failure, Outcome
from cluster.pool import worker_process as worker
from cluster.pool.protocol import FusionRefused, ProcessExit, TrainingOrder
from cluster.pool.supervision import Gpu
from cluster.pool.worker_process import Beat, CrashFile, WorkerProcess, take_exits
from cluster.search.evaluator import Assignment
from cluster.search.records import GpuUse
from tests.contracts.evaluator import assignment

ROOT = Path(__file__).parents[3]

Script = Callable[..., "subprocess.Popen[str]"]

PROGRAM = """
import sys, time
from child_trainer.training.train import train
from child_trainer.outcome import Budget
from child_trainer.tasks.synthetic import SyntheticTask
from cluster.pool.protocol import TrainingOrder
from cluster.pool.worker_process import WorkerProcess, preempt_on_sigterm
from tests.contracts.evaluator import assignment

class Trainer:
    def train(self, assignment, *, batch_size=None, preempted=None):
        print("training", flush=True)
        task, budget = SyntheticTask(child_seconds=float(sys.argv[1])), Budget(epochs=10)
        return train(assignment.architecture, task, budget, seed=assignment.seed, preempted=preempted)

process = WorkerProcess(Trainer(), place="here", node="n", beat=lambda place, key: False)
preempt_on_sigterm([process])
for number in (1, 2):
    order = TrainingOrder(key=f"k{number}", place="here", assignment=assignment(number), batch_size=None)
    (outcome,) = process.train(order)
    report = process.report()
    assert (report.key, report.outcomes, report.trained) == (f"k{number}", (outcome,), number)
    print(outcome.failure.cause if outcome.failure else "finished", flush=True)
print("idle", flush=True)
time.sleep(60)
"""


@pytest.fixture
def script() -> Any:
    """Return a function that starts the program with children that take so many seconds."""
    started = []

    def start(seconds: float) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", PROGRAM, str(seconds)]
        started.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def next_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_sigterm_preempts_the_child_in_training_and_the_process_lives(script: Script) -> None:
    process = script(60.0)
    assert next_line(process) == "training"
    process.send_signal(signal.SIGTERM)
    # The process keeps terminating: it gives back any further child at once, too.
    assert [next_line(process) for _ in range(4)] == ["preempted", "training", "preempted", "idle"]
    assert process.poll() is None


def test_sigterm_ends_an_idle_process(script: Script) -> None:
    process = script(0.0)
    assert [next_line(process) for _ in range(5)] == ["training", "finished", "training", "finished", "idle"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 128 + signal.SIGTERM


# --- Heartbeats --------------------------------------------------------------------------------------------------

GOOD = Outcome(curve=(0.5,), seconds=1.0, parameters=1, flops=1, seed=101)
GIVEN_BACK = Outcome(
    curve=(),
    seconds=1.0,
    parameters=None,
    flops=None,
    seed=101,
    failure=Failure(cause=Cause.PREEMPTED, message="given back"),
)


class UntilPreempted:
    """Trains until the child is preempted, or until the test lets it end."""

    def __init__(self) -> None:
        self.busy, self.let_go = threading.Event(), threading.Event()

    def train(
        self, assignment: Assignment, *, batch_size: int | None = None, preempted: Callable[[], bool] | None = None
    ) -> Outcome:
        assert preempted is not None
        self.busy.set()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if preempted():
                return GIVEN_BACK
            if self.let_go.wait(0.005):
                return GOOD
        raise AssertionError("neither preempted nor let go in time")


@pytest.fixture(autouse=True)
def _fast_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "HEARTBEAT_INTERVAL_S", 0.01)


def order(number: int) -> TrainingOrder:
    return TrainingOrder(key=f"k{number}", place="here", assignment=assignment(number), batch_size=None)


def process_with(trainer: Any, beat: Beat) -> WorkerProcess:
    return WorkerProcess(trainer, place="here", node="n", beat=beat, beat_s=0.1)


def test_a_heartbeat_has_place_and_key_and_may_return_a_preemption() -> None:
    heard: list[tuple[str, str | None]] = []

    def beat(place: str, key: str | None) -> bool:
        heard.append((place, key))
        return key == "k2"

    trainer = UntilPreempted()
    process = process_with(trainer, beat)
    trainer.let_go.set()
    assert process.train(order(1)) == (GOOD,)
    trainer.let_go.clear()
    assert process.train(order(2)) == (GIVEN_BACK,)
    trainer.let_go.set()
    assert process.train(order(3)) == (GOOD,)  # the request was for one attempt
    assert {place for place, _ in heard} == {"here"}
    assert {key for _, key in heard} <= {None, "k1", "k2", "k3"}
    report = process.report()
    assert (report.key, report.outcomes, report.trained) == ("k3", (GOOD,), 3)


def test_an_answer_that_arrives_after_its_attempt_does_not_affect_the_next() -> None:
    """The answer arrives after the worker has ended one child and begun another."""
    sent, answer = threading.Event(), threading.Event()

    def beat(place: str, key: str | None) -> bool:
        if key != "k1":
            return False
        sent.set()
        answer.wait(30)
        return True

    trainer = UntilPreempted()
    process = process_with(trainer, beat)
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(process.train, order(1))
        assert sent.wait(30)
        trainer.let_go.set()
        assert first.result(30) == (GOOD,)
        trainer.let_go.clear()
        trainer.busy.clear()
        second = thread.submit(process.train, order(2))
        assert trainer.busy.wait(30)
        answer.set()
        time.sleep(0.1)
        trainer.let_go.set()
        assert second.result(30) == (GOOD,)


def test_heartbeats_continue_while_the_pool_is_unavailable() -> None:
    heard = threading.Semaphore(0)

    def beat(place: str, key: str | None) -> bool:
        heard.release()
        raise ConnectionError("it is being started again")

    process_with(UntilPreempted(), beat)
    assert all(heard.acquire(timeout=30) for _ in range(5))


class Seeds:
    """Trains several seeds as one, and each gives its own outcome."""

    def __init__(self, refusal: str | None = None) -> None:
        self.refusal = refusal

    def why_alone(self, assignment: Assignment) -> str | None:
        return self.refusal

    def train_together(self, assignments: Sequence[Assignment], **_: Any) -> list[Outcome]:
        return [replace(GOOD, seed=one.seed) for one in assignments]


def test_an_order_of_several_seeds_gives_the_outcome_of_each_and_counts_all() -> None:
    process = WorkerProcess(Seeds(), place="here", node="n", beat=lambda place, key: False, seeds=Seeds())  # type: ignore[arg-type]
    outcomes = process.train(replace(order(1), others=(assignment(2), assignment(3))))
    assert outcomes == tuple(replace(GOOD, seed=seed) for seed in (101, 102, 103))
    report = process.report()
    assert report.trained == 3
    assert dict(report.by_key()) == dict(zip(("k1", "k1+1", "k1+2"), outcomes, strict=True))


@pytest.mark.parametrize("seeds", [None, Seeds("a CPU is slower")])
def test_an_order_of_several_seeds_that_are_to_be_trained_alone_is_refused(seeds: Seeds | None) -> None:
    process = WorkerProcess(Seeds(), place="here", node="n", beat=lambda place, key: False, seeds=seeds)  # type: ignore[arg-type]
    with pytest.raises(FusionRefused, match="a CPU is slower" if seeds else "trains every child alone"):
        process.train(replace(order(1), others=(assignment(2),)))
    assert (process.report().trained, process.busy) == (0, False)


def test_an_attempt_that_raises_leaves_no_outcome_behind() -> None:
    """The outcome of the attempt before it must not be reported as its own."""
    trainer = UntilPreempted()
    process = process_with(trainer, lambda place, key: False)
    trainer.let_go.set()
    process.train(order(1))

    def fails(*_: Any, **__: Any) -> Outcome:
        raise OSError("the disk is gone")

    trainer.train = fails  # type: ignore[method-assign]
    with pytest.raises(OSError, match="the disk is gone"):
        process.train(order(2))
    report = process.report()
    assert (report.key, report.outcomes, report.trained) == (None, (), 1)


# --- Crash files -------------------------------------------------------------------------------------------------

DIES = """
import os, sys
from pathlib import Path
from child_trainer.outcome import Budget
from child_trainer.tasks.fault_injection import strike
from cluster.pool.worker_process import CrashFile

crash_file = CrashFile(Path(sys.argv[1]), ["a@here:1", "b@here:1"])
assert crash_file.previous_exit("a@here:1") is None
for key in sys.argv[3:]:
    crash_file.note("a@here:1", key)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), 9)
strike("crashed", Budget())
"""


def exits_of(file: Path, how: str, *keys: str) -> tuple[ProcessExit, ...]:
    """Return the exits of a process of two workers of which the first started these attempts."""
    program = [sys.executable, "-c", DIES, str(file), how, *keys]
    number = signal.SIGKILL if how == "killed" else signal.SIGSEGV
    assert subprocess.run(program, cwd=ROOT, check=False).returncode == -number
    return take_exits(file)


@pytest.mark.parametrize("keys", [(), ("k1",), ("a long one", "k2")])
def test_the_next_process_reads_a_segmentation_faults_stack_once(tmp_path: Path, keys: tuple[str, ...]) -> None:
    file = tmp_path / "worker-0.died"
    first, second = exits_of(file, "crashed", *keys)
    assert (first.place, first.key) == ("a@here:1", keys[-1] if keys else None)
    assert (second.place, second.key) == ("b@here:1", None)
    assert first.message == second.message
    assert first.message.startswith("Fatal Python error: Segmentation fault")
    assert "in _crash" in first.message
    assert "Extension modules" not in first.message
    assert take_exits(file) == ()


def test_a_killed_process_leaves_its_attempt_and_no_message(tmp_path: Path) -> None:
    first, second = ProcessExit(place="a@here:1"), ProcessExit(place="b@here:1")
    assert exits_of(tmp_path / "a", "killed") == (first, second)
    assert exits_of(tmp_path / "b", "killed", "k1", "k2") == (replace(first, key="k2"), second)


def test_a_long_message_is_cut_and_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    file = tmp_path / "worker-0.died"
    file.write_bytes(b'[["here:1", "k1"]]\n\xff' + b"x" * 10 * worker.MAX_CRASH_CHARACTERS)
    (exit_,) = take_exits(file)
    assert len(exit_.message) == worker.MAX_CRASH_CHARACTERS


def test_a_damaged_crash_file_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / "worker-0.died"
    file.write_bytes(b"Fatal Python error: Segmentation fault\n")
    assert take_exits(file) == ()


def test_a_crash_file_that_cannot_be_written_is_removed(tmp_path: Path) -> None:
    """It would name an earlier attempt. The worker trains all the same."""
    nowhere = tmp_path / "no folder" / "worker-0.died"
    CrashFile(nowhere, ["here:1"]).note("here:1", "k1")
    assert take_exits(nowhere) == ()
    program = f"""
import resource, signal, sys
from pathlib import Path
from cluster.pool.worker_process import CrashFile
crash_file = CrashFile(Path(sys.argv[1]), ["here:1"])
crash_file.note("here:1", "k1")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({len('[["here:1", "k1"]]')}, resource.RLIM_INFINITY))
crash_file.note("here:1", "k2 is too long")
"""
    file = tmp_path / "worker-0.died"
    subprocess.run([sys.executable, "-c", program, str(file)], cwd=ROOT, check=True)
    assert take_exits(file) == ()


def test_a_worker_reports_the_previous_exit_and_records_its_attempts(tmp_path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from cluster.pool.protocol import TrainingOrder
from cluster.pool.worker_process import CrashFile, WorkerProcess
from tests.contracts.evaluator import assignment

class Deadly:
    def train(self, assignment, *, batch_size=None, preempted=None):
        os.kill(os.getpid(), 9)

crash_file = CrashFile(Path(sys.argv[1]), [sys.argv[2]])
process = WorkerProcess(Deadly(), place=sys.argv[2], node="n", beat=lambda place, key: False, crash_file=crash_file)
print(process.report().previous_exit, flush=True)
process.train(TrainingOrder(key=sys.argv[3], place=sys.argv[2], assignment=assignment(1), batch_size=None))
"""
    reported = [
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "died"), *arguments],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for arguments in (("here:1", "k1"), ("here:2", "k2"), ("here:3", "k3"))
    ]
    assert reported == ["None", str(ProcessExit(place="here:1", key="k1")), str(ProcessExit(place="here:2", key="k2"))]


def test_a_child_with_a_part_of_a_gpu_may_allocate_what_the_order_says() -> None:
    class Trainer:
        def train(self, assignment: Assignment, **_: object) -> Outcome:
            return Outcome(curve=(0.5,), seconds=1.0, parameters=1, flops=1, seed=assignment.seed)

    limits: list[int] = []
    gpu = Gpu("n/0", 8_000)
    process = WorkerProcess(
        Trainer(), place="here", node="n", beat=lambda place, key: False, gpu=gpu, limit_gpu=limits.append
    )
    assert process.report().gpu == gpu
    order = TrainingOrder(key="k", place="here", assignment=assignment(1), batch_size=None)
    process.train(order)
    process.train(replace(order, gpu=GpuUse(gpu="n/0", share=0.5), gpu_limit_bytes=4_000))
    assert limits == [4_000]
