"""Shared by all tests: an environment in which Ray and home folders have nothing to do with this machine's own."""

import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from child_trainer import own_files
from child_trainer.architectures import operation_types

# Before anything imports Ray, which reads its token once and for all. The folder's name is short because Ray's
# sockets live below it, and a socket's path has a limit of some hundred characters.
_ISOLATED = Path(tempfile.mkdtemp(prefix="nc-", dir="/tmp"))
os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
# Containers often set it, users do not: what a killed process has printed must not depend on it.
os.environ.pop("PYTHONUNBUFFERED", None)
os.environ |= {
    "HOME": str(_ISOLATED / "home"),
    "RAY_TMPDIR": str(_ISOLATED),
    "RAY_AUTH_TOKEN": secrets.token_hex(16),
    "RAY_ADDRESS": "local",
    # Ray's default of 15 gives its workers hardly a core beside the tests of the other process.
    "RAY_worker_niceness": "0",
    # For tests of single layers and policies, whose tensors are small: on a few cores threads only get in each other's
    # way. What a search trains has the threads that the run says, whatever stands here.
    "OMP_NUM_THREADS": "1",
}
(_ISOLATED / "home").mkdir()
# A shell has what it starts in the background ignore Ctrl-C, and so would all the commands that are tested.
signal.signal(signal.SIGINT, signal.default_int_handler)
# On a busy machine an example may take any time; pytest's timeout ends a test that hangs.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def own_operations() -> Iterator[None]:
    """Forget the operations and modules that a test has loaded: others count the operations of this process."""
    tables: list[dict[Any, Any]] = [operation_types._OPERATIONS, operation_types.BUILDERS, own_files._MODULES]
    before = [dict(table) for table in tables]
    yield
    for table, contents in zip(tables, before, strict=True):
        table.clear()
        table.update(contents)


def pytest_unconfigure() -> None:
    shutil.rmtree(_ISOLATED, ignore_errors=True)  # Ray's daemons may be writing their last log lines


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests are shared out among processes, those of a file stay together, for its fixtures.

    What starts a Ray has a mark that says so, for one process to do it all: two Rays at once would only be in each
    other's way.
    """
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    items.sort(key=lambda item: not _starts_ray(item))


def _starts_ray(item: pytest.Item) -> bool:
    """Return whether it is in the group that takes longest, which therefore begins first."""
    mark = item.get_closest_marker("xdist_group")
    return mark is not None and mark.args == ("ray",)
