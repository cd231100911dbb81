"""What is known of a task before it is loaded, and what its module offers. Standard library only."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, get_args

from child_trainer.architectures.architecture import Kind
from child_trainer.no_options import NoOptions
from child_trainer.outcome import Budget, Measure
from child_trainer.regime import IMAGES_ONLY
from child_trainer.training.task import Task, TaskError

if TYPE_CHECKING:
    from child_trainer.training.image_classifier import Images

Family = Literal["images", "language", "table", "function"]
"""How a task judges: it trains on images or on text, looks the answer up, or computes it."""

FAMILY_COSTS: Mapping[Family, tuple[str, ...]] = MappingProxyType(
    {
        "images": ("parameters", "flops", "seconds", "latency"),
        "language": ("parameters", "flops", "seconds"),
        "table": ("parameters", "seconds"),
        "function": ("parameters", "flops", "seconds"),
    }
)
"""The costs that children of a task have, by names of `controller.objectives`, unless its entry says otherwise."""

IMAGE_BUDGET = Budget(epochs=3)
TEXT_BUDGET = Budget(epochs=3, batch_size=20, learning_rate=1.0, weight_decay=0.0, momentum=0.0)
"""The usual budgets of children trained by hand: on text as Zaremba et al. 2014 train, with plain SGD."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageProblem:
    """What the images of a task are like.

    Attributes:
        shape: channels, height and width of an image.
        classes: the number of classes.
    """

    shape: tuple[int, int, int]
    classes: int

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The shape, as networks are built for it."""
        return self.shape

    @property
    def num_classes(self) -> int:
        """The classes, as networks are built for them."""
        return self.classes


class TaskModule(Protocol):
    """The functions that each task's module offers.

    It may also have `load_test`, as `LoadTest` describes, and `describe(data, options)`, which returns a sentence about
    the data for the start of a search.
    """

    def check(self, name: str, data: Path | None, options: Any, *, download: bool) -> None:
        """Make sure that `load` will succeed, and fetch missing data first if `download`.

        Raises:
            TaskError: the data is missing or corrupt or cannot be downloaded, or an option does not fit it.
        """
        ...

    def load(self, name: str, data: Path | None, options: Any, *, seed: int, device: str) -> Task:
        """Return the task, its data on the device.

        Raises:
            TaskError: as `check` does.
        """
        ...


class LoadTest(Protocol):
    """Loads the test images of a task."""

    def __call__(self, name: str, data: Path | None, options: Any, *, device: str) -> Images:
        """Return the test images, on the device.

        Raises:
            TaskError: the data is missing or corrupt.
        """
        ...


def never(options: Any) -> bool:
    """Return False for any options."""
    return False


def never_uses(options: Any, path: str) -> bool:
    """Return False for any options and any file."""
    return False


def always(options: Any) -> bool:
    """Return True for any options."""
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskEntry:
    """A row of the task catalogue.

    Attributes:
        summary: the task in one line, for people.
        family: how it judges.
        kinds: the kinds of architecture that it can judge.
        measure: what its metric is.
        module: the module that checks and loads it (`TaskModule`), imported when needed.
        spaces: the search spaces that it can judge, by name; `None`: any space of its kinds.
        space_options: the values that options of such a space must have, by name.
        usual: the budget of a child trained by hand, unless the user gives another.
        options: the class of the task's own options, a frozen dataclass whose fields all have defaults.
        usual_options: the options of a child trained by hand, likewise; `None`: the defaults.
        problem: what the images are like, for image tasks.
        examples: the images, or the words of the text, of an epoch on all training data; `None`: unknown.
        trains: it builds and trains networks, for which a process needs PyTorch, memory and perhaps a GPU.
        instant: whether, with these options, a child takes no time and cannot fail.
        epochs: the only number of epochs that it can answer for, on all training data; `None`: any budget.
        ignores: the settings of a regime that its training does not have.
        class_names: what the classes are called, the first one first; empty if that is not known.
        preparation: how a file of people becomes an image of the task, a sentence; empty if it reads none.
        licence: of the data, for who passes a trained network on.
        completed: returns the options with what follows from the data in a folder, without reading much of it; raises
            `TaskError` if that is unknown. `None`: they are complete.
        files: returns the size in bytes of each file that its complete options mean, by its path in the folder of the
            data; raises `TaskError` if a folder cannot be read. `None`: its runs need not know their data again.
        uses: whether a file is one of these, by its path; needed with `files`.
        describes: returns this row with what its complete options tell of the data; `None`: nothing more.
        costs: the costs that its children have beside the metric, by name; `None`: those of `FAMILY_COSTS`.
    """

    summary: str
    family: Family
    kinds: tuple[Kind, ...]
    measure: Measure
    module: str
    spaces: tuple[str, ...] | None = None
    space_options: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    usual: Budget = IMAGE_BUDGET
    options: type = NoOptions
    usual_options: Any = None
    problem: ImageProblem | None = None
    examples: int | None = None
    trains: bool = True
    instant: Callable[[Any], bool] = never
    epochs: int | None = None
    ignores: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    preparation: str = ""
    licence: str = ""
    completed: Callable[[Any, Path | None], Any] | None = None
    files: Callable[[Any, Path], Mapping[str, int]] | None = None
    uses: Callable[[Any, str], bool] = never_uses
    describes: Callable[[TaskEntry, Any], TaskEntry] | None = None
    costs: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name, right, is_right in (
            ("family", f"one of {', '.join(FAMILY_COSTS)}", self.family in FAMILY_COSTS),
            (
                "kinds",
                f"a tuple of {', '.join(get_args(Kind))}",
                isinstance(self.kinds, tuple) and bool(self.kinds) and set(self.kinds) <= set(get_args(Kind)),
            ),
            ("measure", "a Measure, such as Measure.ACCURACY", isinstance(self.measure, Measure)),
            ("module", "a module's name, such as __name__", isinstance(self.module, str)),
            ("problem", "an ImageProblem", isinstance(self.problem, ImageProblem | None)),
            ("instant", "a function of the options", callable(self.instant)),
        ):
            if not is_right:
                raise TaskError(f"`{name}` of a task must be {right}, got {getattr(self, name)!r}")
        if self.usual_options is None:
            object.__setattr__(self, "usual_options", self.options())

    def with_options(self, options: Any) -> TaskEntry:
        """Return the row with what options of the task tell of its data."""
        return self if self.describes is None or options is None else self.describes(self, options)

    def functions(self) -> TaskModule:
        """Import the task's module."""
        return cast(TaskModule, importlib.import_module(self.module))

    def load_test(self) -> LoadTest | None:
        """Return the function that loads the test images, or `None` if the task has none."""
        return getattr(self.functions(), "load_test", None)

    def costs_with(self, options: Any) -> tuple[str, ...]:
        """Return the costs that children have with these options of the task, by name.

        The latency of a table is that of the option `latency_device`, where it has such an option; that of images is
        measured, for which the entry must say what they are like.
        """
        named = self.costs if self.costs is not None else FAMILY_COSTS[self.family]
        has_latency = getattr(options, "latency_device", "any") is not None
        if self.family == "images" and self.problem is None:
            has_latency = False
        return tuple(name for name in named if name != "latency" or has_latency)

    def check_options(self, name: str, options: Any) -> None:
        """Raise `TaskError` if these are not options of this task, which has the given name."""
        if not isinstance(options, self.options):
            raise TaskError(f"the options of the task {name!r} must be {self.options.__name__}(...), got {options!r}")

    def check_budget(self, budget: Budget) -> None:
        """Raise `ValueError` if the task cannot answer for this budget."""
        if self.epochs not in (None, budget.epochs):
            raise ValueError(f"`epochs` must be {self.epochs}, which is all that this table has, got {budget.epochs}")
        if self.epochs is not None and budget.train_fraction != 1:
            raise ValueError(
                "`train_fraction` must be 1, as this table has trainings on all of the training data only, got"
                f" {budget.train_fraction}"
            )
        others = [name for name in budget.regime.changes() if name in IMAGES_ONLY]
        if self.family == "language" and others:
            raise ValueError(f"`{others[0]}` is for images only, and this task trains language models: leave it out")
        if ignored := [name for name in budget.regime.changes() if name in self.ignores]:
            raise ValueError(f"`{ignored[0]}` is not for this task, whose training has no such thing: leave it out")
        if self.problem is not None and budget.regime.cutout >= (side := min(self.problem.shape[1:])):
            raise ValueError(
                f"`cutout` must be below {side}, the side of the task's images, got {budget.regime.cutout}"
            )

    def check_space(self, name: str, space: str, options: Mapping[str, object]) -> None:
        """Raise `ValueError` if the task cannot judge the networks of a search space.

        Args:
            name: the task's.
            space: the space's name.
            options: the space's options.
        """
        side = self.problem.shape[1] if self.problem is not None else None
        if side is not None and options.get("image_size", side) != side:
            raise ValueError(
                f"`image_size` of the space {space!r} must be {side}, the side of the images of the task {name!r}, got"
                f" {options['image_size']}"
            )
        if self.spaces is None:
            return
        if space in self.spaces and all(options.get(option) == value for option, value in self.space_options.items()):
            return
        if not self.space_options:
            raise ValueError(
                f"the task {name!r} is for networks of the space {' or '.join(map(repr, self.spaces))} only, got the"
                f" space {space!r}"
            )
        raise ValueError(
            f"the task {name!r} knows networks of its own space only: use the space"
            f" {' or '.join(map(repr, self.spaces))} and leave its options as they are, got {space!r} with"
            f" {', '.join(f'{option} {value}' for option, value in options.items())}"
        )
