"""Who trains what, and who has been silent or has taken too long: pure functions of (now, fleet, rules).

Time comes in, decisions with reasons come out. The pool (`cluster/pool/pool.py`) only carries them out.
"""

import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from child_trainer.outcome import Cause, Outcome
from cluster.formatting import counted
from cluster.pool.failure_policy import Reactions
from cluster.search.records import Attempt

MOST_ENDED = 16
"""Processes of one worker that are remembered as ended: far more than can be heard at a time."""

SUSPECT_S = 10.0
"""A worker that broke off its call and has given no sign of life for so long is taken for dead."""

NOBODY_S = 30.0
"""Children that wait while no worker is up are spoken of after so long; a worker's start takes seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What is allowed.

    Attributes:
        child_timeout_s: seconds that one attempt may take, or `None` for any.
        silence_s: seconds after which a busy worker that gives no sign of life is given up.
        recycle_after: children after which a worker's process is started afresh, or `None` for never.
        checkpoints: children save their state, so that one may give its place back at any time.
    """

    child_timeout_s: float | None = None
    silence_s: float = 60.0
    recycle_after: int | None = None
    checkpoints: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What a pool goes by.

    Attributes:
        rules: what is allowed.
        reactions: what follows a failure.
        batch_size: the budget's.
        renew_crashed: start a worker afresh after a crashed child, as a GPU may be unusable for its process then.
        replaced: whoever has started the workers starts others for those that are lost.
    """

    rules: Rules
    reactions: Reactions
    batch_size: int
    renew_crashed: bool = False
    replaced: bool = False


@dataclass(kw_only=True, slots=True)
class WorkerState:
    """One worker of the fleet as the pool knows it.

    Attributes:
        slot: its number in the run, which survives its processes.
        place: its process, or `None` while none has reported.
        node: where that process runs or ran.
        attempt: what it trains, or what it trained when it was last heard of.
        heard_at: when it last gave a sign of life.
        trained: children since its process began.
        worn: why its process is to be started afresh before it gets another child.
        asked_back: it was asked to give its child back.
        last_place: its process as far as it is known, whether it is up or not.
        ended: the processes before that one, the latest last; they may still be heard for a moment.
        given_up_at: when its attempt was given up while it was waited for; `None` once it has reported or was ended.
    """

    slot: int
    place: str | None = None
    node: str | None = None
    attempt: Attempt | None = None
    heard_at: float = 0.0
    trained: int = 0
    worn: str | None = None
    asked_back: bool = False
    last_place: str | None = None
    ended: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_ENDED))
    given_up_at: float | None = None


@dataclass(frozen=True, slots=True)
class Nodes:
    """The cluster's nodes by id: those that live, and those among them that are told to go."""

    alive: frozenset[str] = frozenset()
    draining: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A child that waits for a worker, and the slots at which it has failed already."""

    child_id: int
    avoid: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Begin:
    """Have the worker train the child."""

    slot: int
    child_id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Restart:
    """End the worker's process; what it trains has failed of `cause`."""

    slot: int
    cause: Cause | None
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GiveUp:
    """Wait for the worker's word no longer; what it trained has failed of `cause`."""

    slot: int
    cause: Cause
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TakeBack:
    """Ask the worker to save its child and give it back."""

    slot: int
    reason: str


Decision = Restart | GiveUp | TakeBack


def watch(now: float, workers: Iterable[WorkerState], nodes: Nodes, rules: Rules, *, stopping: bool) -> list[Decision]:
    """What is to be done about workers that are busy, silent, worn, or about to lose their node.

    Args:
        now: seconds, on the clock that `heard_at` and `started_at` are read from.
        workers: the fleet.
        nodes: where it runs.
        rules: what is allowed.
        stopping: the run is to stop once nothing is in training.
    """
    found = (_about(now, worker, nodes, rules, stopping) for worker in workers)
    return [decision for decision in found if decision is not None]


def assign(
    idle: Sequence[WorkerState],
    waiting: Iterable[Waiting],
    nodes: Nodes,
    *,
    living: Callable[[], Set[int]] | None = None,
) -> list[Begin]:
    """Children to workers, both in their order; where there is a choice, not where a child has failed before.

    Args:
        idle: who is free.
        waiting: who is first in line comes first.
        nodes: those that are told to go get nothing.
        living: gives the slots that may ever be free. A child that has failed at all of them waits for no other: it
            would be passed over for ever. Called where it matters, and once, as it is a look at the whole fleet.
    """
    free = {worker.slot: None for worker in idle if worker.node not in nodes.draining}
    begun: list[Begin] = []
    left: list[Waiting] = []
    known: Set[int] | None = None
    for child in waiting:
        if not free:
            break
        slot = next((slot for slot in free if slot not in child.avoid), None)
        if slot is None and living:
            known = living() if known is None else known
            slot = next(iter(free)) if known <= child.avoid else None
        if slot is None:
            left.append(child)
        else:
            del free[slot]
            begun.append(Begin(slot=slot, child_id=child.child_id))
    # A worker at which a child has failed is better than none.
    begun += [Begin(slot=slot, child_id=child.child_id) for slot, child in zip(free, left, strict=False)]
    return begun


def enough(idle: Mapping[int, WorkerState], waiting: Mapping[int, Waiting], nodes: Nodes) -> list[WorkerState]:
    """The first of those who are free, as many as `assign` needs to hand out the same children to the same workers.

    Of thousands that are free it need not look at all for each child that comes: each of n children finds one among n
    that it has not failed at, if there is one more for each at which it has.
    """
    if len(idle) <= len(waiting):
        return list(idle.values())
    most = len(waiting) + max((len(child.avoid) for child in waiting.values()), default=0)
    return list(itertools.islice((w for w in idle.values() if w.node not in nodes.draining), most))


def worn_by(outcome: Outcome, *, asked_back: bool, renew_crashed: bool) -> str | None:
    """Why the process that has trained a child to this outcome is not to train another, or `None` if it may.

    Args:
        outcome: of the child.
        asked_back: the pool wanted the child back.
        renew_crashed: see `Terms`.
    """
    cause = outcome.failure and outcome.failure.cause
    if cause == Cause.CRASHED and renew_crashed:
        return "its GPU may be unusable after a crash"
    if cause == Cause.PREEMPTED and not asked_back:
        return "its process was told to go"
    return None


def wear(worker: WorkerState, rules: Rules) -> str | None:
    """Why an idle worker's process is to be started afresh, or `None` if it is not."""
    if worker.worn:
        return worker.worn
    if rules.recycle_after is not None and worker.trained >= rules.recycle_after:
        return f"it has trained {worker.trained} children"
    return None


def shortage(now: float, workers: Collection[WorkerState], nodes: Nodes, waiting: int, *, told: bool) -> str | None:
    """The line that says that children wait and no worker is up, or that some are up again; `None` if none is due.

    Args:
        now: seconds, on the clock that `heard_at` is read from.
        workers: the fleet.
        nodes: where it runs.
        waiting: how many children wait for a worker.
        told: the last line said that no worker is up.
    """
    up = sum(worker.place is not None and not _gone(worker.node, nodes) for worker in workers)
    if told:
        return f"{up} of {len(workers)} workers are up again." if up else None
    silent = now - max((worker.heard_at for worker in workers), default=now)
    if up or not waiting or silent <= NOBODY_S:
        return None
    wait = "waits" if waiting == 1 else "wait"
    return f"No worker has been up for {silent:.0f} s: {counted(waiting, 'child')} {wait} until one is."


def cause_of_death(node: str | None, nodes: Nodes) -> Cause:
    """What became of a child whose worker's process died: with its node it is a preemption, alone a crash."""
    return Cause.PREEMPTED if _gone(node, nodes) or node in nodes.draining else Cause.CRASHED


def _gone(node: str | None, nodes: Nodes) -> bool:
    return node is not None and node not in nodes.alive


def _overdue(now: float, worker: WorkerState, rules: Rules) -> str | None:
    """Why a process that was given up while it was waited for is to be ended: it hangs, and keeps the slot."""
    if worker.given_up_at is None or now - worker.given_up_at <= rules.silence_s:
        return None
    return f"it was given up and has not reported for {now - worker.given_up_at:.0f} s"


def _about(now: float, worker: WorkerState, nodes: Nodes, rules: Rules, stopping: bool) -> Decision | None:
    attempt, slot = worker.attempt, worker.slot
    if attempt is None:
        reason = wear(worker, rules) if worker.place is not None else _overdue(now, worker, rules)
        return Restart(slot=slot, cause=None, reason=reason) if reason else None
    taken, silent = now - attempt.started_at, now - worker.heard_at
    if rules.child_timeout_s is not None and taken > rules.child_timeout_s:
        reason = f"the attempt has taken {taken:.1f} s, and a child may take {rules.child_timeout_s:g} s"
        return Restart(slot=slot, cause=Cause.TIMEOUT, reason=reason)
    if worker.place is None and (silent > SUSPECT_S or _gone(worker.node, nodes)):
        cause = cause_of_death(worker.node, nodes)
        what = "its node is gone" if _gone(worker.node, nodes) else f"no sign of life for {silent:.0f} s"
        reason = f"{attempt.worker} broke off: {what}"
        return GiveUp(slot=slot, cause=cause, reason=reason)
    if silent > rules.silence_s:
        reason = f"{attempt.worker} has given no sign of life for {silent:.0f} s"
        return Restart(slot=slot, cause=cause_of_death(worker.node, nodes), reason=reason)
    if rules.checkpoints and not worker.asked_back and (stopping or worker.node in nodes.draining):
        return TakeBack(slot=slot, reason="the run is to stop" if stopping else "its node is told to go")
    return None
