"""Two hosts with addresses of their own, tokens and TLS, and the link between them cut for a while: nothing is lost."""

import itertools
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.chaos.hosts import PORT, Host, Pair, why_not
from tests.chaos.invariants import Report, check
from tests.chaos.machines import first_value
from tests.lengths import LONG
from tests.waiting import until

WHY_NOT = why_not()

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))]

Open = Callable[..., Pair]

CHILDREN = 96

LOST_SIGHT = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
"""Ray gives up a node that it has not reached for some 5 s; else it takes more than a minute."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nc-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def open_pair(folder: Path) -> Iterator[Open]:
    """Make two hosts with the cluster's token, certificates of one authority, and homes of their own."""
    with ExitStack() as stack:

        def open_pair(changes: Mapping[str, str]) -> Pair:
            (folder / "tls").mkdir()
            authority, token = Authority(folder / "tls"), secrets.token_hex(32)
            ours = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
            ours |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_USAGE_STATS_ENABLED": "0"}
            ours |= {"RAY_ADDRESS": f"{Pair.ADDRESSES[0]}:{PORT}", **changes}
            environments: list[dict[str, str]] = []
            for address in Pair.ADDRESSES:
                (home := folder / address).mkdir()
                issued = authority.issue(address, f"IP:{address},IP:127.0.0.1,DNS:localhost")
                environments.append({**ours, "HOME": str(home), **issued.environment})
            pair = Pair(folder, environments)
            stack.callback(pair.close)
            return pair

        yield open_pair


SERVE = """
import os, sys, time
from cluster.runners.on_ray.credentials import shards_tls
from ps.rpc.server import ShardServer
from tests.contracts.parameter_store import sgd_layout
host = sys.argv[1]
layout, tls = sgd_layout(shards=1), shards_tls(os.environ, host)
server = ShardServer(layout, [0], None, host=host, port=7000, token="secret", tls=tls)
print("serving", flush=True)
time.sleep(600)
"""

PULL = """
import os, sys, time
import torch
from cluster.runners.on_ray.credentials import shards_tls
from ps.rpc.client import GrpcStore
from tests.contracts.parameter_store import sgd_layout
store = GrpcStore(sgd_layout(shards=1), [sys.argv[1] + ":7000"], token="secret", tls=shards_tls(os.environ))
store.initialize({"x": torch.zeros(10)})
while True:
    store.pull()
    print(time.monotonic(), flush=True)
    time.sleep(0.1)
"""

KNOCK = """
import os, sys
from cluster.runners.on_ray.credentials import shards_tls
from ps.rpc.client import GrpcStore
from ps.errors import StoreError
from tests.contracts.parameter_store import sgd_layout
for tls in (None, shards_tls(os.environ)):
    store = GrpcStore(sgd_layout(shards=1), [sys.argv[1]], token="guessed", tls=tls, deadline_s=5, retry_timeout_s=0)
    try:
        store.status()
    except StoreError as error:
        print(type(error).__name__)
"""


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_the_shards_are_found_again_soon_after_the_link_is_mended(open_pair: Open, folder: Path) -> None:
    pair = open_pair({})
    here, there = pair.hosts
    with (folder / "served").open("wb") as served, (folder / "pulled").open("wb") as pulled:
        here.start([sys.executable, "-c", SERVE, here.address], served)
        until(lambda: lines(folder / "served"), "a server")
        there.start([sys.executable, "-c", PULL, here.address], pulled)
        until(lambda: len(lines(folder / "pulled")) > 5, "some pulls")
        pair.cut()
        time.sleep(8)
        before = len(lines(folder / "pulled"))
        pair.mend()
        mended = time.monotonic()
        until(lambda: len(lines(folder / "pulled")) > before, "another pull")
    assert lines(folder / "served") == ["serving"]
    times = [float(line) for line in lines(folder / "pulled")]
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) > 7  # it was really cut
    assert times[before] - mended < 5


class Search:
    """A search with workers, replicas and shards on both hosts, driven from the first."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.folder = folder / pair.hosts[0].address / "nascluster_runs" / "two"
        self._hosts, self._log = pair.hosts, folder / "log"
        self._rays = [self.start_ray(0), self.start_ray(1)]
        flags = {"replicas": 2, "shards": 2, "children": 4, "max-children": CHILDREN, "child-seconds": 0.5}
        options = [str(word) for flag, value in flags.items() for word in (f"--{flag}", value)]
        command = [sys.executable, "-m", "cluster", "launch", "synthetic", "--name", "two", *options]
        with self._log.open("ab") as log:
            self._driver = self._hosts[0].start(command, log)

    def start_ray(self, number: int) -> "subprocess.Popen[bytes]":
        """Start a host's node, and wait until it is up."""
        host = self._hosts[number]
        path = self._log.with_name(f"ray-{number}-{secrets.token_hex(2)}")
        with path.open("wb") as log:
            ray = host.start_ray(1, self._hosts[0].address if number else None, log)
        until(lambda: "Ray runtime started" in path.read_text() or ray.poll() is not None, "a node")
        assert ray.poll() is None, path.read_text()[-3000:]
        return ray

    def ended(self) -> int:
        return first_value(self.folder / "ledger.sqlite", "SELECT count(completion) FROM children") or 0

    def trained_on(self, host: Host) -> int:
        query = "SELECT count(*) FROM attempts WHERE verdict = 'outcome' AND worker LIKE ?"
        return first_value(self.folder / "ledger.sqlite", query, f"%@{host.address}/%") or 0

    def answers_to_a_stranger(self) -> list[str]:
        """Return a shard's answers to the other host: to plain text, and to a good certificate without the secret."""
        address = first_value(self.folder / "ledger.sqlite", "SELECT address FROM addresses")
        path = self._log.with_name("knocked")
        with path.open("wb") as log:
            assert self._hosts[1].start([sys.executable, "-c", KNOCK, address], log).wait(60) == 0
        return lines(path)

    def make_progress(self, children: int) -> None:
        goal = self.ended() + children

        def reached() -> bool:
            assert self._driver.poll() is None, self.said()
            return self.ended() >= goal

        until(reached, f"the end of {children} more children")

    def node_has_ended(self) -> bool:
        return self._rays[1].poll() is not None

    def finish(self) -> Report:
        code = self._driver.wait(timeout=150)
        assert code == 0, self.said()
        return check(self.folder)

    def said(self) -> str:
        return self._log.read_text()[-4000:]


@pytest.mark.timeout(400)
@LONG
def test_a_search_over_two_hosts_outlives_20_s_without_the_link(open_pair: Open, folder: Path) -> None:
    pair = open_pair({})
    search = Search(pair, folder)
    search.make_progress(16)
    assert all(search.trained_on(host) for host in pair.hosts)
    assert search.answers_to_a_stranger() == ["StoreUnavailable", "Unauthenticated"]
    pair.cut()
    time.sleep(20)
    pair.mend()
    report = search.finish()
    assert not search.node_has_ended()
    assert (report.children, report.lost, report.duplicated, report.repeated) == (CHILDREN, 0, 0, 0)
    assert report.attempts == CHILDREN  # what was in training went on


@pytest.mark.timeout(400)
@LONG
def test_a_host_that_ray_has_given_up_while_it_lived_does_no_harm(open_pair: Open, folder: Path) -> None:
    """Its shards, replicas and workers are started elsewhere, and go on all the same until the link is back."""
    pair = open_pair(LOST_SIGHT)
    search = Search(pair, folder)
    search.make_progress(16)
    pair.cut()
    time.sleep(20)
    pair.mend()
    until(search.node_has_ended, "the end of the node that has been given up")
    search.start_ray(1)
    before = search.trained_on(pair.hosts[1])
    report = search.finish()
    assert (report.children, report.lost, report.duplicated, report.repeated) == (CHILDREN, 0, 0, 0)
    assert search.trained_on(pair.hosts[1]) > before  # the node that has come back is used
