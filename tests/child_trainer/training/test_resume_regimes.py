"""A training with every part of a regime, interrupted and resumed, has the result of an uninterrupted one."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from child_trainer.outcome import Cause
from child_trainer.tasks.catalogue import load_task
from child_trainer.training.checkpoint import Checkpoint
from child_trainer.training.train import train
from tests.child_trainer.training.interruptions import BUDGET, EVERY_PART, REGIMES, STEPS, Slot, at

ROOT = Path(__file__).parents[3]
QUESTIONS = 4 * STEPS + 2
"""Calls of `preempted`: before each step of the abandoned epoch and of three more, and after two of these."""


@pytest.fixture(scope="module")
def digits():
    return load_task("digits", seed=1)


@pytest.fixture(scope="module")
def weights(digits):
    """Train, and return the outcome with the final weights, which an outcome does not hold."""

    def run(name, **options):
        kept = {}

        class Watched(type(digits)):
            def accuracy(self, network, images):
                kept.update({name: tensor.clone() for name, tensor in network.state_dict().items()})
                return super().accuracy(network, images)

        task = Watched(**{name: getattr(digits, name) for name in digits.__dataclass_fields__})
        return train(EVERY_PART, task, replace(BUDGET, regime=REGIMES[name]), seed=5, **options), kept

    return run


@pytest.fixture(scope="module")
def undisturbed(weights):
    return {name: weights(name) for name in REGIMES}


def same(one, other):
    (first, weights), (second, others) = one, other
    assert first.failure is None
    assert second.failure is None
    assert second.curve == first.curve
    assert weights.keys() == others.keys()
    assert [name for name in weights if not torch.equal(weights[name], others[name])] == []


@pytest.mark.parametrize("name", REGIMES)
@pytest.mark.parametrize("question", range(QUESTIONS))
def test_interrupted_anywhere_and_resumed(name, question, weights, undisturbed):
    slot = Slot()
    stopped, _ = weights(name, checkpoints=slot, preempted=at(question))
    assert stopped.failure.cause is Cause.PREEMPTED
    assert int(Checkpoint.from_bytes(slot.data).tensors["restarts"]) == (0 if question < STEPS else 1)
    same(undisturbed[name], weights(name, checkpoints=slot))


@pytest.mark.parametrize("name", REGIMES)
def test_interrupted_before_every_step_and_resumed(name, weights, undisturbed):
    slot, turns = Slot(), 0
    while (result := weights(name, checkpoints=slot, preempted=at(1)))[0].failure is not None:
        turns += 1
    assert turns >= 4 * (STEPS - 1)
    same(undisturbed[name], result)


def test_the_state_holds_what_the_parts_need(weights):
    slot = Slot()
    weights("adam", checkpoints=slot, preempted=at(QUESTIONS - 1))
    names = Checkpoint.from_bytes(slot.data).tensors
    assert {"restarts", "generator/augmentation", "generator/global", "generator/order"} <= names.keys()
    assert {"optimizer/step/head.weight", "optimizer/exp_avg/auxiliary_head.weight"} <= names.keys()


PROGRAM = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from child_trainer.training.checkpoint_file import CheckpointFile
from child_trainer.tasks.catalogue import load_task
from child_trainer.training.train import train
from tests.child_trainer.training.interruptions import BUDGET, EVERY_PART, REGIMES

class Deadly(CheckpointFile):
    saves = 0

    def save(self, data):
        super().save(data)
        self.saves += 1
        if self.saves == deaths_at:
            os.kill(os.getpid(), signal.SIGKILL)

file, name, deaths_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
budget = replace(BUDGET, regime=REGIMES[name])
outcome = train(EVERY_PART, load_task("digits", seed=1), budget, seed=5, checkpoints=Deadly(Path(file)))
print([x.hex() for x in outcome.curve])
"""


def in_a_process(*arguments):
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_killed_after_an_epoch_and_resumed_in_another_process(tmp_path, undisturbed):
    file = tmp_path / "child.safetensors"
    assert in_a_process(file, "adam", 2).returncode == -signal.SIGKILL  # the restart is saved first, then each epoch
    assert len(Checkpoint.from_bytes(file.read_bytes()).curve) == 1
    resumed = in_a_process(file, "adam", 0)
    assert resumed.stdout.strip() == str([x.hex() for x in undisturbed["adam"][0].curve]), resumed.stderr


def test_a_checkpoint_of_another_regime_is_not_resumed_from(digits, caplog):
    def trained(name, **options):
        return train(EVERY_PART, digits, replace(BUDGET, regime=REGIMES[name]), seed=5, **options)

    slot = Slot()
    trained("adam", checkpoints=slot, preempted=at(6))
    assert trained("rmsprop", checkpoints=slot).curve == trained("rmsprop").curve
    assert "the checkpoint is of another training: its optimizer is 'adam', not 'rmsprop'" in caplog.text
