"""The options of a part that has none. Standard library only."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """The options of a part without options."""
