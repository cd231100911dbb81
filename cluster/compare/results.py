"""What one search of a comparison found, and the folder that keeps it. Standard library only."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from child_trainer.atomic_file import replace_file
from cluster.compare.plan import Entrant, Limit
from controller.statistics import num_within

PARTS_OF_A_SEARCH = "searches"


class ResultError(ValueError):
    """What a comparison keeps cannot be read or written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One search: columns with an entry for each child within the budget, in the order in which the children ended.

    Attributes:
        seed: the search's.
        architectures: their ids.
        metrics: what the searcher was told; `None` of a child that failed.
        rewards: what it learnt from.
        seconds: what each child cost.
        tests: what is told after the search only; `None` where nothing tells it.
    """

    seed: int
    architectures: tuple[str, ...]
    metrics: tuple[float | None, ...]
    rewards: tuple[float, ...]
    seconds: tuple[float, ...]
    tests: tuple[float | None, ...]

    def within(self, limit: Limit) -> "Result":
        """The part that the budget pays for."""
        count = len(self.metrics) if limit.children is None else min(limit.children, len(self.metrics))
        if limit.seconds is not None:
            count = num_within(self.seconds, limit.seconds)
        return Result(
            seed=self.seed,
            architectures=self.architectures[:count],
            metrics=self.metrics[:count],
            rewards=self.rewards[:count],
            seconds=self.seconds[:count],
            tests=self.tests[:count],
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json` gives back an equal result."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Result":
        """What `to_json` wrote.

        Raises:
            ValueError, TypeError, KeyError, AttributeError, OverflowError: this it did not write.
        """
        columns = {name: tuple(value) for name, value in data.items() if name != "seed"}
        result = cls(seed=data["seed"], **columns)
        result._check()
        return result

    def _check(self) -> None:
        fitting: dict[str, Callable[[Any], bool]] = {
            "architectures": lambda value: isinstance(value, str),
            "metrics": lambda value: value is None or _is_number(value),
            "rewards": _is_number,
            "seconds": lambda value: _is_number(value) and value >= 0,
            "tests": lambda value: value is None or _is_number(value),
        }
        count = len(self.architectures)
        for name, fits in fitting.items():
            column = getattr(self, name)
            if len(column) != count:
                raise ValueError(f"`{name}` must have {count} entries, as `architectures` has, got {len(column)}")
            if wrong := [value for value in column if not fits(value)]:
                raise ValueError(f"`{name}` cannot have {wrong[0]!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def identity(entrant: Entrant, limit: Limit, code: Iterable[str]) -> str:
    """12 hexadecimal digits that differ where a search with the same seed may find something else.

    Args:
        entrant: whose searches.
        limit: of each.
        code: versions of the programs that search.
    """
    config = {name: value for name, value in entrant.config.to_json().items() if name != "seed"}
    text = json.dumps([config, asdict(limit), *code], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Searches:
    """The results of one searcher, a file for each seed that is whole or not there.

    Attributes:
        path: their folder.
    """

    path: Path

    def file(self, seed: int) -> Path:
        """Where the result of this seed is, or will be."""
        return self.path / f"seed-{seed}.json"

    def write(self, result: Result) -> None:
        """Keep a result; once this returns it survives a crash of the machine.

        Raises:
            ResultError: it cannot be kept.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            replace_file(self.file(result.seed), json.dumps(result.to_json()).encode(), durable=True)
        except OSError as error:
            raise ResultError(f"{self.file(result.seed)} cannot be written: {error.strerror}") from error

    def read(self, seed: int) -> Result | None:
        """The result of this seed, `None` if it is not there.

        Raises:
            ResultError: the file cannot be read, or is damaged; remove it to have the search done again.
        """
        file = self.file(seed)
        try:
            result = Result.from_json(json.loads(file.read_text()))
            if result.seed != seed:
                raise ValueError(f"`seed` must be {seed}, got {result.seed!r}")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ResultError(f"{file} cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError) as error:
            raise ResultError(f"{file} is damaged ({error!r}); remove it to have the search done again") from error
        return result


def searches(folder: Path, entrant: Entrant, limit: Limit, code: Iterable[str]) -> Searches:
    """Where a comparison keeps the results of a searcher; another budget, option or code has another place."""
    readable = re.sub(r"[^\w.=-]+", "_", entrant.label)[:60]
    return Searches(folder / PARTS_OF_A_SEARCH / f"{readable}-{identity(entrant, limit, code)}")
