"""The command line: `nascluster COMMAND ...`; `USAGE` lists the commands."""

import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Literal

import tyro
from rich.console import Console

from cluster.callbacks.options import CallbackOptions
from cluster.command_line import BAD_INPUT, Json, Name, StoragePath, UsageError, known, parse, parse_run
from cluster.config import DEFAULT_STORAGE, RunConfig
from cluster.doctor.command import doctor
from cluster.failures import failure_lines, failures_json, read_failures
from cluster.logs.command import logs
from cluster.logs.options import LogFormat, LogLevel, LogOptions
from cluster.node_data import located
from cluster.progress import facts
from cluster.recipes import RECIPES, differences
from cluster.report.command import report
from cluster.run_folder import RunFolder, existing_run, resumable_run, run_folder
from cluster.status import Status, read_status
from cluster.summary import best_json, best_lines, training_command

INTERRUPTED = 130

NO_READER = 1
"""Nobody reads what is said any more."""

Where = Annotated[
    Literal["as-before", "local", "ray"],
    tyro.conf.arg(help="Where to go on: in this one process, on Ray, or as before."),
]

USAGE = """\
usage: nascluster COMMAND ...

Neural architecture search with reinforcement learning, on Ray or in one process.

  launch RECIPE [options]   start a search; `nascluster launch RECIPE --help` lists every option
  resume NAME               go on with a search that was stopped or killed
  stop NAME                 let a search end what is in training, then stop it, to be resumed
  status NAME [--json]      where a search stands, from any terminal, while it runs or after; --watch keeps showing it
  best NAME [--json]        its best child
  failures NAME [--json]    the attempts that failed, by cause, with the error and where it was
  logs NAME [CHILD]         what happened, an event a line, --follow for what comes; or what that child has printed
  report NAME [--open]      one HTML page of what it did and found; --watch serves it while the search runs
  compare SEARCHER ...      searchers side by side, many seeds each: --recipe RECIPE --budget 500 (or 12000s)
  simulate RECIPE ...       what a search would take of a cluster, and what would help; --help lists what may be said
  doctor [NAME] [--json]    checks the cluster, and says why a search does not go on
  recipes                   the named runs, and what each sets

exit status: 0 done; 1 the search failed, or no child of it finished; 2 cannot be done as typed; 130 stopped

first search: nascluster launch digits
"""


def main() -> None:
    """The console script."""
    status = run(sys.argv[1:])
    if status == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient second Ctrl-C has nothing left to interrupt
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still in the buffer would be tried once more at the end of the process, with a complaint.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = status or NO_READER
    sys.exit(status)


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line and give its exit status, as `USAGE` lists them."""
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(USAGE, end="")
            return 0 if arguments else BAD_INPUT
        command = known(COMMANDS, arguments[0], "command")
        return command(list(arguments[1:]))
    except ValueError as error:
        print(f"nascluster: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt as interrupt:
        print(f"nascluster: {str(interrupt) or 'interrupted before anything was written'}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return NO_READER


def _launch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: nascluster launch RECIPE [options]\n")
        _recipes([])
        print("\n`nascluster launch RECIPE --help` lists every option with the recipe's value.")
        return 0 if arguments else BAD_INPUT
    recipe = known(RECIPES, arguments[0], "recipe")
    config = parse_run(recipe(), arguments[1:], arguments[0], recipe.__doc__)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    task = replace(config.task, data=located(config.task.data))  # a resume may come from another folder
    config = replace(config, name=config.name or f"{arguments[0]}-{stamp}", task=task)
    folder = run_folder(config.storage_path, str(config.name))
    folder.check_new()
    return _execute(config, folder)


def _resume(arguments: list[str]) -> int:
    def resume(
        name: Name,
        *,
        storage_path: StoragePath = DEFAULT_STORAGE,
        on: Where = "as-before",
        metrics_port: Annotated[int | None, tyro.conf.arg(help="Another port for metrics; unset: as before.")] = None,
        log_format: Annotated[LogFormat | None, tyro.conf.arg(help="Events as text or json; unset: as before.")] = None,
        log_level: Annotated[LogLevel | None, tyro.conf.arg(help="The least that is logged; unset: as before.")] = None,
        callback: Annotated[
            tyro.conf.UseAppendAction[tuple[str, ...]],
            tyro.conf.arg(help="tensorboard, mlflow or MODULE:CLASS, repeatedly; unset: as before."),
        ] = (),
    ) -> int:
        """Go on with a search that was stopped or killed, from its folder alone."""
        folder = resumable_run(storage_path, name, print)
        config = folder.read_config()
        if folder.ledger.exists():
            status = read_status(folder, time.time())
            if status.state == "running":
                raise UsageError(f"the run {name!r} is running; `nascluster status {name}` shows it")
            if status.state == "finished":
                raise UsageError(f"the run {name!r} has finished: all {status.max_children} children have ended")
        if metrics_port is not None:  # the port of before may be another's by now
            config = replace(config, metrics=replace(config.metrics, metrics_port=metrics_port))
        logs = LogOptions(log_format=log_format or config.logs.log_format, log_level=log_level or config.logs.log_level)
        config = replace(config, logs=logs)
        if callback:
            config = replace(config, callbacks=CallbackOptions(callback=callback))
        return _execute(config if on == "as-before" else replace(config, local=on == "local"), folder)

    return _cli(resume, arguments)


def _status(arguments: list[str]) -> int:
    def status(
        name: Name,
        *,
        storage_path: StoragePath = DEFAULT_STORAGE,
        as_json: Json = False,
        watch: Annotated[bool, tyro.conf.arg(help="Keep showing it until the search ends, or Ctrl-C.")] = False,
    ) -> int:
        """Where a search stands, from any terminal, while it runs or after."""
        if watch and as_json:
            raise UsageError("`--watch` shows a panel and `--json` prints an object: give one of them")
        found = _read(existing_run(storage_path, name))
        if watch:
            from cluster.watching import watch as watched

            found = watched(lambda: _read(existing_run(storage_path, name)), Console())
        if as_json:
            print(json.dumps(found.to_json(), indent=2))
        else:
            print(f"{found.name}: {found.state}" + (f" ({found.message})" if found.message else ""))
            for label, text in facts(found):
                print(f"  {label:9} {text}")
        return 0

    return _cli(status, arguments)


def _best(arguments: list[str]) -> int:
    def best(name: Name, *, storage_path: StoragePath = DEFAULT_STORAGE, as_json: Json = False) -> int:
        """The best child of a search: its architecture, metric, parameters, FLOPs and seconds; of a table its test."""
        folder = existing_run(storage_path, name)
        found, config = _read(folder), folder.read_config()
        if as_json:
            print(json.dumps(best_json(found, config), indent=2))
        else:
            print("\n".join(best_lines(found, config)))
            if found.best:
                print("\nTrain it once more by hand:")
                print(f"  nascluster best {shlex.quote(name)} --json > best.json")
                print(f"  {training_command(config, found.best, 'best.json')}")
        return 0 if found.best else 1

    return _cli(best, arguments)


def _stop(arguments: list[str]) -> int:
    def stop(
        name: Name,
        *,
        storage_path: StoragePath = DEFAULT_STORAGE,
        no_wait: Annotated[bool, tyro.conf.arg(help="Only ask, and do not wait until it has stopped.")] = False,
    ) -> int:
        """Stop a search once what is in training has ended, or has saved its state (--checkpoint-children)."""
        folder = existing_run(storage_path, name)
        status = _read(folder)
        if status.state != "running":
            raise UsageError(f"the run {name!r} is not running: it has {status.state}")
        folder.ask_to_stop()
        try:
            print(f"{name}: asked to stop; children in training: {status.running}", flush=True)
            while not no_wait and status.state == "running":
                time.sleep(0.5)
                status = _read(existing_run(storage_path, name))  # which copies it anew if the driver is elsewhere
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted, but the run {name!r} stays asked to stop: `{folder.command('status')}` shows it"
            ) from None
        if not no_wait:
            print(f"{name}: {status.state}" + (f" ({status.message})" if status.message else ""))
        if status.state == "stopped":
            print(f"Go on with: {folder.command('resume')}")
        return 0

    return _cli(stop, arguments)


def _failures(arguments: list[str]) -> int:
    def failures(
        name: Name,
        *,
        child: Annotated[int | None, tyro.conf.arg(help="Only this child's, with the whole text of the error.")] = None,
        last: Annotated[int, tyro.conf.arg(help="How many to print, the latest first.")] = 20,
        storage_path: StoragePath = DEFAULT_STORAGE,
        as_json: Json = False,
    ) -> int:
        """The attempts that failed, by cause, with the error and where it was."""
        if last < 1:
            raise UsageError(f"`--last` must be at least 1, got {last}")
        found = read_failures(existing_run(storage_path, name), child)
        print(failures_json(found) if as_json else "\n".join(failure_lines(found, last, whole=child is not None)))
        return 0

    return _cli(failures, arguments)


def _compare(arguments: list[str]) -> int:
    from cluster.compare.command import compare

    return compare(arguments)


def _simulate(arguments: list[str]) -> int:
    from cluster.simulation.command import simulate

    return simulate(arguments)


def _recipes(arguments: list[str]) -> int:
    def recipes() -> int:
        """The named runs, and what each sets apart from the defaults, which are the paper's."""
        for name, recipe in RECIPES.items():
            print(f"{name}\n    {recipe.__doc__}")
            settings = [f"--{flag} {_flag_value(value)}" for flag, value in differences(recipe()).items()]
            print("    " + (" ".join(settings) or "the paper's constants") + "\n")
        return 0

    return _cli(recipes, arguments)


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "launch": _launch,
    "resume": _resume,
    "status": _status,
    "stop": _stop,
    "best": _best,
    "failures": _failures,
    "logs": logs,
    "report": report,
    "compare": _compare,
    "simulate": _simulate,
    "doctor": doctor,
    "recipes": _recipes,
}


def _cli(function: Callable[..., int], arguments: list[str]) -> int:
    return parse(function, arguments, f"nascluster {function.__name__}", config=(tyro.conf.FlagCreatePairsOff,))


def _flag_value(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _read(folder: RunFolder) -> Status:
    return read_status(folder, time.time())


def _execute(config: RunConfig, folder: RunFolder) -> int:
    from cluster.run import EXIT_STATUS, execute

    status = execute(config, folder, Console())
    return 1 if status.state == "finished" and not status.finished else EXIT_STATUS[status.state]
