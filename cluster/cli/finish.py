"""`nascluster finish`: from a search to networks that one can use."""

import sys
from collections.abc import Callable
from typing import Annotated

import tyro
from rich.console import Console

from child_trainer import portable_json
from cluster.cli.command import parse_command
from cluster.config.flags import Json, Name, StoragePath, UsageError, flags_not_among, split, values_of
from cluster.config.run_config import DEFAULT_STORAGE

Top = Annotated[
    int | None, tyro.conf.arg(help="How many of the best different architectures; unset: 5, or all if there are fewer.")
]
Grid = Annotated[
    tuple[str, ...],
    tyro.conf.arg(
        metavar="NAME=VALUE,VALUE ...",
        help="Training settings to try, each architecture with all combinations, such as learning-rate=.2,.1,.05"
        " weight-decay=5e-5,1e-4; `nascluster spaces settings` lists more. Unset: none.",
    ),
]
Seeds = Annotated[int, tyro.conf.arg(help="Trainings of each network, with different seeds.")]

OURS = ("--top", "--seeds", "--storage-path")
"""This command's own flags that take one value."""

OURS_ALONE = ("--json", "--help", "-h")
"""This command's own flags that take no value."""


def finish(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""
    settings = values_of(arguments, "--grid")
    if settings == []:
        raise UsageError("`--grid` needs settings to try, such as learning-rate=.2,.1,.05 weight-decay=5e-5,1e-4")
    grid_words = ["--grid", *settings] if settings else []  # the settings of all of them, where there are several
    ours, flags = split(flags_not_among(arguments, ("--grid",)), OURS, OURS_ALONE)

    def run(
        name: Name,
        *,
        top: Top = None,
        grid: Grid = (),
        seeds: Seeds = 3,
        storage_path: StoragePath = DEFAULT_STORAGE,
        as_json: Json = False,
    ) -> Callable[[], int]:
        """Train the best networks of a search for good, and test each of them once.

        With --grid the ways to train are tried first, on the training images, and judged by the validation images (a
        run called NAME-grid). Then each network is trained on all of them with its best settings, five times as long as
        in the search unless --epochs says otherwise (NAME-final, which keeps the weights). At last each looks at the
        test images, once. After Ctrl-C or a kill the same command goes on. Flags of `nascluster launch` for the
        trainings can follow, such as --epochs, --schedule, --network, --workers or --local. A ceiling, such as
        --max-hours, holds for both runs together.
        """

        def carry_out() -> int:
            from cluster.finish.finish import Unfinished, finish
            from cluster.finish.plan import Request
            from cluster.runners.driver import EXIT_STATUS

            request = Request(name=name, storage_path=storage_path, top=top, grid=grid, seeds=seeds, flags=flags)
            found = finish(request, Console(stderr=True))
            if isinstance(found, Unfinished):
                print(f"nascluster: {found.text}", file=sys.stderr)
                return EXIT_STATUS[found.status.state] or 1
            print(portable_json.dumps(found.to_json(), indent=2) if as_json else "\n".join(found.lines()))
            return 0 if found.whole else 1

        return carry_out

    # It starts after parsing, because `parse` captures what is printed to standard error.
    return parse_command("finish", run, [*ours, *grid_words])()
