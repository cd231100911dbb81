"""What children that share weights wait for: earlier ones in causal order, or others at the same step."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NoReturn, cast

from child_trainer.supernets.jobs import Score, Steps
from cluster.config.run_config import RunConfig
from cluster.formatting import counted
from cluster.runners.build import first_view, make_parameters
from cluster.runners.shared_weights import deferred_names, make_network
from cluster.search.causal_order import Access, CausalOrder, turns
from cluster.search.evaluator import Assignment, Evaluator, assignment_of
from cluster.search.replica import Replica
from cluster.search.seeding import child_seed
from cluster.search.steps import end_round, leave_lane
from controller.searcher import Child, Lane, shared_weights_of
from controller.space import HasSupernet
from ps.store import ParameterStore


def telling_the_weights(config: RunConfig, replica: Replica, weights: ParameterStore | None) -> Replica:
    """Return the replica, which tells the shards of the shared weights what they wait for.

    That is the end of a batch if the run has rounds, and the failure of a child if lanes wait for each other.
    """
    if weights is None:
        return replica
    return replace(
        replica,
        end_round=partial(end_round, weights, replica.index) if config.weights.causal else None,
        leave_lane=partial(leave_lane, weights, replica.index) if config.weights.waits else None,
    )


def in_order(config: RunConfig, evaluator: Evaluator) -> Evaluator:
    """Return the evaluator, which holds children back if the run is in causal order.

    One that trains one child after another, in the order in which it gets them, needs nothing to do so.
    """
    return CausalOrder(evaluator, access_in(config)) if config.weights.causal else evaluator


def access_in(config: RunConfig) -> Callable[[Assignment], Access]:
    """Return the function that says which of the run's shared weights a child has to do with.

    All draws of a child follow from its seed, so that this is known before it begins.
    """
    shared = shared_weights_of(config.make_searcher())
    if shared is None:
        return lambda assignment: Access(frozenset())
    from cluster.runners.objective_steps import ObjectiveSteps, path_gates  # imports PyTorch

    network, deferred = make_network(config, shared), deferred_names(config)
    space = cast(HasSupernet, config.search_space)

    def access(assignment: Assignment) -> Access:
        job = assignment.job
        if isinstance(job, Score):
            return Access(frozenset(network.names(path_gates(space, assignment.tokens))))
        if not isinstance(job, Steps):
            return Access(frozenset())
        paths = [path_gates(space, path) for path in job.paths]
        steps = ObjectiveSteps(job, network, paths, _no_batches, assignment.seed, {})
        names = {name for step in range(job.count) for half in steps.half_steps(step) for name in half.names({})}
        return Access(frozenset(names), frozenset(names - deferred))

    return access


def order_note(config: RunConfig) -> str | None:
    """Return what a batch of children means in causal order; `None` if the order is another.

    That is how many of them can be trained at once, and, if they make several steps, how many of these are deferred.
    """
    if not config.weights.causal:
        return None
    searcher, count = config.make_searcher(), config.topology.children
    proposals = searcher.ask(count, first_view(make_parameters(config, searcher)))
    children = [Child(id=number, proposal=one, lane=Lane(0, number, 0)) for number, one in enumerate(proposals, 1)]
    access = access_in(config)
    needed = turns([access(assignment_of(child, child_seed(config.seed, child.id))) for child in children])
    steps = [one.job.count for one in proposals if isinstance(one.job, Steps)]
    moved = "all weights" if config.weights.weights_deferred == "all" else "the weights that every path reads"
    deferred = (
        f". The {sum(steps):,} steps of these move {moved} at the end of the batch, from gradients at its beginning:"
        " where losses rise then, lower --steps-per-child or --weights-learning-rate"
    )
    return (
        f"In causal order the first {counted(len(children), 'child')} can be trained in {counted(needed, 'turn')}: a"
        " child waits for earlier ones that share a weight with it"
        + ("" if needed == 1 else " (--weights-deferred all: none waits)")
        + (deferred if max(steps, default=0) > 1 else "")
    )


def _no_batches(purpose: str) -> NoReturn:
    raise AssertionError(f"what a step reads must not depend on data, which was asked for {purpose}")
