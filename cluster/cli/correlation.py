"""`nascluster correlation`: how well the weights that a run's children share rank architectures."""

from collections.abc import Callable
from typing import Annotated

import tyro
from rich.console import Console

from child_trainer import portable_json
from cluster.cli.command import parse_command
from cluster.config.flags import Json, Name, StoragePath, split
from cluster.config.run_config import DEFAULT_STORAGE

Children = Annotated[int, tyro.conf.arg(help="How many different random architectures.")]
Data = Annotated[
    str | None,
    tyro.conf.arg(
        metavar="TABLE",
        help="A table with their accuracies: NAS-Bench-201's folder, a .csv or .json file, or FILE.py:NAME of a task;"
        " unset: they are trained.",
    ),
]
Seed = Annotated[int, tyro.conf.arg(help="Seed of the random architectures.")]

OURS = ("--storage-path", "--children", "--data", "--seed")
"""This command's own flags that take a value."""

OURS_ALONE = ("--json", "--help", "-h")
"""This command's own flags that take no value."""


def correlation(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""
    ours, flags = split(arguments, OURS, OURS_ALONE)

    def run(
        name: Name,
        *,
        children: Children = 60,
        data: Data = None,
        seed: Seed = 0,
        storage_path: StoragePath = DEFAULT_STORAGE,
        as_json: Json = False,
    ) -> Callable[[], int]:
        """Say how well a run's shared weights rank architectures, against a table or stand-alone trainings.

        Random architectures are scored with the weights that the run's children share. Without --data they are trained
        from scratch as well, as a run called NAME-correlation; after Ctrl-C the same command resumes. Flags of
        `nascluster launch` for these trainings can follow, such as --epochs, --workers or --local.
        """

        def carry_out() -> int:
            from cluster.correlation.measure import Request, Unfinished, measure
            from cluster.runners.driver import EXIT_STATUS

            request = Request(
                name=name, storage_path=storage_path, children=children, seed=seed, table=data, flags=flags
            )
            found = measure(request, Console(stderr=True))
            if isinstance(found, Unfinished):
                return EXIT_STATUS[found.status.state]
            print(portable_json.dumps(found.to_json(), indent=2) if as_json else "\n".join(found.lines()))
            return 0

        return carry_out

    # It starts after parsing, because `parse` captures what is printed to standard error.
    return parse_command("correlation", run, ours)()
