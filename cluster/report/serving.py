"""Serves a page to the browsers of this machine; each request builds it again."""

import contextlib
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from cluster.config.flags import UsageError

LOOPBACK = "127.0.0.1"
MAX_PORT = 65535


class PageServer(ThreadingHTTPServer):
    """Serves one page at `/` on the loopback interface, to requests for this machine's own names.

    Args:
        build: builds the page, never in two threads at once; a `ValueError` or `OSError` is shown instead.
        port: the port; 0: any free one.

    Raises:
        UsageError: the port is taken or not allowed.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, build: Callable[[], str], port: int) -> None:
        self._build = build
        self._lock = threading.Lock()
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            raise UsageError(f"`--port` {port} cannot be listened on: {error.strerror}") from error

    @property
    def url(self) -> str:
        """URL of the page."""
        return f"http://{LOOPBACK}:{self.server_port}/"

    @property
    def hosts(self) -> tuple[str, str]:
        """Accepted `Host` headers: another site's name that resolves to this machine must not read the page."""
        return f"{LOOPBACK}:{self.server_port}", f"localhost:{self.server_port}"

    def answer(self) -> tuple[HTTPStatus, str, str]:
        """Build the page and return status, content type and text."""
        with self._lock:
            try:
                return HTTPStatus.OK, "text/html", self._build()
            except (ValueError, OSError) as error:
                return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", f"{error}\n"


class _Handler(BaseHTTPRequestHandler):
    server: PageServer  # pyright: ignore[reportIncompatibleVariableOverride]

    HEADERS: ClassVar[dict[str, str]] = {
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }

    def do_GET(self) -> None:
        if self.headers.get("Host") not in self.server.hosts:
            return self._send(HTTPStatus.FORBIDDEN, "text/plain", "This page is for this machine's own browsers.\n")
        if self.path != "/":
            return self._send(HTTPStatus.NOT_FOUND, "text/plain", "The only page is /\n")
        return self._send(*self.server.answer())

    def _send(self, status: HTTPStatus, kind: str, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        for name, value in self.HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the browser has closed the connection
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: a page that refreshes itself would fill the terminal."""


def serve(build: Callable[[], str], port: int, report: Callable[[str], object]) -> None:
    """Serve the page until Ctrl-C; call `report` with its URL first.

    Raises:
        UsageError: the port is taken or not allowed.
    """
    with PageServer(build, port) as server, contextlib.suppress(KeyboardInterrupt):
        report(server.url)
        server.serve_forever()
