"""The cost of `--metrics-port` for a search.

    python -m benchmarks.metrics_cost [pairs]

First directly: while a search at full size runs, a separate process does all the work of the metrics, from reading the
ledger to the response over HTTP, and its processor time is counted. Then the same run is repeated with metrics and
without, alternately, for the given number of pairs (default 0). The endpoint is scraped every 5 s, twice as often as by
deploy/observability/prometheus.yml. Children are instant, so that the processor limits the run and the metrics slow it
down: with children that train, the cost is lower.
"""

import multiprocessing
import socket
import statistics
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from multiprocessing.synchronize import Event
from pathlib import Path

from benchmarks.command_words import first_number
from benchmarks.command_words import words as command_words
from benchmarks.exactly_once import isolated
from benchmarks.scale import Size, measure

FULL = Size(shards=20, replicas=100, children=2_400)
SIZE = Size(shards=4, replicas=10, children=1_200)
SCRAPE_INTERVAL_S = 5.0


class Scraper(threading.Thread):
    """A thread that scrapes the endpoint, as Prometheus does, until `stop`."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._ended = threading.Event()
        self.read = 0

    def run(self) -> None:
        """Scrape periodically; before and after the run the endpoint is unavailable."""
        while not self._ended.wait(SCRAPE_INTERVAL_S):
            try:
                with urllib.request.urlopen(self._url, timeout=10) as response:
                    self.read += bool(response.read())
            except (urllib.error.URLError, OSError):
                continue

    def stop(self) -> None:
        """Stop after the last scrape."""
        self._ended.set()
        self.join()


def serve_and_read(home: str, ended: Event, results: "multiprocessing.Queue[tuple[int, float, float]]") -> None:
    """Serve and scrape the metrics of the run in this home folder, with shards of equal number and size.

    Puts into `results` the number of scrapes, the seconds from the first to the last, and this process's processor
    seconds in between, which include those of the scraper and of the shards.
    """
    from cluster.config.metrics_options import MetricsOptions
    from cluster.monitoring.metrics.exporter import exporting
    from cluster.runners.build import initial_values, make_layout, make_parameters
    from cluster.storage.run_folder import RunFolder
    from ps.rpc.client import GrpcStore
    from ps.rpc.server import ShardServer

    folder = RunFolder(Path(home) / "nascluster_runs" / "run")
    while not folder.ledger.exists():
        if ended.wait(0.1):
            return
    config = folder.read_config()
    groups = make_parameters(config, config.make_searcher())
    layout = make_layout(config, "run", groups)
    with tempfile.TemporaryDirectory() as own, exporting(MetricsOptions(metrics_port=0)) as exporter:
        server = ShardServer(layout, range(layout.shards), Path(own), token="secret")
        store = GrpcStore(layout, [server.address] * layout.shards, token="secret")
        store.initialize(initial_values(groups))
        scraper = Scraper(f"http://{exporter.target}/metrics")
        with exporter.announced(folder, config), exporter.polling(layout.shards, store.shard_status):
            started, used = time.perf_counter(), time.process_time()
            scraper.start()
            ended.wait()
            scraper.stop()
            results.put((scraper.read, time.perf_counter() - started, time.process_time() - used))
        store.close()
        server.stop(grace_s=0)


def direct() -> str:
    """Measure the cost of a full-size run's metrics, compared with that of the run."""
    context = multiprocessing.get_context("spawn")
    ended, results = context.Event(), context.Queue()
    with isolated() as environment:
        watcher = context.Process(target=serve_and_read, args=(environment["HOME"], ended, results))
        watcher.start()
        try:
            figures, kinds = measure(FULL, within=environment)
        finally:
            ended.set()
        read, seconds, used = results.get(timeout=60)
        watcher.join()
    whole = sum(kinds.values())
    return (
        f"{FULL}, {figures['children a second']:.0f} a second: read {read} times in {seconds:.0f} s,"
        f" {used:.2f} processor seconds, {1000 * used / read:.0f} ms each time;"
        f" {used / seconds:.2%} of a core, {used / whole:.2%} of the {whole:.0f} processor seconds of the run"
    )


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def with_metrics() -> tuple[float, float]:
    """Return children per second and processor seconds of a run whose metrics are scraped."""
    port = free_port()
    scraper = Scraper(f"http://127.0.0.1:{port}/metrics")
    scraper.start()
    figures, kinds = measure(SIZE, "--metrics-port", str(port))
    scraper.stop()
    if not scraper.read:
        raise SystemExit("the run's metrics could not be read")
    return figures["children a second"], sum(kinds.values())


def without() -> tuple[float, float]:
    """Return children per second and processor seconds of a run without an endpoint."""
    figures, kinds = measure(SIZE)
    return figures["children a second"], sum(kinds.values())


def ratio_line(name: str, ratios: Sequence[float]) -> str:
    """Format the median and the middle half of the ratios in percent."""
    lower, middle, upper = statistics.quantiles(ratios, n=4)
    return f"{name}: {middle - 1:+.1%} (middle half of {len(ratios)} pairs: {lower - 1:+.1%} to {upper - 1:+.1%})"


def main(arguments: list[str]) -> None:
    """Measure, and print the results."""
    print(direct(), flush=True)
    pairs = first_number(arguments, 0)
    rates: list[float] = []
    processor: list[float] = []
    for pair in range(pairs):
        if pair % 2:
            (rate, used), (plain_rate, plain_used) = with_metrics(), without()
        else:
            (plain_rate, plain_used), (rate, used) = without(), with_metrics()
        rates.append(rate / plain_rate)
        processor.append(used / plain_used)
        print(f"pair {pair + 1}: {rates[-1] - 1:+.1%}, {processor[-1] - 1:+.1%}", file=sys.stderr, flush=True)
    if pairs > 1:
        print(f"{SIZE}, read every {SCRAPE_INTERVAL_S:g} s, with metrics compared with without:")
        print(ratio_line("children a second", rates))
        print(ratio_line("processor seconds", processor))


if __name__ == "__main__":
    main(command_words(__doc__))
