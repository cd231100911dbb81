"""Whether a node can take part in a run: what it runs, and the task's data. Knows no Ray: a task of Ray's calls it."""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from cluster.node_data import at_url, local_data
from cluster.options import TaskOptions

PACKAGES = ("child_trainer", "cluster", "controller", "ps")
"""Our code, as Python imports it."""

DRIVER_VARIABLE = "NASCLUSTER_DRIVER"
"""Environment variable by which the processes of a run know what its driver runs: `Versions` as JSON."""

NAMES = {"python": "Python", "ray": "Ray", "torch": "PyTorch", "code": "nascluster code"}


SILENT, LEAVING, GONE = "does not answer", "is told to go", "has gone meanwhile"
"""What is said of a node that does not say anything of itself."""


class NodeError(ValueError):
    """A node cannot take part in the run; the message names it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Versions:
    """What a process runs.

    Attributes:
        python: major and minor version: what is sent between nodes depends on no more.
        ray: exact version.
        torch: version without the build (`+cpu`, `+cu128`), which may well differ between nodes.
        code: a digest of our own source, so that two states of one version are told apart.
    """

    python: str
    ray: str
    torch: str
    code: str

    def to_json(self) -> str:
        """One line of text."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Versions":
        """What `to_json` wrote."""
        return Versions(**json.loads(text))


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeReport:
    """What a node says of itself.

    Attributes:
        versions: what its processes run.
        problem: why the task cannot be loaded there, one sentence; empty if it can, or if that was not asked.
        shm_free, disk_free: bytes that are free in /dev/shm and where Ray keeps its temporary files.
    """

    versions: Versions
    problem: str
    shm_free: int
    disk_free: int


def code_folders() -> tuple[Path, ...]:
    """The folders of our packages, from which this process imports them."""
    found = [find_spec(name) for name in PACKAGES]
    return tuple(Path(spec.origin).parent for spec in found if spec and spec.origin)


def versions() -> Versions:
    """What this process runs; imports nothing of it."""
    return Versions(
        python=".".join(platform.python_version_tuple()[:2]),
        ray=_installed("ray"),
        torch=_installed("torch").partition("+")[0],
        code=digest(code_folders()),
    )


def digest(folders: tuple[Path, ...]) -> str:
    """Of all Python source below some packages' folders: equal for equal code, wherever it is."""
    total = hashlib.sha256()
    for folder in sorted(folders, key=lambda f: f.name):
        for path in sorted(folder.rglob("*.py")):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            total.update(f"{folder.name}/{path.relative_to(folder).as_posix()} {content}\n".encode())
    return total.hexdigest()[:12]


def mismatches(driver: Versions, node: Versions) -> list[str]:
    """What differs, as the ends of sentences about the node: `has Ray 2.48.0, the driver 2.60.0`."""
    return [
        f"has {NAMES[f.name]} {getattr(node, f.name)}, the driver {getattr(driver, f.name)}"
        for f in fields(Versions)
        if getattr(node, f.name) != getattr(driver, f.name)
    ]


def complaints(driver: Versions, report: NodeReport) -> list[str]:
    """All that keeps a node from taking part, with what would be right."""
    found = mismatches(driver, report.versions)
    if found:
        found[-1] += "; start its Ray from an environment equal to the driver's"
    return [*found, *([report.problem] if report.problem else [])]


def check_driver(environment: Mapping[str, str]) -> None:
    """Make sure that this process runs what its run's driver runs; one that joined late was asked by nobody before.

    Raises:
        NodeError: it does not.
    """
    driver = environment.get(DRIVER_VARIABLE)
    if driver and (found := mismatches(Versions.from_json(driver), versions())):
        raise NodeError(f"{', '.join(found)}; start its Ray from an environment equal to the driver's")


def check_data(options: TaskOptions) -> None:
    """Make sure, before anything is started, that this node can load the task; a copy that it needs is fetched.

    Raises:
        TaskError, StorageError: it cannot; the message says what is missing and what would be right.
    """
    from child_trainer.tasks.catalogue import check_task

    _check_download(options)
    check_task(
        options.task,
        local_data(options.data),
        download=options.download,
        child_seconds=options.child_seconds,
        child_spread=options.child_spread,
        faults=options.faults,
        language=options.language,
    )


def check_without_data(options: TaskOptions) -> None:
    """The same for a driver whose node may train nothing, and needs no data then.

    Where it was told to download, or the task needs no `--data`, that is `check_data`.

    Raises:
        TaskError, StorageError: the task could be loaded nowhere; the message says what would be right.
    """
    from child_trainer.tasks.catalogue import check_options

    _check_download(options)
    if options.download or options.data is None:
        return check_data(options)
    return check_options(options.task, options.child_seconds, options.faults, child_spread=options.child_spread)


def _check_download(options: TaskOptions) -> None:
    from child_trainer.tasks.task import TaskError

    if options.download and at_url(options.data):
        raise TaskError(f"`--download` fills a folder, and `--data` {options.data} is a URL; leave --download away")


def check_node(options: TaskOptions | None, temporary: str = "/tmp") -> NodeReport:
    """What this node says of itself.

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


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(none)"


def _free(folder: str) -> int:
    try:
        return shutil.disk_usage(folder if os.path.exists(folder) else "/").free
    except OSError:
        return 0
