"""Which children nobody can have attempted, so that the ledger need not be asked. Standard library only."""

MAX_NEW = 20_000
"""How many of the newest children are remembered as no longer new: more than can be in training."""


class NewChildren:
    """Tells which children nobody can have attempted: those sampled since this pool started that it gets anew.

    It remembers the newest of them only; of any other child the ledger is asked for its attempts.

    Args:
        last: the child that had been sampled last when the pool started; there is no other pool since then.
    """

    def __init__(self, last: int) -> None:
        self._last = last
        self._taken: set[int] = set()

    def take(self, child_id: int) -> bool:
        """Return whether the child is one of them, which it is once."""
        if child_id <= self._last or child_id in self._taken:
            return False
        self._taken.add(child_id)
        if len(self._taken) > MAX_NEW:
            self._last = sorted(self._taken)[MAX_NEW // 2]
            self._taken = {taken for taken in self._taken if taken > self._last}
        return True
