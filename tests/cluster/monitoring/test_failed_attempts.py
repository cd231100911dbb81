"""What `nascluster failures` reads and prints."""

import json
import re
from pathlib import Path

import pytest

from child_trainer.outcome import Cause, Failure, Outcome
from cluster.config.run_config import RunConfig
from cluster.formatting import utc_time
from cluster.monitoring.failed_attempts import failure_lines, failures_json, read_failures
from cluster.monitoring.logs.reader import child_output, output_lines
from cluster.search.records import Verdict
from cluster.storage.errors import RunFolderError
from cluster.storage.find_run import run_folder
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.run_folder import RunFolder
from controller.searcher import Proposal
from tests.cluster.pool.simulated import ARCHITECTURE, good

STACK = "Traceback:\n  here\nRuntimeError: the last line"


class Story:
    """A ledger whose clock says when each attempt begins and ends."""

    def __init__(self, folder: RunFolder) -> None:
        self.now = 1_000.0
        self.ledger = Ledger(folder.ledger, 0, 9, clock=lambda: self.now)
        self.begin()
        self.ledger.admit(0, 1, [Proposal(tokens=(0, 0, 0), architecture=ARCHITECTURE)] * 9, ())

    def begin(self) -> None:
        self.ledger.begin(workers=1)

    def attempt(self, child: int, verdict: Verdict | None, cause: Cause | None = None, text: str = STACK) -> Outcome:
        """One that takes 1.5 s; without a verdict it is left as it is."""
        self.now += 10
        key = f"{child} at {self.now}"
        failure = cause and Failure(cause=cause, message=text)
        outcome = Outcome(curve=(), seconds=1.5, parameters=None, flops=None, seed=1, failure=failure)
        self.ledger.start(child, "worker-0@here:7", key)
        self.now += 1.5
        self.ledger.beat()
        if verdict is not None:
            self.ledger.end_attempt(key, outcome if cause else good(1), verdict)
        return outcome if cause else good(1)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = run_folder(tmp_path, "demo")
    folder.create(RunConfig(max_children=9))
    return folder


@pytest.fixture
def story(folder: RunFolder) -> Story:
    return Story(folder)


def kinds(folder: RunFolder, child: int | None = None) -> list[tuple[int, int, str, str]]:
    return [(f.child_id, f.number, f.cause, f.verdict) for f in read_failures(folder, child)]


def test_a_run_that_has_not_begun_has_no_failures(folder: RunFolder) -> None:
    assert read_failures(folder) == []
    assert failure_lines([], 20, whole=False) == ["No attempt has failed."]
    assert json.loads(failures_json([])) == {"by_cause": {}, "attempts": []}


def test_only_failed_attempts_are_listed_latest_first(story: Story, folder: RunFolder) -> None:
    story.attempt(1, Verdict.RETRY, Cause.CRASHED)
    story.attempt(2, Verdict.OUTCOME)
    story.attempt(1, Verdict.RETRY, Cause.PREEMPTED, "told to go")
    story.attempt(3, Verdict.LOST)
    story.ledger.finish(1, story.attempt(1, Verdict.OUTCOME, Cause.TIMEOUT, "too long"), 0.0)
    story.attempt(4, None)
    assert kinds(folder) == [(1, 3, "timeout", "outcome"), (1, 2, "preempted", "retry"), (1, 1, "crashed", "retry")]
    assert kinds(folder, 1) == kinds(folder)
    assert kinds(folder, 2) == []
    first = read_failures(folder)[-1]
    assert (first.message, first.worker, first.ended_at - first.started_at) == (STACK, "worker-0@here:7", 1.5)


def test_a_late_result_has_a_text_of_its_own(story: Story, folder: RunFolder) -> None:
    story.attempt(1, Verdict.RETRY, Cause.CRASHED)
    key = story.ledger.attempts(1)[0].key
    story.ledger.end_attempt(key, good(1), Verdict.LATE)
    assert kinds(folder) == [(1, 1, "crashed", "late")]
    assert "timed out, and its late result ignored" in "\n".join(failure_lines(read_failures(folder), 20, whole=False))


def test_a_child_that_always_kills_its_process_is_listed_with_its_last_attempt(story: Story, folder: RunFolder) -> None:
    """As with --local, where no other process survives to record the attempt."""
    for _ in range(2):
        story.attempt(1, None)
        story.begin()
    assert kinds(folder) == []
    failure = Failure(cause=Cause.CRASHED, message="the process died 2 times")
    dead = Outcome(curve=(), seconds=0.0, parameters=None, flops=None, seed=1, failure=failure)
    story.ledger.finish(1, dead, 0.0)
    assert kinds(folder) == kinds(folder, 1) == [(1, 2, "crashed", "outcome")]
    (found,) = read_failures(folder)
    assert (found.message, found.ended_at - found.started_at) == ("the process died 2 times", 1.5)


def test_lines_for_people(story: Story, folder: RunFolder) -> None:
    story.attempt(1, Verdict.RETRY, Cause.CRASHED)
    story.attempt(1, Verdict.OUTCOME, Cause.CRASHED)
    story.attempt(2, Verdict.OUTCOME, Cause.DIVERGED, "nan")
    failures = read_failures(folder)
    lines = failure_lines(failures, 2, whole=False)
    assert lines[:5] == [
        "3 failed attempts at 2 children, by cause:",
        "  crashed            2   1 failed permanently",
        "  diverged           1   1 failed permanently",
        "",
        "The latest 2 of 3:",
    ]
    assert lines[5] == "  child 2, attempt 1: diverged, failed permanently"
    assert lines[6].endswith("on worker-0@here:7 after 1.5 s")
    assert lines[7] == "      nan"
    assert lines[8] == "  child 1, attempt 2: crashed, failed permanently"
    assert lines[10:] == ["      RuntimeError: the last line"]
    whole = failure_lines(failures, 20, whole=True)
    assert whole[4] == "Latest first:"
    assert "        here" in whole


def test_plain_data(story: Story, folder: RunFolder) -> None:
    story.attempt(1, Verdict.RETRY, Cause.CRASHED)
    found = json.loads(failures_json(read_failures(folder)))
    assert found["by_cause"] == {"crashed": 1}
    assert found["attempts"] == [
        {
            "child_id": 1,
            "number": 1,
            "cause": "crashed",
            "message": STACK,
            "worker": "worker-0@here:7",
            "started_at": 1010.0,
            "ended_at": 1011.5,
            "verdict": "retry",
        }
    ]


def test_a_damaged_ledger_is_named(folder: RunFolder) -> None:
    folder.ledger.write_bytes(b"no database" * 100)
    with pytest.raises(RunFolderError, match=r"ledger.sqlite cannot be read: file is not a database"):
        read_failures(folder)


def test_times_are_in_utc_with_their_zone(story: Story, folder: RunFolder) -> None:
    story.attempt(1, Verdict.OUTCOME, Cause.CRASHED)
    (failure,) = read_failures(folder)
    lines = failure_lines([failure], 1, whole=False)
    stamps = [found[0] for line in lines if (found := re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line))]
    assert stamps == [utc_time(failure.ended_at)]
    (attempt,) = child_output(folder, 1)
    assert utc_time(attempt.started_at) in "\n".join(output_lines(1, [attempt]))
