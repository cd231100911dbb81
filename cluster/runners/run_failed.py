"""The error of a search that has failed, for callers in Python."""

from collections.abc import Sequence
from typing import Any


class RunFailed(RuntimeError):
    """A search has failed; the message says why, and what goes on with it.

    Attributes:
        results: of an evaluation that has failed, what is known of its architectures; empty for a search.
    """

    def __init__(self, message: str, results: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(message)
        self.results = list(results)
