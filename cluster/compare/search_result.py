"""The result of one search of a comparison, and the folder of a searcher's results. Standard library only."""

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

RESULTS_FOLDER = "searches"


class ResultError(ValueError):
    """A stored result cannot be read or written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """The result of one search: columns with one entry per child within the budget, in order of completion.

    Attributes:
        seed: seed of the search.
        architectures: ids of the architectures.
        metrics: validation metrics; `None` for a failed child.
        rewards: rewards from which the searcher learnt.
        seconds: cost of each child.
        tests: test metrics, which no searcher sees; `None` where unknown.
        points: metric and costs, of which lower is better, see `table_front.point`; none of searches by metric alone.
    """

    seed: int
    architectures: tuple[str, ...]
    metrics: tuple[float | None, ...]
    rewards: tuple[float, ...]
    seconds: tuple[float, ...]
    tests: tuple[float | None, ...]
    points: tuple[tuple[float, ...] | None, ...] = ()

    def within(self, limit: Limit) -> "SearchResult":
        """Return the result of the children within the budget."""
        count = len(self.metrics) if limit.children is None else min(limit.children, len(self.metrics))
        if limit.seconds is not None:
            count = num_within(self.seconds, limit.seconds)
        return SearchResult(
            seed=self.seed,
            architectures=self.architectures[:count],
            metrics=self.metrics[:count],
            rewards=self.rewards[:count],
            seconds=self.seconds[:count],
            tests=self.tests[:count],
            points=self.points[:count],
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data from which `from_json` makes an equal result."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "SearchResult":
        """Read what `to_json` wrote.

        Raises:
            ValueError, TypeError, KeyError, AttributeError, OverflowError: the data was not written by `to_json`.
        """
        columns = {name: tuple(value) for name, value in data.items() if name != "seed"}
        columns["points"] = tuple(None if point is None else tuple(point) for point in columns["points"])
        result = cls(seed=data["seed"], **columns)
        result._check()
        return result

    def _check(self) -> None:
        checks: dict[str, Callable[[Any], bool]] = {
            "architectures": lambda value: isinstance(value, str),
            "metrics": lambda value: value is None or _is_number(value),
            "rewards": _is_number,
            "seconds": lambda value: _is_number(value) and value >= 0,
            "tests": lambda value: value is None or _is_number(value),
            "points": lambda value: value is None or (len(value) > 1 and all(map(_is_number, value))),
        }
        count = len(self.architectures)
        for name, fits in checks.items():
            column = getattr(self, name)
            if len(column) != count and not (name == "points" and not column):
                raise ValueError(f"`{name}` must have {count} entries, as `architectures` has, got {len(column)}")
            if wrong := [value for value in column if not fits(value)]:
                raise ValueError(f"`{name}` cannot have {wrong[0]!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def identity(entrant: Entrant, limit: Limit, code: Iterable[str]) -> str:
    """Return 12 hexadecimal digits that differ if a search with the same seed could have another result.

    Args:
        entrant: the searcher and its options.
        limit: budget of each search.
        code: versions of the programs that search.
    """
    config = {name: value for name, value in entrant.config.to_json().items() if name != "seed"}
    text = json.dumps([config, asdict(limit), *code], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Searches:
    """The folder of one searcher's results: one file per seed, which is complete or absent.

    Attributes:
        path: the folder.
    """

    path: Path

    def file(self, seed: int) -> Path:
        """Return the path of this seed's result."""
        return self.path / f"seed-{seed}.json"

    def write(self, result: SearchResult) -> None:
        """Write a result durably: once this returns it survives a crash of the machine.

        Raises:
            ResultError: the file cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            replace_file(self.file(result.seed), json.dumps(result.to_json()).encode(), durable=True)
        except OSError as error:
            raise ResultError(f"{self.file(result.seed)} cannot be written: {error.strerror}") from error

    def read(self, seed: int) -> SearchResult | None:
        """Return the result of this seed, or `None` if there is none.

        Raises:
            ResultError: the file cannot be read, or is damaged.
        """
        file = self.file(seed)
        try:
            result = SearchResult.from_json(json.loads(file.read_text()))
            if result.seed != seed:
                raise ValueError(f"`seed` must be {seed}, got {result.seed!r}")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ResultError(f"{file} cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError) as error:
            raise ResultError(f"{file} is damaged ({error!r}); remove it to repeat the search") from error
        return result


def searches(folder: Path, entrant: Entrant, limit: Limit, code: Iterable[str]) -> Searches:
    """Return the results folder of a searcher; it differs by budget, options and code."""
    readable = re.sub(r"[^\w.=-]+", "_", entrant.label)[:60]
    return Searches(folder / RESULTS_FOLDER / f"{readable}-{identity(entrant, limit, code)}")
