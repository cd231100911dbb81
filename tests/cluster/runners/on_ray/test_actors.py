"""Single actors on a real Ray, and how they are called."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from cluster.config.run_config import RunConfig
from cluster.runners.on_ray.actors import CheckpointHost, LedgerHost, ShardHost
from cluster.runners.on_ray.credentials import CredentialsError, RunToken
from cluster.runners.on_ray.handles import LEDGER, OneAtATime, StoreShards, actor, open_store
from cluster.storage.find_run import run_folder
from ps.errors import Unauthenticated
from ps.rpc.client import GrpcStore
from tests.cluster.searches import end
from tests.contracts.parameter_store import sgd_layout

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(180), pytest.mark.usefixtures("cluster")]


@pytest.mark.parametrize(
    ("host", "arguments"), [(LedgerHost, ("ledger.sqlite", 0, 10)), (CheckpointHost, ("checkpoints",))]
)
def test_the_next_driver_waits_for_a_host_that_writes_into_the_folder(
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


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Any]:
    ledger: Any = LedgerHost.options(name=LEDGER).remote(tmp_path / "ledger.sqlite", 0, 10)
    ray.get(ledger.__ray_ready__.remote())
    yield ledger
    end([ledger])
    actor.cache_clear()


def serve(folder: Path, token: RunToken, indices: tuple[int, ...] = (0, 1)) -> Any:
    shards = StoreShards(store="policy", layout=sgd_layout(shards=3), directory=folder / "shards")
    return ShardHost.remote(shards, indices, "127.0.0.1", token)


def test_a_shard_is_served_once_its_predecessor_can_write_no_more(tmp_path: Path, ledger: Any) -> None:
    token = RunToken.new(os.environ, "nonce")
    first, beside = serve(tmp_path, token), serve(tmp_path, token, (2,))
    ray.get([first.ready.remote(), beside.ready.remote()])
    second = serve(tmp_path, token, (1,))  # as Ray does that has lost sight of the first one's node
    started = second.ready.remote()
    assert ray.wait([started], timeout=3) == ([], [started])
    ray.kill(first)
    ray.get(started, timeout=60)
    for host in beside, second:
        ray.kill(host)


def test_the_store_is_opened_with_the_clusters_token_and_with_no_other(
    tmp_path: Path, ledger: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = RunToken.new(os.environ, "nonce")
    host = serve(tmp_path, token, (0, 1, 2))
    ray.get(host.ready.remote())
    store = open_store(sgd_layout(shards=3), ledger, token)
    store.initialize({"x": torch.zeros(10)})
    store.close()
    with monkeypatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", "another")
        with pytest.raises(CredentialsError, match="the cluster's token that the driver has, got another one"):
            open_store(sgd_layout(shards=3), ledger, token)
    addresses = ray.get(ledger.addresses.remote())
    # Neither what travels through Ray nor the cluster's token is the secret itself.
    for wrong in token.nonce, os.environ["RAY_AUTH_TOKEN"], None:
        stranger = GrpcStore(sgd_layout(shards=3), addresses, token=wrong, retry_timeout_s=5)
        with pytest.raises(Unauthenticated):
            stranger.pull()
        stranger.close()
    ray.kill(host)


def test_a_shard_host_without_the_clusters_token_says_so(tmp_path: Path, ledger: Any) -> None:
    token = RunToken.new({"RAY_AUTH_TOKEN": "of another cluster"}, "nonce")
    with pytest.raises(ray.exceptions.RayActorError, match="must have the cluster's token that the driver has"):
        ray.get(serve(tmp_path, token).ready.remote())


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


def test_calls_do_not_queue_up_for_an_unavailable_actor(tmp_path: Path) -> None:
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
