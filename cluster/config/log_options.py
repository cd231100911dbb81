"""What a run may be told about its log. Standard library only."""

from dataclasses import dataclass
from typing import Literal

LogFormat = Literal["text", "json"]

LogLevel = Literal["debug", "info", "warning"]


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """How a run's events are told."""

    log_format: LogFormat = "text"
    """How events are written to the run's log: a line for people, or a JSON object. With json they are printed, too,
    and nothing else is: no live table, for whoever collects the logs of containers."""
    log_level: LogLevel = "info"
    """The least that is logged: debug has every child and every push, info has failures and what befalls the run."""
