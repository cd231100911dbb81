"""What a search has used is added up from its ledger, over kills, resumes and other shares of a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from child_trainer.outcome import Cause, Outcome
from cluster.config.ceilings import CeilingOptions, Used
from cluster.config.run_config import RunConfig
from cluster.monitoring.status import read_status, read_used
from cluster.runners.ceiling_watch import MAX_INTERVAL_S, MIN_INTERVAL_S, CeilingWatch
from cluster.search.records import AttemptEnd, GpuUse, Verdict, end_calls, fused_key, made_together
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.queries.usage import gpus_per_child, mean_gpu_share, used
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from controller.searcher import Proposal
from tests.contracts.evaluator import architecture

GOOD = Outcome(curve=(0.5,), seconds=1.0, parameters=1, flops=1, seed=0)


class Run:
    """A run whose clock stands still unless a test moves it; it begins at 1,000 s."""

    def __init__(self, folder: Path, ceilings: CeilingOptions) -> None:
        self.config = RunConfig(ceilings=ceilings)
        self.folder, self.now, self.set_back_s = RunFolder(folder / "demo"), 1_000.0, 0.0
        self.folder.create(self.config)
        self.ledger = self._open()
        self.ledger.admit(0, 1, [Proposal(tokens=(0,), architecture=architecture())] * 8, ())

    def _open(self) -> Ledger:
        return Ledger(self.folder.ledger, 0, 100, lambda: self.now)

    def after(self, seconds: float) -> None:
        self.now += seconds
        self.ledger.beat()

    def killed(self) -> None:
        """Die, an hour after the last heartbeat; nobody records an end."""
        self.ledger.close()
        self.now += 3600
        self.ledger = self._open()

    def used(self) -> tuple[float, float]:
        """Seconds, and GPU seconds."""
        with reading(self.folder) as db:
            found = used(db, self.now)
        return found.hours * 3600, found.gpu_hours * 3600


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    it = Run(tmp_path, CeilingOptions(max_gpu_hours=1.0))
    yield it
    it.ledger.close()


def test_each_attempt_counts_with_its_share_and_each_start_with_its_own(run: Run) -> None:
    assert run.used() == (0, 0)
    run.ledger.begin(workers=2, gpus=0.25)
    run.ledger.start(1, "a", "1-1")
    run.after(10)
    assert run.used() == pytest.approx((10, 2.5))
    run.ledger.start(2, "b", "2-1")
    run.ledger.end_attempt("1-1", Outcome.failed(Cause.CRASHED, "x", seed=0), Verdict.RETRY)
    run.after(10)  # one failed after 10 s, one has been in training for 10 s
    assert run.used() == pytest.approx((20, 5))
    run.killed()
    with reading(run.folder) as db:
        assert used(db, None).hours * 3600 == pytest.approx(20)  # what comes after the last heartbeat does not count
    run.ledger.begin(workers=1, gpus=2.0)
    assert run.used() == pytest.approx((20, 5))
    run.ledger.start(1, "c", "1-2")
    run.after(100)
    run.ledger.finish(1, GOOD, 0.5)
    run.after(1)
    assert run.used() == pytest.approx((121, 205))
    run.ledger.end("stopped", "as asked")
    run.now += 5_000
    assert read_used(run.folder, run.now) == Used(hours=pytest.approx(121 / 3600), gpu_hours=pytest.approx(205 / 3600))
    run.ledger.begin(workers=1, gpus=0.0)
    run.ledger.start(2, "d", "2-2")
    run.after(1_000)
    assert run.used() == pytest.approx((1_121, 205))


@pytest.mark.parametrize("share", [None, 0.5])
def test_attempts_as_one_use_what_their_worker_has_once(run: Run, share: float | None) -> None:
    """While they run, when the run is killed with them, and when they have ended."""
    run.ledger.begin(workers=1, gpus=0.5, shares_vary=share is not None)
    gpu = None if share is None else GpuUse(gpu="n/0", share=share)

    def start(key: str) -> list[str]:
        keys = [fused_key(key, place) for place in range(3)]
        for child, each in enumerate(keys, start=1):
            run.ledger.start(child, "a", each, gpu=gpu)
        return keys

    start("ab")
    run.after(30)
    assert run.used() == pytest.approx((30, 15))
    run.killed()
    run.ledger.begin(workers=1, gpus=0.5, shares_vary=share is not None)
    assert run.used() == pytest.approx((30, 15))
    keys = start("cd")
    run.after(60)
    assert run.used() == pytest.approx((90, 45))
    ends = [AttemptEnd(key, GOOD, Verdict.OUTCOME) for key in keys]
    for _ in range(2):  # Ray delivers calls at least once
        assert made_together(run.ledger, end_calls(ends))[:3] == [True] * 3
        assert run.used() == pytest.approx((90, 45))


def test_attempts_with_a_part_of_their_own_count_with_it_in_each_start(run: Run) -> None:
    run.ledger.begin(workers=2, gpus=0.5)
    run.ledger.start(1, "a", "1-1")
    run.after(10)
    run.killed()
    run.ledger.begin(workers=8, gpus=0.125, shares_vary=True)
    run.ledger.start(1, "b", "1-2", gpu=GpuUse(gpu="n/0", share=0.25, predicted_bytes=400))
    run.ledger.start(2, "c", "2-1", gpu=GpuUse(gpu="n/0", share=0.5))
    run.after(100)
    assert run.used() == pytest.approx((110, 5 + 25 + 50))
    with reading(run.folder) as db:
        assert (gpus_per_child(db), mean_gpu_share(db, run.now)) == (0.125, 0.375)
        assert run.ledger.memory_uses() == ()
    run.ledger.end_attempt("1-2", replace(GOOD, gpu_bytes=300), Verdict.OUTCOME)
    run.ledger.finish(1, replace(GOOD, gpu_bytes=300), 0.5)
    run.ledger.end_attempt("2-1", replace(GOOD, gpu_bytes=300), Verdict.OUTCOME)
    assert run.ledger.memory_uses() == ((400, 300),), "of the other nothing was predicted"
    assert run.ledger.attempts(1)[-1].gpu == GpuUse(gpu="n/0", share=0.25, predicted_bytes=400)
    run.killed()
    run.ledger.begin(workers=2, gpus=2.0)
    run.ledger.start(3, "d", "3-1")
    run.after(1)
    assert run.used() == pytest.approx((111, 5 + 25 + 50 + 2))
    with reading(run.folder) as db:
        assert gpus_per_child(db) == 2.0


def test_a_clock_that_was_set_back_takes_nothing_from_what_is_used(run: Run) -> None:
    run.ledger.begin(workers=1)
    run.after(100)
    run.ledger.end("stopped")
    run.ledger.begin(workers=1)
    run.after(7)
    run.after(-1_000)
    assert run.used() == (100, 0)
    assert read_status(run.folder, run.now).seconds == 100
    run.killed()
    run.ledger.begin(workers=1)
    run.after(50)
    assert run.used() == (150, 0)


def test_attempts_of_a_version_that_kept_no_share_count_with_the_present_one(run: Run) -> None:
    run.ledger.begin(workers=1, gpus=1.0)
    run.ledger.start(1, "a", "1-1")
    run.after(50)
    run.ledger.finish(1, GOOD, 0.5)
    with run.ledger._transaction() as db:
        db.execute("DELETE FROM run WHERE key IN ('gpus', 'gpu_seconds_before', 'attempt_seconds_before')")
    run.killed()
    run.ledger.begin(workers=1, gpus=0.5)
    assert run.used() == pytest.approx((50, 25))


def test_status_tells_what_is_used(run: Run) -> None:
    run.ledger.begin(workers=1, gpus=4.0)
    run.ledger.start(1, "a", "1-1")
    run.after(360)
    run.ledger.finish(1, GOOD, 0.5)
    run.ledger.end("finished", "its ceiling is reached")
    status = read_status(run.folder, run.now)
    (ceiling,) = status.ceiling_list
    assert (ceiling.text, ceiling.flag, status.used_up) == ("0.4 of 1 GPU hours", "--max-gpu-hours", None)
    assert status.to_json()["ceilings"]["used"] == {"hours": pytest.approx(0.1), "gpu_hours": pytest.approx(0.4)}


@contextmanager
def watched(tmp_path: Path, ceilings: CeilingOptions, workers: int) -> Iterator[tuple[Run, CeilingWatch]]:
    run = Run(tmp_path, ceilings)
    run.ledger.begin(workers=workers, gpus=0.5)
    yield run, CeilingWatch(run.config, run.folder, workers, lambda: run.now, lambda: run.now + run.set_back_s)
    run.ledger.close()


@pytest.mark.parametrize(
    ("ceilings", "at_s"),
    [
        (CeilingOptions(max_hours=0.5), 1800),
        (CeilingOptions(max_gpu_hours=0.5), 1800),  # two workers with half a GPU each
        (CeilingOptions(max_cost=3, cost_per_gpu_hour=10), 1080),
        (CeilingOptions(max_hours=0.5, max_gpu_hours=0.1), 360),
    ],
)
def test_a_ceiling_is_seen_in_time_with_few_looks(
    ceilings: CeilingOptions, at_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    with watched(tmp_path, ceilings, workers=2) as (run, watch):
        monkeypatch.setattr(
            "cluster.runners.ceiling_watch.usage.used", lambda db, now: looks.append(now) or used(db, now)
        )
        for child in (1, 2):
            run.ledger.start(child, "w", f"{child}-1")
        while (end := watch.reached()) is None:
            run.now += 0.1
        assert at_s <= run.now - 1_000 <= at_s + MIN_INTERVAL_S + 0.2
        assert str(end).startswith("its ceiling --max-") and end.state == "finished"
        assert len(looks) < at_s / MAX_INTERVAL_S + 40
        count = len(looks)
        run.now += 1_000
        assert watch.reached() is end and len(looks) == count


def test_a_clock_that_was_set_back_does_not_keep_the_watch_from_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    with watched(tmp_path, CeilingOptions(max_hours=9), workers=1) as (run, watch):
        monkeypatch.setattr(
            "cluster.runners.ceiling_watch.usage.used", lambda db, now: looks.append(now) or used(db, now)
        )
        assert watch.reached() is None
        run.now, run.set_back_s = run.now - 500, 500
        assert watch.reached() is None and len(looks) == 1
        run.now += MAX_INTERVAL_S
        assert watch.reached() is None and len(looks) == 2


def test_a_ledger_that_cannot_be_read_now_ends_nothing(tmp_path: Path) -> None:
    with watched(tmp_path, CeilingOptions(max_hours=1e-6), workers=1) as (run, watch):
        run.now += 10
        run.ledger.close()
        text = run.folder.ledger.read_bytes()
        run.folder.ledger.write_bytes(b"x" * 5_000)
        assert watch.reached() is None
        run.folder.ledger.write_bytes(text)
        run.ledger = run._open()
        run.now += MAX_INTERVAL_S
        assert watch.reached() is not None
