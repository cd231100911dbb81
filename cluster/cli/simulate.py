"""`nascluster simulate`: what a search would take of a cluster, and what would help, before anything is leased."""

import sys
from contextlib import nullcontext
from dataclasses import fields

import tyro
from rich.console import Console

from child_trainer import portable_json
from cluster.config.flags import BAD_INPUT, parse, split
from cluster.simulation.experiment import plan_simulation, run_simulation
from cluster.simulation.options import SimulationOptions
from cluster.simulation.report import SimulationReport, headline, help_table, lines, to_json, verdicts

ALONE = ("--as-is", "--json", "--help", "-h")
"""Flags of this command that take no value."""

VALUED = tuple(
    f"--{f.name.replace('_', '-')}" for f in fields(SimulationOptions) if f.name not in ("recipe", "as_is", "json")
)
"""Those that take one."""

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
    config, trainer = plan_simulation(options, flags)
    console = Console(stderr=True)
    with console.status("Simulating ...") if console.is_terminal else nullcontext():
        found = run_simulation(options, config, trainer)
    if options.json:
        print(portable_json.dumps(to_json(found), indent=2))
    else:
        show(found, Console())
    return 0


def show(found: SimulationReport, console: Console) -> None:
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
