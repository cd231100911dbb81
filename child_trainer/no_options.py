"""The options of a part that has none. Standard library only."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """There is nothing to set."""
