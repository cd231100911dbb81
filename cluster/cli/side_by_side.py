"""Options of the commands that run searches side by side: `--processes` and `--output`."""

from pathlib import Path
from typing import Annotated

import tyro

from cluster.config.flags import UsageError
from cluster.placement.cores import usable_cores

Processes = Annotated[int | None, tyro.conf.arg(help="Searches that run at the same time; unset: one for each core.")]


def process_count(requested: int | None) -> int:
    """Return how many processes to use; without a request, as many as there are processors for this process.

    Raises:
        UsageError: the number is out of its bounds.
    """
    if requested is None:
        return usable_cores()
    if not 1 <= requested <= 1000:
        raise UsageError(f"`processes` must be 1 to 1000, got {requested}")
    return requested


def output_folder(requested: str | None, command: str, **words: str) -> Path:
    """Return the folder of the results; without a request, one in the current folder that is called by the words.

    Args:
        requested: the value of `--output`.
        command: the command's name, with which the name of such a folder begins.
        words: what follows in it, by what the help calls each, as in RECIPE="digits".

    Raises:
        UsageError: the request is empty.
    """
    if requested is not None and not requested.strip():
        usual = "-".join((command, *words))
        raise UsageError(f"`output` must be a folder, got nothing; without the option it is {usual} here")
    return Path(requested or "-".join((command, *words.values()))).expanduser().absolute()
