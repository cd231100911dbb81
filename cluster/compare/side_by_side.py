"""The searches of a comparison, on all cores at once. A search that was finished is kept, whatever happens then."""

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

from cluster.compare.plan import Limit
from cluster.compare.results import ResultError, Searches
from cluster.config.run_config import RunConfig
from cluster.formatting import last_line


class SearchFailed(Exception):
    """A search came to an error, as one that diverges does; the message is one sentence.

    Attributes:
        details: the whole error, for those who look for its cause.
    """

    def __init__(self, message: str, details: str) -> None:
        super().__init__(message, details)  # both, so that it comes whole out of another process
        self.details = details

    def __str__(self) -> str:
        return self.args[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One search that is to be done.

    Attributes:
        label: of its searcher, as the user named it.
        config: its seed included.
        limit: its budget.
        kept: where its result goes.
    """

    label: str
    config: RunConfig
    limit: Limit
    kept: Searches


def run_job(job: Job, asked: Callable[[], bool]) -> None:
    """Search and keep the result; nothing is kept if it is asked to leave before the end.

    Raises:
        ResultError: the result cannot be kept.
        SearchFailed: there is none.
    """
    from cluster.compare.search import search

    try:
        found = search(job.config, job.limit, asked)
    except Exception as error:
        reason = last_line(str(error)) or type(error).__name__
        raise SearchFailed(
            f"the search of {job.label!r} with seed {job.config.seed} failed ({reason})", traceback.format_exc()
        ) from error
    if found is not None:
        job.kept.write(found)


def run_jobs(jobs: Sequence[Job], processes: int) -> Generator[None, None, None]:
    """Do them all, so many at one time; yields after each.

    With one process they are done in this one. An iterator that is closed, or interrupted, ends what is under way.

    Raises:
        ResultError: a result cannot be kept, or a process was killed.
        SearchFailed: a search did; the others under way are ended.
    """
    if processes == 1:
        for job in jobs:
            run_job(job, _never)
            yield
        return
    context = multiprocessing.get_context("spawn")
    leave = context.Event()
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(leave,)) as pool:
        try:
            waiting = {pool.submit(_work, job) for job in jobs}
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    _check(future)
                    yield
        except BaseException:
            leave.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _check(future: "Future[None]") -> None:
    try:
        future.result()
    except BrokenProcessPool as error:
        raise ResultError(
            "a process that searched was killed, perhaps for want of memory; the searches that were finished are kept,"
            " and the same command goes on (--processes 1 needs the least)"
        ) from error


def _never() -> bool:
    return False


_leave: Event | None = None
"""Of a process that searches: set when it is to leave what it does."""


def _begin(leave: Event) -> None:
    """What a process does before its first search."""
    import torch

    global _leave  # noqa: PLW0603  (a process of a pool is given nothing else to keep)
    _leave = leave
    torch.set_num_threads(1)  # the searches side by side are what keeps all cores busy
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; the parent says what follows
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(job: Job) -> None:
    assert _leave is not None, "the process was not begun"
    run_job(job, _leave.is_set)
