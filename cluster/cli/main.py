"""The command line: `nascluster COMMAND ...`; `USAGE` lists the commands."""

import codecs
import errno
import io
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

from cluster.config.flags import BAD_INPUT, HELP_ALL
from controller.catalogue import find_entry

INTERRUPTED = 130
"""Exit status after Ctrl-C."""

NO_READER = 128 + signal.SIGPIPE
"""Exit status if the reader of standard output has gone, as in `nascluster recipes | head -1`; a shell says the same of
any program that the closed pipe has ended."""

UNPRINTABLE = 1
"""Exit status if standard output cannot be written otherwise."""

FULL_DISK = 1
"""Exit status if no space is left, which is no mistake in the command line."""

USAGE = """\
usage: nascluster COMMAND ...

Neural architecture search by the published systems or one of your own, on Ray or in one process.

  launch RECIPE [options]   start a search; `nascluster launch RECIPE --help` lists every option
  resume NAME               resume a search that was stopped or killed
  stop NAME                 stop a search once the children in training have ended; it can be resumed
  status NAME [--json]      show a search's progress, from any terminal, also after its end; --watch keeps it updated
  best NAME [--json]        show its best child
  pareto NAME [--json]      list the children that none beats in metric and costs: --x parameters, flops, latency, ...
  children NAME             list all children; --csv and --json are for programs
  failures NAME [--json]    list failed attempts by cause, with the error and its place
  logs NAME [CHILD]         print its events, with --follow also new ones; or the output of one child
  report NAME [--open]      write an HTML page of its results; --watch serves the page while the search runs
  finish NAME               train its best networks for good and test each once; --grid tries settings before
  export NAME [CHILD]       write a trained child as a file that loads without nascluster, and a README beside it
  evaluate FILE.json ...    train given architectures, each once, for an outer loop: --task digits --name loop --json
  correlation NAME          say how well its shared weights rank architectures, by a table (--data) or by training them
  compare SEARCHER ...      compare searchers over many seeds: --recipe RECIPE --budget 500 (or 12000s)
  survey digits             search with every system at one budget of core time, retrain alike, and write one page
  simulate RECIPE ...       predict a search's time, cost and utilisation, and what would help; --help lists options
  list [--json]             list all runs of a storage path: state, children, best, start, size
  remove NAME               remove a run from the disk; it asks first, unless --yes
  replay NAME [--until N]   compute a finished search again, and say where it differs; go on otherwise with --then
  doctor [NAME] [--json]    check the cluster, and say why a search makes no progress
  recipes [NAME]            list the named runs, and what each sets
  zoo [NAME]                list published networks; show one, at any size: --cells 6 --filters 32
  searchers [NAME]          list the searchers with papers and options; likewise spaces, tasks and rewards

exit status: 0 done; 1 the search failed, or no child of it finished, or its replay differs; 2 bad command line
or input; 130 stopped; 141 nobody reads its output any longer

first search: nascluster launch digits
"""


IN_ASCII = "nascluster-in-ascii"
"""The name of what Python does with a character that an output cannot take."""

ASCII = {"●": "o", "·": ".", "±": "+-", "…": "..."}
"""What stands for our signs; another character becomes a question mark."""


def main() -> None:
    """Run the console script, and exit with the command's status."""
    _prepare_output()
    status = run(sys.argv[1:])
    if status == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C has nothing left to interrupt
    try:
        sys.stdout.flush()
    except OSError as error:
        gone = isinstance(error, BrokenPipeError)
        if not gone and not status:
            print(f"nascluster: standard output cannot be written: {error.strerror}", file=sys.stderr)
        # Otherwise Python flushes the rest of the buffer at exit, and prints an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = status or (NO_READER if gone else UNPRINTABLE)
    sys.exit(status)


def _prepare_output() -> None:
    """Let no character, and no closed descriptor, end a command that has done its work."""
    codecs.register_error(IN_ASCII, _in_ascii)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the parent
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=IN_ASCII)


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for a character that the output's encoding lacks, and where to go on."""
    assert isinstance(error, UnicodeEncodeError)
    return ASCII.get(error.object[error.start], "?"), error.start + 1


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line and return its exit status, one that `USAGE` lists."""
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(USAGE, end="")
            return 0 if arguments else BAD_INPUT
        module, _, function = find_entry(COMMANDS, arguments[0], "command").partition(":")
        carry_out = getattr(import_module(f"cluster.cli.{module}"), function or arguments[0])
        # Other commands may take a run's flags, too, and have one help.
        helped = HELP_ALL if arguments[0] == "launch" else "--help"
        return carry_out([helped if word == HELP_ALL else word for word in arguments[1:]])
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
    "pareto": "pareto",
    "children": "children",
    "failures": "failures",
    "logs": "logs",
    "report": "report",
    "finish": "finish",
    "export": "export",
    "evaluate": "evaluate",
    "correlation": "correlation",
    "compare": "compare",
    "survey": "survey",
    "simulate": "simulate",
    "list": "list_runs:list_runs",
    "remove": "remove",
    "replay": "replay",
    "doctor": "doctor",
    "recipes": "recipes",
    "zoo": "zoo",
    "searchers": "catalogues",
    "spaces": "catalogues",
    "tasks": "catalogues",
    "rewards": "catalogues",
}
"""Each command with its module in this folder, which is imported only when the command runs.

The function in it has the command's name, unless another one follows a colon.
"""
