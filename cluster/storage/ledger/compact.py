"""Outcomes and the keys of attempts as the ledger stores them: without what their rows say already.

A ledger of a million children is read and written as a whole, so that each byte of a child counts. Standard library
only.
"""

import json
import math
import re
import sqlite3
from typing import Any

from child_trainer.outcome import Measure, Outcome

OUTCOME_COLUMNS = "outcome, seed, seconds, parameters, flops, metric"
"""Of a child, what `whole_outcome` and `outcome_of` take."""

_USUAL: dict[str, Any] = {"failure": None, "gpu_bytes": None, "measure": str(Measure.ACCURACY), "processor": None}
"""What an outcome's text leaves out where it has these values."""

_HEX = re.compile(r"(?:[0-9a-f]{2})+")


def outcome_text(outcome: Outcome) -> str:
    """Return an outcome as JSON, without what is as usual; `outcome_from` returns an equal one."""
    return _text(_without(outcome.to_json(), _USUAL))


def outcome_from(text: str) -> Outcome:
    """Return what `outcome_text` of any version wrote."""
    return Outcome.from_json(_USUAL | json.loads(text))


def equal_outcomes(one: Outcome | None, other: Outcome | None) -> bool:
    """Return whether two outcomes are equal, NaN in both included."""
    return one == other or (one is not None and other is not None and outcome_text(one) == outcome_text(other))


def child_text(outcome: Outcome, seed: int) -> str:
    """Return the outcome of a child with this seed as JSON, without what other columns of its row have."""
    values = (seed, outcome.seconds, outcome.parameters, outcome.flops, outcome.metric)
    return _text(_without(outcome.to_json(), _USUAL | _said_by(*values)))


def whole_outcome(text: str, *columns: Any) -> dict[str, Any]:
    """Return a child's outcome as `Outcome.to_json` gives it; the arguments are those of `OUTCOME_COLUMNS`.

    What the text itself says is taken before the columns: earlier versions wrote all of it.
    """
    return _said_by(*columns) | _USUAL | json.loads(text)


def outcome_of(text: str | None, *columns: Any) -> Outcome | None:
    """Return a child's outcome; the arguments are those of `OUTCOME_COLUMNS`. `None` if it has not ended."""
    if not text:
        return None
    if text == "{}":
        seed, seconds, parameters, flops, metric = columns
        return Outcome(curve=(metric,), seconds=seconds, parameters=parameters, flops=flops, seed=seed)
    return Outcome.from_json(whole_outcome(text, *columns))


def stored_key(child_id: int, number: int, key: str | None) -> str | bytes | None:
    """Return an attempt's key as its row has it: `None` where it follows from the child and the attempt's number."""
    if key is None or key == usual_key(child_id, number):
        return None
    return packed_key(key)


def usual_key(child_id: int, number: int) -> str:
    """Return the key of attempts that one process makes one after another."""
    return f"{child_id}-{number}"


def packed_key(key: str) -> str | bytes:
    """Return hexadecimal digits as bytes, and any other key as it is."""
    return bytes.fromhex(key) if _HEX.fullmatch(key) else key


def key_of(child_id: int, number: int, stored: str | bytes | None) -> str:
    """Return what `stored_key` was given."""
    if stored is None:
        return usual_key(child_id, number)
    return stored.hex() if isinstance(stored, bytes) else stored


def define_functions(db: sqlite3.Connection) -> None:
    """Give the connection what the migration to version 8 calls."""
    db.create_function("shortened", -1, _shortened, deterministic=True)


def _shortened(text: str | None, *columns: Any) -> str | None:
    """Return the text of an outcome that an earlier version wrote as this one writes it: of a child with its columns.

    What is no outcome stays as it is.
    """
    try:
        data = json.loads(text or "")
        return _text(_without(data, _USUAL | (_said_by(*columns) if columns else {})))
    except (ValueError, TypeError, AttributeError):
        return text


def _said_by(
    seed: int, seconds: float, parameters: int | None, flops: int | None, metric: float | None
) -> dict[str, Any]:
    """Return what a child's columns say of its outcome."""
    values = {"curve": [metric], "seconds": seconds, "parameters": parameters, "flops": flops, "seed": seed}
    if metric is None or math.isnan(metric):  # no column has NaN
        del values["curve"]
    return values


def _without(data: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name not in known or value != known[name]}


def _text(data: dict[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":"))
