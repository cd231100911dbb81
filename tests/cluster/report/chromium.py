"""A real Chromium without a window, driven by its DevTools protocol. Debian: apt-get install chromium."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

BINARY = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

FLAGS = (
    "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-sandbox", "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)  # fmt: skip

PATIENCE_S = 30.0


@contextmanager
def chromium(profile: Path) -> Iterator[int]:
    """A browser with a fresh profile, and the port of its DevTools."""
    assert BINARY is not None
    command = [BINARY, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            yield _port(profile / "DevToolsActivePort")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _port(file: Path) -> int:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if file.exists() and (lines := file.read_text().splitlines()):
            return int(lines[0])
        time.sleep(0.05)
    raise TimeoutError("Chromium does not open its DevTools")


class Tab:
    """The browser's one page, and all events that it has sent."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self.events: list[dict[str, Any]] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What a method of DevTools gives back."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            message = await self._receive()
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    async def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def visit(self, url: str) -> None:
        """Go to a page, and wait until it is there."""
        await self.call("Page.navigate", url=url)
        seen = len(self.events)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events[seen:]):
            await self._receive()

    async def becomes(self, script: str) -> None:
        """Wait until an expression in the page holds."""
        async with asyncio.timeout(PATIENCE_S):
            while not await self.evaluate(script):
                await asyncio.sleep(0.1)

    async def _receive(self) -> dict[str, Any]:
        message = json.loads(await asyncio.wait_for(self._socket.receive_str(), PATIENCE_S))
        if "method" in message:
            self.events.append(message)
        return message

    def requests(self) -> list[str]:
        """Every URL that was asked for."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[Any]:
        """Whatever stands in the console, and every exception."""
        loud = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event["params"] for event in self.events if event["method"] in loud]


async def open_tab(session: aiohttp.ClientSession, port: int) -> Tab:
    """The browser's page, with all of its events switched on."""
    async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
        pages = [target for target in await answer.json(content_type=None) if target["type"] == "page"]
    tab = Tab(await session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0))
    for domain in ("Page", "Runtime", "Network", "Log"):
        await tab.call(f"{domain}.enable")
    return tab
