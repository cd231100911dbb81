"""The endpoint from which Prometheus scrapes a run, in the driver's process: its counts survive any actor's death."""

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
from cluster.monitoring.metrics.ledger_counter import LedgerCounter
from cluster.monitoring.metrics.shard_probe import ShardProbe
from cluster.monitoring.metrics.snapshot import MetricsSnapshot
from cluster.periodic import repeating
from cluster.search.records import StoreName
from cluster.storage.errors import LedgerError
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from ps.status import ShardStatus

SNAPSHOT_MAX_AGE_S = 1.0
"""Seconds for which one read of the ledger serves all scrapes."""

SHARD_POLL_INTERVAL_S = 5.0
"""Seconds between two polls of the shards."""

WILDCARD_ADDRESSES = ("0.0.0.0", "::")
"""Addresses that stand for all interfaces of the machine."""


class MetricsError(ValueError):
    """The metrics cannot be served or announced as configured."""


class RunCollector(Collector):
    """A run's current metrics. Thread-safe.

    Args:
        folder: the run's folder.
        config: the run's configuration.
        clock: returns the Unix time.
    """

    def __init__(self, folder: RunFolder, config: RunConfig, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._counter = LedgerCounter(config)
        self._clock = clock
        self._lock = threading.Lock()
        self._snapshot: MetricsSnapshot | None = None
        self._read_at = 0.0
        self.shards: dict[StoreName, Shards] = {}
        """The statuses of each store's shards at the last poll."""

    def collect(self) -> Iterable[Metric]:
        """Return the metrics for `prometheus_client`; those of the ledger after its first successful read."""
        with self._lock:
            now = self._clock()
            if self._snapshot is None or not 0 <= now - self._read_at < SNAPSHOT_MAX_AGE_S:
                self._snapshot, self._read_at = self._read(now), now
            snapshot = self._snapshot
        return families(self._folder.name, snapshot, self.shards)

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering the collector does not read the ledger."""
        return ()

    def _read(self, now: float) -> MetricsSnapshot | None:
        try:
            with reading(self._folder) as db:
                return self._counter.count(db, now)
        except (LedgerError, ValueError, OSError):  # perhaps temporary; the search does not depend on it
            return self._snapshot and replace(self._snapshot, readable=False)


class Exporter:
    """An endpoint that is served from its creation, and has no metrics until a run is announced.

    Args:
        options: host, port and announcement file; `metrics_port` must be given.

    Raises:
        MetricsError: the endpoint cannot be served there.
    """

    def __init__(self, options: MetricsOptions) -> None:
        assert options.metrics_port is not None
        self._options = options
        self._registry = CollectorRegistry()
        self._collector: RunCollector | None = None
        host, extra = options.metrics_host.strip("[]"), options.metrics_file_sd
        if extra is not None and not Path(extra).expanduser().parent.is_dir():
            raise MetricsError(f"`metrics_file_sd` must be in an existing folder, got {extra}")
        try:
            self._server, self._thread = start_http_server(options.metrics_port, host, self._registry)
        except OSError as error:
            reason = error.strerror or str(error)
            raise MetricsError(
                f"metrics cannot be served on `metrics_port` {options.metrics_port} of {host} ({reason}):"
                " choose another port, or 0 for any free port"
            ) from error
        name = socket.gethostname() if host in WILDCARD_ADDRESSES else host
        self.target = f"[{name}]:{self._server.server_port}" if ":" in name else f"{name}:{self._server.server_port}"
        """The host and port that Prometheus scrapes."""

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @contextmanager
    def announced(self, folder: RunFolder, config: RunConfig) -> Iterator[None]:
        """Serve the run, and announce it to Prometheus, until the block exits.

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
    def polling(self, shards: int, probe: ShardProbe, store: StoreName = "policy") -> Iterator[None]:
        """Poll the counters of all `shards` of a store every few seconds until the block exits."""

        def poll_all() -> None:
            statuses = tuple(_status(probe, index) for index in range(shards))
            if self._collector:
                self._collector.shards[store] = statuses

        try:
            with repeating(poll_all, SHARD_POLL_INTERVAL_S, name="metrics-shards", at_once=True):
                yield
        finally:
            if self._collector:
                self._collector.shards.pop(store, None)


@contextmanager
def exporting(options: MetricsOptions) -> Iterator[Exporter]:
    """Yield an exporter that is closed when the block exits; raise what `Exporter` raises."""
    exporter = Exporter(options)
    try:
        yield exporter
    finally:
        exporter.close()


def announcements(folder: RunFolder, options: MetricsOptions) -> tuple[Path, ...]:
    """Return the files in which a run's endpoint is announced: in its folder, in a shared folder, and as configured.

    The shared folder exists because Prometheus allows a wildcard in a file's name only, not in its folder's.
    """
    own = (folder.path / "metrics_sd.json", folder.path.parent / ".metrics" / f"{folder.name}.json")
    extra = options.metrics_file_sd
    return own if extra is None else (*own, Path(extra).expanduser().absolute())


def _status(probe: ShardProbe, index: int) -> ShardStatus | None:
    try:
        return probe(index)
    except Exception:  # unavailable or restarting: the search's own clients report it
        return None


def _write(file: Path, text: str) -> None:
    """Write the file atomically, because Prometheus reads it whenever it changes."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, text.encode(), durable=False)
    except OSError as error:
        raise MetricsError(f"the metrics cannot be announced in {file}: {error.strerror}") from error
