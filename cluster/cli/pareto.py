"""`nascluster pareto`: the children of a search that are best in several objectives."""

from typing import Annotated

import tyro

from child_trainer import portable_json
from child_trainer.close_names import suggestion
from cluster.cli.command import note_unknown, parse_command
from cluster.config.flags import Json, Name, StoragePath, UsageError
from cluster.config.run_config import DEFAULT_STORAGE
from cluster.monitoring.front import Front, read_front
from cluster.monitoring.status import read_unknown, recorded_measure
from cluster.storage.find_run import existing_run
from cluster.storage.ledger.queries.front import known_costs
from cluster.storage.ledger.reader import reading
from cluster.storage.run_folder import RunFolder
from controller.objectives import COSTS

USUAL = "parameters"
"""The cost of a run without objectives, if its children have it."""

X = Annotated[
    str | None,
    tyro.conf.arg(
        metavar="COST",
        help=f"The cost that the metric is seen against: {', '.join(COSTS)}; unset: the run's objectives, or {USUAL}.",
    ),
]


def pareto(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""

    def run(name: Name, *, x: X = None, storage_path: StoragePath = DEFAULT_STORAGE, as_json: Json = False) -> int:
        """List the Pareto front of a search: the children that no other one beats in metric and costs."""
        if x not in (None, *COSTS):
            raise UsageError(f"`--x` must be one of {', '.join(COSTS)}, got {x!r}{suggestion(str(x), COSTS)}")
        folder = existing_run(storage_path, name)
        unknown = read_unknown(folder)
        front = _read(folder, x)
        if as_json:
            data = {} if front is None else front.to_json()
            print(portable_json.dumps({"name": folder.name, **data, "unknown": list(unknown)}, indent=2))
            return 0 if front else 1
        note_unknown(unknown)
        if front is None:
            print("No child has finished yet.")
            return 1
        print("\n".join([front.title, "", *front.lines()]))
        return 0

    return parse_command("pareto", run, arguments)


def _read(folder: RunFolder, x: str | None) -> Front | None:
    """Return the front; `None` if no child has a metric.

    Raises:
        UsageError: no child has the cost.
    """
    known = folder.read_known()
    config = known.config
    with reading(folder) as db:
        having = known_costs(db)
        if not having:
            return None
        usual = [cost.name for cost in config.objectives.costs] or [USUAL if USUAL in having else having[0]]
        names = usual if x is None else [x]
        if missing := next((name for name in names if name not in having), None):
            raise UsageError(
                f"no child of the run {folder.name!r} has {COSTS[missing].words}: give `--x` {' or '.join(having)}"
            )
        measure = config.measure if known.knows_task else recorded_measure(db)
        return read_front(db, measure, [COSTS[name] for name in names])
