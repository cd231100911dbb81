"""The words behind a benchmark's name on the command line."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def words(description: str | None) -> list[str]:
    """Return the words of the command line; with `--help` or `-h` among them, print the description and exit.

    Args:
        description: the benchmark's documentation, which has its usage.
    """
    given = sys.argv[1:]
    if {"-h", "--help"} & set(given):
        print((description or "").strip())
        raise SystemExit(0)
    return given


def first_number(arguments: Sequence[str], default: int) -> int:
    """Return the first word as a number, or the default without one; exit with a sentence if it is none."""
    if not arguments:
        return default
    if not arguments[0].isdecimal():
        raise SystemExit(f"the first word must be a whole number, got {arguments[0]} (--help says what it is)")
    return int(arguments[0])


def checkout_folder(text: str) -> Path:
    """Return the root of another checkout of this repository, absolute.

    Raises:
        argparse.ArgumentTypeError: if there is none in the folder.
    """
    if not (Path(text) / "child_trainer" / "__init__.py").is_file():
        raise argparse.ArgumentTypeError(f"no checkout of this repository is in {text}: make one with git worktree add")
    return Path(text).resolve()
