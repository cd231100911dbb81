"""One run from its driver's side: starts it here or on Ray, shows it, and records its end."""

import contextlib
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Console

from cluster.config.run_config import RunConfig
from cluster.formatting import counted, last_line
from cluster.monitoring.callbacks.loader import load_callback
from cluster.monitoring.callbacks.runner import run_callbacks
from cluster.monitoring.live_view import Progress
from cluster.monitoring.logs.journal import Journal
from cluster.monitoring.metrics.shard_probe import Observe, unobserved
from cluster.monitoring.status import INTERRUPTED, Status, read_status
from cluster.monitoring.summary import summary
from cluster.placement.node_check import check_data
from cluster.placement.versions import versions
from cluster.pool.checkpoints import CheckpointFolder
from cluster.pool.child_weights import LostWeights, WeightsFolder
from cluster.search.needed_weights import unneeded_weights
from cluster.storage.dataset_cache import with_file_list
from cluster.storage.errors import EndedEarly, LedgerError, RunFolderError
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.reader import reading
from cluster.storage.object_store.driver_lease import LeaseLost
from cluster.storage.object_store.working_copy import driving
from cluster.storage.run_folder import READER_TIMEOUT_S, WRITERS_TIMEOUT_S, RunFolder
from controller.searcher import kept_children, stop_reason_of

if TYPE_CHECKING:
    from cluster.monitoring.metrics.exporter import Exporter

EXIT_STATUS = {"finished": 0, "failed": 1, "stopped": 130}


def execute(config: RunConfig, folder: RunFolder, console: Console) -> Status:
    """Run the search in `folder`, which may not exist yet, to its end, an error or Ctrl-C; return its status.

    Raises:
        ValueError: if this machine or cluster cannot hold the run, another driver runs it, or its object store cannot
            be used; nothing was written.
        KeyboardInterrupt: if it was interrupted before the run began, or again after its end; it says what is left.
    """
    from cluster.runners.build import check_layout
    from cluster.runners.latencies import with_latencies
    from cluster.runners.network_check import check_networks
    from cluster.runners.shared_weights import check_weights

    config.task.check_complete()
    check_layout(config, folder.identity(config))
    check_networks(config)
    check_weights(config, folder.identity(config))
    config = replace(config, task=with_file_list(config.task))
    progress = StartProgress()
    try:
        journal = Journal(folder.name, config.logs, console)
        config = with_latencies(config, journal.report)
        _drive(config, folder, journal, progress)
        status = read_status(folder, time.time())
        if journal.console:
            try:
                journal.console.print(summary(status, folder), markup=False, highlight=False, soft_wrap=True)
            except OSError as error:
                what = f"the run {folder.name!r} has {status.state}, but that cannot be printed: {error.strerror}"
                raise OSError(error.errno, what) from error
        return status
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(progress.interrupted(folder)) from interrupt


@dataclass(slots=True)
class StartProgress:
    """How far a start of the run has come.

    Attributes:
        starting: the run's folder may have been made.
        begun: the search may have started.
        ended: the recorded end.
        corrupt: the snapshots to set aside.
        losses: a sentence on steps that are lost, if there are any.
        at: when the start was begun, as Unix time.
    """

    starting: bool = False
    begun: bool = False
    ended: str = ""
    corrupt: Sequence[Path] = ()
    losses: str = ""
    at: float = field(default_factory=time.time)

    def interrupted(self, folder: RunFolder) -> str:
        """Return one sentence on the run's state after an interrupt that was not an orderly end of the search."""
        if self.ended:
            return (
                f"interrupted, but the run {folder.name!r} has {self.ended} and that is recorded:"
                f" `{folder.command('status')}` shows the rest"
            )
        if self.begun:
            return (
                f"interrupted before the end of the run {folder.name!r} was recorded: what it has done until then is"
                f" there, and `{folder.command('resume')}` goes on"
            )
        if self.starting:
            return (
                f"interrupted while the run {folder.name!r} was being started: `{folder.command('status')}` shows"
                f" whether it is there, and `{folder.command('resume')}` goes on with it"
            )
        return "interrupted before anything was written"


def _drive(config: RunConfig, folder: RunFolder, journal: Journal, progress: StartProgress) -> None:
    """Run the search to its end and record it; raises as `execute`."""
    takeover = _Takeover(folder)
    callbacks = [(name, load_callback(name)) for name in config.callbacks.callback]
    state, message = "finished", ""
    # The metrics are served until the end is recorded.
    # `until_copied` ends after the last copy to the object store, which is made when `stack` ends.
    with _metrics(config) as exporter, ExitStack() as until_copied, ExitStack() as stack:

        def begin() -> None:
            progress.starting, known = True, folder.ledger.exists()
            stack.enter_context(
                driving(
                    folder,
                    config,
                    journal.report,
                    takeover,
                    partial(_check_whole, config, folder, progress),
                    partial(_unneeded, config, folder),
                )
            )
            progress.begun = True
            takeover.interrupts(True)
            stack.enter_context(_kept(journal, folder, progress))
            journal.event("run resumed" if known else "run started", children=config.max_children, seed=config.seed)
            stack.enter_context(run_callbacks(callbacks, folder, config, journal.report))
            journal.report(f"Run {folder.name} in {folder.place}")
            if exporter:
                stack.enter_context(exporter.announced(folder, config))
                journal.report(f"Metrics for Prometheus at http://{exporter.target}/metrics")

        try:
            try:
                observe = exporter.polling if exporter else unobserved
                message = _search(config, folder, journal, begin, observe)
            finally:
                takeover.interrupts(False)
        except EndedEarly as end:
            state, message = end.state, str(end)
        except KeyboardInterrupt:
            if not progress.begun:
                raise
            state, message = ("failed", str(takeover.error)) if takeover.error else ("stopped", INTERRUPTED)
        except Exception as error:
            if not progress.begun:
                raise
            state, message = "failed", last_line(str(error)) or type(error).__name__
            _note(folder, error)
        until_copied.enter_context(_wait_for_writers(folder, journal.report))
        _record_end(config, folder, state, message, progress.at)
        progress.ended = state
        journal.ended(folder, read_status(folder, time.time()))


def _announce(config: RunConfig, folder: RunFolder, workers: int, journal: Journal, *, gpu: bool) -> None:
    """Report what a lost shard of shared weights costs; of a new search what does not suit it, and what it takes."""
    from cluster.runners.causal import order_note
    from cluster.runners.cautions import caution_of, data_note
    from cluster.runners.cost_estimate import announce
    from cluster.runners.shared_weights import loss_bound

    if bound := loss_bound(config):
        journal.report(bound)
    if folder.ledger.exists():
        return
    for note in (caution_of(config), order_note(config), data_note(config)):
        if note:
            journal.report(note)
    if not bound:
        announce(config, folder, workers, journal.report, gpu=gpu)


def _check_whole(config: RunConfig, folder: RunFolder, progress: StartProgress) -> None:
    """Raise `RunFolderError` if the run has lost files that only the user can restore."""
    from cluster.runners.integrity import check_whole

    whole = check_whole(config, folder)
    progress.corrupt, progress.losses = whole.corrupt, whole.losses


@contextmanager
def _kept(journal: Journal, folder: RunFolder, found: StartProgress) -> Iterator[None]:
    """Keep the journal, which reports what is lost, and set the corrupt snapshots aside."""
    from ps.shard.snapshot import set_aside

    with journal.writing(folder):
        for path in found.corrupt:
            set_aside(path)
        if found.losses:
            journal.report(found.losses)
        yield


def _wait_for_writers(folder: RunFolder, report: Callable[[str], object]) -> AbstractContextManager[object]:
    """Wait until no other process writes the run's files, and exclude writers while the result is held.

    On a cluster that continues, the actors of a run outlive it for a moment, and can record one last outcome. The wait
    ends after a timeout or Ctrl-C, because the run has ended in any case.
    """
    alone = None
    try:
        alone = folder.without_writers(READER_TIMEOUT_S)
        if alone is None:
            report("Waiting for the run's last processes to end ...")
            alone = folder.without_writers(WRITERS_TIMEOUT_S)
    except KeyboardInterrupt:
        pass
    except OSError:  # the disk failed; the ledger's error will say more
        return nullcontext()
    if alone is None:
        report(f"Not all processes of the run have ended: what they still record is in {folder.path} and nowhere else")
    return alone or nullcontext()


def _record_end(config: RunConfig, folder: RunFolder, state: str, message: str, since: float) -> None:
    """Record the run's end in the ledger, which no other process writes any more; `since` is as of `Ledger.end`.

    Raises:
        RunFolderError: the ledger cannot be written, and with it the run's disk.
    """
    try:
        ledger = Ledger(folder.ledger, config.seed, config.max_children)
        try:
            ledger.end(state, message, since)
            # A worker that timed out may have saved its child's state once more.
            pending = ledger.open_children()
            CheckpointFolder(folder.checkpoints).keep_only(pending)
        finally:
            ledger.close()
        # Children that wait at a ceiling may begin with any weights that are there.
        if state == "finished" and not pending and folder.child_weights.exists():
            _forget_weights(config, folder)
    except LedgerError as error:
        raise RunFolderError(
            f"the run {folder.name!r} has {state} ({message}), but its ledger {folder.ledger} cannot be written"
            f" ({error}): mend the disk or make room, then `{folder.command('resume')}`; what was recorded"
            " before is there"
        ) from error


def _unneeded(config: RunConfig, folder: RunFolder) -> frozenset[int]:
    """Return the children whose weights no child begins with any more, for the copy in the object store."""
    from cluster.monitoring.recorded_view import whole_view

    with reading(folder) as db:
        return unneeded_weights(config.make_searcher(), whole_view(db, config.seed), ())


def _forget_weights(config: RunConfig, folder: RunFolder) -> None:
    """Remove the weights of all children but those that the searcher names at the end of the search."""
    from cluster.monitoring.recorded_view import recorded_view

    with reading(folder) as db:
        kept = kept_children(config.make_searcher(), recorded_view(db, config.seed))
    with contextlib.suppress(OSError):  # files that are left need space, and nothing else
        WeightsFolder(folder.child_weights).keep_only(kept)


def _note(folder: RunFolder, error: Exception) -> None:
    with contextlib.suppress(OSError):  # the disk may be what is wrong
        folder.error.write_text("".join(traceback.format_exception(error)))


def _metrics(config: RunConfig) -> "AbstractContextManager[Exporter | None]":
    """Return the server of the run's metrics, if any; the port is bound before anything else is done."""
    if config.metrics.metrics_port is None:
        return nullcontext()
    from cluster.monitoring.metrics.exporter import exporting

    return exporting(config.metrics)


def _search(config: RunConfig, folder: RunFolder, journal: Journal, begin: Callable[[], None], observe: Observe) -> str:
    """Run the search to its end; return why the searcher has ended it early, or an empty text.

    Raises:
        RunFolderError: the weights with which a child must begin are gone; once they are back, a resume goes on.
    """
    from cluster.monitoring.recorded_view import recorded_view
    from cluster.runners.integrity import gone_weights

    try:
        (_run_here if config.local else _run_on_ray)(config, folder, journal, begin, observe)
    except LostWeights as lost:
        begins = f"child {lost.child_id} begins"
        raise gone_weights(folder, lost.parent, lost.checksum, lost.fault, begins) from lost
    with reading(folder) as db:
        return stop_reason_of(config.make_searcher(), recorded_view(db, config.seed))


def _run_here(
    config: RunConfig, folder: RunFolder, journal: Journal, begin: Callable[[], None], observe: Observe
) -> None:
    from cluster.runners.ceiling_watch import check_gpus
    from cluster.runners.local import check_locally, run_locally
    from cluster.runners.trainer import training_facts

    check_data(config.task)
    gpus = check_locally(config)
    note = check_gpus(config, gpus, begun=folder.ledger.exists())
    begin()
    _announce(config, folder, 1, journal, gpu=gpus > 0)
    if note:
        journal.report(note)
    ledger = Ledger(folder.ledger, config.seed, config.max_children)
    try:
        ledger.begin(workers=1, versions=asdict(versions()) | training_facts(config), gpus=gpus)
        with _interruptible(), Progress(folder, journal.console, ledger.beat):
            run_locally(config, folder, ledger, gpu=gpus > 0, observe=observe)
    finally:
        ledger.close()


def _run_on_ray(
    config: RunConfig, folder: RunFolder, journal: Journal, begin: Callable[[], None], observe: Observe
) -> None:
    from cluster.runners.ceiling_watch import check_gpus
    from cluster.runners.on_ray.node_checks import check_nodes, session
    from cluster.runners.on_ray.topology import cluster, run_distributed

    report, console = journal.report, journal.console
    # Ray sets a SIGTERM handler of its own when it starts; ours has to come after it.
    with cluster(config, report, begun=folder.ledger.exists()) as found, _interruptible():
        if found.joined:
            check_nodes(found.nodes, config, report)
        note = check_gpus(config, found.resources.gpus, begun=folder.ledger.exists())
        begin()
        _announce(config, folder, found.likely_workers(config.topology), journal, gpu=found.resources.gpus > 0)
        if note:
            report(note)
        session().write(folder)
        topology = config.topology
        report(f"{found}, {counted(topology.shards, 'shard')}, {counted(topology.replicas, 'replica')}")
        run_distributed(config, folder, found, lambda beat: Progress(folder, console, beat), report, observe)


class _Takeover:
    """Interrupts the run, as Ctrl-C does, when another driver has taken over; in another thread it requests a stop."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._in_main_thread = threading.current_thread() is threading.main_thread()
        self.error: LeaseLost | None = None
        self._interrupts = False
        self._lock = threading.Lock()

    def __call__(self, error: LeaseLost) -> None:
        with self._lock:
            self.error = error
            if not self._in_main_thread:
                self._folder.request_stop()
            elif self._interrupts:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def interrupts(self, enabled: bool) -> None:
        """Turn interrupts on or off; an interrupt that was sent has arrived when this returns."""
        with self._lock:
            self._interrupts = enabled
        if enabled and self.error:
            raise self.error


@contextmanager
def _interruptible() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP as Ctrl-C until the block ends.

    A signal that was ignored before stays ignored, as `nohup` requires. Signals come to the main thread only: a run in
    another thread is stopped by `Run.stop`.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers}
    taken = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    try:
        for number in taken:
            signal.signal(number, interrupt)
        yield
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)
