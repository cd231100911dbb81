"""Calls of users' own code: an error in it becomes one sentence that names the part and the method."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeGuard

from child_trainer.own_files import OwnFileError


@contextmanager
def failures_of(name: str, *methods: str, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn any error of these methods of a user's own part into an `OwnFileError` that names them; chain the error.

    Those of the types `passing` are raised as they are.

    `SystemExit` is an error too: of own code, `sys.exit` must not end a run without a word. Ctrl-C is none.
    """
    try:
        yield
    except (OwnFileError, KeyboardInterrupt, *passing):
        raise
    except BaseException as error:
        raise OwnFileError(failure_text(name, error, *methods)) from error


def method_that_failed(part: object, error: BaseException) -> str:
    """Return the public method of `part` in which an error came up, the innermost one; empty if it was in none."""
    found, traceback = "", error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_locals.get("self") is part and not frame.f_code.co_name.startswith("_"):
            found = frame.f_code.co_name
        traceback = traceback.tb_next
    return found


def failure_text(name: str, error: BaseException, *methods: str) -> str:
    """Return the sentence on an error of a user's own part."""
    called = " or ".join(f"`{method}`" for method in methods)
    reason = str(error).strip().partition("\n")[0]
    return f"{name}: {called} failed: {type(error).__name__}{f': {reason}' if reason else ''}"


def is_finite_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a number that a ledger can hold: no truth value, NaN or infinity."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        return False
