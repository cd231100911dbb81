"""Each function of `private_api` on a real Ray: where a new version of Ray breaks one, its test says which."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private.utils import write_ray_address

from cluster.placement.cluster_state import Demand
from cluster.placement.versions import code_folders
from cluster.runners.on_ray import private_api
from tests.waiting import until

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[4]

PRIVATE = re.compile(r"ray(\.\w+)*\.(_\w+|core|experimental|dashboard|scripts)(\.|$)")
"""Modules of Ray's that are not for its users."""


@ray.remote(num_cpus=0)
class Sleeper:
    """An actor that only is there."""

    def ready(self) -> None:
        """Return once the process is up."""

    def logs_folder(self) -> str:
        """Return what `node_logs_folder` returns in a worker's process."""
        return private_api.node_logs_folder()


@ray.remote(num_cpus=0)
class Broken:
    """An actor that cannot be started."""

    def __init__(self) -> None:
        raise RuntimeError("it is broken")


@pytest.fixture(scope="module")
def sleeper(cluster: str) -> Iterator[Any]:
    actor: Any = Sleeper.options(name="sleeper").remote()  # pyright: ignore[reportAttributeAccessIssue]
    ray.get(actor.ready.remote())
    yield actor
    ray.kill(actor)


def here() -> str:
    return ray.get_runtime_context().get_node_id()


def test_private_api_is_imported_in_one_file_only() -> None:
    found = {
        path.relative_to(folder.parent).as_posix()
        for folder in code_folders()
        for path in folder.rglob("*.py")
        if any(PRIVATE.match(module) for module in imported(path))
    }
    assert found == {"cluster/runners/on_ray/private_api.py"}


def imported(path: Path) -> Iterator[str]:
    """Yield the modules, and what may be modules, that a file imports anywhere."""
    for statement in ast.walk(ast.parse(path.read_text())):
        match statement:
            case ast.Import(names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from (f"{module}.{name.name}" for name in names)


def test_reload_settings(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._raylet import get_authentication_mode

    before = get_authentication_mode()
    with monkeypatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        private_api.reload_settings()
        assert get_authentication_mode() != before
    private_api.reload_settings()
    assert get_authentication_mode() == before


def test_reload_settings_reads_the_token_again(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._raylet import AuthenticationTokenLoader

    loader = AuthenticationTokenLoader.instance()
    before = loader.get_raw_token()
    with monkeypatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", "another" * 5)
        assert loader.get_raw_token() == before
        private_api.reload_settings()
        assert loader.get_raw_token() == "another" * 5
    private_api.reload_settings()
    assert loader.get_raw_token() == before


def test_job_config() -> None:
    """What processes then import is in `test_start_local_ray.py`."""
    config = private_api.job_config(["/ours", "/theirs"])
    assert config._py_driver_sys_path == ["/theirs", "/ours"]  # Ray puts each before the last
    assert config._client_job


LEAN = """
import os, subprocess, ray
from cluster.runners.on_ray.start_local_ray import start_ray
address = start_ray(1, print)
chosen = ray.remote(runtime_env={"env_vars": {"CHOSEN": "yes"}})(lambda: os.environ["CHOSEN"])
print(ray.get(chosen.remote()))
lines = subprocess.check_output(["ps", "-eww", "-o", "args"], text=True).splitlines()
print(*(line for line in lines if address in line))
"""


def test_lean_nodes() -> None:
    """A Ray of our own has none of these processes, but runtime environments, which a driver that joins it has."""
    done = subprocess.run([sys.executable, "-c", LEAN], cwd=ROOT, capture_output=True, text=True, check=True)
    said, processes = done.stdout.split("\n", 1)
    assert said == "yes"
    assert "/raylet" in processes
    assert not [name for name in ("dashboard/", "monitor.py") if name in processes]


def test_silence_worker_deaths(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import worker

    assert isinstance(worker._worker_logs_enabled, bool)
    monkeypatch.setattr(worker, "_worker_logs_enabled", True)
    private_api.silence_worker_deaths()
    assert worker._worker_logs_enabled is False


def test_node_logs_folder(sleeper: Any) -> None:
    folder = Path(private_api.node_logs_folder())
    assert folder.name == "logs"
    assert list(folder.glob("raylet*"))
    assert ray.get(sleeper.logs_folder.remote()) == str(folder)


def test_available_memory() -> None:
    assert 10**6 < private_api.available_memory() < 10**14


def test_last_started_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert private_api.last_started_address() is None
    (tmp_path / "ray").mkdir()
    write_ray_address("192.0.2.7:6379")  # as `ray start` does, on every node
    assert private_api.last_started_address() == "192.0.2.7:6379"


def test_auto_address(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    address = private_api.auto_address()  # of whichever Ray of this machine
    assert address is not None
    assert re.fullmatch(r"[\d.]+:\d+", address)


def test_draining_nodes(cluster: str) -> None:
    """See `tests/cluster/runners/on_ray/test_cluster_inventory.py` for a node that drains."""
    assert private_api.draining_nodes() == {}


def test_free_resources(cluster: str) -> None:
    free = private_api.free_resources()
    assert free.keys() == {here()}
    assert free[here()]["CPU"] == 3
    assert free[here()]["memory"] > 0


def test_internal_value(cluster: str) -> None:
    written = private_api.internal_value(b"CLUSTER_METADATA", b"cluster")
    assert written is not None
    assert ray.__version__.encode() in written
    assert private_api.internal_value(b"there is no such key") is None


def test_actor_process(sleeper: Any) -> None:
    process = private_api.actor_process(sleeper)
    assert (process.node, process.alive) == (here(), True)
    assert Path(f"/proc/{process.pid}/cmdline").read_text().startswith("ray::Sleeper")


def test_connect_to_head_and_node_table(cluster: str) -> None:
    head = private_api.connect_to_head(cluster)
    assert head.ray == ray.__version__
    assert head.python.startswith("3.")
    assert [row["NodeID"] for row in private_api.node_table() if row["Alive"]] == [here()]


def test_pending_demands(cluster: str) -> None:
    head = private_api.connect_to_head(cluster)
    wanted = {"zone": "!in(a,b)", "pool": "c"}
    waiting: Any = Sleeper.options(num_cpus=7, label_selector=wanted).remote()  # pyright: ignore
    demands = until(lambda: private_api.pending_demands(head), "the actor waits for a node")
    assert demands == (Demand(needs={"CPU": 7.0}, count=1, labels=wanted),)
    ray.kill(waiting)


def test_actors(sleeper: Any) -> None:
    broken: Any = Broken.remote()  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(broken.__ray_ready__.remote())
    job = ray.get_runtime_context().get_job_id()
    rows = {row.name: row for row in private_api.actors() if row.job == job}
    up, dead = rows["sleeper"], rows["Broken"]
    assert (up.state, up.pid, up.restarts) == ("ALIVE", private_api.actor_process(sleeper).pid, 0)
    assert up.address == ray.util.get_node_ip_address()
    assert (dead.state, dead.reason) == ("DEAD", "RuntimeError: it is broken")
