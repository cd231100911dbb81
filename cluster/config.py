"""What a run is: everything that `nascluster launch` may be told. No torch, no Ray.

Options stand beside what they configure (the space, the searcher, a child's budget); this page collects them.
"""

import math
import types
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from child_trainer.outcome import Budget
from controller.searchers.options import ReinforceOptions
from controller.spaces.convolutional import ConvolutionalSpace

T = TypeVar("T")

DEFAULT_STORAGE = "~/nascluster_runs"

MOST_PARTS = 100_000
"""More replicas, shards, children at once or workers than this are a slip of the hand."""

MOST_CHILDREN = 1_000_000_000
"""The same of children in all."""


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What children are trained on."""

    task: Literal["digits", "fashion-mnist", "cifar10", "synthetic"] = "digits"
    """Data, loss, metric and preprocessing; `synthetic` trains nothing and scores the architecture itself."""
    data: Path | None = None
    """Folder with the data in torchvision's layout; digits and synthetic need none."""
    download: bool = False
    """Download the data into the folder first if it is not there."""
    child_seconds: float = 0.0
    """Seconds that a synthetic child pretends to train for."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.child_seconds) and self.child_seconds >= 0):
            raise ValueError(f"`child_seconds` must be 0 or more, got {self.child_seconds}")


@dataclass(frozen=True, kw_only=True)
class Topology:
    """How many of each part there are. The paper: 20 shards, 100 replicas, 8 children each."""

    replicas: int = 100
    """Controller replicas (K)."""
    shards: int = 20
    """Parameter-server shards (S)."""
    children: int = 8
    """Children that a replica samples for each gradient (m)."""
    workers: int | None = None
    """Workers that train children, one at a time each; unset: as many as the GPUs or cores allow, at most K x m."""
    gpus_per_child: float | None = None
    """GPUs of a worker, fractions allowed; unset: 1 where there is a GPU, else 0."""
    accumulate: int = 1
    """Pushes that a shard averages into one step (the paper's language-model run: 10)."""

    def __post_init__(self) -> None:
        for name in ("replicas", "shards", "children", "workers", "accumulate"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= MOST_PARTS:
                limit = "at least 1" if value < 1 else f"at most {MOST_PARTS:,}"
                raise ValueError(f"`{name}` must be {limit}, got {value}")
        gpus = self.gpus_per_child
        if gpus is not None and not (0 <= gpus <= 1 or (gpus > 1 and math.isfinite(gpus) and gpus == int(gpus))):
            raise ValueError(f"`gpus_per_child` must be a fraction of one GPU or a whole number of them, got {gpus}")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One search."""

    name: str | None = None
    """The run's name, a folder below the storage path; unset: the recipe and the time."""
    storage_path: str = DEFAULT_STORAGE
    """Folder of all runs, or its URL in an object store (s3://...); the run's own folder below holds everything."""
    seed: int = 0
    """Root of all randomness."""
    local: bool = False
    """Run in this one process, without Ray."""
    max_children: int = 12_800
    """Children after which the search ends (the paper trained 12,800)."""
    searcher: Literal["reinforce", "random"] = "reinforce"
    """What decides which architectures to try."""
    space: Literal["convolutional"] = "convolutional"
    """What an architecture may be."""
    reward: Literal["cubed-accuracy", "accuracy"] = "cubed-accuracy"
    """What the searcher learns from: the best of the last five validation accuracies, cubed as in the paper, or not."""
    task: TaskOptions = field(default_factory=TaskOptions)
    """What children are trained on"""
    budget: Budget = field(default_factory=Budget)
    """What one child may use"""
    topology: Topology = field(default_factory=Topology)
    """How many of each part there are"""
    convolutional: ConvolutionalSpace = field(default_factory=ConvolutionalSpace)
    """What a convolutional architecture may be"""
    reinforce: ReinforceOptions = field(default_factory=ReinforceOptions)
    """The controller, where the searcher is reinforce"""

    def __post_init__(self) -> None:
        if not 1 <= self.max_children <= MOST_CHILDREN:
            limit = "at least 1" if self.max_children < 1 else f"at most {MOST_CHILDREN:,}"
            raise ValueError(f"`max_children` must be {limit}, got {self.max_children}")
        if self.name is not None and (not self.name or self.name[0] in ".-" or set(self.name) & set("/\\\0")):
            raise ValueError(
                f"`name` must be a folder's name without slashes or a leading dot or dash, got {self.name!r}"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`; `from_json` gives back an equal configuration."""
        return _plain(asdict(self))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "RunConfig":
        """The configuration that `to_json` wrote."""
        return _restore(cls, data)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _restore(kind: type[T], data: dict[str, Any]) -> T:
    hints = get_type_hints(kind)
    known = {f.name for f in fields(kind)}  # pyright: ignore[reportArgumentType]
    return kind(**{name: _restore_field(hints[name], value) for name, value in data.items() if name in known})


def _restore_field(hint: Any, value: Any) -> Any:
    if is_dataclass(hint) and isinstance(hint, type):
        return _restore(hint, value)
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if Path in options and value is not None:
        return Path(value)
    return tuple(value) if isinstance(value, list) else value
