"""What a callback receives: each child once, in the order in which they ended, also after a resume."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from child_trainer.outcome import Cause, Outcome
from cluster.config.run_config import RunConfig
from cluster.monitoring.callbacks import ledger_feed
from cluster.monitoring.callbacks.callback import Callback, Trial
from cluster.monitoring.callbacks.ledger_feed import LedgerFeed
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from controller.searcher import Proposal
from tests.contracts.evaluator import architecture

GOOD = Outcome(curve=(0.25, 0.5), seconds=2.0, parameters=3, flops=4, seed=0)
BAD = Outcome.failed(Cause.DIVERGED, "NaN", seed=0)


class Recorder(Callback):
    """Records the calls of its hooks; raises at one of them, like a driver that is killed there."""

    def __init__(self, dies_at: tuple[str, int] | None = None) -> None:
        self.calls: list[tuple[str, int]] = []
        self.results: list[tuple[Trial, Any]] = []
        self.dies_at = dies_at

    def _record(self, hook: str, child: int) -> None:
        if (hook, child) == self.dies_at:
            raise KeyboardInterrupt
        self.calls.append((hook, child))

    def on_trial_start(self, *, trial: Trial, **_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._record("start", trial.child)

    def on_trial_result(self, *, trial: Trial, result: Any, **_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.results.append((trial, result))
        self._record("result", trial.child)

    def on_trial_complete(self, *, trial: Trial, **_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._record("complete", trial.child)

    def on_trial_error(self, *, trial: Trial, **_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._record("error", trial.child)

    def on_step_end(self, *, iteration: int, **_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._record("step end", iteration)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "demo")
    folder.create(RunConfig())
    return folder


@pytest.fixture
def ledger(folder: RunFolder) -> Iterator[Ledger]:
    ledger = Ledger(folder.ledger, seed=0, max_children=1000)
    ledger.begin(workers=1)
    ledger.admit(2, 1, [Proposal(tokens=(0,), architecture=architecture())] * 8, ())
    yield ledger
    ledger.close()


def feed_of(folder: RunFolder, callback: Callback) -> LedgerFeed:
    return LedgerFeed(callback, folder.path / "callbacks" / "recorder.json")


def drain(folder: RunFolder, feed: LedgerFeed) -> None:
    while True:
        with reading(folder) as db:
            ended, running = feed.poll(db)
        feed.step(ended, running)
        if not ended:
            return


def ends(recorder: Recorder) -> list[int]:
    return [child for hook, child in recorder.calls if hook in ("complete", "error")]


def test_hooks_come_in_the_order_of_a_childs_life(folder: RunFolder, ledger: Ledger) -> None:
    recorder = Recorder()
    feed = feed_of(folder, recorder)
    ledger.start(3, "w", "k3")
    drain(folder, feed)
    drain(folder, feed)
    assert recorder.calls == [("start", 3)]
    ledger.finish(5, BAD, 0.0)
    ledger.finish(3, GOOD, 0.125)
    drain(folder, feed)
    assert recorder.calls[1:] == [("start", 5), ("error", 5), ("result", 3), ("complete", 3), ("step end", 2)]


def test_trials_and_results_have_the_ledgers_data(folder: RunFolder, ledger: Ledger) -> None:
    recorder = Recorder()
    ledger.finish(5, GOOD, 0.125)
    drain(folder, feed_of(folder, recorder))
    ((trial, result),) = recorder.results
    assert (trial.trial_id, trial.child, trial.replica, trial.batch) == ("00000005", 5, 2, 1)
    assert (trial.status, trial.completion, trial.cause) == ("TERMINATED", 1, None)
    assert trial.config == {"architecture": architecture().to_json(), "architecture_id": architecture().id}
    assert result == {
        "training_iteration": 2,
        "time_total_s": 2.0,
        "reward": 0.125,
        "metric": 0.5,
        "curve": [0.25, 0.5],
        "parameters": 3,
        "flops": 4,
        "replica": 2,
    }


def test_after_a_resume_no_child_comes_twice_and_none_is_left_out(folder: RunFolder, ledger: Ledger) -> None:
    before, after = Recorder(), Recorder()
    for child in (2, 1):
        ledger.finish(child, GOOD, 0.1)
    drain(folder, feed_of(folder, before))
    for child in (8, 3):  # ended while no callback ran
        ledger.finish(child, GOOD, 0.1)
    drain(folder, feed_of(folder, after))
    assert (ends(before), ends(after)) == ([2, 1], [8, 3])


@pytest.mark.parametrize("hook", ["start", "result", "complete", "step end"])
def test_children_of_an_interrupted_step_are_passed_on_again(folder: RunFolder, ledger: Ledger, hook: str) -> None:
    for child in (1, 2, 3):
        ledger.finish(child, GOOD, 0.1)
    with pytest.raises(KeyboardInterrupt):
        drain(folder, feed_of(folder, Recorder(dies_at=(hook, 3 if hook == "step end" else 2))))
    after = Recorder()
    drain(folder, feed_of(folder, after))
    assert ends(after) == [1, 2, 3]


def test_a_damaged_progress_file_is_ignored(folder: RunFolder, ledger: Ledger) -> None:
    ledger.finish(1, GOOD, 0.1)
    drain(folder, feed_of(folder, Recorder()))
    (folder.path / "callbacks" / "recorder.json").write_text("damaged")
    after = Recorder()
    drain(folder, feed_of(folder, after))
    assert ends(after) == [1]


def test_a_long_history_is_passed_on_in_steps(
    folder: RunFolder, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_feed, "MAX_STEP", 3)
    for child in range(1, 9):
        ledger.finish(child, GOOD, 0.1)
    recorder = Recorder()
    drain(folder, feed_of(folder, recorder))
    assert ends(recorder) == list(range(1, 9))
    assert [number for hook, number in recorder.calls if hook == "step end"] == [3, 6, 8]
