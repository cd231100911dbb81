"""States that searchers derive from the history."""

import pytest

from controller.searcher import ChildRecord
from controller.searchers.history_state import HistoryState


class Seen(HistoryState):
    """The ids of the children, up to one that cannot be added yet."""

    def __init__(self) -> None:
        self.fails_at = 0
        super().__init__()

    def _begin(self) -> None:
        self.ids: list[int] = []

    def _add(self, child: ChildRecord) -> None:
        if child.id == self.fails_at:
            raise KeyboardInterrupt
        self.ids.append(child.id)


def test_after_an_interrupted_addition_no_child_is_added_twice_or_left_out() -> None:
    history = [ChildRecord(id=number, tokens=(0,), architecture_id="") for number in range(1, 6)]
    seen = Seen()
    seen.follow(history[:2])
    seen.fails_at = 4
    with pytest.raises(KeyboardInterrupt):
        seen.follow(history)
    seen.fails_at = 0
    seen.follow(history[:3])
    assert seen.ids == [1, 2, 3]
    seen.follow(history)
    assert seen.ids == [1, 2, 3, 4, 5]
