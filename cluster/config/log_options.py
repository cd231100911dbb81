"""The options of a run's log. Standard library only."""

from dataclasses import dataclass
from typing import Literal

from child_trainer.field_types import check_types

LogFormat = Literal["text", "json"]

LogLevel = Literal["debug", "info", "warning"]


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """How a run's events are logged, and what is recorded for a replay."""

    log_format: LogFormat = "text"
    """Format of logged events; a line of text, or a JSON object. With json the events are printed as well, and the live
    table is not, so that a collector of container logs can read the output."""
    log_level: LogLevel = "info"
    """Lowest level that is logged; debug has every child and every push, info has failures and the run's events."""
    replay_log: bool = True
    """Record what `nascluster replay` needs: the order of the pushes on the shards, and what each step saw."""

    def __post_init__(self) -> None:
        check_types(self)
