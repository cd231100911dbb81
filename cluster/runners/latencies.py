"""The latencies of a supernet's options, measured once for each run whose searcher counts them."""

from collections.abc import Callable
from dataclasses import replace

from child_trainer.threads import computing_with
from cluster.config.run_config import RunConfig
from cluster.formatting import counted
from controller.searcher import shared_weights_of


def with_latencies(config: RunConfig, report: Callable[[str], object]) -> RunConfig:
    """Return the run with the latency of each option; unchanged if it has them, or if latency does not count.

    They are part of the configuration, so that all workers, and the run when it is resumed, on this machine or another,
    have the same table (Cai et al. 2019, section 4.2: a look-up table of the target device). They are measured for one
    image on this machine's CPU, with as many threads as a child has.

    Raises:
        InvalidArchitecture: the supernet does not take the task's images.
    """
    shared, problem = shared_weights_of(config.make_searcher()), config.task.entry.problem
    if shared is None or shared.costs != "latency" or config.option_latencies or problem is None:
        return config
    from child_trainer.supernets.option_costs import MEASURES, option_costs  # imports PyTorch

    threads = config.topology.threads_per_child
    report(f"Measuring the latency of each option on this machine, with {counted(threads, 'thread')} ...")
    with computing_with(threads):
        table = option_costs(shared.supernet, problem, MEASURES["latency"], config.budget.regime)
    return replace(config, option_latencies=table)
