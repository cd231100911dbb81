import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from child_trainer.outcome import Budget, Cause
from child_trainer.tasks.catalogue import check_task, load_task
from child_trainer.tasks.fault_injection import FAULTS, drawn_fault, parse_faults
from child_trainer.tasks.synthetic import SyntheticTask
from child_trainer.tasks.synthetic_options import SyntheticOptions
from child_trainer.training.checkpoint import Checkpoint
from child_trainer.training.task import TaskError
from child_trainer.training.train import train
from tests.child_trainer.training.interruptions import Slot, at
from tests.golden import architecture

ROOT = Path(__file__).parents[3]
NETWORK = architecture()
BUDGET = Budget(epochs=3)


# --- The synthetic task, interrupted -----------------------------------------------------------------------------


@pytest.mark.parametrize("questions", [(0,), (2,), (4,), (5,), (0, 0, 3), (1, 1, 1, 1)])
def test_a_rehearsed_child_goes_on_where_it_was(questions):
    task = SyntheticTask(child_seconds=0.36)  # Three epochs of three steps of 0.04 s.
    slot = Slot()
    for question in questions:
        stopped = train(NETWORK, task, BUDGET, seed=1, checkpoints=slot, preempted=at(question))
        assert stopped.failure.cause is Cause.PREEMPTED
    reached = Checkpoint.from_bytes(slot.data)
    left = 9 - 3 * len(reached.curve) - reached.step
    started = time.perf_counter()
    last = train(NETWORK, task, BUDGET, seed=1, checkpoints=slot)
    assert last.curve == train(NETWORK, SyntheticTask(), BUDGET, seed=1).curve
    assert 0.04 * left <= time.perf_counter() - started < 0.04 * left + 0.1
    assert 0.36 <= last.seconds < 0.6


def test_a_rehearsed_child_wakes_when_it_is_preempted():
    until = time.perf_counter() + 0.2
    child = train(
        NETWORK, SyntheticTask(child_seconds=100.0), BUDGET, seed=1, preempted=lambda: time.perf_counter() > until
    )
    assert time.perf_counter() - until < 0.1
    assert child.failure.cause is Cause.PREEMPTED


def test_a_child_that_answers_at_once_saves_nothing_and_still_leaves():
    slot = Slot()
    stopped = train(NETWORK, SyntheticTask(), BUDGET, seed=1, checkpoints=slot, preempted=at(2))
    assert stopped.failure.message == "preempted before step 1 of epoch 2; its state is not saved"
    assert slot.saves == 0


# --- Faults ------------------------------------------------------------------------------------------------------


def always(fault, **options):
    return SyntheticTask(faults={fault: 1.0}, **options)


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize(
    ("fault", "cause", "words"),
    [("out_of_memory", Cause.OUT_OF_MEMORY, "not enough memory"), ("diverged", Cause.DIVERGED, "nan")],
)
def test_a_fault_strikes_after_the_first_epoch(fault, cause, words, epochs):
    outcome = train(NETWORK, always(fault), Budget(epochs=epochs), seed=1)
    assert len(outcome.curve) == 1
    assert outcome.failure.cause is cause
    assert words in outcome.failure.message


def test_memory_suffices_for_a_smaller_batch():
    causes = {}
    for size in (32, 64, 65, 128):
        outcome = train(NETWORK, always("out_of_memory"), replace(BUDGET, batch_size=size), seed=1)
        causes[size] = outcome.failure.cause if outcome.failure else None
    assert causes == {32: None, 64: None, 65: Cause.OUT_OF_MEMORY, 128: Cause.OUT_OF_MEMORY}
    assert len(train(NETWORK, always("out_of_memory"), replace(BUDGET, batch_size=64), seed=1).curve) == 3


def test_a_continued_child_meets_its_fault_again():
    slot, task = Slot(), always("diverged", child_seconds=0.03)
    for _ in range(2):
        outcome = train(NETWORK, task, BUDGET, seed=1, checkpoints=slot)
        assert (len(outcome.curve), outcome.failure.cause) == (1, Cause.DIVERGED)
    assert slot.saves == 1


PROGRAM = """
import sys
from child_trainer.outcome import Budget
from child_trainer.tasks.synthetic_options import SyntheticOptions
from child_trainer.tasks.synthetic import SyntheticTask
from child_trainer.training.train import train
from tests.golden import architecture
task = SyntheticTask(faults={sys.argv[1]: 1.0})
told = lambda epoch, metric: print("epoch", epoch, flush=True)
train(architecture(), task, Budget(epochs=3), seed=1, on_epoch=told, preempted=lambda: False)
"""


def in_a_process(fault):
    return subprocess.Popen([sys.executable, "-c", PROGRAM, fault], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_a_crash_is_a_segmentation_fault_of_the_process():
    with in_a_process("crashed") as child:
        out, _ = child.communicate(timeout=60)
    assert (child.returncode, out) == (-signal.SIGSEGV, "epoch 1\n")


def test_a_child_that_hangs_hangs_until_it_is_killed():
    with in_a_process("hang") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "epoch 1\n"
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(timeout=0.5)
        child.kill()


def test_a_seed_settles_its_fault_and_each_fault_has_its_share():
    faults = {"hang": 0.2, "crashed": 0.1, "diverged": 0.3}
    drawn = [drawn_fault(faults, seed) for seed in range(20_000)]
    assert drawn == [drawn_fault(dict(reversed(faults.items())), seed) for seed in range(20_000)]
    # Four standard deviations of a share near one half are 0.014.
    for fault, share in {**faults, "out_of_memory": 0.0, None: 0.4}.items():
        assert drawn.count(fault) / len(drawn) == pytest.approx(share, abs=0.015)
    assert {drawn_fault({}, seed) for seed in range(100)} == {None}
    assert {drawn_fault({"hang": 1.0}, seed) for seed in range(100)} == {"hang"}


def test_faults_are_read_from_a_text():
    assert parse_faults("crashed=0.1, hang = 0.05") == {"crashed": 0.1, "hang": 0.05}
    assert parse_faults(" ") == {}
    whole = parse_faults(",".join(f"{name}=0.25" for name in FAULTS))
    options = SyntheticOptions(child_faults=",".join(f"{name}=0.25" for name in FAULTS))
    assert options.faults == whole
    assert load_task("synthetic", options=options) == SyntheticTask(faults=whole)
    check_task("synthetic", options=options)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("crash=0.1", "there is no fault 'crash'; the faults are crashed, hang, out_of_memory, diverged"),
        ("crashed", "faults are written as `crashed=0.1,hang=0.05`, got 'crashed' in 'crashed'"),
        ("crashed=0.1,", "faults are written as `crashed=0.1,hang=0.05`, got '' in 'crashed=0.1,'"),
        ("=0.1", "got '=0.1'"),
        ("hang=often", "the probability of the fault 'hang' must be from 0 to 1, got 'often'"),
        ("hang=nan", "the probability of the fault 'hang' must be from 0 to 1, got nan"),
        ("hang=-0.1", "the probability of the fault 'hang' must be from 0 to 1, got -0.1"),
        ("hang=2", "the probability of the fault 'hang' must be from 0 to 1, got 2.0"),
        ("hang=0.1,hang=0.1", "the fault 'hang' is given twice"),
        ("hang=0.6,crashed=0.6", "the faults' probabilities must sum to at most 1, got 1.2"),
    ],
)
def test_bad_faults_are_refused_in_one_sentence(text, sentence):
    with pytest.raises(TaskError) as refused:
        parse_faults(text)
    assert sentence in str(refused.value)


def test_bad_faults_are_refused_with_the_options_and_with_the_task():
    with pytest.raises(TaskError, match="there is no fault 'x'"):
        SyntheticOptions(child_faults="x=0.1")
    with pytest.raises(TaskError, match="must sum to at most 1"):
        SyntheticTask(faults={"hang": 0.7, "crashed": 0.7})


def test_a_rehearsal_with_checkpoints_imports_no_torch():
    program = (
        "import sys\n"
        "from child_trainer.tasks.catalogue import load_task\n"
        "from child_trainer.tasks.synthetic_options import SyntheticOptions\n"
        "from child_trainer.training.train import train\n"
        "from child_trainer.outcome import Budget\n"
        "from tests.golden import architecture\n"
        "from tests.child_trainer.training.interruptions import Slot, at\n"
        "slot, task = Slot(), load_task('synthetic', options=SyntheticOptions(child_seconds=0.05))\n"
        "train(architecture(), task, Budget(epochs=2), seed=1, checkpoints=slot, preempted=at(2))\n"
        "assert train(architecture(), task, Budget(epochs=2), seed=1, checkpoints=slot).failure is None\n"
        "print([m for m in ('torch', 'numpy', 'torchvision') if m in sys.modules], slot.saves)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("[] 2\n", "")


# --- What is on disk already -------------------------------------------------------------------------------------


def test_a_budget_that_was_written_before_reads_as_ever():
    written = (
        '{"epochs": 50, "batch_size": 128, "train_fraction": 1.0, "learning_rate": 0.1, "weight_decay": 0.0001,'
        ' "momentum": 0.9, "max_seconds": null}'
    )
    assert Budget(**json.loads(written)) == Budget()
