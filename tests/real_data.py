"""Where the real data for tests is."""

import os
from pathlib import Path

import pytest


def real(folder: str) -> Path:
    """A folder of `NASCLUSTER_DATA`, or the test is skipped."""
    root = os.environ.get("NASCLUSTER_DATA")
    if not root:
        pytest.skip(f"NASCLUSTER_DATA is not set; {folder} is looked for in the folder that it names")
    path = Path(root) / folder
    if not path.is_dir():
        pytest.skip(f"{path} is missing")
    return path
