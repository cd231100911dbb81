"""What searchers say of a space that they cannot search. Standard library only."""

from controller.space import SearchSpace
from controller.spaces.catalogue import SPACES


def space_words(space: SearchSpace) -> str:
    """Return what a message calls a space: by its name, or by its class where it is of the user's own file."""
    names = [name for name, entry in SPACES.items() if entry.options is type(space)]
    return f"the space {(names or [type(space).__name__])[0]!r}"


def check_decisions(space: SearchSpace, searcher: str) -> None:
    """Raise `ValueError` if the space has no decisions, for a searcher that chooses decision by decision."""
    if not space.decisions(0):
        raise ValueError(
            f"the searcher {searcher!r} chooses decision by decision, and the samples of {space_words(space)} have"
            " no fixed sequence of decisions: use another searcher, such as 'evolution'"
        )
