"""How ENAS's controller makes each decision of a space (spec §6.1, §6.2). Standard library only."""

import itertools
from dataclasses import dataclass
from functools import lru_cache

from controller.decisions import Choice, Decisions, Subset


@dataclass(frozen=True, slots=True)
class Step:
    """How one decision is made.

    Attributes:
        softmax: the name of the softmax that makes it; `None`: attention over anchors does.
        opens: how many anchors a new cell begins with, before this decision; 0: no cell begins.
        closes: whether a node of the cell is complete after it, and becomes an anchor.
        first_cell: whether no second cell has begun.
    """

    softmax: str | None
    opens: int
    closes: bool
    first_cell: bool


def check_makeable(decisions: Decisions) -> None:
    """Raise `ValueError` if ENAS's controller cannot make one of the decisions."""
    layers = 0
    for decision in decisions:
        if isinstance(decision, Subset):
            if decision.count != layers:
                raise ValueError(f"ENAS's controller chooses among all {layers} earlier layers: {decision}")
            layers += 1
        elif not isinstance(decision, Choice) or decision.when is not None or decision.allowed is not None:
            kind = "choices that depend on earlier ones" if isinstance(decision, Choice) else "pointers"
            raise ValueError(f"ENAS's controller makes choices and chooses skips, and cannot make {kind}: {decision}")


@lru_cache(maxsize=64)
def plan_of(decisions: Decisions) -> tuple[Step, ...]:
    """Return how each decision is made."""
    of_states = _choices_of_states(decisions)
    softmaxes: dict[tuple[int | float | str, ...], str] = {}
    steps: list[Step] = []
    anchors, begun, in_node = 0, 0, False
    for decision, after in zip(decisions, [*decisions[1:], None], strict=True):
        if not isinstance(decision, Choice):
            steps.append(Step(softmax=None, opens=0, closes=False, first_cell=True))
            continue
        opens, softmax = 0, None
        if decision.kind in of_states:
            in_node = True
            if len(decision.options) != anchors:
                opens = anchors = len(decision.options)
                begun += 1
        else:
            softmax = softmaxes.setdefault(decision.options, decision.name)
        closes = in_node and not (isinstance(after, Choice) and after.place == decision.place)
        if closes:
            anchors, in_node = anchors + 1, False
        steps.append(Step(softmax=softmax, opens=opens, closes=closes, first_cell=begun <= 1))
    return tuple(steps)


def _choices_of_states(decisions: Decisions) -> set[str]:
    """Return the kinds of choices that have, at each later place, the same options and one more."""
    places: dict[str, list[tuple[int | float | str, ...]]] = {}
    for decision in decisions:
        if isinstance(decision, Choice):
            places.setdefault(decision.kind, []).append(decision.options)

    def grow(options: list[tuple[int | float | str, ...]]) -> bool:
        return len(options) > 1 and all(later[:-1] == earlier for earlier, later in itertools.pairwise(options))

    return {kind for kind, options in places.items() if grow(options)}
