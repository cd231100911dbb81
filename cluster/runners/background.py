"""A search whose driver is a process of its own, which outlives the one that starts it (`launch(..., wait=False)`)."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO

from rich.console import Console

from cluster.config.run_config import RunConfig
from cluster.runners.run_failed import RunFailed
from cluster.storage.find_run import run_folder
from cluster.storage.run_folder import RunFolder

POLL_INTERVAL_S = 0.05
"""Time between two checks whether the search has begun."""

MAX_REPORT = 60_000
"""Bytes of an error's report: a pipe holds them, so that its writer need not wait for a reader."""


class BackgroundDriver:
    """A process that drives a search.

    It has a session of its own: neither Ctrl-C nor the end of the process that started it stops the search. A thread
    waits for its end, so that no process is left behind as a zombie.

    Args:
        config: of the search.
        folder: of the run.
        show: print the search's progress.
    """

    def __init__(self, config: RunConfig, folder: RunFolder, show: bool) -> None:
        self._folder = folder
        self._error: Exception | None = None
        given = json.dumps({"config": config.to_json(), "show": show})
        paths = os.pathsep.join(str(path) or os.getcwd() for path in sys.path)  # which may have a `Path`, too
        reader, writer = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "cluster.runners.background", str(writer)],
                stdin=subprocess.PIPE,
                stdout=None if show else subprocess.DEVNULL,
                stderr=None if show else subprocess.DEVNULL,
                pass_fds=(writer,),
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": paths},
                text=True,
            )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError), self._process.stdin as stdin:
            stdin.write(given)
        os.set_blocking(reader, False)  # a process that the driver has forked may hold the other end a little longer
        self._waiter = threading.Thread(
            target=self._wait, args=(os.fdopen(reader, "rb"),), name=f"nascluster-{folder.name}", daemon=True
        )
        self._waiter.start()

    def _wait(self, report: IO[bytes]) -> None:
        """Wait for the end of the process, and keep the error that it reports."""
        with report:
            status = self._process.wait()
            text = report.read() or b""
        if text:
            is_value, message = json.loads(text)
            self._error = (ValueError if is_value else RunFailed)(message)
        elif status < 0:
            self._error = RunFailed(
                f"the driver of the run {self._folder.name!r} was ended by {_name_of(-status)}:"
                f" `{self._folder.command('resume')}` goes on"
            )

    def wait_until_begun(self) -> None:
        """Wait until the driver holds the run's folder, or has ended.

        Raises:
            ValueError: the run cannot be started.
            RunFailed: another error, or a signal, has ended the driver.
            KeyboardInterrupt: Ctrl-C ended the wait, and the driver with it.
        """
        try:
            while self._waiter.is_alive() and not self._folder.is_held():
                time.sleep(POLL_INTERVAL_S)
        except KeyboardInterrupt:
            self._process.terminate()
            raise
        if self._waiter.is_alive():
            return
        if self._error is not None:
            raise self._error
        if not self._folder.config.exists():
            status = self._process.returncode
            raise RunFailed(
                f"the driver of the run {self._folder.name!r} has ended with status {status} before the run began:"
                " `show=True` shows what it prints"
            )

    def join(self, timeout_s: float | None) -> bool:
        """Wait for the end of the process; return whether it has ended."""
        self._waiter.join(None if timeout_s is None else min(timeout_s, threading.TIMEOUT_MAX))
        return not self._waiter.is_alive()

    @property
    def error(self) -> str:
        """Why the process has ended, as far as it or its end says so, in a sentence; empty otherwise."""
        return str(self._error or "")


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return f"the signal {number}"


def main() -> int:
    """Drive the search that standard input describes, and report an error to the pipe that the argument names."""
    from cluster.runners.driver import EXIT_STATUS, execute
    from cluster.storage.starting import starting

    report = int(sys.argv[1])
    os.set_inheritable(report, False)
    try:
        data = json.load(sys.stdin)
        config = RunConfig.from_json(data["config"])
        folder = run_folder(config.storage_path, str(config.name))
        with starting(folder):
            return EXIT_STATUS[execute(config, folder, Console(quiet=not data["show"])).state]
    except (Exception, KeyboardInterrupt) as error:
        message = str(error) or type(error).__name__
        text = json.dumps([isinstance(error, ValueError), message[: MAX_REPORT // 6]])  # JSON takes 6 bytes at most
        with suppress(OSError):  # the process that has started this one is gone
            os.write(report, text.encode())
        return 1


if __name__ == "__main__":
    sys.exit(main())
