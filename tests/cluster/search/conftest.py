"""Folders in memory: deaths are exceptions here, and no power is cut, so that nothing hangs on what the disk has."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Return a folder where a write need not wait for a disk; a search that dies at each of its calls makes many."""
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place, prefix="nascluster-test-") as folder:
        yield Path(folder)
