"""What children are trained on: the task, its data, and the task's own options."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from child_trainer import own_files
from child_trainer.field_types import check_types, hints_of
from child_trainer.language_options import CLIP_NORM
from child_trainer.tasks.catalogue import find_task
from child_trainer.tasks.entry import TaskEntry
from child_trainer.tasks.file_list import difference, unpacked
from child_trainer.tasks.synthetic_options import SyntheticOptions
from child_trainer.training.task import TaskError
from cluster.config.locations import is_url, local_folder
from cluster.config.plain_data import Known, default_options, known, known_values, plain, unknown_part


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What children are trained on.

    Raises:
        ValueError: the task is unknown, or the options are of another task.
    """

    task: str = "digits"
    """Data, loss, metric and preprocessing; `nascluster tasks` lists them. Task `synthetic` trains nothing and scores
    the architecture itself; `nasbench201` looks it up in the benchmark's table."""
    data: str | Path | None = None
    """Folder with the data, or its URL; every node must have the folder. Images are in torchvision's layout, those of
    image-folder in train/ with a folder for each class, texts are train.txt, valid.txt and test.txt, table-file is a
    CSV or JSON file. From a URL (s3://...) each node fetches one copy. Tasks digits, text and synthetic need none."""
    download: bool = False
    """Download the data into the folder if missing."""
    options: Any = None
    """Options of the task itself"""
    all_training: Annotated[bool, tyro.conf.Suppress] = False
    """Whether children train on the validation data, too, as after a search: their metric says nothing then."""
    files: Annotated[Mapping[str, str], tyro.conf.Suppress] = field(default_factory=dict, hash=False)
    """The text of the user's own file that the task is in, if it is in one, by the file's name as it was typed."""

    file_list: Annotated[str, tyro.conf.Suppress] = field(default="", compare=False)
    """The files of the data and their sizes when the run was made (`file_list.packed`); empty: they are not known."""

    def __post_init__(self) -> None:
        check_types(self)
        own = [own_files.file_of(self.task)] if own_files.is_own(self.task) else []
        with self.own_file():
            object.__setattr__(self, "files", {file: own_files.text_of(file) for file in own})
        entry = self.entry
        if self.options is None:
            object.__setattr__(self, "options", default_options(entry.options, self.task))
        entry.check_options(self.task, self.options)
        if entry.completed is not None:
            with suppress(ValueError):  # `check_complete` raises it: a default is made before its data is known
                object.__setattr__(self, "options", self._completed(entry))

    def check_complete(self) -> None:
        """Raise `ValueError` if the options lack what follows from the data, and that is unknown."""
        entry = self.entry
        if entry.completed is not None:
            self._completed(entry)

    def _completed(self, entry: TaskEntry) -> Any:
        assert entry.completed is not None
        if self.data is None or not is_url(str(self.data)):
            return entry.completed(self.options, None if self.data is None else local_folder(self.data))
        try:
            return entry.completed(self.options, None)
        except TaskError as error:
            raise TaskError(
                f"the classes of images at a URL must be given, such as `--classes cat dog`, with `--data` {self.data}"
            ) from error

    def check_files(self, folder: Path | None) -> None:
        """Check that a folder has the files of the data that the run was made with.

        Files of test/ count only if there were some: no search needs any, and they may be added for a test at its end.

        Args:
            folder: the data on this node.

        Raises:
            TaskError: files are missing, new or of another size, or the folder cannot be read.
        """
        list_files = self.entry.files
        if not self.file_list or list_files is None or folder is None:
            return
        recorded, there = unpacked(self.file_list), list_files(self.options, folder)
        parts = {name.partition("/")[0] for name in recorded}
        there = {name: size for name, size in there.items() if name.partition("/")[0] in parts}
        if found := difference(recorded, there):
            raise TaskError(
                f"{folder} has not the files that the run was made with, so that other images would validate: {found};"
                " restore them, or launch a run of its own"
            )

    def own_file(self) -> AbstractContextManager[None]:
        """Load a task in a file of the user's own from the text that the file had when the options were made."""
        return own_files.using(self.files)

    def __reduce__(self) -> tuple[Any, ...]:
        # A process that has not loaded the user's own file yet could not find the class of the options.
        return _unpickled, (plain(asdict(self)), dict(self.files))

    @property
    def entry(self) -> TaskEntry:
        """The task's row of the catalogue, or of the user's own file, with what the options tell of the data."""
        with self.own_file():
            return find_task(self.task).with_options(self.options)

    @property
    def faults(self) -> Mapping[str, float]:
        """The faults that children simulate, with their probabilities."""
        return self.options.faults if isinstance(self.options, SyntheticOptions) else {}

    @property
    def instant(self) -> bool:
        """Whether a child takes no time and cannot fail."""
        return self.entry.instant(self.options)


def _unpickled(data: dict[str, Any], texts: dict[str, str]) -> TaskOptions:
    with own_files.using(texts):
        return known_task(data).value


FORMER_OPTIONS = ("child_seconds", "child_spread", "child_faults", "language")
"""Fields of version 4 of the run folder, which held the options of every task."""

STAND_IN = "synthetic"
"""The task that stands for one that this version does not know."""


def known_task(data: Any) -> Known:
    """Return the options that `RunConfig.to_json` wrote, in any version, as far as this version knows them.

    Up to version 4 of the run folder, a file held the options of every task: `child_seconds`, `child_spread` and
    `child_faults` next to the task's name, and those of language models under `language`. The options of other
    tasks are ignored.
    """
    if not isinstance(data, Mapping):
        return Known(TaskOptions(task=STAND_IN), known_values(TaskOptions, data, "task").unknown)
    own = {name: value for name, value in data.items() if name not in ("options", *FORMER_OPTIONS)}
    values, unknown = known_values(TaskOptions, own, "task")
    name = values.setdefault("task", STAND_IN if "task" in data else TaskOptions.task)
    try:
        kind = find_task(name).options
        options, clauses = _known_options(kind, data, checked=not own_files.is_own(name))
    except ValueError as error:
        return Known(TaskOptions(**{**values, "task": STAND_IN}), (*unknown, unknown_part("task", name, error)))
    return Known(TaskOptions(**values, options=options), unknown + clauses)


def with_former_regime(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a run's configuration with what earlier versions kept among the options of language models.

    Args:
        data: as `RunConfig.to_json` of this version or an earlier one wrote it.
    """
    task, budget = data.get("task"), data.get("budget", {})
    if not isinstance(task, Mapping) or not isinstance(budget, Mapping) or "regime" in budget:
        return data
    place = "options" if "options" in task else "language"
    options = task.get(place)
    if not isinstance(options, Mapping) or "clip_norm" not in options:
        return data
    others = {name: value for name, value in options.items() if name != "clip_norm"}
    moved = {**data, "task": {**task, place: others}}
    if options["clip_norm"] == CLIP_NORM or not _is_language(task.get("task")):
        return moved
    return {**moved, "budget": {**budget, "regime": {"clip_norm": options["clip_norm"]}}}


def _is_language(task: object) -> bool:
    try:
        return find_task(str(task)).family == "language"
    except ValueError:
        return False


def _known_options(kind: type, data: Mapping[str, Any], *, checked: bool) -> Known:
    if "options" in data:
        return known(kind, data["options"], "task.options", checked=checked)
    language = data.get("language", {})
    former = {**data, **language} if isinstance(language, Mapping) else data
    return known(kind, {name: former[name] for name in hints_of(kind) if name in former}, "task", checked=checked)
