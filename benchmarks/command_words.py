"""The words behind a benchmark's name on the command line."""

import sys


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
