"""Plans a simulation, checks its size, and runs it with the variants that might help."""

import random
from collections.abc import Sequence
from dataclasses import replace

from child_trainer.tasks.lookup_table import Table
from cluster.config.flags import UsageError, parse_run
from cluster.config.recipes import changed, find_recipe
from cluster.config.run_config import RunConfig
from cluster.runners.build import check_layout
from cluster.runners.trainer import Trainer
from cluster.search.evaluator import ChildTrainer
from cluster.search.seeding import child_seed
from cluster.simulation.answer import Answer, Tried
from cluster.simulation.options import SimulationOptions
from cluster.simulation.results import NO_TIME, Figures, estimate, figures
from cluster.simulation.search import simulated
from cluster.simulation.size import check_size
from cluster.simulation.variants import children_tried, variants
from cluster.simulation.words import ChildSeconds
from cluster.storage.dataset_cache import located

NOT_HERE = ("name", "storage_path", "local", "metrics", "logs", "callbacks")
"""Fields that a run has and a simulation has no use for."""

CHILDREN_FORESEEN = 10_000
"""Children whose times are drawn before the simulation to foresee its size; of more that takes long."""


def planned(options: SimulationOptions, flags: Sequence[str]) -> tuple[RunConfig, ChildTrainer | None]:
    """The run that is to be simulated, and what answers for its children where a table does.

    Raises:
        ValueError: something of it cannot be.
    """
    made = find_recipe(options.recipe)()
    config = parse_run(made, list(flags), options.recipe)
    if wrong := next((name for name in changed(config, made) if name in NOT_HERE), None):
        raise UsageError(f"the options of `{wrong.replace('_', '-')}` are not for a simulation, which keeps nothing")
    conditions = options.conditions
    config = replace(config, task=replace(config.task, data=located(config.task.data)))
    check_layout(config, "simulated")
    times = conditions.child_seconds
    if config.task.entry.family != "table":
        if times is None:
            raise UsageError(
                f"how long children of the task {config.task.task!r} take is not known: say it, as in"
                " --child-seconds lognormal:3600:0.5"
            )
        check_size(config, conditions, _lengths(config, times))
        return config, None
    trainer = Trainer(config)
    assert isinstance(trainer.task, Table)
    costs = [answer.seconds for answer in trainer.task.answers.values()]
    if not (times or any(costs)):
        raise UsageError(NO_TIME)
    check_size(config, conditions, _lengths(config, times) if times else costs)
    return config, trainer


def _lengths(config: RunConfig, times: ChildSeconds) -> list[float]:
    """How long the first children of the search take, in seconds."""
    children = range(1, min(config.max_children, CHILDREN_FORESEEN) + 1)
    return [times.draw(random.Random(child_seed(config.seed, child))) for child in children]


def find(options: SimulationOptions, config: RunConfig, trainer: ChildTrainer | None) -> Answer:
    """Simulate the run, and what would help it."""
    conditions = options.conditions
    found = Answer(
        recipe=options.recipe,
        config=config,
        times=options.child_seconds or "as the table tells",
        figures=figures(config, simulated(config, conditions, trainer)),
        price=options.cost,
    )
    changes = variants(config, conditions)
    few = None if options.as_is else children_tried(config, len(changes) + 1)
    if few is None:
        return found

    def with_few(changed: RunConfig) -> Figures:
        changed = replace(changed, max_children=few)
        return figures(changed, simulated(changed, conditions, trainer))

    whole = config.max_children
    unchanged = found.figures if few == whole else with_few(config)
    return replace(
        found,
        unchanged=estimate(unchanged, whole),
        tried=[Tried(flags=v.flags, estimate=estimate(with_few(v.config), whole)) for v in changes],
        tried_children=few,
    )
