"""Plans a simulation, checks its size, and runs it and its variants."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from child_trainer.tasks.lookup_table import Table
from cluster.config.flags import UsageError, parse_run, value_of
from cluster.config.recipes import changed, configuration, find_recipe
from cluster.config.run_config import RunConfig
from cluster.config.topology import AUTO
from cluster.runners.build import check_layout
from cluster.runners.sample_files import with_samples
from cluster.runners.trainer import Trainer
from cluster.search.evaluator import ChildTrainer
from cluster.search.seeding import child_seed
from cluster.simulation.cluster_model import ClusterModel
from cluster.simulation.distributions import ChildSeconds
from cluster.simulation.estimate import NO_TIME, Figures, compute_figures, estimate
from cluster.simulation.limits import check_limits
from cluster.simulation.options import SimulationOptions
from cluster.simulation.report import SimulationReport, TriedVariant
from cluster.simulation.simulator import simulate_search, workers_of
from cluster.simulation.step_traffic import step_traffic
from cluster.simulation.variants import children_per_variant, variants
from cluster.storage.dataset_cache import located
from controller.searcher import shared_weights_of

STORES_NOTHING = "which stores nothing"

UNUSED_FIELDS = {
    **dict.fromkeys(("name", "storage_path", "local", "metrics", "logs", "callbacks"), STORES_NOTHING),
    "ceilings": "which always comes to its end",
    "stopping": "whose children have no learning curves",
}
"""Fields of a run that do not apply to a simulation, and why."""

MAX_SAMPLED_CHILDREN = 10_000
"""Upper bound for the children whose times are drawn in advance to estimate the size; more takes long."""


def plan_simulation(options: SimulationOptions, flags: Sequence[str]) -> tuple[RunConfig, ChildTrainer | None]:
    """Plan a simulation; return the run, and for a tabular task the trainer that answers from the table.

    Raises:
        ValueError: an option is invalid, or the simulation would take too long.
    """
    base = configuration(find_recipe(options.recipe), value_of(flags, "--searcher"), value_of(flags, "--task"))
    given, samples = with_samples(flags)
    config = parse_run(samples.default(base), given, options.recipe)
    samples.check(config)
    if wrong := next((name for name in changed(config, base) if name in UNUSED_FIELDS), None):
        raise UsageError(f"the options of `{wrong.replace('_', '-')}` are not for a simulation, {UNUSED_FIELDS[wrong]}")
    if config.topology.gpus_per_child == AUTO:
        raise UsageError(
            "`gpus_per_child` must be a number in a simulation, which has no GPUs whose memory could be divided, as in"
            " --gpus-per-child 0.25, got auto"
        )
    model = options.model
    config = replace(config, task=replace(config.task, data=located(config.task.data)))
    check_layout(config, "simulated")
    times = model.child_seconds
    shares = shared_weights_of(config.make_searcher()) is not None
    _check_shared(config, model, shares=shares)
    if config.task.entry.family != "table":
        if times is None:
            raise UsageError(
                f"the training times of the task {config.task.task!r} are unknown: set them, as in"
                " --child-seconds lognormal:3600:0.5"
            )
        check_limits(config, model, _step_lengths(config, options) if shares else _lengths(config, times))
        return config, None
    trainer = Trainer(config)
    assert isinstance(trainer.task, Table)
    costs = [answer.seconds or 0.0 for answer in trainer.task.answers.values()]
    if not (times or any(costs)):
        raise UsageError(NO_TIME)
    check_limits(config, model, _lengths(config, times) if times else costs)
    return config, trainer


def cluster_model(options: SimulationOptions, config: RunConfig) -> ClusterModel:
    """Return the model of the cluster, with what steps exchange with the shards if the run's children make such."""
    return replace(options.model, traffic=step_traffic(config))


def _check_shared(config: RunConfig, model: ClusterModel, *, shares: bool) -> None:
    """Raise `UsageError` unless the time of a step is known if, and only if, children make steps on shared weights.

    The same error is raised for a searcher of the user's own, whose schedule the simulation does not know.
    """
    if shares and not hasattr(config.searcher_options, "slot"):
        raise UsageError(
            f"the children of the searcher {config.searcher!r} share weights, and a simulation does not know when they"
            " make steps: its options must have a method `slot`, as those of nascluster's own searchers have"
        )
    if shares and model.compute_s is None:
        raise UsageError(
            f"the children of the searcher {config.searcher!r} make steps on shared weights, whose times are unknown:"
            " set what a worker computes in one, as in --step-seconds 0.1s; --child-seconds is of the paths that are"
            " scored"
        )
    if model.compute_s is not None and not shares:
        raise UsageError(f"`step_seconds` is for shared weights, which children of {config.searcher!r} do not have")


def _step_lengths(config: RunConfig, options: SimulationOptions) -> list[float]:
    """Return the seconds of each child of a search on shared weights while all workers make steps."""
    model = cluster_model(options, config)
    steps, times, schedule = model.steps(config), model.child_seconds, cast(Any, config.searcher_options)
    assert steps is not None and times is not None
    step_s = steps.step_seconds(workers_of(config))[-1]
    slots = (schedule.slot(begun) for begun in range(min(config.max_children, MAX_SAMPLED_CHILDREN)))
    return [slot.steps * step_s or times.scale_s for slot in slots if slot]


def _lengths(config: RunConfig, times: ChildSeconds) -> list[float]:
    """Return the seconds of training of the search's first children."""
    children = range(1, min(config.max_children, MAX_SAMPLED_CHILDREN) + 1)
    return [times.draw(random.Random(child_seed(config.seed, child))) for child in children]


def _times(options: SimulationOptions) -> str:
    times = options.child_seconds or "times of the table"
    return f"steps of {options.step_seconds}, scores of {times}" if options.step_seconds else times


def run_simulation(options: SimulationOptions, config: RunConfig, trainer: ChildTrainer | None) -> SimulationReport:
    """Simulate the run and the variants that might help."""
    model = cluster_model(options, config)
    report = SimulationReport(
        recipe=options.recipe,
        config=config,
        times=_times(options),
        figures=compute_figures(config, simulate_search(config, model, trainer), model.steps(config)),
        price=options.cost,
    )
    tried = variants(config, model)
    num_children = None if options.as_is else children_per_variant(config, len(tried) + 1)
    if num_children is None:
        return report

    def simulate_variant(changed: RunConfig) -> Figures:
        changed = replace(changed, max_children=num_children)
        return compute_figures(changed, simulate_search(changed, model, trainer), model.steps(changed))

    all_children = config.max_children
    unchanged = report.figures if num_children == all_children else simulate_variant(config)
    return replace(
        report,
        unchanged=estimate(unchanged, all_children),
        tried=[TriedVariant(flags=v.flags, estimate=estimate(simulate_variant(v.config), all_children)) for v in tried],
        tried_children=num_children,
    )
