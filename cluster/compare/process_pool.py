"""Runs searches in parallel processes; the result of each is written as soon as it ends."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from typing import TypeVar

from cluster.compare.plan import Limit
from cluster.compare.search_result import ResultError, Searches
from cluster.config.run_config import RunConfig
from cluster.formatting import last_line

Work = TypeVar("Work")

Run = Callable[[Work, Callable[[], bool]], None]
"""A function of a job and of a function that says whether to stop."""


class SearchFailed(Exception):
    """A search failed, for example by divergence; the message is one sentence.

    Attributes:
        details: the full traceback.
    """

    def __init__(self, message: str, details: str) -> None:
        super().__init__(message, details)  # both, so that pickling keeps the details
        self.details = details

    def __str__(self) -> str:
        return self.args[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One search to run.

    Attributes:
        label: the user's name for its searcher.
        config: its configuration, seed included.
        limit: its budget.
        stored: the folder for its result.
    """

    label: str
    config: RunConfig
    limit: Limit
    stored: Searches


def run_job(job: Job, stop_requested: Callable[[], bool]) -> None:
    """Run the search and write its result; write nothing if a stop is requested before the end.

    Raises:
        ResultError: the result cannot be written.
        SearchFailed: the search failed.
    """
    from cluster.compare.one_search import search

    try:
        result = search(job.config, job.limit, stop_requested)
    except Exception as error:
        reason = last_line(str(error)) or type(error).__name__
        raise SearchFailed(
            f"the search of {job.label!r} with seed {job.config.seed} failed ({reason})", traceback.format_exc()
        ) from error
    if result is not None:
        job.stored.write(result)


def in_processes(run: Run[Work], jobs: Sequence[Work], processes: int) -> Generator[None, None, None]:
    """Call a function with each job in processes of their own, `processes` at one time, and yield after each call.

    One process means this process, whose Ctrl-C ends the call. Closing or interrupting the iterator stops the calls
    that run in others, which are waited for when this process ends.

    Args:
        run: a function of a module, with a job and a function that says whether to stop.
        jobs: what it is called with.
        processes: calls at one time.

    Raises:
        ResultError: a process was killed.
        Exception: what a call has raised; the others are stopped.
    """
    if processes == 1:
        for job in jobs:
            run(job, _never)
            yield
        return
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_initialise, initargs=(stop,)) as pool:
        try:
            pending = {pool.submit(_run_in_process, run, job) for job in jobs}
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    _check(future)
                    yield
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _check(future: "Future[None]") -> None:
    try:
        future.result()
    except BrokenProcessPool as error:
        raise ResultError(
            "a search process was killed, perhaps for lack of memory; finished searches are kept: run the same command"
            " to continue (--processes 1 needs the least memory)"
        ) from error


def _never() -> bool:
    return False


_stop: Event | None = None
"""In a search process: set when the parent requests a stop."""


def _initialise(stop: Event) -> None:
    """Initialise a search process: one thread, no Ctrl-C, exit with the parent."""
    import torch

    global _stop  # noqa: PLW0603  (an initialiser can leave its process nothing but a global)
    _stop = stop
    torch.set_num_threads(1)  # parallel searches already keep all cores busy
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all processes; the parent handles it
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_in_process(run: Run[Work], job: Work) -> None:
    assert _stop is not None, "the process was not initialised"
    run(job, _stop.is_set)
