"""Whether a node can take part in a run: what it runs, and the task's data. Called in a Ray task, without using Ray."""

import os
import shutil
from dataclasses import dataclass, replace

from cluster.config.task_options import TaskOptions
from cluster.placement.versions import Versions, mismatches, versions
from cluster.storage.dataset_cache import at_url, local_data

SILENT, DRAINING, GONE = "does not answer", "is draining", "has left meanwhile"
"""What is reported of a node that sends no report of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeReport:
    """A node's report on itself.

    Attributes:
        versions: what its processes run.
        problem: why the task cannot be loaded there, one sentence; empty if it can, or if no task was given.
        shm_free, disk_free: free bytes in /dev/shm and where Ray keeps its temporary files.
    """

    versions: Versions
    problem: str
    shm_free: int
    disk_free: int


def complaints(driver: Versions, report: NodeReport) -> list[str]:
    """Return all reasons why a node cannot take part, with what would be right."""
    reasons = mismatches(driver, report.versions)
    if reasons:
        reasons[-1] += "; start its Ray from an environment equal to the driver's"
    return [*reasons, *([report.problem] if report.problem else [])]


def check_data(options: TaskOptions) -> None:
    """Check, before anything is started, that this node can load the task; a copy that it needs is fetched.

    Raises:
        TaskError, StorageError: it cannot; the message says what is missing and what would be right.
    """
    from child_trainer.tasks.catalogue import check_task

    _check_download(options)
    data = local_data(options.data)
    with options.own_file():
        options.check_files(data)
        check_task(options.task, data, download=options.download, options=options.options)


def check_without_data(options: TaskOptions) -> None:
    """Check the task for a driver whose node may train nothing and then needs no data.

    With `--download`, or for a task without `--data`, this is `check_data`.

    Raises:
        TaskError, StorageError: no node could load the task; the message says what would be right.
    """
    from child_trainer.tasks.catalogue import check_options

    _check_download(options)
    if options.download or options.data is None:
        return check_data(options)
    with options.own_file():
        return check_options(options.task, options.options)


def _check_download(options: TaskOptions) -> None:
    from child_trainer.training.task import TaskError

    if options.download and at_url(options.data):
        raise TaskError(f"`--download` fills a folder, but `--data` {options.data} is a URL; leave out `--download`")


def check_node(options: TaskOptions | None, temporary: str = "/tmp") -> NodeReport:
    """Return this node's report.

    Args:
        options: the task that it must be able to load; `None` for none.
        temporary: where Ray keeps its temporary files.
    """
    problem = ""
    if options is not None:
        try:
            check_data(replace(options, download=False))  # nodes that share a folder would fill it at the same time
        except ValueError as error:
            problem = str(error)
    return NodeReport(versions=versions(), problem=problem, shm_free=_free("/dev/shm"), disk_free=_free(temporary))


def _free(folder: str) -> int:
    try:
        return shutil.disk_usage(folder if os.path.exists(folder) else "/").free
    except OSError:
        return 0
