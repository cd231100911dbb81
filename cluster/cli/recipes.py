"""`nascluster recipes`: the named runs by their systems, and what each sets."""

from cluster.cli.command import parse_command
from cluster.config.recipes import SYSTEMS, differences


def recipes(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""

    def run() -> int:
        """List the named runs by system, with what each sets; all else has the defaults, which are Zoph & Le's."""
        for system in SYSTEMS:
            print(system.name)
            print("".join(f"    {line}\n" for line in (system.paper, system.took and f"took {system.took}") if line))
            for name, recipe in system.recipes.items():
                print(f"  {name}\n    {recipe.__doc__}")
                settings = [_flag(name, value) for name, value in differences(recipe()).items()]
                print("    " + (" ".join(settings) or "the paper's constants") + "\n")
        return 0

    return parse_command("recipes", run, arguments)


def _flag(name: str, value: object) -> str:
    """Return the flag that sets an option, as it is typed."""
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name} {' '.join(map(str, value)) if isinstance(value, tuple) else value}"
