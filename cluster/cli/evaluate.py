"""`nascluster evaluate`: trains given architectures, each once."""

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import tyro
from rich.console import Console

from child_trainer import portable_json
from cluster.cli.command import parse_command
from cluster.config.flags import BAD_INPUT, Json
from cluster.formatting import number
from cluster.runners.evaluation.submitted import STDIN, submitted_words

OURS = ("--json", "--help", "-h")
"""This command's own flags; all others are of `nascluster launch`."""

Inputs = Annotated[
    tyro.conf.Positional[tuple[str, ...]],
    tyro.conf.arg(
        metavar="FILE.json", help="Files with architectures, folders of such files, or - for standard input."
    ),
]


def evaluate(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""
    inputs, flags = _split([word for word in arguments if word not in OURS])

    def run(*, inputs: Inputs = (), as_json: Json = False) -> bool:
        """Train given architectures on a task, each once, and print what each has reached.

        A file has the JSON of an architecture (as best --json prints it), of a list of them, or of one on each line.
        They come before the flags, which are those of `nascluster launch`: --task digits --name loop --epochs 2
        --child-timeout 10m --local --workers 4 --storage-path DIR and all others that do not choose architectures.
        --task is needed, and without other flags the training is that of `python -m child_trainer`.

        The run has a name (unset: a new one). Another call of this --name adds to it, with the same task
        and budget; what it has evaluated before, by the architecture's canonical id, is printed at once ("known": true)
        and not trained again, nor is what has failed. After a kill or Ctrl-C the same call goes on. Of two calls of one
        name at once the second is refused.

        With --json it prints an object on a line for each architecture, in their order: id, source, status (finished,
        failed, invalid, pending), known, child, metrics, parameters, flops, seconds, cause, failure (the text).
        Progress is on standard error. What is no architecture, or does not fit the task, is invalid; the others go on.

        Exit status: 0 if at least one has a result, 1 if all have failed, 2 if all are invalid, 130 if it was stopped.
        """
        return as_json

    as_json = parse_command("evaluate", run, [word for word in arguments if word in OURS])
    from cluster.runners.driver import EXIT_STATUS
    from cluster.runners.evaluation.evaluate import evaluate as carry_out

    evaluated = carry_out(submitted_words(inputs, sys.stdin), flags, Console(stderr=True))
    for line in map(portable_json.dumps, evaluated.results) if as_json else _lines(evaluated.results):
        print(line)
    if evaluated.status is not None and evaluated.status.state in ("stopped", "failed"):
        return EXIT_STATUS[evaluated.status.state]
    states = {result["status"] for result in evaluated.results}
    return 0 if "finished" in states else BAD_INPUT if states == {"invalid"} else 1


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what is to be evaluated, and the flags of a run that follow."""
    first = next((place for place, word in enumerate(words) if word.startswith("-") and word != STDIN), len(words))
    return list(words[:first]), list(words[first:])


def _lines(results: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"{'id':16}  {'status':<8}  {'metric':>9}  {'parameters':>11}  {'seconds':>9}  source",
        *map(_line, results),
    ]


def _line(result: Mapping[str, Any]) -> str:
    metric = next(iter(result["metrics"].values()), None)
    size, seconds = result["parameters"], result["seconds"]
    end = f"{result['source']}{' (known)' if result['known'] else ''}"
    failure = f": {result['failure']}" if result["failure"] else ""
    return (
        f"{result['id'] or '-':16}  {result['status']:<8}  {number(metric):>9}"
        f"  {'-' if size is None else f'{size:,}':>11}  {'-' if seconds is None else f'{seconds:.1f}':>9}"
        f"  {end}{failure}"
    )
