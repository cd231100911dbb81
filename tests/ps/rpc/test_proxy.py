"""A proxy of the environment is for the web: calls to shards do not go through it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

SCRIPT = """
from tests.contracts.parameter_store import sgd_layout
from ps.rpc.client import GrpcStore
from ps.rpc.server import ShardServer
import torch
layout = sgd_layout(shards=1)
server = ShardServer(layout, [0], None, host={host!r})
store = GrpcStore(layout, [server.address], retry_timeout_s=3)
store.initialize({{"x": torch.ones(10)}})
print(store.pull().values["x"].sum().item())
store.close()
server.stop(grace_s=0)
"""


def total(host: str, **variables: str) -> str:
    """Return what a process with these variables pulls from a shard that serves on `host`."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(host=host)],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=60,
    )
    return done.stdout.strip() or done.stderr


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
def test_shards_are_reached_whatever_the_proxy(variable: str) -> None:
    proxy = {variable: "http://127.0.0.1:9", "no_proxy": "", "no_grpc_proxy": ""}
    assert total("127.0.0.1", **proxy) == "10.0"


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_address_may_be_in_brackets(host: str) -> None:
    assert total(host) == "10.0"
