"""Replays of searches whose replicas died and whose shards fell back, and of records that somebody has changed."""

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.cli.main import run as nascluster
from cluster.config.log_options import LogOptions
from cluster.config.run_config import RunConfig
from cluster.replay.difference import Difference, NotReplayable
from cluster.replay.lookups import requests_of
from cluster.replay.record import read_record
from cluster.replay.replay import replay
from cluster.replay.result import Replayed
from cluster.replay.until import beginning_of
from cluster.search.origin import Origin
from cluster.storage.run_folder import RunFolder
from tests.cluster.replay.searches import PPO, REINFORCE, config, search
from tests.lengths import LONG


def replayed(folder: RunFolder) -> Replayed:
    return replay(read_record(folder))


def beginnings(folder: RunFolder, step: int) -> list[int]:
    """Return how many children had been sampled in some beginnings of a run, each of which is computed again."""
    record = read_record(folder)
    ended = sum(child.completion is not None for child in record.children.values())
    return [replay(beginning_of(record, until).record).children for until in range(1, ended + 1, step)]


def changed(folder: RunFolder, *statements: str) -> None:
    with closing(sqlite3.connect(folder.ledger)) as db:
        for statement in statements:
            assert db.execute(statement).rowcount == 1, statement
        db.commit()


SEARCHES = {
    "stream": config(replicas=4, shards=3),
    "barrier": config(batching="barrier"),
    "alone": config(replicas=1, shards=1),
    "ppo": config("ppo", PPO, batching="barrier", shards=3),
    "ppo-stream": config("ppo", PPO),
    "queue": config(options=replace(REINFORCE, queue_size=3, importance_clip=1.0)),
    "summed": config(accumulate=3),
    "scaled": config(on_stale="scale", consistency="ssp", staleness_bound=2),
    "dropped": config(on_stale="drop", max_staleness=1, replicas=4),
    "evolution": config("evolution", None, children=30),
    "random": config("random", None, children=12, batching="barrier"),
}
"""Name -> a search of each kind."""


@pytest.mark.parametrize("name", SEARCHES)
def test_a_run_is_computed_again_to_the_bit(tmp_path: Path, name: str) -> None:
    run, folder = SEARCHES[name], RunFolder(tmp_path / "run")
    search(run, folder)
    found = replayed(folder)
    assert (found.children, found.restarts, found.lost) == (run.max_children, 0, 0)
    assert found.pushes == (found.batches * run.make_searcher().__dict__.get("passes", 1) if found.shards else 0)
    sampled = beginnings(folder, 9)
    assert sampled == sorted(sampled) and sampled[-1] <= run.max_children


@pytest.mark.parametrize(
    "name, seed",
    [("stream", 1), ("ppo", 4), ("queue", 4), ("summed", 2)]
    + [pytest.param(name, seed, marks=LONG) for name in ("stream", "ppo", "queue", "summed") for seed in range(5, 15)],
)
def test_a_run_with_deaths_and_shards_that_fell_back_is_computed_again(tmp_path: Path, name: str, seed: int) -> None:
    run, folder = SEARCHES[name], RunFolder(tmp_path / "run")
    search(run, folder, seed, dies=0.2, falls=0.15)
    assert replayed(folder).children == run.max_children
    assert len(beginnings(folder, 6)) == run.max_children // 6


def test_pushes_that_a_shard_lost_are_told(tmp_path: Path) -> None:
    lost = 0
    for seed in range(3):
        folder = RunFolder(tmp_path / f"run-{seed}")
        search(SEARCHES["stream"], folder, seed, falls=0.3)
        lost += replayed(folder).lost
    assert lost > 0


@pytest.fixture
def finished(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    search(config(children=20), folder)
    return folder


CHANGES: dict[str, tuple[tuple[str, ...], str]] = {
    "reward": (
        ("UPDATE children SET reward = 0.5 WHERE id = 7",),
        "the row of child 7 in the ledger has the reward 0.5",
    ),
    "metric": (
        ("UPDATE children SET metric = 0.5 WHERE id = 7",),
        "the row of child 7 in the ledger has the reward .*, and its outcome earns 0.125",
    ),
    "tokens": (
        ("UPDATE children SET tokens = '[0' || substr(tokens, 3) WHERE id = 7",),
        "the row of child 7 in the ledger has the (tokens|architecture)",
    ),
    "log_prob": (
        ("UPDATE children SET log_prob = log_prob + 1e-6 WHERE id = 7",),
        "the row of child 7 in the ledger has the log-probability",
    ),
    "architecture": (
        ("UPDATE children SET architecture_id = 'another' WHERE id = 7",),
        "the row of child 7 in the ledger has the architecture another",
    ),
    "seed": (("UPDATE children SET seed = 5 WHERE id = 7",), "the row of child 7 in the ledger has the seed 5"),
    "versions": (
        ("UPDATE children SET versions = '[99, 99]' WHERE id = 7",),
        "the row of child 7 in the ledger has the versions 99, 99",
    ),
    "batch's versions": (
        ("UPDATE batches SET versions = '[99, 99]' WHERE replica = 1 AND number = 2",),
        "the row of batch 2 of replica 1 in the ledger has the versions 99, 99",
    ),
    "staleness": (
        ("UPDATE batches SET staleness = '[7, 7]' WHERE replica = 1 AND number = 2",),
        "the row of batch 2 of replica 1 in the ledger has the staleness 7 on shard 0",
    ),
    "origin": (
        (
            "UPDATE children SET origin = (SELECT replace(origin, 'incarnations=1', 'incarnations=9') FROM children"
            " WHERE id = 1) WHERE id = 2",
        ),
        "the row of child 2 in the ledger has another origin than child 1",
    ),
}
"""What somebody changes -> the statements, and what a replay says first."""


def test_a_beginning_has_what_was_done_until_the_child_had_ended(tmp_path: Path) -> None:
    """One replica of one child at a time: the beginning ends after the update that the last child has given."""
    folder = RunFolder(tmp_path / "run")
    run = config(replicas=1, children=8)
    search(replace(run, topology=replace(run.topology, children=1)), folder)
    record = read_record(folder)
    for until in (1, 5, 8):
        beginning = beginning_of(record, until)
        assert (beginning.sampled, len(beginning.learned)) == (until, until)
        found = replay(beginning.record)
        assert (found.children, found.batches, found.pushes) == (until, until, until)
    for until in (0, 9):
        with pytest.raises(NotReplayable, match=f"`--until` must be from 1 to 8, .* that have ended, got {until}"):
            beginning_of(record, until)


def test_a_beginning_does_not_know_of_what_came_later(finished: RunFolder) -> None:
    changed(finished, "UPDATE children SET reward = 0.5 WHERE completion = 15")
    record = read_record(finished)
    assert replay(beginning_of(record, 14).record).children >= 14
    with pytest.raises(Difference, match=r"has the reward 0\.5"):
        replay(beginning_of(record, 15).record)


def test_children_that_were_proposed_together_say_their_origin_once_and_earlier_versions_said_it_in_each_row(
    finished: RunFolder,
) -> None:
    record = read_record(finished)
    with closing(sqlite3.connect(finished.ledger)) as db:
        rows = dict(db.execute("SELECT id, origin FROM children ORDER BY id").fetchall())
        assert rows[1] and rows[2] == ""
        assert sum(map(bool, rows.values())) == len(requests_of(record)) < len(rows)
        said = ""
        for child, text in rows.items():
            said = text or said
            db.execute("UPDATE children SET origin = ? WHERE id = ?", (said, child))
        db.commit()
    assert read_record(finished).origins == record.origins


@pytest.mark.parametrize("what", CHANGES)
def test_a_row_that_was_changed_is_named(finished: RunFolder, what: str) -> None:
    statements, message = CHANGES[what]
    changed(finished, *statements)
    with pytest.raises(Difference, match=message):
        replayed(finished)


def test_an_outcome_that_was_exchanged_with_its_reward_is_found_at_its_batch(finished: RunFolder) -> None:
    """The row agrees with itself; what was learnt from it does not."""
    changed(finished, "UPDATE children SET metric = 0.5, reward = 0.125 WHERE id = 7")
    with closing(sqlite3.connect(finished.ledger)) as db:
        replica, number = db.execute("SELECT replica, batch FROM children WHERE id = 7").fetchone()
    with pytest.raises(Difference, match=rf"the gradient of batch {number} of replica {replica} .* \(.*7.*\)"):
        replayed(finished)


def lines(folder: RunFolder, change: Callable[[list[str]], list[str]]) -> None:
    log = folder.shards / "shard-001.order"
    log.write_text("".join(change(log.read_text().splitlines(keepends=True))))


def test_a_log_that_was_changed_is_found(finished: RunFolder) -> None:
    def swap(rows: list[str]) -> list[str]:
        first, second = (json.loads(row) for row in rows[-3:-1])
        return [
            *rows[:-3],
            f"{json.dumps([*first[:2], *second[2:]])}\n",
            f"{json.dumps([*second[:2], *first[2:]])}\n",
            rows[-1],
        ]

    lines(finished, swap)
    with pytest.raises(Difference):
        replayed(finished)


def test_a_log_that_lacks_a_push_is_refused(finished: RunFolder) -> None:
    lines(finished, lambda rows: [rows[0], *rows[2:]])
    with pytest.raises(NotReplayable, match=r"shard-001\.order lacks push 1 of its shard: the next one in it is 2"):
        replayed(finished)


def test_what_the_log_lacks_at_its_end_is_in_the_snapshot(finished: RunFolder) -> None:
    """The machine went down before the log was on its disk."""
    lines(finished, lambda rows: [*rows[:3], rows[3][:9]])
    assert replayed(finished).children == 20


@pytest.mark.parametrize(
    "run, message",
    [
        (replace(config(), logs=LogOptions(replay_log=False)), "launched with --no-replay-log"),
        (config(consistency="sync", batching="barrier"), "`consistency` sync cannot be replayed"),
    ],
    ids=["not recorded", "sync"],
)
def test_a_run_that_cannot_be_replayed_is_refused(tmp_path: Path, run: RunConfig, message: str) -> None:
    folder = RunFolder(tmp_path / "run")
    search(replace(run, max_children=6), folder)
    with pytest.raises(NotReplayable, match=message):
        read_record(folder)
    assert any(folder.shards.glob("*.order")) == run.logs.replay_log


def test_the_command_says_what_it_found(finished: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--storage-path", str(finished.path.parent))
    assert nascluster(["replay", "run", *where]) == 0
    assert re.search(r"20 children in 11 batches, 11 updates on 2 shards\nEvery sample", capsys.readouterr().out)
    assert nascluster(["replay", "run", "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out)["equal"] is True
    assert nascluster(["replay", "run", "--until", "9", *where]) == 0
    assert "Replayed the run 'run' until 9 children had ended, in " in capsys.readouterr().out
    assert nascluster(["replay", "run", "--until", "9", "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out)["until"] == 9
    changed(finished, "UPDATE children SET reward = 0.5 WHERE id = 7")
    assert nascluster(["replay", "run", *where]) == 1
    assert "differs from its record: the row of child 7" in capsys.readouterr().out


def test_an_origin_is_one_short_line() -> None:
    origin = Origin(
        versions=(7,) * 20,
        incarnations=(1,) * 19 + (2,),
        completed=8,
        known=9,
        unknown=(3,),
        step=(4, 1),
        asked=2,
        checksum=10,
    )
    assert origin.to_text() == (
        "versions=7x20 incarnations=1x19,2 completed=8 known=9 unknown=3 step=4,1 asked=2 checksum=0000000a"
    )
    assert Origin.from_text(origin.to_text()) == origin
    assert Origin.from_text("") == Origin(versions=(), incarnations=())
    for text in ("versions=a", "other=3"):
        with pytest.raises(ValueError):
            Origin.from_text(text)
