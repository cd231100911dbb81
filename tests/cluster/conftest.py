"""An S3 service on this machine: moto's, which keeps its objects in this process and can be away for a while."""

import logging
import secrets
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest


class ObjectService:
    """Serves on one port, now and then."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
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
