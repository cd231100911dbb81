"""How the driver's code reaches the nodes of a joined cluster. `runtime_env` decides, and is pure.

From a checkout and from an installed wheel alike, Ray carries the driver's own packages to each node (`py_modules`:
half a megabyte once per cluster and state of the code, a second when a run starts), so that all nodes run exactly
what the driver runs, a checkout's local changes included. In a Ray job that has brought the code itself
(`ray job submit --working-dir .`) all processes run the job's copy already.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cluster.placement.versions import DRIVER_VARIABLE, Versions, code_folders, versions

JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Environment variable by which a driver knows that it runs as a Ray job, and with what runtime environment."""

JOB_FILES = "runtime_resources"
"""The folder in which Ray unpacks what a job has brought."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Home:
    """Where the driver's code is.

    Attributes:
        folders: of our packages.
        module: the public API, one file; `None` where it is not beside the packages.
        job: the runtime environment of the Ray job that the driver is; `None` outside of a job.
    """

    folders: tuple[Path, ...]
    module: Path | None
    job: Mapping[str, Any] | None

    @property
    def brought_by_job(self) -> bool:
        """Whether Ray has unpacked this very code for the job."""
        return self.job is not None and all(JOB_FILES in folder.parts for folder in self.folders)


def home(environment: Mapping[str, str]) -> Home:
    """Return where this process's code is."""
    folders = code_folders()
    module = folders[0].parent / "nascluster.py"
    job = environment.get(JOB_VARIABLE)
    return Home(
        folders=folders,
        module=module if module.is_file() else None,
        job=None if job is None else json.loads(job).get("runtime_env") or {},
    )


def runtime_env(home: Home, driver: Versions, empty: Path) -> dict[str, Any]:
    """Return Ray's runtime environment for a joined cluster: the code to ship, and the driver's versions to compare.

    Args:
        home: where the code is.
        driver: what the driver runs.
        empty: an empty folder.

    A job's own `py_modules` stay: Ray refuses a job and a driver that both name some.
    """
    environment: dict[str, Any] = {"env_vars": {DRIVER_VARIABLE: driver.to_json()}}
    if home.brought_by_job or "py_modules" in (home.job or {}):
        return environment
    environment["py_modules"] = [str(path) for path in (*home.folders, *([home.module] if home.module else []))]
    if "working_dir" not in (home.job or {}):
        # Without one Ray puts the driver's folders first on the path of nodes that happen to have such folders.
        environment["working_dir"] = str(empty)
    return environment


@contextmanager
def shipped(environment: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the runtime environment of this process, whose folders exist while the block lasts."""
    with TemporaryDirectory(prefix="nascluster-") as empty:
        yield runtime_env(home(environment), versions(), Path(empty))
