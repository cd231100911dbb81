"""What `--metrics-port` costs a search: the same run with and without it, in turns.

    python -m benchmarks.metrics_cost [pairs]

The endpoint is read every 5 s, twice as often as by deploy/observability/prometheus.yml. Children are instant, so that
the processor limits the run, and what metrics take of it is missing elsewhere: with children that train, it is less. On
a machine with other work the children a second of one run say little, and the processor seconds more: both are given
as ratios within each pair.
"""

import socket
import statistics
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence

from benchmarks.scale import Size, measure

PAIRS = 8
SIZE = Size(shards=4, replicas=10, children=1_200)
SCRAPE_S = 5.0


class Scraper(threading.Thread):
    """Reads the endpoint, as Prometheus does, until it is told to stop."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._url = f"http://127.0.0.1:{port}/metrics"
        self._ended = threading.Event()
        self.read = 0

    def run(self) -> None:
        """Read now and then; before and after the run nobody answers."""
        while not self._ended.wait(SCRAPE_S):
            try:
                with urllib.request.urlopen(self._url, timeout=10) as answer:
                    self.read += bool(answer.read())
            except (urllib.error.URLError, OSError):
                continue

    def stop(self) -> None:
        """Wait for the last reading."""
        self._ended.set()
        self.join()


def free_port() -> int:
    """A port that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def with_metrics() -> tuple[float, float]:
    """Children a second and processor seconds of a run that is read."""
    port = free_port()
    scraper = Scraper(port)
    scraper.start()
    figures, kinds = measure(SIZE, "--metrics-port", str(port))
    scraper.stop()
    if not scraper.read:
        raise SystemExit("the run's metrics could not be read")
    return figures["children a second"], sum(kinds.values())


def without() -> tuple[float, float]:
    """The same of a run that has no endpoint."""
    figures, kinds = measure(SIZE)
    return figures["children a second"], sum(kinds.values())


def told(name: str, ratios: Sequence[float]) -> str:
    """The median of the ratios in percent, and the middle half of them."""
    lower, middle, upper = statistics.quantiles(ratios, n=4)
    return f"{name}: {middle - 1:+.1%} (middle half of {len(ratios)} pairs: {lower - 1:+.1%} to {upper - 1:+.1%})"


def main(arguments: list[str]) -> None:
    """Run the pairs, every second one the other way round, and print the ratios."""
    rates: list[float] = []
    processor: list[float] = []
    for pair in range(int(arguments[0]) if arguments else PAIRS):
        if pair % 2:
            (rate, used), (plain_rate, plain_used) = with_metrics(), without()
        else:
            (plain_rate, plain_used), (rate, used) = without(), with_metrics()
        rates.append(rate / plain_rate)
        processor.append(used / plain_used)
        print(f"pair {pair + 1}: {rates[-1] - 1:+.1%}, {processor[-1] - 1:+.1%}", file=sys.stderr, flush=True)
    print(f"{SIZE}, read every {SCRAPE_S:g} s, with metrics against without:")
    print(told("children a second", rates))
    print(told("processor seconds", processor))


if __name__ == "__main__":
    main(sys.argv[1:])
