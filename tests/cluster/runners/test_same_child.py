"""A child is the same wherever it is trained: by a worker on Ray, in one process, and by hand."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.searches import finish, nascluster, run_folder, select

pytestmark = pytest.mark.timeout(240)

FLAGS = shlex.split("--searcher random --max-children 2 --epochs 2 --replicas 1 --children 2 --seed 5 --num-filters 24")


def curves(name: str) -> dict[str, str]:
    """Return the best metric of each architecture."""
    return dict(select(name, "SELECT seed, metric FROM children"))


def by_hand(name: str, folder: Path, threads: str) -> list[float]:
    """Return the curve that the command which `best` prints gives, with the variable set to what would be other."""
    text = finish(nascluster("best", name))
    command = next(line for line in text.splitlines() if "python -m child_trainer" in line)
    words = shlex.split(command[command.index("python -m") :])
    words[words.index("child_trainer") + 1] = str(folder / "best.json")
    (folder / "best.json").write_text(finish(nascluster("best", name, "--json")))
    environment = os.environ | {"OMP_NUM_THREADS": threads}
    again = subprocess.run(
        [sys.executable, *words[1:], "--device", "cpu", "--json"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return json.loads(again.stdout)["curve"]


@pytest.mark.xdist_group("ray")
def test_on_ray_in_one_process_and_by_hand(shared_ray: str, tmp_path: Path) -> None:
    finish(nascluster("launch", "digits", "--name", "same-ray", *FLAGS, address=shared_ray))
    finish(nascluster("launch", "digits", "--name", "same-local", "--local", *FLAGS))
    assert curves("same-ray") == curves("same-local")
    best = json.loads(finish(nascluster("best", "same-ray", "--json")))
    assert max(by_hand("same-ray", tmp_path, "2")) == best["metric"]


def test_the_command_has_the_threads_of_the_run(tmp_path: Path) -> None:
    flags = (*FLAGS, "--max-children", 1, "--epochs", 1)
    finish(nascluster("launch", "digits", "--name", "two-threads", "--local", "--threads-per-child", 2, *flags))
    assert json.loads((run_folder("two-threads") / "config.json").read_text())["topology"]["threads_per_child"] == 2
    assert " --threads 2" in finish(nascluster("best", "two-threads"))
    best = json.loads(finish(nascluster("best", "two-threads", "--json")))
    assert max(by_hand("two-threads", tmp_path, "1")) == best["metric"]
