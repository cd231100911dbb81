"""The cores that a process may use: its affinity, and the quota of its control group of either version."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.placement.cores import usable_cores


@pytest.fixture
def affinity() -> Iterator[set[int]]:
    """The affinity of this process, which the test may change."""
    before = os.sched_getaffinity(0)
    yield before
    os.sched_setaffinity(0, before)


def group(folder: Path, line: str, **files: str) -> tuple[Path, Path]:
    """Write the files of control groups, and the line that says in which group the process is."""
    for name, text in files.items():
        file = folder / name.replace("__", "/").replace("_DOT_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    own = folder / "own"
    own.write_text(line)
    return folder, own


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


@pytest.mark.parametrize(
    ("line", "files", "cores"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu_DOT_max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu_DOT_max": "300000 100000\n"}, 3),
        ("0::/\n", {"cpu_DOT_max": "250000 100000\n"}, 2),
        ("0::/\n", {"cpu_DOT_max": "20000 100000\n"}, 1),
        ("0::/\n", {"cpu_DOT_max": "1600000 100000\n"}, 8),
        ("0::/a/b\n", {"a__cpu_DOT_max": "500000 100000\n", "a__b__cpu_DOT_max": "max 100000\n"}, 5),
        ("0::/not/there\n", {"cpu_DOT_max": "400000 100000\n"}, 4),
        ("0::/../x\n", {"cpu_DOT_max": "400000 100000\n"}, 4),
        ("0::/\n", {"cpu_DOT_max": "nonsense"}, 8),
        (
            "5:memory:/m\n4:cpu,cpuacct:/docker/1\n",
            {
                "cpu,cpuacct__docker__1__cpu_DOT_cfs_quota_us": "200000\n",
                "cpu,cpuacct__docker__1__cpu_DOT_cfs_period_us": "100000\n",
            },
            2,
        ),
        ("4:cpu:/\n", {"cpu__cpu_DOT_cfs_quota_us": "-1\n", "cpu__cpu_DOT_cfs_period_us": "100000\n"}, 8),
        ("5:memory:/m\n", {"memory__m__cpu_DOT_max": "100000 100000\n"}, 8),
    ],
)
def test_a_quota_limits_the_cores(tmp_path: Path, line: str, files: dict[str, str], cores: int) -> None:
    groups, own = group(tmp_path, line, **files)
    assert usable_cores(groups, own) == cores


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cores(tmp_path, tmp_path / "nothing") == 8


def test_a_launch_hands_out_what_this_process_may_use(
    affinity: set[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from cluster.runners.on_ray.cluster_inventory import this_machine

    monkeypatch.undo()
    os.sched_setaffinity(0, {min(affinity)})
    assert this_machine().cores == usable_cores() == 1
