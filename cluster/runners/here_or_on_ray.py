"""Runs a search to its end, in this process or on Ray, as its configuration says."""

from collections.abc import Callable
from dataclasses import asdict

from cluster.config.run_config import RunConfig
from cluster.formatting import counted
from cluster.monitoring.live_view import Progress
from cluster.monitoring.logs.journal import Journal
from cluster.monitoring.metrics.shard_probe import Observe
from cluster.placement.node_check import check_data
from cluster.placement.versions import versions
from cluster.pool.child_weights import LostWeights
from cluster.runners.interruption import interruptible
from cluster.storage.ledger.ledger import Ledger
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from controller.searcher import stop_reason_of


def run_search(
    config: RunConfig, folder: RunFolder, journal: Journal, begin: Callable[[], None], observe: Observe
) -> str:
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
        with interruptible(), Progress(folder, journal.console, ledger.beat):
            run_locally(config, folder, ledger, gpu=gpus > 0, observe=observe)
    finally:
        ledger.close()


def _run_on_ray(
    config: RunConfig, folder: RunFolder, journal: Journal, begin: Callable[[], None], observe: Observe
) -> None:
    from cluster.runners.ceiling_watch import check_gpus
    from cluster.runners.on_ray.cluster_of_run import cluster
    from cluster.runners.on_ray.node_checks import check_nodes, session
    from cluster.runners.on_ray.topology import run_distributed

    report, console = journal.report, journal.console
    # Ray sets a SIGTERM handler of its own when it starts; ours has to come after it.
    with cluster(config, report, begun=folder.ledger.exists()) as found, interruptible():
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
