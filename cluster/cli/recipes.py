"""`nascluster recipes`: the named runs by their systems, and what each sets."""

from collections.abc import Iterator
from typing import Annotated

import tyro

from cluster.cli.command import parse_command
from cluster.config.recipes import SYSTEMS, Recipe, differences, find_recipe


def recipes(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""

    def run(
        name: Annotated[
            tyro.conf.Positional[str | None], tyro.conf.arg(metavar="NAME", help="Only this one, or FILE.py:NAME.")
        ] = None,
    ) -> int:
        """List the named runs by system, with what each sets; all else has the defaults, which are Zoph & Le's."""
        own = None if name is None else find_recipe(name)
        for system in SYSTEMS:
            shown = {each: recipe for each, recipe in system.recipes.items() if name in (None, each)}
            if not shown:
                continue
            print(system.name)
            print("".join(f"    {line}\n" for line in (system.paper, system.took and f"took {system.took}") if line))
            for each, recipe in shown.items():
                print(*_lines(each, recipe), "", sep="\n")
            own = None
        if name is not None and own is not None:
            print(*_lines(name, own), sep="\n")
        return 0

    return parse_command("recipes", run, arguments)


def _lines(name: str, recipe: Recipe) -> Iterator[str]:
    yield f"  {name}"
    yield f"    {recipe.__doc__ or ''}".rstrip()
    settings = [_flag(option, value) for option, value in differences(recipe()).items()]
    yield "    " + (" ".join(settings) or "the paper's constants")


def _flag(name: str, value: object) -> str:
    """Return the flag that sets an option, as it is typed."""
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name} {' '.join(map(str, value)) if isinstance(value, tuple) else value}"
