"""What the searchers whose children share weights need of a space."""

from typing import Protocol

from controller.space import HasSupernet, SearchSpace
from controller.spaces.checks import space_words


class SupernetSpace(SearchSpace, HasSupernet, Protocol):
    """A search space with a supernet."""


def check_supernet(space: SearchSpace, searcher: str) -> SupernetSpace:
    """Return the space, which must have a supernet.

    Raises:
        ValueError: it has none.
    """
    if not isinstance(space, HasSupernet):
        raise ValueError(
            f"the searcher {searcher!r} trains one supernet whose paths are the space's architectures, and"
            f" {space_words(space)} has none; `nascluster spaces` lists those that have"
        )
    return space  # pyright: ignore[reportReturnType]  (it is both)
