"""The cloud's notice that it takes a machine back, from a real HTTP server to Ray's own list of nodes that drain."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
import ray

from cluster.runners.on_ray.private_api import draining_nodes
from cluster.runners.on_ray.start_local_ray import start_ray
from tests.deploy.files import DEPLOY
from tests.waiting import until

pytestmark = pytest.mark.xdist_group("ray")

SCRIPT = DEPLOY / "spot-notice.sh"


class Metadata(ThreadingHTTPServer):
    """A machine's metadata service, as EC2 and Compute Engine have it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.taken_back = False
        self.asked = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: Any

    def do_PUT(self) -> None:
        known = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self._answer(200 if known else 404, "secret")

    def do_GET(self) -> None:
        self.server.asked += 1
        if self.path == "/latest/meta-data/spot/instance-action":
            allowed = self.headers["X-aws-ec2-metadata-token"] == "secret"
            self._answer((200 if self.server.taken_back else 404) if allowed else 401, '{"action": "terminate"}')
        elif self.path == "/computeMetadata/v1/instance/preempted" and self.headers["Metadata-Flavor"] == "Google":
            self._answer(200, "TRUE" if self.server.taken_back else "FALSE")
        else:
            self._answer(404, "")

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())


@ray.remote(num_cpus=1)
class _Busy:
    def niceness(self) -> int:
        return os.nice(0)


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    server = Metadata()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def node() -> Iterator[tuple[str, str]]:
    """A node's address and id; it has something to do, for an idle one that is to drain is gone at once."""
    address = start_ray(1, print)
    busy = cast(Any, _Busy).remote()
    assert ray.get(busy.niceness.remote()) == os.nice(0)  # Ray's default would be 15 more
    yield address, ray.get_runtime_context().get_node_id()
    ray.shutdown()


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_ray_hears_of_it(cloud: str, metadata: Metadata, node: tuple[str, str]) -> None:
    address, node_id = node
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "SPOT_METADATA": metadata.url, "RAY_ADDRESS": address}
    watch = subprocess.Popen(["bash", SCRIPT, cloud], env=env, stdout=subprocess.PIPE, text=True)
    try:
        until(lambda: metadata.asked >= 1, "a question to the metadata service", timeout_s=30)
        assert draining_nodes() == {}
        assert watch.poll() is None
        metadata.taken_back = True
        out, _ = watch.communicate(timeout=60)
    finally:
        watch.kill()
    assert watch.returncode == 0
    assert "is taken back" in out
    draining = draining_nodes()
    assert draining.keys() == {node_id}
    assert 0 < draining[node_id] / 1000 - time.time() < {"aws": 120, "gcp": 30}[cloud]


def test_another_cloud_is_refused() -> None:
    done = subprocess.run(["bash", SCRIPT, "azure"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "must be aws or gcp, got 'azure'" in done.stderr
