"""A Ray cluster of several nodes on this machine, whose processes can be found, and killed like a machine's."""

import itertools
import logging
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import ray
from ray._raylet import GcsClient
from ray.core.generated.autoscaler_pb2 import DRAIN_NODE_REASON_PREEMPTION

from tests.ray_cluster import start_cluster
from tests.waiting import until

MARK = "NASCLUSTER_MACHINE"
"""An environment variable that every process of a node inherits from its raylet: which cluster and node it is of."""


def first_value(ledger: Path, query: str, *values: object) -> Any:
    """Return the first value of the first row, read from outside; `None` if there is none, or no ledger yet."""
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True)) as db:
        row = db.execute(query, values).fetchone()
        return row and row[0]
    return None


def start_command(
    words: Sequence[str], environment: Mapping[str, str], log: int | IO[Any]
) -> "subprocess.Popen[bytes]":
    """One of our commands in a process of its own, which writes to `log`."""
    command = [sys.executable, "-m", "cluster", *words]
    root = Path(__file__).parents[2]
    return subprocess.Popen(command, env=environment, cwd=root, stdout=log, stderr=subprocess.STDOUT)


def marked(mark: str) -> Iterator[tuple[int, str, str]]:
    """Yield the processes whose mark begins so: id, title, mark."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError):  # it ended meanwhile
            variables = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
            found = next((v.partition("=")[2] for v in variables if v.startswith(f"{MARK}={mark}")), None)
            if found is not None:
                yield int(folder.name), (folder / "cmdline").read_bytes().decode().strip("\0 "), found


class Machines:
    """A head, which is never killed, and nodes that come and go; they share this machine's cores and its address.

    Args:
        nodes: how many there are besides the head.
        cores: that each node pretends to have; the head has none where there are others.
    """

    def __init__(self, nodes: int, cores: int) -> None:
        self._mark, self._numbers, self._cores = secrets.token_hex(8), itertools.count(), cores
        self._nodes: dict[str, Any] = {}
        # A node that does not answer is dead for Ray after seconds, not after half a minute.
        health = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000}
        head = self._arguments(0 if nodes else cores) | {"include_dashboard": False, "_system_config": health}
        self._cluster: Any = start_cluster(**head)
        for _ in range(nodes):
            self.add_node()

    @property
    def environment(self) -> dict[str, str]:
        """Of a driver that is to join."""
        return os.environ | {"RAY_ADDRESS": self._cluster.address, MARK: f"{self._mark}-driver"}

    def add_node(self, variables: Mapping[str, str] | None = None, **more: Any) -> str:
        """Start another node, which has more or other things than its cores; its name here.

        Args:
            variables: of the environment of its processes.
            more: what `Cluster.add_node` takes.
        """
        arguments = self._arguments(self._cores) | more
        name = arguments["env_vars"][MARK]
        arguments["env_vars"] |= variables or {}
        self._nodes[name] = self._cluster.add_node(**arguments)
        return name

    def kill_node(self, name: str) -> None:
        """Kill a whole node without grace."""
        self._cluster.remove_node(self._nodes.pop(name), allow_graceful=False)

    def drain_node(self, name: str) -> None:
        """Tell a node to go in a minute, as a cloud does that takes a machine back."""
        client = GcsClient(address=self._cluster.address)
        in_a_minute = int((time.time() + 60) * 1000)
        node = self._nodes[name].node_id
        accepted, why = client.drain_node(node, DRAIN_NODE_REASON_PREEMPTION, "taken back", in_a_minute)
        assert accepted, why

    def homes(self, actor: str) -> Counter[str]:
        """How many processes of an actor class are up on each node."""
        return Counter(mark for _, title, mark in marked(self._mark) if title.split(".")[0] == f"ray::{actor}")

    def processes(self, actor: str) -> list[tuple[int, str]]:
        """Return the live processes of an actor class, and their titles, which say whether they are busy."""
        return [(pid, title) for pid, title, _ in marked(self._mark) if title.split(".")[0] == f"ray::{actor}"]

    def kill_node_of(self, actor: str) -> None:
        """Kill a whole node, one where such an actor runs, without grace."""

        def found() -> str | None:
            marks = [m for _, title, m in marked(self._mark) if title.split(".")[0] == f"ray::{actor}"]
            return next((m for m in marks if m in self._nodes), None)

        self.kill_node(until(found, f"a node with a {actor}"))

    def kill_by_ray(self, actor: str) -> None:
        """Call `ray.kill` on the actor of this name, of whichever run."""
        with self.joined():
            named: list[Any] = ray.util.list_named_actors(all_namespaces=True)
            (found,) = [each for each in named if each["name"] == actor]
            ray.kill(ray.get_actor(actor, namespace=found["namespace"]), no_restart=False)

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Make this process a driver of the cluster while the block lasts."""
        ray.init(address=self._cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        try:
            yield
        finally:
            ray.shutdown()

    def close(self) -> None:
        """End the cluster."""
        self._cluster.shutdown()
        for pid, title, _ in marked(self._mark):
            if title.startswith("ray::"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)  # one that was stopped does not see that its raylet is gone

    def _arguments(self, cores: int) -> dict[str, Any]:
        number = next(self._numbers)
        return {
            "num_cpus": cores,
            "env_vars": {MARK: f"{self._mark}-{number}"},
            # Nodes that share it, as no two machines do, take the code from under each other's processes. The head's
            # has Ray's own name, by which drivers look for it.
            "runtime_env_dir_name": f"runtime_resources-{number}" if number else None,
        }
