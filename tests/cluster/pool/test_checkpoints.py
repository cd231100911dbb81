"""The children's checkpoint files: a kill at each step of a save, damaged files, and which files are removed."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from child_trainer.outcome import Budget
from child_trainer.tasks.synthetic import SyntheticTask
from child_trainer.training.checkpoint import Checkpoint
from child_trainer.training.train import train
from cluster.pool.checkpoints import CheckpointFolder, ChildSlot
from tests.contracts.evaluator import architecture

ROOT = Path(__file__).parents[3]
OLD, NEW = b"the old state", b"the new state"


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder(tmp_path / "checkpoints")


def files(tmp_path: Path) -> list[str]:
    return sorted(file.name for file in (tmp_path / "checkpoints").iterdir())


def test_a_new_folder_has_no_checkpoint(folder: CheckpointFolder, tmp_path: Path) -> None:
    assert folder.load(1) is None
    folder.forget(1)
    folder.keep_only([])
    assert not (tmp_path / "checkpoints").exists()


def test_the_last_save_is_what_is_loaded_and_there_is_one_file_a_child(
    folder: CheckpointFolder, tmp_path: Path
) -> None:
    for data in (OLD, NEW):
        folder.save(7, data)
    ChildSlot(folder, 8).save(OLD)
    assert (folder.load(7), ChildSlot(folder, 8).load()) == (NEW, OLD)
    assert files(tmp_path) == ["child-00000007.safetensors", "child-00000008.safetensors"]
    folder.forget(7)
    assert (folder.load(7), folder.load(8)) == (None, OLD)


DIES = """
import os, sys
from pathlib import Path
from cluster.pool.checkpoints import CheckpointFolder

path, step = Path(sys.argv[1]), sys.argv[2]

def dies(*_):
    os._exit(9)

def dies_half_written(self, data):
    os.write(self.fileno(), data[: len(data) // 2])
    os._exit(9)

class Half:
    def __init__(self, stream):
        self.stream = stream
    def __getattr__(self, name):
        return getattr(self.stream, name)
    def __enter__(self):
        return self
    def __exit__(self, *_):
        self.stream.close()
    def write(self, data):
        dies_half_written(self.stream, data)

opens = Path.open
if step == "write":
    Path.open = lambda self, *a: Half(opens(self, *a))
elif step == "fsync":
    os.fsync = dies
elif step == "replace":
    Path.replace = dies
elif step == "fsync of the folder":
    fsyncs = iter([os.fsync, dies])
    os.fsync = lambda number: next(fsyncs)(number)
CheckpointFolder(path).save(7, b"the new state")
"""


@pytest.mark.parametrize(
    ("step", "found"), [("write", OLD), ("fsync", OLD), ("replace", OLD), ("fsync of the folder", NEW), ("never", NEW)]
)
def test_a_death_at_any_step_of_a_save_leaves_the_old_state_or_the_new(
    step: str, found: bytes, folder: CheckpointFolder, tmp_path: Path
) -> None:
    folder.save(7, OLD)
    folder.save(8, OLD)
    died = subprocess.run([sys.executable, "-c", DIES, tmp_path / "checkpoints", step], cwd=ROOT, check=False)
    assert died.returncode == (0 if step == "never" else 9)
    assert folder.load(7) == found
    # A resume removes half-written files, and keeps complete ones.
    folder.keep_only([7, 8])
    assert files(tmp_path) == ["child-00000007.safetensors", "child-00000008.safetensors"]
    assert (folder.load(7), folder.load(8)) == (found, OLD)


def test_a_save_that_fails_says_so_and_leaves_what_was_there(
    folder: CheckpointFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.save(7, OLD)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        folder.save(7, NEW)
    assert folder.load(7) == OLD
    folder.forget(7)
    assert files(tmp_path) == []


def test_only_the_children_that_are_named_are_kept(folder: CheckpointFolder, tmp_path: Path) -> None:
    for child_id in (1, 2, 30, 123_456_789):
        folder.save(child_id, OLD)
    (tmp_path / "checkpoints" / "notes.txt").touch()  # not ours to remove
    folder.keep_only([2, 123_456_789, 5])
    assert files(tmp_path) == ["child-00000002.safetensors", "child-123456789.safetensors", "notes.txt"]


BUDGET = Budget(epochs=4)
TASK = SyntheticTask(child_seconds=0.04)


def epochs_trained(folder: CheckpointFolder, *, leave_after: int = 4) -> list[int]:
    """Train child 7 from its checkpoint until `leave_after` epochs are done; return those that it reported."""
    reported: list[int] = []
    outcome = train(
        architecture(),
        TASK,
        BUDGET,
        seed=1,
        checkpoints=ChildSlot(folder, 7),
        on_epoch=lambda epoch, _: reported.append(epoch),
        preempted=lambda: leave_after in reported and leave_after < BUDGET.epochs,
    )
    whole = train(architecture(), TASK, BUDGET, seed=1).curve
    assert outcome.curve == whole[:leave_after]
    return reported


def test_a_whole_file_saves_the_epochs_that_it_holds(folder: CheckpointFolder) -> None:
    assert epochs_trained(folder, leave_after=2) == [1, 2]
    assert len(Checkpoint.from_bytes(folder.load(7) or b"").curve) == 2
    assert epochs_trained(folder) == [3, 4]


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda _: b"junk",
        lambda data: data[:-40],
        lambda data: data.replace(b"0.25", b"0.75"),  # the metric of the first epoch
        lambda data: data + b" ",
    ],
    ids=["empty", "junk", "cut", "changed", "longer"],
)
def test_a_damaged_file_costs_those_epochs_and_nothing_else(
    damage: Callable[[bytes], bytes], folder: CheckpointFolder
) -> None:
    epochs_trained(folder, leave_after=2)
    data = folder.load(7) or b""
    assert damage(data) != data
    folder.save(7, damage(data))
    assert epochs_trained(folder) == [1, 2, 3, 4]
