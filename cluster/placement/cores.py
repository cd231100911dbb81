"""The cores that this process may use. Standard library only.

The machine may have more: `taskset`, SLURM and `docker --cpuset-cpus` restrict the affinity, `docker --cpus` and
Kubernetes' limits the quota of the control group.
"""

import os
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")


def usable_cores(groups: Path = CGROUPS, own: Path = OWN_GROUP) -> int:
    """Return the number of cores that this process may use: at least 1, and a part of one does not count."""
    allowed = len(os.sched_getaffinity(0))
    quota = _quota(groups, own)
    return max(1, allowed if quota is None else min(allowed, int(quota + 1e-9)))


def _quota(groups: Path, own: Path) -> float | None:
    """Return the smallest quota of this process's control group and those above it, in cores; `None` without one."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    quotas = [quota for line in lines for folder in _folders(groups, line) if (quota := _quota_of(folder))]
    return min(quotas, default=None)


def _folders(groups: Path, line: str) -> list[Path]:
    """Return the folders of the group in a line `number:controllers:path` and of all above it, if it counts time."""
    _, _, rest = line.partition(":")
    controllers, _, path = rest.partition(":")
    if controllers and "cpu" not in controllers.split(","):
        return []
    # A container sees its own group at the root, whatever the path says: a folder that is not there has no quota.
    roots = [groups] if not controllers else [groups / controllers, groups / "cpu"]
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [root.joinpath(*parts[:count]) for root in roots for count in range(len(parts) + 1)]


def _quota_of(folder: Path) -> float | None:
    with suppress(OSError, ValueError):  # version 2
        quota, _, period = (folder / "cpu.max").read_text().partition(" ")
        return float(quota) / float(period) if quota != "max" else None
    with suppress(OSError, ValueError):  # version 1
        quota = float((folder / "cpu.cfs_quota_us").read_text())
        return quota / float((folder / "cpu.cfs_period_us").read_text()) if quota > 0 else None
    return None
