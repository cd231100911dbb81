"""Hosts with addresses, links and Ray nodes of their own: network namespaces on this machine, joined by a veth pair."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from tests.chaos.machines import MARK, marked

PORT = 6379


def why_not() -> str | None:
    """Why there can be no such hosts here, or `None`."""
    if shutil.which("ip") is None:
        return "the program ip (iproute2) is not here"
    name = f"nc{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespace can be made here: {made.stderr.strip()}"
    _ip("netns", "del", name)
    return None


class Host:
    """One host: a network namespace with an address, and a folder for Ray of which the other sees its own.

    Args:
        namespace: its name, a short one.
        address: its own.
        folder: the path of that folder, short because Ray's sockets lie below it, and the same on all hosts.
        environment: of all that is started here.
    """

    def __init__(self, namespace: str, address: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.namespace, self.address, self.link = namespace, address, f"{namespace}v"
        self._folder = folder
        self._own = folder.with_name(f"{folder.name}-{namespace}")
        self._own.mkdir()
        self._started: list[subprocess.Popen[bytes]] = []
        self._environment = dict(environment) | {"RAY_TMPDIR": str(folder), MARK: namespace}
        _ip("netns", "add", namespace)
        self.ip("link", "set", "lo", "up")

    def ip(self, *words: str) -> None:
        """Set up the host's network."""
        _ip("-n", self.namespace, *words)

    def start(self, command: Sequence[str], log: IO[Any]) -> "subprocess.Popen[bytes]":
        """Start a program on this host, which ends with it."""
        bind = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
        inside = ["unshare", "--mount", "sh", "-c", bind, "sh", str(self._own), str(self._folder), *command]
        started = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, *inside],
            env=self._environment,
            cwd=Path(__file__).parents[2],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self._started.append(started)
        return started

    def start_ray(self, cores: int, head: str | None, log: IO[Any]) -> "subprocess.Popen[bytes]":
        """Ray's node here: the head, or one that joins the head at this address."""
        role = [f"--address={head}:{PORT}"] if head else ["--head", f"--port={PORT}", "--include-dashboard=false"]
        options = [f"--node-ip-address={self.address}", f"--num-cpus={cores}", "--block"]
        return self.start([str(Path(sys.executable).with_name("ray")), "start", *role, *options], log)

    def close(self) -> None:
        """Kill all that was started here, and take the host away."""
        for pid, _, _ in marked(self.namespace):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for started in self._started:
            started.kill()
            started.wait()
        _ip("netns", "del", self.namespace)


class Pair:
    """Two hosts and the link between them, which can be cut.

    Args:
        folder: where their folders for Ray are made.
        environments: of all that is started on the one and on the other.
    """

    ADDRESSES = "10.213.0.1", "10.213.0.2"

    def __init__(self, folder: Path, environments: Sequence[Mapping[str, str]]) -> None:
        name, common = f"nc{secrets.token_hex(3)}", folder / "r"
        common.mkdir()
        self.hosts = [
            Host(f"{name}{number}", address, common, environment)
            for number, (address, environment) in enumerate(zip(self.ADDRESSES, environments, strict=True))
        ]
        one, other = self.hosts
        ends = ["netns", one.namespace, "type", "veth", "peer", "name", other.link, "netns", other.namespace]
        _ip("link", "add", one.link, *ends)
        for host in self.hosts:
            host.ip("addr", "add", f"{host.address}/30", "dev", host.link)
            host.ip("link", "set", host.link, "up")

    def cut(self) -> None:
        """Cut the link: packets are lost without notice, as they go to a station that does not exist."""
        for host, there in zip(self.hosts, reversed(self.ADDRESSES), strict=True):
            host.ip("neigh", "replace", there, "lladdr", "02:00:00:00:00:01", "dev", host.link, "nud", "permanent")

    def mend(self) -> None:
        """Restore the link."""
        for host, there in zip(self.hosts, reversed(self.ADDRESSES), strict=True):
            host.ip("neigh", "del", there, "dev", host.link)

    def close(self) -> None:
        """Kill everything, and leave no network behind."""
        for host in self.hosts:
            host.close()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
