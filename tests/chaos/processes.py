"""Shards and clients in processes of their own, which can be killed, and which can kill themselves at an exact point.

A new process is forked from one that has imported everything, since importing takes a hundred times as long.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import grpc

from ps.rpc.server import ShardServer
from ps.shard.journal import Journal
from ps.shard.snapshot import SnapshotFile
from ps.store import Layout
from tests.chaos.script import PATIENCE_S, Fail, Injector, connect, pushes_of
from tests.ports import free_port

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


class Point(StrEnum):
    """Where in the life of a push its shard's process dies."""

    BEFORE_WRITING = "applied, and nothing is written"
    HALF_WRITTEN = "half of the temporary file is written"
    BEFORE_RENAMES = "the temporary file is written, and has no name that counts"
    BETWEEN_RENAMES = "the old snapshot is put aside, and the new one is not in its place"
    AFTER_RENAMES = "the new snapshot is in its place"
    BEFORE_ACK = "written, and the shard has not acked"
    BEFORE_REPLY = "acked by the shard, and the reply is not sent"


class ShardProcess:
    """Some shards of a layout behind one address, in a process that may be killed and started again."""

    def __init__(self, layout: Layout, indices: Sequence[int], directory: Path) -> None:
        self._port = free_port()
        self.address = f"127.0.0.1:{self._port}"
        self._arguments = layout.to_json(), list(indices), directory, self._port
        self._process: Any = None
        self._lock = threading.Lock()

    def start(self, point: Point | None = None, push: int = 0) -> None:
        """Start, or start again; to die at a point of the life of the `push`-th push from now on, if one is named."""
        self._process = _CONTEXT.Process(target=_serve, args=(*self._arguments, point, push), daemon=True)
        self._process.start()

    def kill_and_restart(self) -> None:
        """SIGKILL, and the same again at the same address."""
        with self._lock:
            self.kill()
            self.start()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        assert self.wait() == -signal.SIGKILL

    def wait(self) -> int | None:
        """Return the exit code, once the process has ended."""
        self._process.join(PATIENCE_S)
        code = self._process.exitcode
        self._process.close()
        return code

    @property
    def peak_bytes(self) -> int:
        """The most memory that the process ever had in use."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def run_client(
    layout: Layout, addresses: Sequence[str], client: str, last: int, progress: Path, script: Sequence[Fail]
) -> int | None:
    """Run a client's process, and return its exit code. It resumes after the last push that it recorded."""
    arguments = layout.to_json(), list(addresses), client, last, progress, list(script)
    process = _CONTEXT.Process(target=_push, args=arguments, daemon=True)
    process.start()
    process.join(PATIENCE_S)
    code = process.exitcode
    process.close()
    return code


def _push(
    layout: dict[str, Any], addresses: list[str], client: str, last: int, progress: Path, script: list[Fail]
) -> None:
    laid_out = Layout.from_json(layout)
    store = connect(laid_out, addresses, Injector(script, die=_die))
    done = int(progress.read_text()) if progress.exists() else 0
    for push in pushes_of(laid_out, client, range(done + 1, last + 1)):
        store.push(push)
        progress.write_text(str(push.sequence))  # as the ledger records that a batch was learnt from
    store.close()


def _serve(
    layout: dict[str, Any], indices: list[int], directory: Path, port: int, point: Point | None, push: int
) -> None:
    count = _Countdown(push)
    server = ShardServer(Layout.from_json(layout), indices, directory, port=port, interceptors=[_DieBeforeReply(count)])
    if point == Point.BEFORE_REPLY:
        count.armed = True
    elif point is not None:
        _die_in_journal(point, count)
        _die_at(point, count)  # only now, so that the write of the start does not count
    threading.Event().wait()
    server.stop()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _Countdown:
    """Dies at the n-th call."""

    def __init__(self, calls: int) -> None:
        self.armed = False
        self._left = calls

    def __call__(self, last_act: Callable[[], object] = lambda: None) -> None:
        self._left -= 1
        if not self._left:
            last_act()
            _die()


def _die_at(point: Point, count: _Countdown) -> None:
    """Put the countdown into the step of `SnapshotFile.write` that is meant: the steps around it are the real ones."""
    write, replace, fsync = SnapshotFile.write, os.replace, os.fsync

    def patched_write(file: SnapshotFile, state: Any) -> None:
        if point == Point.BEFORE_WRITING:
            count()
        write(file, state)
        if point == Point.BEFORE_ACK:
            count()

    def patched_replace(source: Any, target: Any) -> None:
        aside = str(target).endswith(".previous.safetensors")
        if aside and point == Point.BEFORE_RENAMES:
            count()
        replace(source, target)
        if aside and point == Point.BETWEEN_RENAMES:
            count()
        if not aside and point == Point.AFTER_RENAMES:
            count()

    def patched_fsync(descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        if point == Point.HALF_WRITTEN and os.readlink(f"/proc/self/fd/{descriptor}").endswith(".tmp"):
            count(lambda: os.ftruncate(descriptor, size // 2))
        fsync(descriptor)

    SnapshotFile.write = patched_write  # pyright: ignore[reportAttributeAccessIssue]
    os.replace, os.fsync = patched_replace, patched_fsync


def _die_in_journal(point: Point, count: _Countdown) -> None:
    """Put the countdown into the step of `Journal.append` that is meant."""
    append, fdatasync = Journal.append, os.fdatasync

    def patched_append(journal: Journal, contents: Any) -> None:
        if point == Point.BEFORE_WRITING:
            count()
        append(journal, contents)
        if point == Point.BEFORE_ACK:
            count()

    def patched_fdatasync(descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        if point == Point.HALF_WRITTEN:
            count(lambda: os.ftruncate(descriptor, size - 10))
        fdatasync(descriptor)

    Journal.append = patched_append  # pyright: ignore[reportAttributeAccessIssue]
    os.fdatasync = patched_fdatasync


class _DieBeforeReply(grpc.ServerInterceptor):
    def __init__(self, count: _Countdown) -> None:
        self._count = count

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)
        if not handler_call_details.method.endswith("/Push") or not self._count.armed:
            return handler

        def behave(requests: Any, context: grpc.ServicerContext) -> Any:
            reply = handler.stream_unary(requests, context)
            self._count()
            return reply

        return grpc.stream_unary_rpc_method_handler(behave, handler.request_deserializer, handler.response_serializer)
