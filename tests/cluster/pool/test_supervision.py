"""Which worker trains which child, and which one is restarted: each action, with its reason."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from child_trainer.outcome import Cause
from cluster.pool.supervision import (
    LOST_CALL_TIMEOUT_S,
    NO_WORKERS_NOTICE_S,
    Abandon,
    Begin,
    Nodes,
    Preempt,
    Restart,
    Rules,
    Waiting,
    WorkerState,
    assign,
    candidates,
    cause_of_exit,
    restart_reason,
    shortage,
    watch,
)
from cluster.search.records import Attempt

NOW = 1_000.0
NODES = Nodes(alive=frozenset({"a", "b"}))
RULES = Rules(child_timeout_s=100.0, heartbeat_timeout_s=30.0)


def attempt(started_at: float = NOW - 10) -> Attempt:
    return Attempt(
        child_id=1, seed=7, key="k", slot=0, worker="worker-0@here:7", batch_size=None, started_at=started_at
    )


def busy(**changes: object) -> WorkerState:
    worker = WorkerState(slot=0, place="worker-0@here:7", node="a", attempts=(attempt(),), heard_at=NOW - 1)
    return replace(worker, **changes)  # type: ignore[arg-type]


def idle(slot: int = 0, node: str = "a", **changes: object) -> WorkerState:
    return replace(WorkerState(slot=slot, place="p", node=node), **changes)  # type: ignore[arg-type]


DRAINING = replace(NODES, draining=frozenset({"a"}))
SAVING = replace(RULES, checkpoints=True)
NONE_LEFT = Nodes(alive=frozenset({"b"}))


@pytest.mark.parametrize(
    ("worker", "nodes", "rules", "stopping"),
    [
        (busy(), NODES, RULES, False),
        (busy(), NODES, RULES, True),
        (busy(heard_at=NOW - 30), NODES, RULES, False),  # just in time
        (busy(attempts=(attempt(NOW - 100),), heard_at=NOW), NODES, RULES, False),  # just in time
        (busy(attempts=(attempt(0.0),)), NODES, Rules(heartbeat_timeout_s=30.0), False),  # no limit
        (busy(), DRAINING, RULES, False),  # it could not resume elsewhere: let it end
        (busy(preempt_requested=True), DRAINING, SAVING, True),  # once is enough
        (busy(place=None, heard_at=NOW - LOST_CALL_TIMEOUT_S), NODES, RULES, False),  # its call was lost a moment ago
        (WorkerState(slot=0), NODES, RULES, False),  # being started
        (WorkerState(slot=0, restart_reason="worn"), NODES, RULES, False),  # being restarted
        (idle(heard_at=0.0), NODES, RULES, False),  # an idle worker need not send heartbeats
        (idle(trained=9), NODES, replace(RULES, recycle_after=10), False),
    ],
)
def test_nothing_is_done_without_need(worker: WorkerState, nodes: Nodes, rules: Rules, stopping: bool) -> None:
    assert watch(NOW, [worker], nodes, rules, stopping=stopping) == []


TOO_LONG = "the attempt has taken 100.5 s, and a child may take 100 s"
SILENT = "worker-0@here:7 has sent no heartbeat for 31 s"


@pytest.mark.parametrize(
    ("worker", "nodes", "rules", "stopping", "action"),
    [
        (
            busy(attempts=(attempt(NOW - 100.5),)),
            NODES,
            RULES,
            False,
            Restart(slot=0, cause=Cause.TIMEOUT, reason=TOO_LONG),
        ),
        (busy(heard_at=NOW - 31), NODES, RULES, False, Restart(slot=0, cause=Cause.CRASHED, reason=SILENT)),
        (busy(heard_at=NOW - 31), NONE_LEFT, RULES, False, Restart(slot=0, cause=Cause.PREEMPTED, reason=SILENT)),
        (busy(heard_at=NOW - 31), DRAINING, RULES, False, Restart(slot=0, cause=Cause.PREEMPTED, reason=SILENT)),
        (
            busy(place=None, heard_at=NOW - 12),
            NODES,
            RULES,
            False,
            Abandon(slot=0, cause=Cause.CRASHED, reason="the call to worker-0@here:7 was lost: no heartbeat for 12 s"),
        ),
        (
            busy(place=None),
            NONE_LEFT,
            RULES,
            False,
            Abandon(slot=0, cause=Cause.PREEMPTED, reason="the call to worker-0@here:7 was lost: its node is gone"),
        ),
        (busy(), DRAINING, SAVING, False, Preempt(slot=0, reason="its node is being drained")),
        (busy(), NODES, SAVING, True, Preempt(slot=0, reason="the run is stopping")),
        (
            idle(trained=10),
            NODES,
            replace(RULES, recycle_after=10),
            False,
            Restart(slot=0, cause=None, reason="it has trained 10 children"),
        ),
        (idle(restart_reason="rust"), NODES, RULES, False, Restart(slot=0, cause=None, reason="rust")),
    ],
)
def test_each_decision_and_its_reason(
    worker: WorkerState, nodes: Nodes, rules: Rules, stopping: bool, action: object
) -> None:
    assert watch(NOW, [worker], nodes, rules, stopping=stopping) == [action]


@pytest.mark.parametrize(
    ("node", "nodes", "cause"),
    [
        ("a", NODES, Cause.CRASHED),
        ("a", DRAINING, Cause.PREEMPTED),
        ("a", NONE_LEFT, Cause.PREEMPTED),
        (None, NODES, Cause.CRASHED),  # it has never reported its node
    ],
)
def test_an_exit_with_the_node_is_a_preemption(node: str | None, nodes: Nodes, cause: Cause) -> None:
    assert cause_of_exit(node, nodes) == cause


LATELY, LONG_AGO = NOW - NO_WORKERS_NOTICE_S, NOW - NO_WORKERS_NOTICE_S - 1


@pytest.mark.parametrize(
    ("workers", "waiting", "reported", "line"),
    [
        (
            [WorkerState(slot=0, heard_at=LONG_AGO)],
            1,
            False,
            "No worker has been up for 31 s: 1 child waits for one.",
        ),
        (
            # One died with its node while it was idle, which is not known yet.
            [WorkerState(slot=0, heard_at=LONG_AGO), idle(1, "gone", heard_at=LONG_AGO - 9)],
            1_200,
            False,
            "No worker has been up for 31 s: 1,200 children wait for one.",
        ),
        ([WorkerState(slot=0, heard_at=LONG_AGO)], 1, True, None),  # once is enough
        ([WorkerState(slot=0, heard_at=LONG_AGO)], 0, False, None),  # no child waits
        (
            [WorkerState(slot=0, heard_at=LONG_AGO), WorkerState(slot=1, heard_at=LATELY)],
            1,
            False,
            None,
        ),  # a moment ago
        ([WorkerState(slot=0, heard_at=LONG_AGO), busy(heard_at=LONG_AGO)], 1, False, None),
        ([WorkerState(slot=0), idle(1)], 1, True, "1 of 2 workers are up again."),
        ([WorkerState(slot=0), idle(1)], 0, True, "1 of 2 workers are up again."),
        ([idle(1, "gone")], 1, True, None),
        ([], 1, False, None),
    ],
)
def test_a_shortage_is_reported_once_and_so_is_its_end(
    workers: list[WorkerState], waiting: int, reported: bool, line: str | None
) -> None:
    assert shortage(NOW, workers, NODES, waiting, reported=reported) == line


def test_a_process_is_restarted_only_for_a_reason() -> None:
    rules = Rules(recycle_after=3)
    assert restart_reason(idle(trained=2), rules) is None
    assert restart_reason(idle(trained=3), rules) == "it has trained 3 children"
    assert restart_reason(idle(trained=1_000), Rules()) is None
    assert restart_reason(idle(restart_reason="rust", trained=3), rules) == "rust"


def begun(*pairs: tuple[int, int]) -> list[Begin]:
    return [Begin(slot=slot, child_id=child_id) for slot, child_id in pairs]


def test_children_are_assigned_to_workers_in_their_order() -> None:
    waiting = [Waiting(child_id=child) for child in (5, 3, 4)]
    assert assign([idle(2), idle(0)], waiting, NODES) == begun((2, 5), (0, 3))
    assert assign([], waiting, NODES) == []
    assert assign([idle(0)], [], NODES) == []


def test_a_child_avoids_workers_where_it_failed_unless_no_other_is_free() -> None:
    burnt, fresh = Waiting(child_id=1, avoid=frozenset({0})), Waiting(child_id=2)
    assert assign([idle(0), idle(1)], [burnt, fresh], NODES) == begun((1, 1), (0, 2))
    assert assign([idle(0)], [burnt, fresh], NODES) == begun((0, 2))
    assert assign([idle(0)], [burnt], NODES) == begun((0, 1))


def test_a_draining_node_gets_no_child() -> None:
    assert assign([idle(0, "a"), idle(1, "b")], [Waiting(child_id=1), Waiting(child_id=2)], DRAINING) == begun((1, 1))


# --- Any workers, children and nodes -----------------------------------------------------------------------------

TIMES = st.floats(0, NOW)
NODE = st.sampled_from(["a", "b", "c"])
SOME_NODES = st.builds(Nodes, alive=st.frozensets(NODE), draining=st.frozensets(NODE))
SOME_RULES = st.builds(
    Rules,
    child_timeout_s=st.none() | st.floats(1, NOW),
    heartbeat_timeout_s=st.floats(1, NOW),
    recycle_after=st.none() | st.integers(1, 5),
    checkpoints=st.booleans(),
)


@st.composite
def fleets(draw: st.DrawFn) -> list[WorkerState]:
    return [
        WorkerState(
            slot=slot,
            place=draw(st.none() | st.just(f"p{slot}")),
            node=draw(st.none() | NODE),
            attempts=draw(st.just(()) | TIMES.map(attempt).map(lambda one: (one,))),
            heard_at=draw(TIMES),
            trained=draw(st.integers(0, 6)),
            restart_reason=draw(st.none() | st.just("rust")),
            preempt_requested=draw(st.booleans()),
        )
        for slot in draw(st.lists(st.integers(0, 9), unique=True, max_size=6))
    ]


WAITING = st.lists(
    st.builds(Waiting, child_id=st.integers(1, 30), avoid=st.frozensets(st.integers(0, 9))),
    unique_by=lambda child: child.child_id,
    max_size=8,
)


@given(workers=fleets(), nodes=SOME_NODES, rules=SOME_RULES, stopping=st.booleans())
def test_every_action_has_a_reason_and_a_worker_gets_one_at_most(
    workers: list[WorkerState], nodes: Nodes, rules: Rules, stopping: bool
) -> None:
    actions = watch(NOW, workers, nodes, rules, stopping=stopping)
    fleet = {worker.slot: worker for worker in workers}
    assert len({action.slot for action in actions}) == len(actions)
    for action in actions:
        worker = fleet[action.slot]
        assert action.reason
        # A failure has a cause, and a worker without an attempt fails none.
        assert isinstance(action, Preempt) or (action.cause is None) == (not worker.attempts)
        if isinstance(action, Preempt):
            assert rules.checkpoints
            assert worker.attempts
        if isinstance(action, Abandon):
            assert worker.place is None
    for worker in workers:
        if worker.attempts and worker.slot not in {action.slot for action in actions}:
            assert rules.child_timeout_s is None or NOW - worker.attempts[0].started_at <= rules.child_timeout_s
            assert NOW - worker.heard_at <= rules.heartbeat_timeout_s


@given(workers=fleets(), waiting=WAITING, nodes=SOME_NODES)
def test_no_child_waits_while_a_worker_is_idle(
    workers: list[WorkerState], waiting: list[Waiting], nodes: Nodes
) -> None:
    free = [worker for worker in workers if worker.node not in nodes.draining]
    begins = assign(workers, waiting, nodes)
    slots, children = [begin.slot for begin in begins], [begin.child_id for begin in begins]
    assert len(set(slots)) == len(slots), "a worker got two children"
    assert len(set(children)) == len(children), "a child got two workers"
    assert set(slots) <= {worker.slot for worker in free}
    assert set(children) <= {child.child_id for child in waiting}
    assert len(begins) == min(len(free), len(waiting))
    # A child that was assigned where it had failed had no better choice: no other worker was left.
    avoid = {child.child_id: child.avoid for child in waiting}
    unused = {worker.slot for worker in free} - set(slots)
    for begin in begins:
        if begin.slot in avoid[begin.child_id]:
            assert unused <= avoid[begin.child_id]


@given(
    st.lists(st.booleans(), max_size=6),
    st.lists(st.frozensets(st.integers(0, 5), max_size=4), max_size=6),
)
def test_the_candidates_get_the_same_children_as_all_free_workers_would(
    draining: list[bool], avoided: list[frozenset[int]]
) -> None:
    workers = {slot: idle(slot, "b" if drained else "a") for slot, drained in enumerate(draining)}
    waiting = {child_id: Waiting(child_id=child_id, avoid=avoid) for child_id, avoid in enumerate(avoided, start=1)}
    few = candidates(workers, waiting, DRAINING)
    assert assign(few, waiting.values(), DRAINING) == assign(list(workers.values()), waiting.values(), DRAINING)


def test_of_many_free_workers_few_are_candidates() -> None:
    workers = {slot: idle(slot) for slot in range(1000)}
    waiting = {7: Waiting(child_id=7, avoid=frozenset({0, 1}))}
    assert [worker.slot for worker in candidates(workers, waiting, NODES)] == [0, 1, 2]
    assert assign(candidates(workers, waiting, NODES), waiting.values(), NODES) == begun((2, 7))
