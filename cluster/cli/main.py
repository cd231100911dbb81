"""The command line: `nascluster COMMAND ...`; `USAGE` lists the commands."""

import errno
import io
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

from cluster.config.flags import BAD_INPUT
from controller.catalogue import find_entry

INTERRUPTED = 130

NO_READER = 1
"""Standard output was closed, or cannot be written."""

FULL_DISK = 1
"""No space is left, which is no mistake in what was typed."""

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
  searchers [NAME]          what there is to choose from, with papers and options; likewise spaces, tasks and rewards

exit status: 0 done; 1 the search failed, or no child of it finished; 2 cannot be done as typed; 130 stopped

first search: nascluster launch digits
"""


def main() -> None:
    """The console script."""
    _prepare_output()
    status = run(sys.argv[1:])
    if status == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient second Ctrl-C has nothing left to interrupt
    try:
        sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            print(f"nascluster: standard output cannot be written: {error.strerror}", file=sys.stderr)
        # What is still in the buffer would be tried once more at the end of the process, with a complaint.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = status or NO_READER
    sys.exit(status)


def _prepare_output() -> None:
    """Let no character, and no closed descriptor, end a command that has done its work."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the parent
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line and give its exit status, as `USAGE` lists them."""
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(USAGE, end="")
            return 0 if arguments else BAD_INPUT
        module = import_module(f"cluster.cli.{find_entry(COMMANDS, arguments[0], 'command')}")
        return getattr(module, arguments[0])(list(arguments[1:]))
    except ValueError as error:
        print(f"nascluster: {error}", file=sys.stderr)
        return FULL_DISK if _is_full(error) else BAD_INPUT
    except KeyboardInterrupt as interrupt:
        print(f"nascluster: {str(interrupt) or 'interrupted before anything was written'}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return NO_READER
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename}: "
        print(f"nascluster: {place}{error.strerror or error}", file=sys.stderr)
        return FULL_DISK if _is_full(error) else BAD_INPUT


def _is_full(error: BaseException | None) -> bool:
    """Return whether a full disk or quota caused the error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False


COMMANDS: Mapping[str, str] = {
    "launch": "launch",
    "resume": "resume",
    "status": "status",
    "stop": "stop",
    "best": "best",
    "failures": "failures",
    "logs": "logs",
    "report": "report",
    "compare": "compare",
    "simulate": "simulate",
    "doctor": "doctor",
    "recipes": "recipes",
    "searchers": "catalogues",
    "spaces": "catalogues",
    "tasks": "catalogues",
    "rewards": "catalogues",
}
"""Each command with its module in this folder, which is imported when it is asked for."""
