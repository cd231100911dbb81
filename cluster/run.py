"""One run from its driver's side: start it here or on Ray, show it, and record how it ended."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console

from cluster.config import RunConfig
from cluster.ledger import Ledger
from cluster.progress import Progress
from cluster.run_folder import RunFolder
from cluster.status import Status, read_status

EXIT_STATUS = {"finished": 0, "failed": 1, "stopped": 130}


def execute(config: RunConfig, folder: RunFolder, console: Console) -> Status:
    """Run the search in `folder` (made here if it is not there) to its end, an error or Ctrl-C.

    Raises:
        ValueError: if this machine or cluster cannot hold the run; then nothing was written.
    """
    state, message = "finished", ""
    try:
        (_run_here if config.local else _run_on_ray)(config, folder, console)
    except KeyboardInterrupt:
        if not folder.path.exists():
            raise
        state, message = "stopped", "interrupted"
    except Exception as error:
        if not folder.path.exists():
            raise
        console.print(str(error), style="red", markup=False, highlight=False)
        state, message = "failed", str(error).strip().rpartition("\n")[2] or type(error).__name__
    # Whoever wrote the ledger is gone by now.
    ledger = Ledger(folder.ledger, config.seed, config.max_children)
    ledger.end(state, message)
    ledger.close()
    return read_status(folder, time.time())


def _run_here(config: RunConfig, folder: RunFolder, console: Console) -> None:
    from cluster.local import run_locally

    _make(config, folder, console)
    ledger = Ledger(folder.ledger, config.seed, config.max_children)
    try:
        ledger.begin(workers=1)
        with _interruptible(), Progress(folder, console, ledger.beat):
            run_locally(config, folder, ledger)
    finally:
        ledger.close()


def _run_on_ray(config: RunConfig, folder: RunFolder, console: Console) -> None:
    from cluster.distributed import cluster, run_distributed

    def say(text: str) -> None:
        console.print(text, style="dim", markup=False, highlight=False)

    # Ray sets a SIGTERM handler of its own when it starts; ours has to come after it.
    with cluster(config.topology, say) as found, _interruptible():
        _make(config, folder, console)
        say(
            f"{found.num_nodes} node(s), {found.cores:g} cores, {found.gpus:g} GPUs:"
            f" {config.topology.shards} shards, {config.topology.replicas} replicas, {found.workers} workers"
        )
        run_distributed(config, folder, found, lambda beat: Progress(folder, console, beat))


def _make(config: RunConfig, folder: RunFolder, console: Console) -> None:
    if not folder.path.exists():
        folder.create(config)
    console.print(f"Run {folder.name} in {folder.path}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM is Ctrl-C for whoever has no keyboard."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
