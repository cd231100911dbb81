"""An interrupted and resumed training has the result of an uninterrupted one, to the bit."""

import logging
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from child_trainer.outcome import Budget, Cause, Measure
from child_trainer.tasks.catalogue import load_task
from child_trainer.training import image_classifier as sgd
from child_trainer.training.checkpoint import Checkpoint
from child_trainer.training.task import Preempted, Progress
from child_trainer.training.train import train
from tests.child_trainer.training.interruptions import BATCH_NORM, BUDGET, NETWORKS, STEPS, Slot, at
from tests.lengths import LONG

ROOT = Path(__file__).parents[3]
QUESTIONS = 3 * STEPS + 2
"""Calls of `preempted` in an uninterrupted training: before each step, and after each epoch but the last."""


@pytest.fixture(scope="module")
def digits():
    return load_task("digits", seed=1)


@pytest.fixture(scope="module")
def weights(digits):
    """Train, and return the outcome with the final weights, which an outcome does not hold."""

    def run(architecture, budget=BUDGET, **options):
        kept = {}

        class Watched(type(digits)):
            def accuracy(self, network, images):
                kept.update({name: tensor.clone() for name, tensor in network.state_dict().items()})
                return super().accuracy(network, images)

        task = Watched(**{name: getattr(digits, name) for name in digits.__dataclass_fields__})
        return train(architecture, task, budget, seed=5, **options), kept

    return run


@pytest.fixture(scope="module")
def undisturbed(weights):
    return {name: weights(network) for name, network in NETWORKS.items()}


def same(one, other):
    (first, weights), (second, others) = one, other
    assert second.failure is None
    assert second.curve == first.curve
    assert (second.parameters, second.flops) == (first.parameters, first.flops)
    assert weights.keys() == others.keys()
    assert [name for name in weights if not torch.equal(weights[name], others[name])] == []


def test_the_networks_have_all_kinds_of_state(undisturbed):
    assert any("running_var" in name for name in undisturbed["batch norm"][1])
    assert undisturbed["batch norm"][0].curve != undisturbed["dropout"][0].curve
    assert len(set(undisturbed["dropout"][0].curve)) > 1


@pytest.mark.parametrize("name", NETWORKS)
def test_saving_changes_nothing_and_happens_after_every_epoch_but_the_last(name, weights, undisturbed):
    slot = Slot()
    same(undisturbed[name], weights(NETWORKS[name], checkpoints=slot, preempted=lambda: False))
    assert slot.saves == 2
    reached = Checkpoint.from_bytes(slot.data)
    assert (reached.curve, reached.step) == (undisturbed[name][0].curve[:2], 0)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("question", range(QUESTIONS))
def test_interrupted_anywhere_and_continued(name, question, weights, undisturbed):
    slot = Slot()
    stopped, _ = weights(NETWORKS[name], checkpoints=slot, preempted=at(question))
    epoch, step = divmod(question, STEPS + 1)  # A last question of an epoch stands before the next one's first step.
    if step == STEPS:
        epoch, step = epoch + 1, 0
    assert stopped.failure.cause is Cause.PREEMPTED
    assert stopped.failure.message == f"preempted before step {step + 1} of epoch {epoch + 1}; its state is saved"
    assert stopped.curve == undisturbed[name][0].curve[:epoch]
    told = []
    same(undisturbed[name], weights(NETWORKS[name], checkpoints=slot, on_epoch=lambda *report: told.append(report)))
    assert [epoch for epoch, _ in told] == list(range(len(stopped.curve) + 1, 4))


@settings(max_examples=10)
@given(st.lists(st.integers(0, QUESTIONS - 1), max_size=5), st.sampled_from(sorted(NETWORKS)))
def test_interrupted_any_number_of_times(weights, undisturbed, questions, name):
    slot = Slot()
    for question in questions:
        weights(NETWORKS[name], checkpoints=slot, preempted=at(question))
    same(undisturbed[name], weights(NETWORKS[name], checkpoints=slot))


@pytest.mark.parametrize("changes", [{"momentum": 0.0}, {"batch_size": 1000}, {"train_fraction": 1e-9, "epochs": 2}])
def test_other_budgets_continue_as_well(weights, changes):
    budget, slot = replace(BUDGET, **changes), Slot()
    network = NETWORKS["dropout"]
    weights(network, budget, checkpoints=slot, preempted=at(1))
    same(weights(network, budget), weights(network, budget, checkpoints=slot))


PROGRAM = """
import os, signal, sys
from pathlib import Path
from child_trainer.training.checkpoint_file import CheckpointFile
from child_trainer.tasks.catalogue import load_task
from child_trainer.training.train import train
from tests.child_trainer.training.interruptions import BUDGET, NETWORKS, at

class Deadly(CheckpointFile):
    def save(self, data):
        super().save(data)
        os.kill(os.getpid(), signal.SIGKILL)

kind, name, file, question = sys.argv[1:]
slot = {"deadly": Deadly, "harmless": CheckpointFile}[kind](Path(file))
preempted = at(int(question))
outcome = train(NETWORKS[name], load_task("digits", seed=1), BUDGET, seed=5, checkpoints=slot, preempted=preempted)
print([x.hex() for x in outcome.curve])
"""


def in_a_process(*arguments):
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("name", "question"), [pytest.param("batch norm", -1, marks=LONG), ("dropout", 7)])
def test_killed_right_after_a_save_and_continued_in_another_process(tmp_path, name, question, undisturbed, weights):
    file = tmp_path / "child.safetensors"
    assert in_a_process("deadly", name, file, question).returncode == -signal.SIGKILL
    reached = Checkpoint.from_bytes(file.read_bytes())
    assert (len(reached.curve), reached.step) == (1, 0)
    # Killed a second time: after epoch 2, or in the middle of it.
    assert in_a_process("deadly", name, file, question - 5).returncode == -signal.SIGKILL
    reached = Checkpoint.from_bytes(file.read_bytes())
    assert (len(reached.curve), reached.step) == ((2, 0) if question < 0 else (1, 2))
    kept = file.read_bytes()
    last = in_a_process("harmless", name, file, -1)
    assert (last.returncode, last.stderr) == (0, "")
    assert last.stdout.strip() == str([x.hex() for x in undisturbed[name][0].curve])
    same(undisturbed[name], weights(NETWORKS[name], checkpoints=Slot(kept)))


# --- What must not end or mislead a child ------------------------------------------------------------------------


def stopped_in_epoch_2(weights, **options):
    slot = Slot()
    weights(BATCH_NORM, checkpoints=slot, preempted=at(STEPS + 2), **options)
    return slot.data


def with_wrong_shape(data):
    """Return a whole checkpoint of the right identity whose tensors do not fit this network."""
    saved = Checkpoint.from_bytes(data)
    return replace(saved, tensors={**saved.tensors, "network/head.bias": torch.zeros(3)}).to_bytes()


def without_a_generator(data):
    saved = Checkpoint.from_bytes(data)
    return replace(saved, tensors={k: v for k, v in saved.tensors.items() if k != "generator/global"}).to_bytes()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda data: data[:-1], "damaged: it does not match its checksum"),
        (lambda data: b"", "damaged: its header cannot be read"),
        (with_wrong_shape, "does not fit: its 'network/head.bias' is torch.float32 (3,), not torch.float32 (10,)"),
        (without_a_generator, "does not fit: its 'generator/global' is missing, not torch.uint8"),
    ],
)
def test_an_unusable_checkpoint_is_ignored_with_a_warning(weights, undisturbed, caplog, spoil, sentence):
    slot = Slot(spoil(stopped_in_epoch_2(weights)))
    with caplog.at_level(logging.WARNING):
        same(undisturbed["batch norm"], weights(BATCH_NORM, checkpoints=slot))
    (warning,) = [record.getMessage() for record in caplog.records]
    assert sentence in warning
    assert warning.endswith("; the training starts from the beginning")
    assert len(Checkpoint.from_bytes(slot.data).curve) == 2


def test_a_checkpoint_of_another_training_is_ignored(weights, digits, caplog):
    data = stopped_in_epoch_2(weights)
    other = load_task("digits", seed=2)
    expected = train(BATCH_NORM, other, BUDGET, seed=5).curve
    assert train(BATCH_NORM, other, BUDGET, seed=5, checkpoints=Slot(data)).curve == expected
    assert "of another training: its data is" in caplog.text
    caplog.clear()
    expected = train(BATCH_NORM, digits, BUDGET, seed=6).curve
    assert train(BATCH_NORM, digits, BUDGET, seed=6, checkpoints=Slot(data)).curve == expected
    assert "of another training: its seed is 5, not 6" in caplog.text


class Full(Slot):
    def save(self, data):
        raise OSError(28, "No space left on device")


def test_a_save_that_fails_does_not_end_the_child(weights, undisturbed, caplog):
    same(undisturbed["batch norm"], weights(BATCH_NORM, checkpoints=Full()))
    assert caplog.text.count("no checkpoint could be saved after epoch") == 2
    assert "No space left on device" in caplog.text
    stopped, _ = weights(BATCH_NORM, checkpoints=Full(), preempted=at(2))
    assert stopped.failure.message == "preempted before step 3 of epoch 1; its state is not saved"


class Unreadable(Slot):
    def load(self):
        raise OSError(5, "Input/output error")


def test_after_a_failed_load_the_training_starts_from_the_beginning(weights, undisturbed, caplog):
    same(undisturbed["batch norm"], weights(BATCH_NORM, checkpoints=Unreadable()))
    assert "Input/output error; the training starts from the beginning" in caplog.text


def test_without_a_slot_a_preempted_child_just_stops(weights):
    stopped, _ = weights(BATCH_NORM, preempted=at(6))
    assert stopped.failure.cause is Cause.PREEMPTED
    assert stopped.failure.message == "preempted before step 2 of epoch 2; its state is not saved"
    assert len(stopped.curve) == 1


def test_a_finished_training_is_not_preempted(weights, undisturbed):
    same(undisturbed["batch norm"], weights(BATCH_NORM, preempted=at(QUESTIONS)))


def test_seconds_are_the_sum_of_the_parts_and_count_against_the_limit(weights):
    slot = Slot(replace(Checkpoint.from_bytes(stopped_in_epoch_2(weights)), seconds=1000.0).to_bytes())
    late, _ = weights(BATCH_NORM, replace(BUDGET, max_seconds=1001.0), checkpoints=slot)
    assert late.failure is None
    assert 1000 < late.seconds < 1030
    slot = Slot(replace(Checkpoint.from_bytes(stopped_in_epoch_2(weights)), seconds=1000.0).to_bytes())
    late, _ = weights(BATCH_NORM, replace(BUDGET, max_seconds=999.0), checkpoints=slot)
    assert late.failure.cause is Cause.TIMEOUT
    assert len(late.curve) == 2


def test_the_callers_random_numbers_are_left_alone_when_a_child_is_preempted(weights):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    weights(NETWORKS["dropout"], checkpoints=Slot(), preempted=at(3))
    assert torch.equal(torch.get_rng_state(), before)


class Own:
    """A user's task that does not support checkpoints."""

    name = "own"
    measure = Measure.ACCURACY

    def fit(self, architecture, budget, progress, *, seed, device="cpu"):
        for epoch in range(budget.epochs):
            if progress.finished_epoch(epoch / 10):
                return


def test_a_task_without_checkpoints_is_preempted_between_epochs():
    slot = Slot()
    assert train(BATCH_NORM, Own(), Budget(epochs=3), seed=1, checkpoints=slot).curve == (0.0, 0.1, 0.2)
    stopped = train(BATCH_NORM, Own(), Budget(epochs=3), seed=1, checkpoints=slot, preempted=at(1))
    assert stopped.failure.message == "preempted before step 1 of epoch 3; its state is not saved"
    assert slot.saves == 0


class Counting:
    """A user's task that supports checkpoints: its state is a number."""

    name = "counting"
    measure = Measure.ACCURACY

    def __init__(self):
        self.number = torch.zeros((), dtype=torch.int64)

    def fingerprint(self):
        return ""

    def tensors(self):
        return {"number": self.number}

    def restore(self, tensors):
        self.number.copy_(tensors["number"])

    def fit(self, architecture, budget, progress, *, seed, device="cpu"):
        progress.resume(self)
        for _ in range(len(progress.curve), budget.epochs):
            for step in range(progress.step, 10):
                progress.before_step(step)
                self.number += 1
            progress.finished_epoch(self.number.item())


def test_a_task_supports_checkpoints_with_three_lines():
    slot = Slot()
    for question in (3, 9, 11, 0):
        train(BATCH_NORM, Counting(), Budget(epochs=3), seed=1, checkpoints=slot, preempted=at(question))
    assert train(BATCH_NORM, Counting(), Budget(epochs=3), seed=1, checkpoints=slot).curve == (10, 20, 30)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("question", [0, 2, 5, 7])
def test_interrupted_on_a_gpu_and_continued(question):
    task = load_task("digits", seed=1, device="cuda")
    network, slot = NETWORKS["dropout"], Slot()
    expected = train(network, task, BUDGET, seed=5, device="cuda")
    assert expected.gpu_bytes is not None and expected.gpu_bytes > 0
    train(network, task, BUDGET, seed=5, device="cuda", checkpoints=slot, preempted=at(question))
    torch.cuda.manual_seed(question)
    assert train(network, task, BUDGET, seed=5, device="cuda", checkpoints=slot).curve == expected.curve


def test_a_plain_function_may_augment():
    images = sgd.Images(torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8), torch.arange(64) % 10)

    def run(slot, preempted=None):
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        progress = Progress(epochs=2, slot=slot, preempted=preempted)
        order = torch.Generator().manual_seed(3)
        evaluate = lambda network: network[1].weight.sum().item()  # noqa: E731
        budget = Budget(epochs=2, batch_size=16)
        sgd.fit(network, images, evaluate, budget, progress, augment=lambda batch: batch, generator=order)
        return progress.curve

    slot = Slot()
    with pytest.raises(Preempted):
        run(slot, at(2))
    assert run(slot) == run(None)
