import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from child_trainer.outcome import Cause, Failure, Measure, Outcome
from child_trainer.supernets.jobs import Score, Steps
from cluster.config.run_checks import MAX_CHILDREN
from cluster.config.run_config import RunConfig
from cluster.config.topology import Topology
from cluster.formatting import duration
from cluster.monitoring.live_view import line, status_rows
from cluster.monitoring.status import read_status
from cluster.monitoring.summary import gain_text, summary
from cluster.search.records import BatchResult, fused_key
from cluster.storage.errors import RunFolderError
from cluster.storage.find_run import check_new, existing_run, run_folder
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.locks import writing
from cluster.storage.run_folder import RunFolder
from controller.searcher import Proposal
from controller.spaces.convolutional import ConvolutionalSpace
from tests.clock import Clock

SPACE = ConvolutionalSpace(initial_depth=1)
CONFIG = RunConfig(max_children=20, topology=Topology(replicas=3, shards=2, children=4))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = run_folder(tmp_path, "demo")
    folder.create(CONFIG)
    return folder


@pytest.fixture
def held(folder: RunFolder) -> Iterator[RunFolder]:
    """A run's folder with a driver."""
    with folder.held():
        yield folder


def open_ledger(folder: RunFolder, clock: Clock) -> Ledger:
    return Ledger(folder.ledger, CONFIG.seed, CONFIG.max_children, clock)


def sample(ledger: Ledger, n: int) -> None:
    tokens = (1, 1, 1)
    ledger.admit(0, 1, [Proposal(tokens=tokens, architecture=SPACE.decode(tokens))] * n, (0, 0))


def outcome(metric: float = 0.5, failure: Failure | None = None) -> Outcome:
    return Outcome(curve=(metric,), seconds=2.0, parameters=1234, flops=99, seed=1, failure=failure)


def test_a_run_that_has_just_been_made_is_starting(held: RunFolder, clock: Clock) -> None:
    ledger = open_ledger(held, clock)
    status = read_status(held, clock.now)
    assert (status.state, status.message, status.sampled, status.best) == ("running", "starting", 0, None)
    ledger.close()


def test_status_of_a_run_from_start_to_end(held: RunFolder, clock: Clock) -> None:
    ledger = open_ledger(held, clock)
    ledger.begin(workers=2)
    sample(ledger, 4)
    clock.now += 10
    for child in (1, 2, 3):
        ledger.start(child, "worker")
    clock.now += 5
    ledger.finish(1, outcome(0.8), 0.512)
    ledger.finish(2, outcome(failure=Failure(cause=Cause.DIVERGED, message="NaN")), 0.0)
    ledger.learned(0, 1, BatchResult(staleness=(0, 3), figures={"baseline": 0.25}))
    status = read_status(held, clock.now)
    assert (status.sampled, status.running, status.finished, status.failed) == (4, 1, 1, 1)
    assert status.causes == {"diverged": 1}
    assert (status.updates, status.staleness, status.figures) == (1, (1.5, 3), {"baseline": 0.25})
    assert status.mean_reward == pytest.approx(0.256)
    assert status.seconds == 15
    assert status.seconds_left == pytest.approx(18 / (2 / 5))
    assert status.best is not None
    assert (status.best.child_id, status.best.reward, status.best.metric, status.best.parameters) == (
        1,
        0.512,
        0.8,
        1234,
    )
    ledger.end("stopped", "interrupted")
    clock.now += 1000
    after = read_status(held, clock.now)
    assert (after.state, after.message, after.seconds, after.running) == ("stopped", "interrupted", 15, 0)
    clock.now += 7
    ledger.begin(workers=2)
    clock.now += 3
    again = read_status(held, clock.now)
    assert (again.state, again.seconds) == ("running", 18)  # the pause does not count
    ledger.close()


def test_a_run_whose_driver_died_has_failed_at_once(folder: RunFolder, clock: Clock) -> None:
    ledger = open_ledger(folder, clock)
    with folder.held():
        ledger.begin(workers=1)
        clock.now += 5
        ledger.beat()
        assert read_status(folder, clock.now + 1).state == "running"
    lost = read_status(folder, clock.now + 1)  # the lock goes with the process
    assert (lost.state, lost.message, lost.seconds) == ("failed", "its driver died", 5)
    ledger.close()


def test_a_driver_that_died_before_it_began_leaves_a_run_that_can_be_resumed(folder: RunFolder) -> None:
    assert read_status(folder, 0.0).message == "its driver died before the search began"
    with folder.held():
        assert read_status(folder, 0.0).message == "starting"  # there is no ledger yet


def test_a_second_driver_is_kept_out(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.storage.run_folder.READER_TIMEOUT_S", 0.2)
    with folder.held(), pytest.raises(RunFolderError, match="the run 'demo' is running"), folder.held():
        pass
    with folder.held():
        pass


def test_a_resumed_driver_waits_for_the_writers_of_a_killed_one(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.storage.run_folder.WRITERS_TIMEOUT_S", 0.2)
    earlier = "processes of an earlier start of the run 'demo' still write"
    with writing(folder.path), pytest.raises(RunFolderError, match=earlier), folder.held():
        pass
    with folder.held():
        pass


def test_an_end_before_the_beginning_leaves_a_run_that_can_be_resumed(folder: RunFolder, clock: Clock) -> None:
    """Ctrl-C between the making of the folder and the start of the ledger's actor."""
    ledger = open_ledger(folder, clock)
    ledger.end("stopped", "interrupted")
    status = read_status(folder, clock.now)
    assert (status.state, status.seconds) == ("stopped", 0)
    clock.now += 100
    ledger.begin(workers=1)
    clock.now += 3
    ledger.end("finished")
    assert read_status(folder, clock.now).seconds == 3
    ledger.close()


def test_damaged_files_are_named(folder: RunFolder) -> None:
    folder.ledger.write_bytes(b"this is no database, whatever its name says")
    with pytest.raises(RunFolderError, match=r"ledger\.sqlite cannot be read"):
        read_status(folder, 0.0)
    folder.config.write_text("{")
    with pytest.raises(RunFolderError, match=r"config\.json is damaged"):
        read_status(folder, 0.0)


def test_the_json_has_what_scripts_rely_on(held: RunFolder, clock: Clock) -> None:
    ledger = open_ledger(held, clock)
    ledger.begin(workers=2)
    sample(ledger, 2)
    ledger.finish(1, outcome(0.8), 0.512)
    found = json.loads(json.dumps(read_status(held, clock.now).to_json()))
    assert found["name"] == "demo"
    assert found["state"] == "running"
    assert found["children"].items() >= {"sampled": 2, "running": 0, "finished": 1, "failed": 0}.items()
    assert (found["updates"], found["shards"], found["replicas"]) == (0, 2, 3)
    assert found["best"].items() >= {"child_id": 1, "reward": 0.512, "metric": 0.8, "parameters": 1234}.items()
    assert found["seconds"] == 0
    ledger.close()


def test_a_reader_never_writes(folder: RunFolder, clock: Clock) -> None:
    ledger = open_ledger(folder, clock)
    ledger.begin(workers=1)
    ledger.close()
    before = folder.ledger.read_bytes()
    read_status(folder, clock.now)
    assert folder.ledger.read_bytes() == before


def test_the_panel_and_the_line_show_every_row(held: RunFolder, clock: Clock) -> None:
    ledger = open_ledger(held, clock)
    ledger.begin(workers=2)
    sample(ledger, 4)
    for child in (1, 2, 3):
        ledger.start(child, "worker")
    clock.now += 30
    ledger.finish(1, outcome(0.8), 0.512)
    ledger.finish(2, outcome(failure=Failure(cause=Cause.TIMEOUT, message="slow")), 0.0)
    ledger.learned(0, 1, BatchResult(staleness=(0, 3), figures={"baseline": 0.25}))
    status = read_status(held, clock.now)
    assert dict(status_rows(status)) == {
        "children": "1 running, 1 finished, 1 failed (1 timeout)",
        "best": "validation accuracy 0.8000 (child 1), reward 0.5120",
        "reward": "mean 0.2560 (last 16)",
        "searcher": "baseline 0.2500",
        "updates": "1 applied, staleness mean 1.5, max 3",
        "workers": "1 of 2 busy",
        "time": "30 s, about 4 min 30 s left",
    }
    assert line(status).startswith("[2/20] children: 1 running")
    ledger.close()


def test_the_summary_compares_with_the_first_children(folder: RunFolder, clock: Clock) -> None:
    ledger = open_ledger(folder, clock)
    ledger.begin(workers=1)
    sample(ledger, 20)
    for child in range(1, 21):
        ledger.finish(child, outcome(0.5 if child <= 16 else 0.9), 0.1 * child)
    ledger.end("finished")
    text = summary(read_status(folder, clock.now), folder)
    assert "+0.4000 against the mean of the first 16 children, 0.5000" in text
    assert "validation accuracy 0.9000" in text
    assert "1,234 parameters" in text
    assert "conv 3x3, 36 filters" in text
    assert str(folder.path) in text
    assert "resume" not in text
    ledger.close()


def test_before_a_child_has_ended_the_estimate_of_the_launch_says_how_long(held: RunFolder, clock: Clock) -> None:
    ledger = open_ledger(held, clock)
    ledger.begin(workers=2)
    sample(ledger, 4)
    ledger.start(1, "worker")
    clock.now += 30
    assert read_status(held, clock.now).time_left == ""
    held.estimate.write_text(json.dumps({"child_seconds": 7200.0}))
    status = read_status(held, clock.now)
    assert status.seconds_left == 20 * 7200 / 2
    assert (
        dict(status_rows(status))["time"] == "30 s, about 20 h 00 min left (a rough estimate: no child has ended yet)"
    )
    assert status.to_json()["seconds_left"] == 72_000
    for damaged in ("", "[]", '{"child_seconds": "x"}', '{"child_seconds": Infinity}', '{"child_seconds": -1}'):
        held.estimate.write_text(damaged)
        assert read_status(held, clock.now).seconds_left is None
    ledger.end("stopped", "as asked")
    assert read_status(held, clock.now).time_left == ""
    ledger.close()


def test_children_that_are_trained_as_one_have_one_worker_and_share_its_time(held: RunFolder, clock: Clock) -> None:
    ledger = open_ledger(held, clock)
    ledger.begin(workers=3)
    sample(ledger, 4)
    for place in range(3):
        ledger.start(1 + place, "worker", fused_key("ab", place))
    clock.now += 30
    status = read_status(held, clock.now)
    assert (status.running, status.busy, status.oldest_seconds) == (3, 1, 10)
    ledger.start(4, "other", "cd")
    clock.now += 15
    status = read_status(held, clock.now)
    assert (status.running, status.busy, status.oldest_seconds) == (4, 2, 15)
    ledger.close()


def test_a_search_that_no_number_of_children_ends_has_no_estimate(held: RunFolder, clock: Clock) -> None:
    ledger = open_ledger(held, clock)
    ledger.begin(workers=2)
    sample(ledger, 4)
    held.estimate.write_text(json.dumps({"child_seconds": 10.0}))
    status = read_status(held, clock.now)
    assert status.seconds_left == 20 * 10 / 2
    assert replace(status, max_children=MAX_CHILDREN).time_left == ""
    ledger.close()


def test_before_a_child_has_ended_its_age_says_how_long_at_least(held: RunFolder, clock: Clock) -> None:
    """Nine minutes of the paper's search on two cores."""
    ledger = open_ledger(held, clock)
    ledger.begin(workers=2)
    sample(ledger, 4)
    ledger.start(1, "worker")
    clock.now += 540
    assert read_status(held, clock.now).time_left == "more than 1 h 30 min left (no child has ended yet)"
    held.estimate.write_text(json.dumps({"child_seconds": 10.0}))  # too low, as is known by now
    assert read_status(held, clock.now).seconds_left == 20 * 540 / 2
    ledger.close()


def test_the_first_of_many_workers_to_end_is_not_taken_for_the_pace_of_all(held: RunFolder, clock: Clock) -> None:
    ledger = open_ledger(held, clock)
    ledger.begin(workers=4)
    sample(ledger, 8)
    for child in (1, 2, 3, 4):
        ledger.start(child, "worker")
    clock.now += 60
    ledger.finish(1, outcome(), 0.1)
    assert read_status(held, clock.now).seconds_left == pytest.approx(19 * 60 / 4)
    ledger.close()


@pytest.mark.parametrize(
    ("measure", "difference", "text"),
    [
        (Measure.ACCURACY, 0.0482, "+0.0482 against"),
        (Measure.SCORE, -0.01, "-0.0100 against"),
        (Measure.PERPLEXITY, -82.1, "82.1000 lower (better) than"),
        (Measure.PERPLEXITY, 3.0, "3.0000 higher (worse) than"),
    ],
)
def test_a_gain_says_which_way_is_better(measure: Measure, difference: float, text: str) -> None:
    assert gain_text(measure, difference) == text


def test_the_summary_of_one_child_speaks_in_the_singular(folder: RunFolder, clock: Clock) -> None:
    ledger = open_ledger(folder, clock)
    ledger.begin(workers=1)
    sample(ledger, 1)
    ledger.finish(1, outcome(0.5), 0.1)
    ledger.learned(0, 1, BatchResult(staleness=(0, 0), figures={}))
    ledger.end("finished")
    text = summary(read_status(folder, clock.now), folder)
    assert "1 child finished, 0 failed, 1 update\n" in text
    assert "against the mean of the first" not in text
    ledger.close()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (65, "1 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7620, "2 h 07 min"),
        (172_799, "47 h 59 min"),
        (273_600, "3 days 4 h"),
        (1.8e7, "7 months"),
        (1e8, "3 years"),
        (8.6e10, "2,725 years"),
    ],
)
def test_durations_are_for_people(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_an_unknown_run_names_those_that_exist(folder: RunFolder) -> None:
    with pytest.raises(RunFolderError, match=r"no run named 'other' in .*; the runs there are demo"):
        existing_run(folder.path.parent, "other")
    assert existing_run(folder.path.parent, "demo") == folder


def test_a_run_is_made_whole_and_once(folder: RunFolder) -> None:
    assert folder.read_config() == CONFIG
    with pytest.raises(RunFolderError, match=r"`nascluster resume demo --storage-path .*`, choose"):
        folder.create(CONFIG)
    assert [p.name for p in folder.path.parent.iterdir()] == ["demo"]


def test_a_folder_that_cannot_be_created_is_reported_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunFolderError, match=r"the run's folder .* cannot be created: Not a directory"):
        run_folder(tmp_path / "file", "demo").create(CONFIG)
    for name in ("x" * 101, "a\tb"):
        with pytest.raises(RunFolderError, match="`name` must be up to 100 printable characters"):
            check_new(run_folder(tmp_path, name))


def test_steps_on_shared_weights_are_shown_apart_from_the_paths_that_are_scored(
    folder: RunFolder, clock: Clock
) -> None:
    ledger = open_ledger(folder, clock)
    ledger.begin(workers=1)
    tokens = (1, 1, 1)
    steps = Proposal(tokens=(), architecture=None, job=Steps(objective="dropout", count=5))
    score = Proposal(tokens=tokens, architecture=SPACE.decode(tokens), job=Score())
    assert ledger.admit(0, 1, [steps, steps, steps, score], ()) is not None
    made = Outcome(curve=(), seconds=1.0, parameters=None, flops=None, seed=1)
    traffic = {"staleness": 2.0, "pulls": 5, "pulled_bytes": 40_000_000, "pushes": 5, "pushed_bytes": 20_000_000}
    clock.now += 10
    ledger.finish(1, replace(made, measurements={"loss": 3.0, "accuracy": 0.2} | traffic), None)
    ledger.finish(2, replace(made, measurements={"loss": 1.0, "accuracy": 0.4}), None)
    ledger.finish(3, Outcome.failed(Cause.DIVERGED, "why", seed=1), None)
    before = read_status(folder, clock.now)
    assert before.best is None
    assert before.first_metric is None
    assert (
        "supernet",
        "10 steps of training, loss 2.0000, training accuracy 0.3000 (last 16 children)",
    ) in status_rows(before)
    assert ("weights", "6.00 MB/s in 1.0 calls/s, staleness of steps mean 2.0") in status_rows(before)
    ledger.finish(4, replace(made, curve=(0.5,), measurements={"loss": 1.5}), 0.5)
    after = read_status(folder, clock.now)
    assert after.best is not None
    assert (after.best.child_id, after.best.scored, after.first_metric) == (4, True, 0.5)
    text = summary(after, folder)
    assert "the mean of the first" not in text  # it is that of the best child alone
    assert ", 10 steps of the shared weights" in text
    assert "0 updates" not in text
    assert after.to_json()["supernet"] == {
        "steps": 10,
        "loss": 2.0,
        "accuracy": pytest.approx(0.3),
        "staleness": 2.0,
        "path_metric": 0.5,
        "bytes_per_s": 6e6,
        "calls_per_s": 1.0,
    }
    assert dict(status_rows(after))["supernet"].endswith(", validation accuracy of paths 0.5000 (last 16)")
    assert "scored with shared weights in 1.0 s" in summary(after, folder)
    ledger.close()
