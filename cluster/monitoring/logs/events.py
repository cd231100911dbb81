"""An event of a run, and its line in the log. Pure; standard library only."""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from child_trainer import portable_json

PLAIN = re.compile(r"[^\s\"=]+")
"""Matches text that needs no quotes in a line for people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """An event of a run.

    Attributes:
        time: Unix time.
        level: as in `logging`.
        event: the kind of event, always in the same few words.
        run: the run's name.
        replica, child: the replica and the child that the event is about, if it is about one.
        fields: further data, in JSON's types.
    """

    time: float
    event: str
    run: str
    level: int = logging.INFO
    replica: int | None = None
    child: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


def as_text(event: Event) -> str:
    """Return a line for people: time (UTC), level, kind of event, then `name=value` for all data."""
    known = {"run": event.run, "replica": event.replica, "child": event.child, **event.fields}
    pairs = " ".join(f"{name}={_value(value)}" for name, value in known.items() if value is not None)
    return f"{_stamp(event.time)} {logging.getLevelName(event.level):7} {event.event} {pairs}"


def as_json(event: Event) -> str:
    """Return a JSON object on one line, always with the same first names; `replica` and `child` may be null."""
    known = {
        "time": _stamp(event.time),
        "level": logging.getLevelName(event.level).lower(),
        "event": event.event,
        "run": event.run,
        "replica": event.replica,
        "child": event.child,
    }
    return portable_json.dumps({**known, **event.fields, **known})


def _stamp(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _value(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
