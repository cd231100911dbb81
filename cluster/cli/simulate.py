"""`nascluster simulate`: predicts a search's time, cost and utilisation on a cluster, and what would help."""

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
"""Flags of this command that take a value."""

DESCRIPTION = """\
Predict a search on a cluster: how busy its workers are, how stale its updates, its time and its cost; and what would
help most. The replicas, the pool, the ledger and the shards are the real ones, on a virtual clock; workers, time and
failures are simulated. All flags of `nascluster launch RECIPE` can follow here: --workers, --replicas, --children,
--shards, --batching, --max-children, --max-attempts, --checkpoint-children, --gpus-per-child, --seed."""


def simulate(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""
    if not arguments:
        print("usage: nascluster simulate RECIPE --child-seconds lognormal:3600:0.5 [options]; --help lists them")
        return BAD_INPUT
    ours, flags = split(arguments, VALUED, ALONE)
    switches = (tyro.conf.FlagCreatePairsOff,)
    options = parse(SimulationOptions, ours, "nascluster simulate", description=DESCRIPTION, config=switches)
    config, trainer = plan_simulation(options, flags)
    console = Console(stderr=True)
    with console.status("Simulating ...") if console.is_terminal else nullcontext():
        report = run_simulation(options, config, trainer)
    if options.json:
        print(portable_json.dumps(to_json(report), indent=2))
    else:
        show(report, Console())
    return 0


def show(report: SimulationReport, console: Console) -> None:
    """Print the report as text."""
    print(headline(report))
    for label, text in lines(report):
        print(f"  {label:9} {text}")
    if report.unchanged is None:
        return
    print()
    sys.stdout.flush()
    console.print(help_table(report))
    for line in verdicts(report):
        print(line)
