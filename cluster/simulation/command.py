"""`nascluster simulate`: what a search would take of a cluster, and what would help, before anything is leased."""

import json
import random
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import fields, replace

import tyro
from rich.console import Console

from child_trainer.tasks.table import Table
from child_trainer.tasks.tables import TABLES
from cluster.command_line import BAD_INPUT, UsageError, known, parse, parse_run, split
from cluster.config import RunConfig
from cluster.evaluator import Trains
from cluster.node_data import located
from cluster.parts import check_layout
from cluster.recipes import RECIPES, changed
from cluster.seeding import child_seed
from cluster.simulation.answer import Answer, Tried, headline, help_table, lines, to_json, verdicts
from cluster.simulation.options import SimulationOptions
from cluster.simulation.results import NO_TIME, Figures, estimate, figures
from cluster.simulation.search import simulated
from cluster.simulation.size import check_size
from cluster.simulation.variants import children_tried, variants
from cluster.simulation.words import ChildSeconds
from cluster.training import Trainer

ALONE = ("--as-is", "--json", "--help", "-h")
"""Flags of this command that take no value."""

VALUED = tuple(
    f"--{f.name.replace('_', '-')}" for f in fields(SimulationOptions) if f.name not in ("recipe", "as_is", "json")
)
"""Those that take one."""

NOT_HERE = ("name", "storage_path", "local", "metrics", "logs", "callbacks")
"""Fields that a run has and a simulation has no use for."""

CHILDREN_FORESEEN = 10_000
"""Children whose times are drawn before the simulation to foresee its size; of more that takes long."""

DESCRIPTION = """\
What a search would take of a cluster: how busy its workers are, how stale its updates, its time and its cost; and what
would help most. The replicas, the pool, the ledger and the shards are the real ones, on a virtual clock; workers, time,
and what is lost are simulated. All flags of `nascluster launch RECIPE` may follow here: --workers, --replicas,
--children, --shards, --batching, --max-children, --max-attempts, --checkpoint-children, --gpus-per-child, --seed."""


def simulate(arguments: list[str]) -> int:
    """Carry out the command and give its exit status."""
    if not arguments:
        print("usage: nascluster simulate RECIPE --child-seconds lognormal:3600:0.5 [options]; --help lists them")
        return BAD_INPUT
    ours, flags = split(arguments, VALUED, ALONE)
    switches = (tyro.conf.FlagCreatePairsOff,)
    options = parse(SimulationOptions, ours, "nascluster simulate", description=DESCRIPTION, config=switches)
    config, trainer = planned(options, flags)
    console = Console(stderr=True)
    with console.status("Simulating ...") if console.is_terminal else nullcontext():
        found = find(options, config, trainer)
    if options.json:
        print(json.dumps(to_json(found), indent=2))
    else:
        show(found, Console())
    return 0


def planned(options: SimulationOptions, flags: Sequence[str]) -> tuple[RunConfig, Trains | None]:
    """The run that is to be simulated, and what answers for its children where a table does.

    Raises:
        ValueError: something of it cannot be.
    """
    made = known(RECIPES, options.recipe, "recipe")()
    config = parse_run(made, list(flags), options.recipe)
    if wrong := next((name for name in changed(config, made) if name in NOT_HERE), None):
        raise UsageError(f"the options of `{wrong.replace('_', '-')}` are not for a simulation, which keeps nothing")
    conditions = options.conditions
    config = replace(config, task=replace(config.task, data=located(config.task.data)))
    check_layout(config, "simulated")
    times = conditions.child_seconds
    if config.task.task not in TABLES:
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


def find(options: SimulationOptions, config: RunConfig, trainer: Trains | None) -> Answer:
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


def show(found: Answer, console: Console) -> None:
    """Print it for people."""
    print(headline(found))
    for label, text in lines(found):
        print(f"  {label:9} {text}")
    if found.unchanged is None:
        return
    print()
    sys.stdout.flush()
    console.print(help_table(found))
    for line in verdicts(found):
        print(line)
