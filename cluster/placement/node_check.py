"""Whether a node can take part in a run: what it runs, and the task's data. Knows no Ray: a task of Ray's calls it."""

import os
import shutil
from dataclasses import dataclass, replace

from cluster.config.task_options import TaskOptions
from cluster.placement.versions import Versions, mismatches, versions
from cluster.storage.dataset_cache import at_url, local_data

SILENT, LEAVING, GONE = "does not answer", "is told to go", "has gone meanwhile"
"""What is said of a node that does not say anything of itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeReport:
    """What a node reports of itself.

    Attributes:
        versions: what its processes run.
        problem: why the task cannot be loaded there, one sentence; empty if it can, or if that was not asked.
        shm_free, disk_free: bytes that are free in /dev/shm and where Ray keeps its temporary files.
    """

    versions: Versions
    problem: str
    shm_free: int
    disk_free: int


def complaints(driver: Versions, report: NodeReport) -> list[str]:
    """Return all that keeps a node from taking part, with what would be right."""
    found = mismatches(driver, report.versions)
    if found:
        found[-1] += "; start its Ray from an environment equal to the driver's"
    return [*found, *([report.problem] if report.problem else [])]


def check_data(options: TaskOptions) -> None:
    """Make sure, before anything is started, that this node can load the task; a copy that it needs is fetched.

    Raises:
        TaskError, StorageError: it cannot; the message says what is missing and what would be right.
    """
    from child_trainer.tasks.catalogue import check_task

    _check_download(options)
    with options.own_file():
        check_task(options.task, local_data(options.data), download=options.download, options=options.options)


def check_without_data(options: TaskOptions) -> None:
    """Make sure of the same on a driver's node that trains nothing, and so needs no data.

    With `--download`, or for a task without `--data`, this is `check_data`.

    Raises:
        TaskError, StorageError: the task can be loaded nowhere; the message says what would be right.
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
        raise TaskError(f"`--download` fills a folder, and `--data` {options.data} is a URL; leave --download away")


def check_node(options: TaskOptions | None, temporary: str = "/tmp") -> NodeReport:
    """Return what this node reports of itself.

    Args:
        options: the task that it is to load; `None` asks for none.
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
