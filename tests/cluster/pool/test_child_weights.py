"""The weights of children from which others begin: which files there are, and what a worker does with them."""

import errno
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from child_trainer.architectures.architecture import Architecture
from child_trainer.inheritance.changed_architectures import changed
from child_trainer.inheritance.changes import Widen
from child_trainer.outcome import ACCURACY_BEFORE, Budget, Cause
from child_trainer.supernets.jobs import TrainOn
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.pool.child_weights import ChildWeightsSlot, LostWeights, WeightsFolder, last_removal, weights_file
from cluster.runners.trainer import Trainer
from cluster.search.evaluator import Assignment
from tests.golden import architecture

ONE, OTHER = "1" * 64, "2" * 64
NETWORK = architecture(((3, 3, 8, ()),), strides=(2,))
WIDER = Widen(node=NETWORK.nodes[0].name, width=12)
CONFIG = RunConfig(task=TaskOptions(task="digits"), budget=Budget(epochs=2, batch_size=64, train_fraction=0.3))


@pytest.fixture
def folder(tmp_path: Path) -> WeightsFolder:
    return WeightsFolder(tmp_path / "weights")


def files(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "weights").glob("child-*"))


def test_a_late_attempt_with_other_weights_replaces_nothing(folder: WeightsFolder, tmp_path: Path) -> None:
    ChildWeightsSlot(folder, 7).save(ONE, b"one")
    folder.save(7, OTHER, b"other")
    assert (folder.load(7, ONE), folder.load(7, OTHER), folder.load(8, ONE)) == (b"one", b"other", None)
    folder.forget({8})
    assert len(files(tmp_path)) == 2
    assert last_removal(tmp_path / "weights") == b""
    folder.forget({7})
    assert files(tmp_path) == []
    assert last_removal(tmp_path / "weights") != b""


def test_what_is_not_kept_is_removed_and_so_are_drafts(folder: WeightsFolder, tmp_path: Path) -> None:
    folder.keep_only(())  # before the first save there is no folder
    for child in (1, 2, 3):
        folder.save(child, ONE, b"%d" % child)
    (tmp_path / "weights" / "child-00000002-1111.safetensors.tmp").write_bytes(b"half")
    (tmp_path / "weights" / "child-of-mine").write_bytes(b"a user's")
    folder.forget({9})
    folder.keep_only({2})
    assert [folder.load(child, ONE) for child in (1, 2, 3)] == [None, b"2", None]
    assert len(files(tmp_path)) == 2


class Counted(WeightsFolder):
    loads = 0

    def load(self, child_id: int, checksum: str) -> bytes | None:
        self.loads += 1
        return super().load(child_id, checksum)


def child(number: int, network: Architecture = NETWORK, job: TrainOn | None = None) -> Assignment:
    return Assignment(child_id=number, seed=number, architecture=network, job=job)


def test_children_begin_with_their_parents_weights_which_a_worker_fetches_once(tmp_path: Path) -> None:
    folder = Counted(tmp_path / "weights")
    trainer = Trainer(CONFIG, child_weights=folder)
    parent = trainer.train(child(1))
    assert parent.weights is not None
    job = TrainOn(parent=1, checksum=parent.weights, changes=(WIDER,))
    children = [trainer.train(child(number, changed(NETWORK, [WIDER]), job)) for number in (2, 3)]
    assert all(each.failure is None and each.weights for each in children)
    assert [each.measurements[ACCURACY_BEFORE] for each in children] == pytest.approx([parent.curve[-1]] * 2, abs=0.01)
    assert folder.loads == 1
    # Another process begins with the same bytes, and gives the same.
    again = Trainer(CONFIG, child_weights=folder).train(child(2, changed(NETWORK, [WIDER]), job))
    assert (again.curve, again.weights) == (children[0].curve, children[0].weights)


class Failing(WeightsFolder):
    error = OSError("the weights host: it is unreachable")  # as a worker's proxy says it

    def load(self, child_id: int, checksum: str) -> bytes | None:
        raise self.error


def test_a_child_whose_parents_weights_are_gone_or_others_does_not_begin(folder: WeightsFolder, tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, child_weights=folder)
    parent = trainer.train(child(1))
    assert parent.weights is not None
    job = TrainOn(parent=1, checksum=parent.weights)

    def lost(job: TrainOn) -> LostWeights:
        with pytest.raises(LostWeights) as raised:
            Trainer(CONFIG, child_weights=folder).train(child(2, job=job))
        return pickle.loads(pickle.dumps(raised.value))  # as it comes from a worker

    gone = lost(replace(job, parent=9))
    assert (gone.child_id, gone.parent, gone.checksum, gone.fault) == (2, 9, parent.weights, "is missing")
    assert str(gone) == "the weights of child 9, with which child 2 begins: their file is missing"
    other, file = replace(job, checksum=ONE), weights_file(tmp_path / "weights", 1, job.checksum)
    folder.save(1, ONE, file.read_bytes())
    assert lost(other).fault == "has other weights than the child's outcome says"
    folder.save(1, job.checksum, b"torn")
    assert lost(job).fault.startswith("is damaged")
    file.unlink()
    file.mkdir()
    assert lost(job).fault == "cannot be read (Is a directory)"


@pytest.mark.parametrize("number", [None, errno.EMFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT])
def test_a_child_whose_parents_weights_cannot_be_read_now_has_failed_and_may_be_tried_again(
    number: int | None, tmp_path: Path
) -> None:
    folder = Failing(tmp_path)
    if number is not None:
        folder.error = OSError(number, os.strerror(number))
    trainer = Trainer(CONFIG, child_weights=folder)
    failure = trainer.train(child(2, job=TrainOn(parent=1, checksum=ONE))).failure
    assert failure is not None
    assert failure.cause is Cause.CRASHED
    assert failure.message == str(folder.error)


def test_a_task_that_trains_nothing_keeps_no_weights(folder: WeightsFolder, tmp_path: Path) -> None:
    trainer = Trainer(replace(CONFIG, task=TaskOptions(task="synthetic")), child_weights=folder)
    assert trainer.train(child(1)).weights is None
    assert not (tmp_path / "weights").exists()
