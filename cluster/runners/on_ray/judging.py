"""How the pool decides, on Ray, which children are stopped early, and how a worker asks it.

It decides by what the ledger has and by what children in training have reported, in a thread of its own.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import ray
from ray.exceptions import RayError, RayTaskError

from child_trainer.outcome import Stopped, TrainingSoFar
from cluster.runners.early_stopping import EarlyStopping
from cluster.runners.on_ray.handles import CALL_TIMEOUT_S, LEDGER, POOL, actor
from cluster.search.evaluator import Assignment
from controller.searcher import ChildRecord
from controller.stopping.stopper import KnownCurve

READ_INTERVAL_S = 1.0
"""Seconds between two reads of the children that have ended."""


class RemoteJudging:
    """Decides on children in training.

    A pool that starts again knows the recorded children after its first read, and those in training as each of them
    reports its next epoch.

    Args:
        stopping: the run's.
    """

    def __init__(self, stopping: EarlyStopping) -> None:
        self._stopping = stopping
        self._last, self._read_at = 0, -READ_INTERVAL_S
        self._reading = asyncio.Lock()
        # One thread has what is known and decides, in the order of the questions: a fit takes seconds, in which the
        # pool must answer.
        self._thread = ThreadPoolExecutor(1, "judge")

    async def judge(
        self, child_id: int, decisions: int, so_far: TrainingSoFar, decided_until: int | None = None
    ) -> Stopped | None:
        """Return why a child is stopped at the epoch that it has reached; `None` if it goes on.

        Args:
            child_id: the child's.
            decisions: how many are behind its architecture.
            so_far: its training.
            decided_until: the last epoch at which it was decided on.
        """
        asked_at = time.monotonic()
        child = self._stopping.in_training(child_id, decisions, so_far, decided_until)
        async with self._reading:
            ended = await self._read()
            answer = asyncio.get_running_loop().run_in_executor(self._thread, self._decide, asked_at, child, ended)
        return await asyncio.shield(answer)  # the children that it adds count though nobody may wait for it any more

    def _decide(self, asked_at: float, child: KnownCurve, ended: Sequence[ChildRecord]) -> Stopped | None:
        """Add what is known now, and decide unless the worker has given up waiting: it asks again an epoch later."""
        self._stopping.read(ended)
        self._stopping.remember(child)
        if time.monotonic() - asked_at > CALL_TIMEOUT_S:
            return None
        return self._stopping.judge(child)

    async def _read(self) -> Sequence[ChildRecord]:
        """Return the children that have ended since the last read, if it is time for another one."""
        if time.monotonic() - self._read_at < READ_INTERVAL_S:
            return ()
        try:
            children = await actor(LEDGER).history.remote(self._last)
        except RayError:  # the ledger is being started again
            return ()
        self._read_at = time.monotonic()
        self._last = children[-1].id if children else self._last
        return children


class PoolJudge:
    """Asks the pool whether the child that a worker trains is stopped; without an answer the child goes on.

    With each question it tells at which epoch the child was decided on last, so that the pool makes up for a rung whose
    answer is missing.

    Args:
        ask: gives the pool's answer, and raises `RayError` or `ValueError` if there is none.
    """

    def __init__(self, ask: Callable[[Assignment, TrainingSoFar, int], Stopped | None] | None = None) -> None:
        self._ask = ask or _ask_pool
        self._unanswered: tuple[int, int] | None = None

    def __call__(self, assignment: Assignment, so_far: TrainingSoFar) -> Stopped | None:
        """Return why the child is stopped at the epoch that it has reached; `None` if it goes on.

        Raises:
            RayTaskError: the pool could not decide, because of an error of ours.
        """
        decided_until = len(so_far.curve) - 1
        if self._unanswered and self._unanswered[0] == assignment.child_id:
            decided_until = min(decided_until, self._unanswered[1])
        try:
            answer = self._ask(assignment, so_far, decided_until)
        except RayTaskError:
            raise
        except (RayError, ValueError):  # the pool is being started again, or is late: it decides at the next epoch
            self._unanswered = assignment.child_id, decided_until
            return None
        self._unanswered = None
        return answer


def _ask_pool(assignment: Assignment, so_far: TrainingSoFar, decided_until: int) -> Stopped | None:
    judge = actor(POOL).judge.options(max_task_retries=0)
    answer = judge.remote(assignment.child_id, len(assignment.tokens), so_far, decided_until)
    return ray.get(answer, timeout=CALL_TIMEOUT_S)
