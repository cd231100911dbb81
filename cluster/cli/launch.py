"""`nascluster launch`: starts a search."""

import sys
from dataclasses import replace
from datetime import datetime

from rich.console import Console

from cluster.cli.recipes import recipes
from cluster.config.flags import BAD_INPUT, UsageError, in_own_words
from cluster.config.idle_options import idle_options
from cluster.config.recipes import find_recipe, recipe_label
from cluster.config.run_config import RunConfig
from cluster.runners.retraining import parse_launch
from cluster.storage.dataset_cache import located
from cluster.storage.find_run import check_new, run_folder
from cluster.storage.run_folder import RunFolder
from cluster.storage.starting import starting


def launch(arguments: list[str]) -> int:
    """Carry out the command and return its exit status."""

    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: nascluster launch RECIPE [options]\n")
        recipes([])
        print("\n`nascluster launch RECIPE --help` lists every option with the recipe's value.")
        return 0 if arguments else BAD_INPUT
    if arguments[0].startswith("-"):
        raise UsageError(f"the recipe comes first, as in `nascluster launch digits {arguments[0]} ...`")
    recipe = find_recipe(arguments[0])
    flags = in_own_words(arguments[1:])
    config, notes = parse_launch(recipe, flags, arguments[0], recipe.__doc__)
    for text in (*notes, *idle_options(config, flags)):
        print(f"nascluster: {text}", file=sys.stderr)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    task = replace(config.task, data=located(config.task.data))  # a resume may start in another folder
    name = config.name or f"{recipe_label(arguments[0])}-{stamp}"
    config = replace(config, name=name, recipe=arguments[0], task=task)
    folder = run_folder(config.storage_path, str(config.name))
    check_new(folder)
    with starting(folder):
        return execute_run(config, folder)


def execute_run(config: RunConfig, folder: RunFolder) -> int:
    """Run a search to its end and return the exit status."""
    from cluster.runners.driver import EXIT_STATUS, execute

    status = execute(config, folder, Console())
    return 1 if status.state == "finished" and not status.finished else EXIT_STATUS[status.state]
