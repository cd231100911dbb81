"""Parts of a user's own on a Ray of two nodes, to which nobody has copied a file."""

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.api.python_api import load
from tests.chaos.machines import Machines
from tests.extending.files import write_files

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(300)]


def test_own_searcher_space_task_and_reward_reach_every_node(tmp_path: Path) -> None:
    write_files(tmp_path)
    machines = Machines(nodes=2, cores=1)
    try:
        words = ["launch", "my_recipe.py:stripes", "--name", "own", "--storage-path", "runs", "--max-children", "8"]
        done = subprocess.run(
            [sys.executable, "-m", "cluster", *words, "--workers", "2"],
            cwd=tmp_path,
            env=machines.environment | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        machines.close()
    status = load("own", tmp_path / "runs").status()
    assert (status.state, status.finished, status.failed) == ("finished", 8, 0)
