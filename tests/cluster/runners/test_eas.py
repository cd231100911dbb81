"""A whole EAS search on Ray: a worker fetches the weights that a child begins with, and sends its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.runners.inheriting import ROOT, SEARCHES, rows, run

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(240)]


def test_workers_on_ray_give_the_same(shared_ray: str, tmp_path: Path) -> None:
    """Of the first stage: a worker fetches the start's weights from the driver's node, and sends its own there."""
    flags = [*SEARCHES["eas"], "--max-children", "4"]
    assert run("launch", *flags, "--local", "--storage-path", tmp_path / "local") == 0
    stage = [*flags, "--workers", "1", "--storage-path", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "cluster", "launch", *stage],
        cwd=ROOT,
        env=os.environ | {"RAY_ADDRESS": shared_ray},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows(tmp_path / "run") == rows(tmp_path / "local" / "run")
    kept = {file.name.split("-")[1] for file in (tmp_path / "run" / "child-weights").glob("child-*")}
    best = max(rows(tmp_path / "run"), key=lambda row: (row[4], -row[0]))
    assert f"{best[0]:08d}" in kept
