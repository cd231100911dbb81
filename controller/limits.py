"""Checks the numbers among the options of searchers and spaces. Standard library only."""

MAX_CELLS = 100
"""Upper bound for the cells of a stage; a network of more takes minutes to build."""


def check_number(options: object, name: str, least: int, most: int) -> None:
    """Raise `ValueError` unless the option `name` is from `least` to `most`."""
    value = getattr(options, name)
    if not least <= value <= most:
        limit = f"at least {least:,}" if value < least else f"at most {most:,}"
        raise ValueError(f"`{name}` must be {limit}, got {value:,}")
