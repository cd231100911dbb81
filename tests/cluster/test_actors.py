"""Single actors on a real Ray, and how they are called."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.actors import CheckpointHost, LedgerHost
from cluster.config import RunConfig
from cluster.links import OneAtATime
from cluster.run_folder import run_folder
from tests.cluster.searches import running_cluster

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[str]:
    with running_cluster() as address:
        yield address


@pytest.mark.parametrize(
    ("host", "arguments"), [(LedgerHost, ("ledger.sqlite", 0, 10)), (CheckpointHost, ("checkpoints",))]
)
def test_a_host_that_writes_into_the_runs_folder_is_waited_for_by_the_next_driver(
    host: Any, arguments: tuple[Any, ...], tmp_path: Path
) -> None:
    folder = run_folder(tmp_path, "demo")
    folder.create(RunConfig())
    name, *others = arguments
    actor = host.remote(folder.path / name, *others)
    ray.get(actor.__ray_ready__.remote())
    assert folder.without_writers(0.0) is None
    ray.kill(actor)
    free = folder.without_writers(30.0)
    assert free is not None
    free.close()


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Ledger:
    """Counts the signs of life that reach it, as far as a file lets it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def beat(self) -> None:
        while (self._path / "away").exists():
            time.sleep(0.02)
        with (self._path / "beats").open("a") as file:
            file.write("x")
        if (self._path / "full").exists():
            raise OSError("the disk is full")


def test_calls_do_not_queue_up_for_an_actor_that_is_away(tmp_path: Path) -> None:
    def beats() -> int:
        return len((tmp_path / "beats").read_text()) if (tmp_path / "beats").exists() else 0

    def until(count: int) -> None:
        deadline = time.monotonic() + 30
        while beats() < count:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    ledger: Any = Ledger.remote(tmp_path)
    beat = OneAtATime(ledger.beat)
    (tmp_path / "away").touch()
    began = time.monotonic()
    for _ in range(50):
        beat()
    assert time.monotonic() - began < 5  # it waits for no answer
    (tmp_path / "away").unlink()
    until(1)
    time.sleep(0.5)
    assert beats() == 1
    (tmp_path / "full").touch()
    beat()
    until(2)
    time.sleep(0.5)
    with pytest.raises(OSError, match="the disk is full"):
        beat()
    (tmp_path / "full").unlink()
    until(3)  # what failed was told, and the next call is under way all the same
