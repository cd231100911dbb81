"""What the tests of `cluster/` share: one Ray, and an S3 service.

The S3 service is moto's, which keeps its objects in this process and can be stopped for a while.
"""

import logging
import os
import secrets
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.ports import free_port


class ObjectService:
    """Serves on one port, now and then."""

    def __init__(self) -> None:
        self.port = free_port()
        self._server: Any = None

    def start(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        app: Any = DomainDispatcherApplication(create_backend_app)
        handler: Any = MotoRequestHandler
        self._server = make_server("127.0.0.1", self.port, app, threaded=True, request_handler=handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="session")
def object_service() -> Iterator[ObjectService]:
    """One for all: fsspec knows a service that it has once opened again by its URL, which does not say where it is."""
    service = ObjectService()
    service.start()
    yield service
    service.stop()


@pytest.fixture
def s3_url(object_service: ObjectService, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where a test may keep its runs."""
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{object_service.port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    bucket = f"bucket-{secrets.token_hex(4)}"
    client: Any = boto3.client("s3")
    client.create_bucket(Bucket=bucket)
    client.close()
    return f"s3://{bucket}/runs"


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[str]:
    """Yield the address of a Ray with three cores, one for all tests of this process that only need a Ray.

    Each search joins it as a job of its own, whose actors have a namespace of their own. Tests that kill or drain
    nodes, change what a node has, or are about how Ray starts, have a Ray of their own.
    """
    from cluster.runners.on_ray.private_api import reload_settings
    from tests.ray_cluster import start_cluster

    os.environ["RAY_AUTH_MODE"] = "token"  # as Ray does with the first Ray that a process starts
    reload_settings()
    cluster = start_cluster(num_cpus=3, include_dashboard=False)
    yield cluster.address
    cluster.shutdown()


@pytest.fixture(scope="module")
def cluster(shared_ray: str) -> Iterator[str]:
    """Join the shared Ray with this process, in a namespace for each module, and yield its address."""
    import ray

    ray.init(address=shared_ray, log_to_driver=False, logging_level=logging.ERROR)
    yield shared_ray
    ray.shutdown()
