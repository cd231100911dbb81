"""What a run that trains given architectures keeps of the search whose children they are trained like."""

from dataclasses import replace

from cluster.config.callback_options import CallbackOptions
from cluster.config.ceilings import CeilingOptions
from cluster.config.metrics_options import MetricsOptions
from cluster.config.run_config import RunConfig
from cluster.config.weights_options import WeightsOptions
from controller.stopping.options import StoppingOptions


def trained_alone(search: RunConfig, children: int) -> RunConfig:
    """Return the search without what concerns its way of searching alone; the caller sets what is trained, and how.

    Each architecture is trained to its last epoch: early stopping is for comparisons within a search.

    Args:
        search: as whose children the architectures are trained.
        children: how many are in training at once, if there are workers for them.
    """
    return replace(
        search,
        topology=replace(search.topology, replicas=1, shards=1, children=children, batching="stream"),
        weights=WeightsOptions(),
        ceilings=CeilingOptions(),
        stopping=StoppingOptions(),
        metrics=MetricsOptions(),
        callbacks=CallbackOptions(),
        start_with=(),
        start_sources=(),
        option_latencies={},
    )
