"""`SharedCalls`: callers that wait at the same time share one call."""

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from ps.errors import StoreError, StoreUnavailable

_Member = TypeVar("_Member")
_Result = TypeVar("_Result")


class _Group(Generic[_Member, _Result]):
    """The callers that wait for one call, of which the first makes it."""

    def __init__(self) -> None:
        self.members: list[_Member] = []
        self.results: Sequence[_Result] = ()
        self.error: StoreError = StoreUnavailable("the thread that made the call for this one has ended")
        self.answered = threading.Event()


class _Turn:
    """Lets the callers of one kind make their calls one after another."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.waiting = 0  # those that make a call or wait to


class SharedCalls(Generic[_Member, _Result]):
    """Makes one call of a kind at a time; those who want to make it meanwhile share the next one.

    So a call begins after everybody who shares it has asked for it: nobody gets an older answer than from a call of
    their own. A caller that is alone waits for nothing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gathering: dict[Hashable, _Group[_Member, _Result]] = {}
        self._turns: dict[Hashable, _Turn] = {}

    def call(self, kind: Hashable, member: _Member, make: Callable[[Sequence[_Member]], Sequence[_Result]]) -> _Result:
        """Return this member's result of a call that it makes itself, or that another of its kind makes for it.

        Args:
            kind: calls of different kinds are not shared, and do not wait for each other.
            member: the caller, which is passed to `make`.
            make: makes the call, and returns the result of each member.

        Raises:
            StoreError: the call's error, one object for each member.
        """
        with self._lock:
            group = self._gathering.get(kind)
            leads = group is None
            if group is None:
                group = self._gathering[kind] = _Group()
            number = len(group.members)
            group.members.append(member)
            turn = self._turns.setdefault(kind, _Turn())
            turn.waiting += leads
        if not leads:
            group.answered.wait()
            if group.results:
                return group.results[number]
            raise type(group.error)(*group.error.args) from group.error
        try:
            with turn.lock:
                with self._lock:
                    del self._gathering[kind]
                group.results = make(group.members)
        except StoreError as error:
            group.error = error
            raise
        finally:
            group.answered.set()
            with self._lock:
                turn.waiting -= 1
                if not turn.waiting:  # there may be endlessly many kinds
                    del self._turns[kind]
        return group.results[number]
