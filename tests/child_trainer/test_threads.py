"""A child's curve does not depend on how many threads its process has, or on how many cores."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.outcome import Budget
from child_trainer.tasks.catalogue import load_task
from child_trainer.threads import VARIABLE, check_threads, computing_with
from child_trainer.training.checkpoint import Checkpoint, CheckpointError, identity
from child_trainer.training.train import train

WIDE = Architecture(
    "feedforward",
    (
        node("a", "conv", "image", height=5, width=5, filters=24),
        node("b", "conv", "a", height=3, width=3, filters=32),
    ),
    ("b",),
)
BUDGET = Budget(epochs=1, batch_size=64, train_fraction=0.5)


@pytest.fixture
def usual() -> int:
    """The threads of this process."""
    return torch.get_num_threads()


def test_the_threads_of_the_process_do_not_count_and_are_left_as_they_were(usual: int) -> None:
    task, curves = load_task("digits", seed=3), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            curves.append(train(WIDE, task, BUDGET, seed=4).curve)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(usual)
    assert curves[0] == curves[1] == curves[2]


def test_a_child_computes_with_the_threads_that_were_asked_for(usual: int) -> None:
    seen = []
    for threads in (1, 2):
        task = load_task("digits", seed=3)
        train(WIDE, task, BUDGET, seed=4, threads=threads, on_epoch=lambda *_: seen.append(torch.get_num_threads()))
    assert seen == [1, 2]
    assert torch.get_num_threads() == usual


def test_children_in_several_threads_of_a_process_each_have_theirs(usual: int) -> None:
    seen: list[int] = []
    began, may_end = threading.Event(), threading.Event()

    def long() -> None:
        with computing_with(usual + 1):
            began.set()
            may_end.wait(10)
            seen.append(torch.get_num_threads())

    thread = threading.Thread(target=long)
    thread.start()
    began.wait(10)
    with computing_with(usual + 1):
        pass
    may_end.set()
    thread.join()
    assert seen == [usual + 1]
    assert torch.get_num_threads() == usual


@pytest.mark.parametrize("variable", [None, "1", "3"])
def test_by_hand_the_environment_does_not_count(variable: str | None, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(WIDE.to_json()))
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    command = [sys.executable, "-m", "child_trainer", str(tmp_path / "a.json"), "--seed", "4", "--split-seed", "3"]
    command += ["--epochs", "1", "--batch-size", "64", "--train-fraction", "0.5", "--device", "cpu", "--json"]
    done = subprocess.run(
        command,
        env=environment | ({VARIABLE: variable} if variable else {}),
        capture_output=True,
        text=True,
        check=True,
    )
    budget = Budget(epochs=1, batch_size=64, train_fraction=0.5)
    expected = train(WIDE, load_task("digits", seed=3), budget, seed=4)
    assert json.loads(done.stdout)["curve"] == list(expected.curve)


def test_where_pytorch_is_imported_later_it_has_the_threads_for_as_long() -> None:
    script = (
        "from child_trainer.threads import computing_with\n"
        "with computing_with(1):\n    import torch\n    print(torch.get_num_threads())\n"
        "import os; print(torch.get_num_threads(), os.environ.get('OMP_NUM_THREADS'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {VARIABLE: "2"},
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.stdout.split() == ["1", "2", "2"]


@pytest.mark.parametrize("threads", [0, -1, 5000])
def test_numbers_of_threads_that_cannot_be_are_refused(threads: int) -> None:
    with pytest.raises(ValueError, match=f"`--threads` must be 1 to 1024, got {threads}"):
        check_threads(threads, "--threads")


def test_a_checkpoint_of_another_number_of_threads_is_of_another_training() -> None:
    one, two = (identity(WIDE, "digits", BUDGET, seed=1, device="cpu", threads=threads) for threads in (1, 2))
    former = {name: value for name, value in one.items() if name != "threads"}

    def saved(by: object) -> bytes:
        return Checkpoint(identity=by, tensors={}, curve=(), step=0, seconds=0.0).to_bytes()  # pyright: ignore[reportArgumentType]

    Checkpoint.from_bytes(saved(one), one)
    Checkpoint.from_bytes(saved(former), one)  # of a version that trained with one thread on Ray and said nothing
    with pytest.raises(CheckpointError, match="its threads is 2, not 1"):
        Checkpoint.from_bytes(saved(two), one)
