"""Which worker trains which child, and which workers hang or take too long: pure functions of (now, workers, rules).

Time is an argument, and each returned action has its reason. The pool (`cluster/pool/pool.py`) carries them out.
"""

import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from child_trainer.outcome import Cause, Outcome
from cluster.formatting import counted
from cluster.pool.failure_policy import FailurePolicy
from cluster.search.records import Attempt, GpuUse, key_of_all

MAX_ENDED_PROCESSES = 16
"""Ended processes of one worker whose names are kept: far more than may still send messages at the same time."""

LOST_CALL_TIMEOUT_S = 10.0
"""A worker whose call was lost times out after so long without a heartbeat."""

NO_WORKERS_NOTICE_S = 30.0
"""The pool reports that children wait while no worker is up after so long; a worker's start takes seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """The limits that workers are held to.

    Attributes:
        child_timeout_s: seconds that one attempt may take, or `None` for no limit. Several that are made as one may
            together take as long as one after another.
        heartbeat_timeout_s: seconds without a heartbeat after which a busy worker times out.
        recycle_after: children after which a worker's process is restarted, or `None` for never.
        checkpoints: children save their state, so that they can be preempted at any time.
    """

    child_timeout_s: float | None = None
    heartbeat_timeout_s: float = 60.0
    recycle_after: int | None = None
    checkpoints: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolOptions:
    """A pool's options.

    Attributes:
        rules: the workers' limits.
        policy: what follows a failure.
        batch_size: the budget's.
        renew_crashed: restart a worker's process after a crashed child, as it may not be able to use its GPU any more.
        replaced: lost workers are replaced by the pool's caller.
        workers_per_gpu: that share each GPU, where a child gets a part of one by what it needs; `None`: each worker
            has the run's GPUs for each child.
        fuse_seeds: seeds of one architecture that are trained as one network, at most.
    """

    rules: Rules
    policy: FailurePolicy
    batch_size: int
    renew_crashed: bool = False
    replaced: bool = False
    workers_per_gpu: int | None = None
    fuse_seeds: int = 1


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU of the cluster.

    Attributes:
        name: unlike that of any other GPU.
        size_bytes: its memory.
    """

    name: str
    size_bytes: int


@dataclass(kw_only=True, slots=True)
class WorkerState:
    """What the pool knows of one worker.

    Attributes:
        slot: its number in the run, which all its processes share.
        place: its process, or `None` while none has reported.
        node: the node where that process runs or ran.
        attempts: that it makes, or that it made when it last sent anything: one, or several that are made as one.
        heard_at: when it last sent a heartbeat.
        trained: children since its process started.
        restart_reason: why its process must be restarted before it gets another child.
        preempt_requested: whether the pool has asked it to give its child back.
        last_place: the last process that is known, whether it is up or not.
        ended: the processes before that one, the latest last; messages of theirs may still arrive for a moment.
        abandoned_at: when its attempt was abandoned while the pool waited for its report; `None` once it has reported
            or was ended.
        gpu: that its process trains on, where children get parts of one.
        gpu_use: what its process has of it, until it is free for another child.
    """

    slot: int
    place: str | None = None
    node: str | None = None
    attempts: tuple[Attempt, ...] = ()
    heard_at: float = 0.0
    trained: int = 0
    restart_reason: str | None = None
    preempt_requested: bool = False
    last_place: str | None = None
    ended: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_ENDED_PROCESSES))
    abandoned_at: float | None = None
    gpu: Gpu | None = None
    gpu_use: GpuUse | None = None

    @property
    def key(self) -> str | None:
        """The key of its order; `None` if it has none."""
        return key_of_all(self.attempts[0].key) if self.attempts else None


@dataclass(frozen=True, slots=True)
class Nodes:
    """The cluster's nodes by id: those that are alive, and those among them that are being drained."""

    alive: frozenset[str] = frozenset()
    draining: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A child that waits for a worker, or several that are to be trained as one network.

    Attributes:
        child_id: the child's id, and of several the first one's.
        avoid: the slots at which it has failed already, or any of them has.
        gpu_bytes: see `Assignment`; of several the sum.
        out_of_memory_at: see `AttemptHistory`.
        others: the ids of the others.
    """

    child_id: int
    avoid: frozenset[int] = frozenset()
    gpu_bytes: int | None = None
    out_of_memory_at: float = 0.0
    others: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Begin:
    """Have the worker train the child, or several as one.

    Attributes:
        slot: the worker's.
        child_id: the child's id, and of several the first one's.
        gpu: what it gets of the worker's GPU, where that is decided for each child.
        gpu_limit_bytes: memory that its process may allocate there.
        others: the ids of the others.
    """

    slot: int
    child_id: int
    gpu: GpuUse | None = None
    gpu_limit_bytes: int | None = None
    others: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Restart:
    """End the worker's process; its attempts have failed for `cause`."""

    slot: int
    cause: Cause | None
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Abandon:
    """Stop waiting for the worker's report; its attempts have failed for `cause`."""

    slot: int
    cause: Cause
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Preempt:
    """Ask the worker to save its child and give it back."""

    slot: int
    reason: str


WorkerAction = Restart | Abandon | Preempt


def watch(
    now: float, workers: Iterable[WorkerState], nodes: Nodes, rules: Rules, *, stopping: bool
) -> list[WorkerAction]:
    """Return what to do about workers that hang, take too long, need a restart, or are about to lose their node.

    Args:
        now: seconds, on the clock of `heard_at` and `started_at`.
        workers: all of them.
        nodes: where they run.
        rules: their limits.
        stopping: the run stops, and children that save their state are to be given back.
    """
    actions = (_action(now, worker, nodes, rules, stopping) for worker in workers)
    return [action for action in actions if action is not None]


def assign(
    idle: Sequence[WorkerState],
    waiting: Iterable[Waiting],
    nodes: Nodes,
    *,
    living: Callable[[], Set[int]] | None = None,
) -> list[Begin]:
    """Assign children to workers, both in their order; where there is a choice, not where a child has failed before.

    Args:
        idle: the free workers.
        waiting: the children, first come, first served.
        nodes: those that are being drained get no child.
        living: returns the slots that may ever be free. A child that has failed at all of them gets any of them, as
            otherwise the others would be preferred to it for ever. Called only where it matters, and once, as it goes
            through all workers.
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
            begun.append(Begin(slot=slot, child_id=child.child_id, others=child.others))
    # A worker at which a child has failed is better than none.
    rest = zip(free, left, strict=False)
    return begun + [Begin(slot=slot, child_id=child.child_id, others=child.others) for slot, child in rest]


def candidates(idle: Mapping[int, WorkerState], waiting: Mapping[int, Waiting], nodes: Nodes) -> list[WorkerState]:
    """Return the first free workers, as many as `assign` needs to make the same assignments as with all of them.

    With thousands of free workers it need not go through all of them for each new child: each of n children finds a
    worker at which it has not failed among n, plus one for each at which it has.
    """
    if len(idle) <= len(waiting):
        return list(idle.values())
    most = len(waiting) + max((len(child.avoid) for child in waiting.values()), default=0)
    return list(itertools.islice((w for w in idle.values() if w.node not in nodes.draining), most))


def restart_reason_after(outcomes: Iterable[Outcome], *, preempt_requested: bool, renew_crashed: bool) -> str | None:
    """Return why the process that gave these outcomes must not train another child, or `None` if it may.

    Args:
        outcomes: the child's, or those of several that were trained as one.
        preempt_requested: the pool had asked for the child back.
        renew_crashed: see `PoolOptions`.
    """
    causes = {outcome.failure.cause for outcome in outcomes if outcome.failure}
    if Cause.CRASHED in causes and renew_crashed:
        return "its GPU may be unusable after a crash"
    if Cause.PREEMPTED in causes and not preempt_requested:
        return "its process was told to end"
    return None


def restart_reason(worker: WorkerState, rules: Rules) -> str | None:
    """Return why an idle worker's process must be restarted, or `None` if it need not be."""
    if worker.restart_reason:
        return worker.restart_reason
    if rules.recycle_after is not None and worker.trained >= rules.recycle_after:
        return f"it has trained {worker.trained} children"
    return None


def shortage(now: float, workers: Collection[WorkerState], nodes: Nodes, waiting: int, *, reported: bool) -> str | None:
    """Return the line that reports that no worker is up while children wait, or that some are again; else `None`.

    Args:
        now: seconds, on the clock of `heard_at`.
        workers: all of them.
        nodes: where they run.
        waiting: how many children wait for a worker.
        reported: the last line said that no worker is up.
    """
    up = sum(worker.place is not None and not _gone(worker.node, nodes) for worker in workers)
    if reported:
        return f"{up} of {len(workers)} workers are up again." if up else None
    silent = now - max((worker.heard_at for worker in workers), default=now)
    if up or not waiting or silent <= NO_WORKERS_NOTICE_S:
        return None
    wait = "waits" if waiting == 1 else "wait"
    return f"No worker has been up for {silent:.0f} s: {counted(waiting, 'child')} {wait} for one."


def cause_of_exit(node: str | None, nodes: Nodes) -> Cause:
    """Return why a child failed whose worker's process ended: with its node it was preempted, alone it crashed."""
    return Cause.PREEMPTED if _gone(node, nodes) or node in nodes.draining else Cause.CRASHED


def _gone(node: str | None, nodes: Nodes) -> bool:
    return node is not None and node not in nodes.alive


def _overdue(now: float, worker: WorkerState, rules: Rules) -> str | None:
    """Return why a process must be ended whose attempt was abandoned: it hangs, and keeps the slot."""
    if worker.abandoned_at is None or now - worker.abandoned_at <= rules.heartbeat_timeout_s:
        return None
    return f"its attempt was abandoned {now - worker.abandoned_at:.0f} s ago, and it has not reported since"


def _action(now: float, worker: WorkerState, nodes: Nodes, rules: Rules, stopping: bool) -> WorkerAction | None:
    attempts, slot = worker.attempts, worker.slot
    if not attempts:
        reason = restart_reason(worker, rules) if worker.place is not None else _overdue(now, worker, rules)
        return Restart(slot=slot, cause=None, reason=reason) if reason else None
    seconds, silent, count = now - attempts[0].started_at, now - worker.heard_at, len(attempts)
    if rules.child_timeout_s is not None and seconds > rules.child_timeout_s * count:
        what = "the attempt has taken" if count == 1 else f"{count} children as one have taken"
        reason = f"{what} {seconds:.1f} s, and a child may take {rules.child_timeout_s:g} s"
        return Restart(slot=slot, cause=Cause.TIMEOUT, reason=reason)
    if worker.place is None and (silent > LOST_CALL_TIMEOUT_S or _gone(worker.node, nodes)):
        cause = cause_of_exit(worker.node, nodes)
        what = "its node is gone" if _gone(worker.node, nodes) else f"no heartbeat for {silent:.0f} s"
        reason = f"the call to {attempts[0].worker} was lost: {what}"
        return Abandon(slot=slot, cause=cause, reason=reason)
    if silent > rules.heartbeat_timeout_s:
        reason = f"{attempts[0].worker} has sent no heartbeat for {silent:.0f} s"
        return Restart(slot=slot, cause=cause_of_exit(worker.node, nodes), reason=reason)
    if rules.checkpoints and not worker.preempt_requested and (stopping or worker.node in nodes.draining):
        return Preempt(slot=slot, reason="the run is stopping" if stopping else "its node is being drained")
    return None
