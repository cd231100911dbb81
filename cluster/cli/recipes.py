"""`nascluster recipes`: the named runs, and what each sets."""

from cluster.cli.command import parse_command
from cluster.config.recipes import RECIPES, differences


def recipes(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""

    def run() -> int:
        """List the named runs, and what each sets; all else has the defaults, which are the paper's."""
        for name, recipe in RECIPES.items():
            print(f"{name}\n    {recipe.__doc__}")
            settings = [f"--{flag} {_flag_value(value)}" for flag, value in differences(recipe()).items()]
            print("    " + (" ".join(settings) or "the paper's constants") + "\n")
        return 0

    return parse_command("recipes", run, arguments)


def _flag_value(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
