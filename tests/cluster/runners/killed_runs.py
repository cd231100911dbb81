"""A run in one process, and its folder as SIGKILL would have left it at some of its calls to the stores."""

import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ps.local import LocalStore


@contextmanager
def copying(
    place: Path, deaths: Collection[int], counts: Callable[[LocalStore], bool] = lambda store: True
) -> Iterator[list[int]]:
    """While the block lasts, copy the folder of the run `place/0/run` to `place/N/run` before the N-th pull or push.

    Args:
        place: a folder of its own.
        deaths: the calls.
        counts: says of a store whether its calls count.

    Yields:
        A list with an item for each call so far.
    """
    calls: list[int] = []

    def counting(method: Any) -> Any:
        def call(self: LocalStore, *args: Any, **kwargs: Any) -> Any:
            if counts(self):
                calls.append(1)
                if len(calls) in deaths:
                    shutil.copytree(place / "0" / "run", place / str(len(calls)) / "run")
            return method(self, *args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("pull", "push"):
            patch.setattr(LocalStore, name, counting(getattr(LocalStore, name)))
        yield calls


def copies(place: Path) -> dict[int, Path]:
    """Return the run that went undisturbed (0) and its copies, by the call before which each was made."""
    return {int(path.name): path / "run" for path in place.iterdir()}
