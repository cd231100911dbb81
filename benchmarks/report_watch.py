"""What a page of the report that is kept open costs a search.

    python -m benchmarks.report_watch [pairs]

A search in one process ends some hundred children a second, synthetic ones that wait for 5 ms each. It runs by itself
and beside `nascluster report NAME --watch`, whose page is read as often as a browser reads it, in turn, for the given
number of pairs (default 5). Children a second are counted from the first end of a child to the last, by the ledger.
"""

import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from benchmarks.command_words import first_number
from benchmarks.command_words import words as command_words
from benchmarks.exactly_once import isolated
from benchmarks.metrics_cost import free_port, ratio_line
from cluster.report.html.style import REFRESH_S
from cluster.storage.ledger.queries.children import all_children
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder

CHILDREN = 3_000
CHILD_SECONDS = 0.005

SEARCH = (
    *("launch", "synthetic", "--local", "--searcher", "random", "--name", "run"),
    *("--child-seconds", str(CHILD_SECONDS)),
)


class Browser(threading.Thread):
    """Reads the page again and again, as a browser does, until `stop`.

    Args:
        folder: of the run, which may not exist yet.
        environment: of the command that serves the page.
    """

    def __init__(self, folder: RunFolder, environment: Mapping[str, str]) -> None:
        super().__init__(daemon=True)
        self._folder, self._environment = folder, environment
        self._ended = threading.Event()
        self.seconds: list[float] = []
        """What each page took."""

    def run(self) -> None:
        """Serve the page, and read it periodically."""
        while not self._folder.ledger.exists():
            if self._ended.wait(0.1):
                return
        port = free_port()
        words = (sys.executable, "-m", "cluster", "report", "run", "--watch", "--port", str(port))
        server = subprocess.Popen(words, env=self._environment, stdout=subprocess.DEVNULL)
        try:
            while not self._ended.wait(REFRESH_S):
                began = time.perf_counter()
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as page:
                        page.read()
                except (urllib.error.URLError, OSError):  # it is being started
                    continue
                self.seconds.append(time.perf_counter() - began)
        finally:
            server.terminate()
            server.wait()

    def stop(self) -> None:
        """Stop after the last page."""
        self._ended.set()
        self.join()


def search(*, watched: bool, children: int = CHILDREN) -> tuple[float, list[float]]:
    """Run the search; return its children a second, and the seconds that each page took."""
    with isolated() as environment:
        folder = RunFolder(Path(environment["HOME"]) / "nascluster_runs" / "run")
        browser = Browser(folder, environment)
        if watched:
            browser.start()
        words = (sys.executable, "-m", "cluster", *SEARCH, "--max-children", str(children))
        try:
            subprocess.run(words, env=environment, check=True, capture_output=True)
        finally:
            if watched:
                browser.stop()
        with reading(folder) as db:
            ends = [child.ended_at for child in all_children(db) if child.ended_at is not None]
        return (len(ends) - 1) / (max(ends) - min(ends)), browser.seconds


def main(arguments: list[str]) -> None:
    """Measure, and print the results."""
    pairs = first_number(arguments, 5)
    plain: list[float] = []
    ratios: list[float] = []
    pages: list[float] = []
    for pair in range(pairs):
        found = {watched: search(watched=watched) for watched in ((False, True) if pair % 2 else (True, False))}
        plain.append(found[False][0])
        ratios.append(found[True][0] / found[False][0])
        pages += found[True][1]
        print(f"pair {pair + 1}: {ratios[-1] - 1:+.1%}", file=sys.stderr, flush=True)
    print(
        f"{CHILDREN:,} children, {statistics.median(plain):.0f} a second; a page every {REFRESH_S:g} s, each in"
        f" {statistics.median(pages):.2f} s ({min(pages):.2f} to {max(pages):.2f})"
    )
    if pairs > 1:
        print(ratio_line("children a second, watched compared with by itself", ratios))


if __name__ == "__main__":
    main(command_words(__doc__))
