"""Finds searchers, spaces and rewards: in the catalogues, or in a file of the user's own. Standard library only.

A user's own part must follow the rules of the built-in ones; an error names what it lacks before anything starts.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass, replace
from typing import Any, get_type_hints

from child_trainer import own_files
from child_trainer.field_types import shown
from child_trainer.no_options import NoOptions
from child_trainer.outcome import Measure, Outcome
from child_trainer.own_calls import failures_of, is_finite_number
from child_trainer.own_files import OwnFileError
from controller.catalogue import SEARCHERS, Figure, SearcherEntry, find_entry
from controller.reward import REWARDS, Reward
from controller.searcher import Child, Searcher, View, kept_children, passes_of, stop_reason_of
from controller.space import SearchSpace
from controller.spaces.catalogue import SPACES, SpaceEntry


def find_searcher(name: str) -> SearcherEntry:
    """Return the searcher called `name`, or the one that `FILE.py:NAME` defines.

    Raises:
        UnknownName: no built-in searcher has this name.
        OwnFileError: the file cannot be loaded, or does not define a searcher.
    """
    if not own_files.is_own(name):
        return find_entry(SEARCHERS, name, "searcher")
    made = own_files.load(name)
    if isinstance(made, SearcherEntry):
        return made
    kind = _class(name, made, "a searcher")
    _check_methods(name, kind, Searcher, "a searcher")
    figures = getattr(kind, "FIGURES", ())
    if not isinstance(figures, tuple) or not all(isinstance(figure, Figure) for figure in figures):
        raise OwnFileError(f"`FIGURES` of {name} must be a tuple of Figure, got {figures!r}")
    names = [figure.name for figure in figures]
    if twice := next((figure for figure in names if names.count(figure) > 1), None):
        raise OwnFileError(f"`FIGURES` of {name} must have each name once, got {twice!r} twice")
    parameters = _constructor(name, kind)
    if len(parameters) not in (1, 2):
        raise OwnFileError(
            f"{name} must be made of a space, or of a space and its options, got {len(parameters)} parameters"
        )
    takes_options = len(parameters) == 2
    options = parameters[1] if takes_options else NoOptions
    if not is_dataclass(options):
        raise OwnFileError(f"the options of {name} must be annotated with a dataclass of their own, got {options!r}")
    make: Callable[[SearchSpace, Any], Searcher] = kind if takes_options else lambda space, _: kind(space)
    return SearcherEntry(
        summary=_summary(kind),
        paper="",
        options=options,
        make=make,
        figures=tuple(figures),
        has_values=hasattr(kind, "option_values"),
    )


def find_space(name: str) -> SpaceEntry:
    """Return the space called `name`, or the one that `FILE.py:NAME` defines; raises as `find_searcher`."""
    if not own_files.is_own(name):
        return find_entry(SPACES, name, "space")
    made = own_files.load(name)
    if isinstance(made, SpaceEntry):
        return made
    kind = _class(name, made, "a space")
    _check_methods(name, kind, SearchSpace, "a space")
    if not is_dataclass(kind):
        raise OwnFileError(f"{name} must be a frozen dataclass, whose fields are the options of the space")
    return SpaceEntry(summary=_summary(kind), paper="", options=kind)


def find_reward(name: str) -> Reward:
    """Return the reward called `name`, or the function that `FILE.py:NAME` is; raises as `find_searcher`."""
    if not own_files.is_own(name):
        return find_entry(REWARDS, name, "reward")
    made = own_files.load(name)
    if isinstance(made, Reward):
        return replace(made, compute=_checked(name, made.compute))
    if not callable(made) or isinstance(made, type):
        raise OwnFileError(f"{name} must be a function from an Outcome to a number, got {type(made).__name__}")
    return Reward(compute=_checked(name, made), measures=tuple(Measure))


def _checked(name: str, compute: Callable[[Outcome], object]) -> Callable[[Outcome], float]:
    """Return the reward with its values checked: SQLite holds no NaN, and a searcher cannot learn from one."""

    def reward(outcome: Outcome) -> float:
        with failures_of(name, name.rpartition(":")[2]):
            value = compute(outcome)
        if not is_finite_number(value):
            raise OwnFileError(f"reward {name} must return a finite number, got {shown(value)}")
        return float(value)

    return reward


def check_reward(reward: Reward, measure: Measure) -> None:
    """Make sure that a reward of the user's own is a number.

    Raises:
        OwnFileError: it is not; the message says what it was.
    """
    reward.compute(_sample_outcome(measure))


def _sample_outcome(measure: Measure) -> Outcome:
    return Outcome(curve=(0.5,), seconds=1.0, parameters=1000, flops=1000, seed=0, measure=measure)


def check_searcher(name: str, searcher: Searcher, view: View) -> None:
    """Make sure that a searcher of the user's own proposes an architecture, and learns from it.

    Args:
        name: of the searcher, for messages.
        searcher: a new one, which is not used for anything else. It checks its answers itself.
        view: as at the start of a search.

    Raises:
        OwnFileError: it does not; the message says what it did.
    """
    passes: object = passes_of(searcher)
    if isinstance(passes, bool) or not isinstance(passes, int) or passes < 1:
        raise OwnFileError(f"{name}: `passes` must be an integer of at least 1, got {passes!r}")
    proposals = searcher.ask(1, view)
    if len(proposals) != 1:
        raise OwnFileError(f"{name}: `ask` must return 1 proposal, got {len(proposals)}")
    child = Child(id=1, proposal=proposals[0], outcome=_sample_outcome(Measure.SCORE), reward=0.5).record
    searcher.learn([child], view)
    # As a run calls them: with children, and without parameters.
    recorded = replace(view, parameters={}, completed=1, history=lambda: (child,))
    stop_reason_of(searcher, recorded)
    kept_children(searcher, recorded)


def _class(name: str, made: object, what: str) -> type:
    if not isinstance(made, type):
        raise OwnFileError(f"{name} must be a class that is {what}, got {type(made).__name__}")
    return made


def _check_methods(name: str, kind: type, protocol: type, what: str) -> None:
    lacking = [member for member in _members(protocol) if not hasattr(kind, member)]
    if lacking:
        raise OwnFileError(f"{name} is not {what}: it lacks {', '.join(f'`{member}`' for member in lacking)}")


def _members(protocol: type) -> Sequence[str]:
    """Return the names of a protocol's members."""
    return [name for name in vars(protocol) if not name.startswith("_")]


def _constructor(name: str, kind: type) -> list[Any]:
    """Return the annotations of the constructor's parameters."""
    try:
        signature, hints = inspect.signature(kind), get_type_hints(kind.__init__)
    except (ValueError, NameError, TypeError) as error:
        raise OwnFileError(f"the constructor of {name} cannot be read: {error}") from error
    return [hints.get(parameter, Any) for parameter in signature.parameters]


def _summary(kind: type) -> str:
    return (inspect.getdoc(kind) or kind.__name__).partition("\n")[0]
