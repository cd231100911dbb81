"""How the pool decides, on Ray, which children are stopped early: with what the ledger has, in a thread of its own."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from ray.exceptions import RayError

from child_trainer.outcome import Stopped, TrainingSoFar
from cluster.runners.early_stopping import EarlyStopping
from cluster.runners.on_ray.handles import LEDGER, actor

READ_INTERVAL_S = 1.0
"""Seconds between two reads of the children that have ended."""


class RemoteJudging:
    """Decides on children in training; a pool that starts again knows the same after its first read.

    Args:
        stopping: the run's.
    """

    def __init__(self, stopping: EarlyStopping) -> None:
        self._stopping = stopping
        self._last, self._read_at = 0, -READ_INTERVAL_S
        self._reading = asyncio.Lock()
        # One thread: the stopper is not made for several, and a fit takes seconds, in which the pool must answer.
        self._thread = ThreadPoolExecutor(1, "judge")

    async def judge(self, child_id: int, decisions: int, so_far: TrainingSoFar) -> Stopped | None:
        """Return why a child is stopped at the epoch that it has reached; `None` if it goes on."""
        async with self._reading:
            await self._read()
        child, others = self._stopping.known(child_id, decisions, so_far)
        self._stopping.remember(child)
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._stopping.stopper.judge, child, others
        )

    async def _read(self) -> None:
        if time.monotonic() - self._read_at < READ_INTERVAL_S:
            return
        try:
            children = await actor(LEDGER).history.remote(self._last)
        except RayError:  # the ledger is being started again
            return
        self._read_at = time.monotonic()
        self._stopping.read(children)
        self._last = children[-1].id if children else self._last
