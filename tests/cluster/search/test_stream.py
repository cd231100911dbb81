"""Streams: m children in training, batches of those that have ended; killed at every call, and with odd orders."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from child_trainer.outcome import Budget, Outcome
from child_trainer.tasks.synthetic_options import SyntheticOptions
from cluster.config.failure_options import FailureOptions
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.search.evaluator import Assignment, Evaluator
from cluster.search.records import BatchResult, Stream
from cluster.storage.ledger.ledger import Ledger
from controller.searcher import Child, ChildRecord, Proposal
from controller.spaces.convolutional import ConvolutionalSpace
from ps.local import LocalStore
from ps.store import Ack, Push
from tests.chaos.invariants import check
from tests.cluster.runners.test_local import SYNTHETIC, ledger, search
from tests.cluster.search.test_replica import CONFIG, Run

STREAM = replace(CONFIG, topology=replace(CONFIG.topology, batching="stream"))

BATCHES = "SELECT batch, id FROM children ORDER BY batch, id"


class YoungestFirst:
    """Trains what was submitted last, so that the first child of all is in training until the end."""

    def __init__(self, inner: Evaluator) -> None:
        self._inner, self._held = inner, list[Assignment]()

    def submit(self, *assignments: Assignment) -> None:
        self._held.extend(assignments)

    def completed(self) -> list[tuple[int, Outcome]]:
        if self._held:
            self._inner.submit(self._held.pop())
        return self._inner.completed()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("undisturbed"), STREAM, YoungestFirst)
    run.calls = run.start()
    return run


def test_batches_hold_the_children_that_ended_first_and_never_wait_for_a_slow_one(undisturbed: Run) -> None:
    assert undisturbed.trained == [2, 3, 4, 5, 1]
    assert undisturbed.rows(BATCHES) == [(1, 2), (1, 3), (2, 4), (2, 5), (3, 1)]
    assert undisturbed.rows("SELECT number, pushed FROM batches") == [(1, 1), (2, 1), (3, 1)]
    assert undisturbed.pushes == [3, 3]
    # Child 4 is sampled when child 3 has ended and batch 1 was learnt from; child 1 is older than all of that.
    assert undisturbed.rows("SELECT versions FROM children ORDER BY id") == [
        ("[0, 0]",), ("[0, 0]",), ("[0, 0]",), ("[1, 1]",), ("[1, 1]",)
    ]  # fmt: skip
    assert undisturbed.rows("SELECT versions, staleness FROM batches") == [
        ("[0, 0]", "[0, 0]"), ("[1, 1]", "[0, 0]"), ("[0, 0]", "[2, 2]")
    ]  # fmt: skip


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_death_at_any_call_loses_nothing_and_repeats_nothing(undisturbed: Run, tmp_path: Path, after: bool) -> None:
    unrecorded = 0
    for dies_at in range(undisturbed.calls):
        run = Run(tmp_path / str(dies_at), STREAM, YoungestFirst)
        run.start(dies_at, after=after)
        finished = {row[0] for row in run.rows("SELECT id FROM children WHERE completion IS NOT NULL")}
        pushed, before = run.pushes[0], len(run.trained)
        ((batches, learned),) = run.rows("SELECT count(*), count(learned_at) FROM batches")
        assert pushed <= batches, f"call {dies_at}: a batch was pushed before it was recorded"
        known = run.rows("SELECT batch, id FROM children WHERE batch > 0")
        run.start()
        assert not finished & set(run.trained[before:]), f"call {dies_at}: finished training was repeated"
        assert set(known) <= set(run.rows(BATCHES)), f"call {dies_at}: a batch has changed"
        assert run.rows(BATCHES) == undisturbed.rows(BATCHES), dies_at
        assert run.rows("SELECT number, pushed, learned_at IS NULL FROM batches") == [(n, 1, 0) for n in (1, 2, 3)]
        assert run.pushes == [3, 3], f"call {dies_at}: a push was lost or applied twice"
        if pushed > learned:
            unrecorded += 1
            # Only the word that it was applied was lost: the weights are the undisturbed run's to the bit.
            assert all(torch.equal(run.values[name], value) for name, value in undisturbed.values.items())
    assert unrecorded == 3


def test_what_a_damaged_snapshot_has_lost_is_learnt_again_and_nothing_twice(undisturbed: Run, tmp_path: Path) -> None:
    again = 0
    for dies_at in range(0, undisturbed.calls, 3):
        run = Run(tmp_path / str(dies_at), STREAM, YoungestFirst)
        run.start(dies_at, after=True)
        newest = run.folder / "shards" / "shard-001.safetensors"
        if not (newest.parent / "shard-001.previous.safetensors").exists():
            continue
        newest.write_bytes(newest.read_bytes()[:-1])
        ((learned,),) = run.rows("SELECT count(learned_at) FROM batches")
        run.start()
        assert run.pushes == [3, 3], f"call {dies_at}: an acknowledged push was lost or applied twice"
        assert run.rows(BATCHES) == undisturbed.rows(BATCHES), dies_at
        assert sorted(set(run.trained)) == [1, 2, 3, 4, 5]
        again += learned > 0
    assert again > 2


def test_a_ledger_behind_the_shards_numbers_its_next_batch_above_theirs(tmp_path: Path) -> None:
    run = Run(tmp_path, STREAM)
    run.start()
    (tmp_path / "ledger.sqlite").unlink()
    run.start()
    assert run.rows("SELECT number, pushed FROM batches") == [(4, 1), (5, 1), (6, 1)]
    assert run.pushes == [6, 6]


def test_dropped_children_count_and_are_kept_from_the_searcher(tmp_path: Path) -> None:
    faults = TaskOptions(task="synthetic", options=SyntheticOptions(child_faults="diverged=1"))
    run = Run(tmp_path, replace(STREAM, task=faults, failures=FailureOptions(on_failure="diverged=drop")))
    run.start()
    assert run.rows("SELECT DISTINCT state, reward, cause FROM children") == [("failed", None, "diverged")]
    assert run.rows("SELECT number, pushed, figures FROM batches") == [(n, 1, "{}") for n in (1, 2, 3)]


def test_random_search_needs_no_store(tmp_path: Path) -> None:
    run = Run(tmp_path, STREAM.with_searcher("random"), YoungestFirst)
    run.start()
    assert run.rows(BATCHES) == [(1, 2), (1, 3), (2, 4), (2, 5), (3, 1)]
    assert run.rows("SELECT DISTINCT pushed FROM batches") == [(0,)]


def test_of_one_child_at_a_time_a_stream_is_the_papers_loop(tmp_path: Path) -> None:
    """The same draws, the same pulls: what is recorded is the same, but for where the versions stand."""
    one = replace(SYNTHETIC, max_children=12, topology=Topology(replicas=1, shards=2, children=1))
    search(one, tmp_path, "barrier")
    search(replace(one, topology=replace(one.topology, batching="stream")), tmp_path, "stream")
    barrier, stream = ledger(tmp_path, "barrier"), ledger(tmp_path, "stream")
    assert stream["batches"] == barrier["batches"]
    stream_rows, barrier_rows = ([(*row[:-4], *row[-3:]) for row in each["children"]] for each in (stream, barrier))
    assert stream_rows == barrier_rows  # without `versions`, which three others follow


@pytest.mark.parametrize("seconds", [0.0, 0.01], ids=["instant", "not instant"])
@pytest.mark.parametrize("consistency", [{}, {"consistency": "ssp", "staleness_bound": 1}, {"accumulate": 2}], ids=str)
def test_one_seed_gives_one_ledger_and_replicas_learn_from_all_their_children(
    seconds: float, consistency: dict[str, Any], tmp_path: Path
) -> None:
    topology = Topology(replicas=3, shards=2, children=4, batching="stream", **consistency)
    task = replace(SYNTHETIC.task, options=SyntheticOptions(child_seconds=seconds))
    config = replace(
        SYNTHETIC, max_children=29, task=task, budget=replace(SYNTHETIC.budget, epochs=1), topology=topology
    )
    for name in ("first", "second"):
        status = search(config, tmp_path, name)
        assert (status.state, status.finished) == ("finished", 29)
    assert ledger(tmp_path, "first") == ledger(tmp_path, "second")
    with closing(sqlite3.connect(tmp_path / "first" / "ledger.sqlite")) as db:
        sizes = db.execute(
            "SELECT replica, batch, count(*) FROM children GROUP BY replica, batch ORDER BY 1, 2"
        ).fetchall()
        assert db.execute("SELECT count(*) FROM batches WHERE learned_at IS NULL OR pushed = 0").fetchone() == (0,)
        assert db.execute("SELECT replica, number FROM batches ORDER BY 1, 2").fetchall() == [row[:2] for row in sizes]
    assert min(batch for _, batch, _ in sizes) == 1
    last = {replica: batch for replica, batch, _ in sizes}
    assert all(size == 4 or (batch == last[replica] and size < 4) for replica, batch, size in sizes)


@pytest.mark.parametrize("searcher", ["evolution", "local-search", "random", "q-learning"])
def test_searchers_without_parameters_stream(searcher: Any, tmp_path: Path) -> None:
    config = replace(
        SYNTHETIC.with_searcher(searcher), topology=replace(SYNTHETIC.topology, batching="stream"), max_children=30
    )
    status = search(config, tmp_path)
    assert (status.state, status.finished) == ("finished", 30)


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster.runners.trainer import Trainer

    topology = Topology(replicas=1, shards=2, children=4, batching="stream")
    whole = replace(
        SYNTHETIC, topology=topology, task=TaskOptions(task="synthetic", options=SyntheticOptions(child_seconds=0.001))
    )
    search(whole, tmp_path, "whole")
    train, count = Trainer.train, iter(range(100))

    def interrupted(self: Trainer, assignment: Any, **options: Any) -> Any:
        if next(count) == 10:
            raise KeyboardInterrupt
        return train(self, assignment, **options)

    monkeypatch.setattr(Trainer, "train", interrupted)
    stopped = search(whole, tmp_path, "parts")
    assert (stopped.state, stopped.finished) == ("stopped", 10)
    assert search(whole, tmp_path, "parts").state == "finished"
    parts, undisturbed = ledger(tmp_path, "parts"), ledger(tmp_path, "whole")
    assert parts["children"] == undisturbed["children"]
    assert parts["batches"] == undisturbed["batches"]


@pytest.mark.parametrize("applied", [True, False], ids=["after the push", "before the push"])
@pytest.mark.parametrize("dies_at", [1, 3])
def test_of_instant_children_too_a_batch_is_on_disk_before_it_is_pushed(
    dies_at: int, applied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is recorded of them becomes durable a turn at a time, and a turn that dies is undone."""
    config = replace(
        SYNTHETIC,
        max_children=21,
        budget=Budget(epochs=6),
        topology=Topology(replicas=2, shards=2, children=4, batching="stream"),
        space_options=ConvolutionalSpace(initial_depth=1, max_depth=1),
    )
    push, count = LocalStore.push, iter(range(1, 100))

    def dying(self: LocalStore, update: Push) -> Ack:
        fatal = next(count) == dies_at
        if fatal and not applied:
            raise SystemError("killed")
        ack = push(self, update)
        if fatal:
            raise SystemError("killed")
        return ack

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "push", dying)
        assert search(config, tmp_path).state == "failed"
    assert search(config, tmp_path).state == "finished"
    report = check(tmp_path / "run")
    assert (report.children, report.lost, report.duplicated, report.repeated) == (21, 0, 0, 0)


# The ledger's part of it.

SPACE = ConvolutionalSpace(initial_depth=1)


def proposals(count: int) -> list[Proposal]:
    return [Proposal(tokens=(0, 0, 0), architecture=SPACE.decode((0, 0, 0)), log_prob=-1.0)] * count


def end(book: Ledger, child: int) -> ChildRecord:
    outcome = Outcome(curve=(0.5,), seconds=1.0, parameters=1, flops=1, seed=child)
    return book.finish(child, outcome, 0.5)


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Ledger]:
    book = Ledger(tmp_path / "ledger.sqlite", seed=0, max_children=5, clock=lambda: 0.0)
    yield book
    book.close()


def outstanding(stream: Stream) -> list[int]:
    return [child.id for child in stream.outstanding]


def test_what_is_recorded_twice_or_late_changes_nothing(book: Ledger) -> None:
    for _ in range(2):
        assert outstanding(book.add_children(0, 1, 0, proposals(2), (3, 4))) == [1, 2]
    assert outstanding(book.add_children(1, 1, 0, proposals(1), (3, 4))) == [3]
    for child in (2, 3, 1):
        end(book, child)
    for _ in range(2):
        book.form_batch(0, 1, 2)
        batch = book.open_batch(0)
        assert batch is not None
        assert (batch.number, batch.versions, [child.id for child in batch.children]) == (1, (3, 4), [1, 2])
        assert all(child.reward == 0.5 for child in batch.children)
    assert outstanding(book.add_children(0, 1, 0, proposals(2), (3, 4))) == []  # of before the batch
    assert book.stream(0) == Stream(last_batch=1, ended=0, outstanding=(), room=2)
    assert book.stream(1) == Stream(last_batch=0, ended=1, outstanding=(), room=2)
    book.form_batch(2, 1, 2)
    assert book.open_batch(2) is None


class StreamMachine(RuleBasedStateMachine):
    """Any order of calls of two replicas, repeated or late, against a model of plain lists."""

    @initialize()
    def start(self) -> None:
        self.book = Ledger(Path(":memory:"), seed=0, max_children=20, clock=lambda: 0.0)
        self.sampled = 0
        self.out: dict[int, list[int]] = {0: [], 1: []}
        self.ended: dict[int, list[int]] = {0: [], 1: []}
        self.batches: dict[int, list[list[int]]] = {0: [], 1: []}
        self.learned = {0: 0, 1: 0}
        self.late: list[tuple[int, int, int, int]] = []

    @rule(replica=st.integers(0, 1), count=st.integers(1, 4))
    def extend(self, replica: int, count: int) -> None:
        number, unbatched = len(self.batches[replica]) + 1, len(self.out[replica]) + len(self.ended[replica])
        stream = self.book.add_children(replica, number, unbatched, proposals(count), (number,))
        new = list(range(self.sampled + 1, min(20, self.sampled + count) + 1))
        self.sampled += len(new)
        self.out[replica] += new
        assert outstanding(stream) == self.out[replica]
        if new:
            self.late.append((replica, number, unbatched, count))

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def extend_once_more(self, data: st.DataObject) -> None:
        replica, number, unbatched, count = data.draw(st.sampled_from(self.late))
        stream = self.book.add_children(replica, number, unbatched, proposals(count), (number,))
        assert outstanding(stream) == self.out[replica]

    @rule(data=st.data(), replica=st.integers(0, 1))
    def finish(self, data: st.DataObject, replica: int) -> None:
        if self.out[replica]:
            child = data.draw(st.sampled_from(self.out[replica]))
            self.out[replica].remove(child)
            self.ended[replica].append(child)
            end(self.book, child)

    @rule(replica=st.integers(0, 1), size=st.integers(1, 4), repeats=st.integers(1, 2))
    def gather(self, replica: int, size: int, repeats: int) -> None:
        number = len(self.batches[replica]) + 1
        if ready := self.ended[replica][:size]:
            self.batches[replica].append(ready)
            self.ended[replica] = self.ended[replica][size:]
        for _ in range(repeats if ready else 1):
            self.book.form_batch(replica, number, size)

    @rule(replica=st.integers(0, 1))
    def learn(self, replica: int) -> None:
        if self.learned[replica] < len(self.batches[replica]):
            self.learned[replica] += 1
            self.book.learned(replica, self.learned[replica], BatchResult(staleness=(0,), figures={}))

    @rule(replica=st.integers(0, 1), back=st.integers(1, 2))
    def fall_back(self, replica: int, back: int) -> None:
        """A shard has lost the last pushes."""
        self.learned[replica] = max(0, self.learned[replica] - back)
        self.book.open_batch(replica, self.learned[replica])

    @invariant()
    def agrees(self) -> None:
        for replica in (0, 1):
            stream = self.book.stream(replica)
            assert outstanding(stream) == self.out[replica]
            assert (stream.ended, stream.last_batch) == (len(self.ended[replica]), len(self.batches[replica]))
            assert stream.room == 20 - self.sampled
            batch, learned = self.book.open_batch(replica), self.learned[replica]
            if learned == len(self.batches[replica]):
                assert batch is None
            else:
                assert batch is not None
                assert batch.number == learned + 1
                assert [child.id for child in batch.children] == sorted(self.batches[replica][learned])

    def teardown(self) -> None:
        if hasattr(self, "book"):
            self.book.close()


TestStreamMachine = StreamMachine.TestCase
TestStreamMachine.settings = settings(max_examples=40, stateful_step_count=30)


def test_the_runs_limit_holds_for_streams(book: Ledger) -> None:
    assert outstanding(book.add_children(0, 1, 0, proposals(4), ())) == [1, 2, 3, 4]
    assert outstanding(book.add_children(1, 1, 0, proposals(4), ())) == [5]
    assert book.add_children(2, 1, 0, proposals(4), ()) == Stream(last_batch=0, ended=0, outstanding=(), room=0)
    assert book.admit(3, 1, proposals(1), ()) is None


def test_children_that_are_in_no_batch_are_no_open_batch(book: Ledger) -> None:
    book.add_children(0, 1, 0, proposals(2), ())
    end(book, 1)
    assert book.open_batch(0, 0) is None
    assert book.last_batch(0) == 0
    assert [child.id for child in book.pending()] == [2]


CHILD = Child(id=1, proposal=proposals(1)[0])


@pytest.mark.parametrize(
    ("ended", "out", "room", "due", "wanted"),
    [
        (0, 0, 9, False, 4),  # the start
        (3, 4, 9, False, 0),
        (4, 3, 9, True, 1),
        (7, 0, 0, True, 0),
        (3, 3, 9, False, 1),
        (3, 1, 2, False, 2),  # the run's limit is near
        (3, 1, 0, False, 0),  # the last child is out
        (3, 0, 0, True, 0),  # the last batch, which is smaller
        (3, 0, 5, False, 4),
        (0, 0, 0, False, 0),  # the end
        (0, 0, -2, False, 0),  # of a run whose limit was lowered
    ],
)
def test_when_a_batch_is_due_and_how_many_children_are_wanted(
    ended: int, out: int, room: int, due: bool, wanted: int
) -> None:
    stream = Stream(last_batch=0, ended=ended, outstanding=(CHILD,) * out, room=room)
    assert (stream.is_due(4), stream.missing(4), stream.unbatched) == (due, wanted, ended + out)


def test_streams_do_not_go_with_replicas_that_wait_for_one_another() -> None:
    with pytest.raises(ValueError, match="`batching` must be barrier with `consistency` sync"):
        Topology(consistency="sync", batching="stream")


def test_a_configuration_of_before_there_were_streams_has_barriers() -> None:
    data = STREAM.to_json()
    assert RunConfig.from_json(data) == STREAM
    del data["topology"]["batching"]
    assert RunConfig.from_json(data).topology.batching == "barrier"
