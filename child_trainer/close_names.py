"""Suggests the name that a user may have meant. Standard library only."""

import difflib
from collections.abc import Iterable


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message that suggests a close name, such as `; did you mean 'digits'?`; or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
