"""Runs commands in this process."""

from cluster.cli.main import run


def nascluster(*words: object) -> int:
    """Run `nascluster WORDS`, and return its exit status."""
    try:
        return run([str(word) for word in words])
    except SystemExit as stop:  # how tyro ends after --help
        return int(stop.code or 0)
