"""The names of a run's objects. Each start of a run has its own names, and no name is used twice.

| name | content |
|---|---|
| `config.json` | the configuration |
| `starts/000004.json` | the driver's lease of start 4, rewritten at each heartbeat (`driver_lease.py`) |
| `ledger/000004/00000000.base.sqlite.gz` | the whole ledger at the beginning of start 4 (`ledger_segments.py`) |
| `ledger/000004/00000007.sqlite.gz` | the rows that changed since |
| `shards/000004/00000007/shard-003.safetensors` | a file, read before segment 7; so `weights/` and `checkpoints/` |
| `child-weights/000004/00000007/child-...` | a child's weights, read after segment 7, which has the child's outcome |
| `logs/000004.log` | the run's log (`run.log`) of start 4, rewritten as it grows |
| `outputs/00012/12345-2.log` | the output of the second attempt at child 12,345 |
| `starts/stop.json` | a request to stop the run |
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.pool.output_files import OUTPUTS

CONFIG = "config.json"
STOP = "starts/stop.json"
STARTS = "starts"
LEDGER = "ledger"
SHARDS = "shards"
WEIGHTS = "weights"
CHECKPOINTS = "checkpoints"
CHILD_WEIGHTS = "child-weights"
LOGS = "logs"

_SEGMENT = re.compile(rf"{LEDGER}/(\d{{6,}})/(\d{{8,}})(\.base)?\.sqlite\.gz")
_FILE = re.compile(rf"({SHARDS}|{WEIGHTS}|{CHECKPOINTS}|{CHILD_WEIGHTS})/(\d{{6,}})/(\d{{8,}})/([^/]+)")
_LOG = re.compile(rf"{LOGS}/\d{{6,}}\.log")
_START = re.compile(rf"{STARTS}/(\d{{6,}})\.json")
_OUTPUT = re.compile(rf"{OUTPUTS}/\d{{5,}}/[^/]+")


@dataclass(frozen=True, order=True, slots=True)
class SegmentName:
    """A segment of the ledger: its start, its number, and whether it holds the whole ledger."""

    start: int
    number: int
    is_base: bool

    def __str__(self) -> str:
        return f"{LEDGER}/{self.start:06d}/{self.number:08d}{'.base' if self.is_base else ''}.sqlite.gz"


@dataclass(frozen=True, order=True, slots=True)
class FileName:
    """A copy of a file: its start, the number of the segment that was read after it, its folder and name."""

    start: int
    number: int
    folder: str
    file: str

    def __str__(self) -> str:
        return f"{self.folder}/{self.start:06d}/{self.number:08d}/{self.file}"


def start_name(start: int) -> str:
    """Return the name of the lease of a start."""
    return f"{STARTS}/{start:06d}.json"


def log_name(start: int) -> str:
    """Return the name of the log of a start."""
    return f"{LOGS}/{start:06d}.log"


def newest_log(names: Iterable[str]) -> str | None:
    """Return the name of the log of the last start that has one."""
    return max((name for name in names if _LOG.fullmatch(name)), default=None)


def starts(names: Iterable[str]) -> list[int]:
    """Return the numbers of the starts among the names, sorted."""
    return sorted(int(match[1]) for match in map(_START.fullmatch, names) if match)


def segments(names: Iterable[str]) -> list[SegmentName]:
    """Return the segments among the names, sorted."""
    matches = (match for match in map(_SEGMENT.fullmatch, names) if match)
    return sorted(SegmentName(int(match[1]), int(match[2]), bool(match[3])) for match in matches)


def files(names: Iterable[str]) -> list[FileName]:
    """Return the copies of files among the names, oldest first."""
    matches = (match for match in map(_FILE.fullmatch, names) if match)
    return sorted(FileName(int(match[2]), int(match[3]), match[1], match[4]) for match in matches)


def older(names: Iterable[str], start: int) -> list[str]:
    """Return the names that belong to starts before this one."""
    names = list(names)
    kept = [*segments(names), *files(names)]
    return [str(name) for name in kept if name.start < start] + [start_name(n) for n in starts(names) if n < start]


def known(names: Iterable[str]) -> list[str]:
    """Return the names that are a run's."""
    patterns = (_SEGMENT, _FILE, _LOG, _START, _OUTPUT)
    return [name for name in names if name in (CONFIG, STOP) or any(kind.fullmatch(name) for kind in patterns)]


def is_of_run(names: Iterable[str]) -> bool:
    """Return whether there are objects that only a run has: a driver's lease, or a segment of a ledger."""
    return any(_START.fullmatch(name) or _SEGMENT.fullmatch(name) for name in names)
