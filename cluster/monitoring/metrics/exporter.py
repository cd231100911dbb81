"""The endpoint from which Prometheus reads a run, in the driver's process: its counts survive any actor's death."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from child_trainer.atomic_file import replace_file
from cluster.config.metrics_options import MetricsOptions
from cluster.config.run_config import RunConfig
from cluster.monitoring.metrics.families import Shards, families
from cluster.monitoring.metrics.ledger_counter import Tally
from cluster.monitoring.metrics.shard_probe import AskShard
from cluster.monitoring.metrics.snapshot import Facts
from cluster.periodic import repeating
from cluster.storage.errors import LedgerError, RunFolderError
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from ps.status import ShardStatus

FRESH_S = 1.0
"""Seconds for which a look at the ledger serves all who ask."""

SHARDS_S = 5.0
"""Seconds between two questions to the shards."""

ANYWHERE = ("0.0.0.0", "::")
"""Addresses that stand for all of the machine's."""


class MetricsError(ValueError):
    """The metrics cannot be served or announced as asked."""


class RunCollector(Collector):
    """A run's metrics, as of now. It may be asked by several threads.

    Args:
        folder: whose run.
        config: of the run.
        clock: gives the Unix time.
    """

    def __init__(self, folder: RunFolder, config: RunConfig, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._tally = Tally(config)
        self._clock = clock
        self._lock = threading.Lock()
        self._facts: Facts | None = None
        self._looked_at = 0.0
        self.shards: Shards = ()
        """What the shards said last."""

    def collect(self) -> Iterable[Metric]:
        """See `prometheus_client.registry.Collector`; nothing until the ledger could be read once."""
        with self._lock:
            now = self._clock()
            if self._facts is None or not 0 <= now - self._looked_at < FRESH_S:
                self._facts, self._looked_at = self._look(now), now
            facts = self._facts
        return families(self._folder.name, facts, self.shards) if facts else ()

    def describe(self) -> Iterable[Metric]:
        """Nothing: what is registered need not be looked at yet."""
        return ()

    def _look(self, now: float) -> Facts | None:
        try:
            with reading(self._folder) as db:
                return self._tally.count(db, now)
        except (LedgerError, RunFolderError, OSError):  # for a while, perhaps; the search does not depend on it
            return self._facts and replace(self._facts, readable=False)


class Exporter:
    """An endpoint that is served from its making on, and says nothing until it is told of a run.

    Args:
        options: where; `metrics_port` must be given.

    Raises:
        MetricsError: nothing can be served there.
    """

    def __init__(self, options: MetricsOptions) -> None:
        assert options.metrics_port is not None
        self._options = options
        self._registry = CollectorRegistry()
        self._collector: RunCollector | None = None
        host, also = options.metrics_host.strip("[]"), options.metrics_file_sd
        if also is not None and not Path(also).expanduser().parent.is_dir():
            raise MetricsError(f"`metrics_file_sd` must be in a folder that is there, got {also}")
        try:
            self._server, self._thread = start_http_server(options.metrics_port, host, self._registry)
        except OSError as error:
            reason = error.strerror or str(error)
            raise MetricsError(
                f"metrics cannot be served on `metrics_port` {options.metrics_port} of {host} ({reason}):"
                " choose another port, or 0 for any that is free"
            ) from error
        name = socket.gethostname() if host in ANYWHERE else host
        self.target = f"[{name}]:{self._server.server_port}" if ":" in name else f"{name}:{self._server.server_port}"
        """Host and port that Prometheus is to ask."""

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @contextmanager
    def announced(self, folder: RunFolder, config: RunConfig) -> Iterator[None]:
        """Serve the run, and announce it to Prometheus, until the block is left.

        Raises:
            MetricsError: the file that `metrics_file_sd` names cannot be written.
        """
        self._collector = RunCollector(folder, config)
        self._registry.register(self._collector)
        text = (
            json.dumps([{"targets": [self.target], "labels": {"job": "nascluster", "search": folder.name}}], indent=2)
            + "\n"
        )
        files = announcements(folder, self._options)
        try:
            for file in files:
                _write(file, text)
            yield
        finally:
            for file in files:
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)

    @contextmanager
    def asking(self, shards: int, ask: AskShard) -> Iterator[None]:
        """Ask so many shards for their counters every few seconds until the block is left."""

        def ask_all() -> None:
            found = tuple(_answer(ask, index) for index in range(shards))
            if self._collector:
                self._collector.shards = found

        try:
            with repeating(ask_all, SHARDS_S, name="metrics-shards", at_once=True):
                yield
        finally:
            if self._collector:
                self._collector.shards = ()


@contextmanager
def exporting(options: MetricsOptions) -> Iterator[Exporter]:
    """An exporter until the block is left; raises as its making."""
    exporter = Exporter(options)
    try:
        yield exporter
    finally:
        exporter.close()


def announcements(folder: RunFolder, options: MetricsOptions) -> tuple[Path, ...]:
    """The files in which a run's endpoint is announced: its own, one beside those of its neighbours, and what is asked.

    Prometheus takes a wildcard in a file's name only, not in its folder's: hence the second.
    """
    own = (folder.path / "metrics_sd.json", folder.path.parent / ".metrics" / f"{folder.name}.json")
    also = options.metrics_file_sd
    return own if also is None else (*own, Path(also).expanduser().absolute())


def _answer(ask: AskShard, index: int) -> ShardStatus | None:
    try:
        return ask(index)
    except Exception:  # away, being started again, or out of reach: whatever it is, the search's own clients tell
        return None


def _write(file: Path, text: str) -> None:
    """The file appears whole or not at all: Prometheus reads it whenever it changes."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, text.encode(), durable=False)
    except OSError as error:
        raise MetricsError(f"the metrics cannot be announced in {file}: {error.strerror}") from error
