"""What children are trained on: the task, its data, and the task's own options."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from child_trainer import own_files
from child_trainer.language_options import CLIP_NORM
from child_trainer.tasks.catalogue import find_task
from child_trainer.tasks.entry import TaskEntry
from child_trainer.tasks.synthetic_options import SyntheticOptions
from cluster.config.locations import is_url
from cluster.config.plain_data import default_options, plain, restore


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
    """Folder with the data, or its URL; every node must have the folder. Images are in torchvision's layout, texts are
    train.txt, valid.txt and test.txt. From a URL (s3://...) each node fetches one copy. Tasks digits, text and
    synthetic need none."""
    download: bool = False
    """Download the data into the folder if missing."""
    options: Any = None
    """Options of the task itself"""
    files: Annotated[Mapping[str, str], tyro.conf.Suppress] = field(default_factory=dict, hash=False)
    """The text of the user's own file that the task is in, if it is in one, by the file's name as it was typed."""

    def __post_init__(self) -> None:
        own = [own_files.file_of(self.task)] if own_files.is_own(self.task) else []
        with self.own_file():
            object.__setattr__(self, "files", {file: own_files.text_of(file) for file in own})
        entry = self.entry
        if self.options is None:
            object.__setattr__(self, "options", default_options(entry.options, self.task))
        entry.check_options(self.task, self.options)

    def own_file(self) -> AbstractContextManager[None]:
        """Load a task in a file of the user's own from the text that the file had when the options were made."""
        return own_files.using(self.files)

    def __reduce__(self) -> tuple[Any, ...]:
        # A process that has not loaded the user's own file yet could not find the class of the options.
        return _unpickled, (plain(asdict(self)), dict(self.files))

    @property
    def entry(self) -> TaskEntry:
        """The task's row of the catalogue, or the one in the user's own file."""
        with self.own_file():
            return find_task(self.task)

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
        return task_options_from_json(data)


def task_options_from_json(data: Mapping[str, Any]) -> TaskOptions:
    """Return the options that `RunConfig.to_json` wrote, in this version or an earlier one.

    Up to version 4 of the run folder, a file held the options of every task: `child_seconds`, `child_spread` and
    `child_faults` next to the task's name, and those of language models under `language`. The options of other
    tasks are ignored.
    """
    written = data["options"] if "options" in data else {**data, **data.get("language", {})}
    name = data.get("task", TaskOptions.task)
    kind = find_task(name).options
    folder = data.get("data")
    return TaskOptions(
        task=name,
        data=folder if folder is None or is_url(folder) else Path(folder),
        download=data.get("download", False),
        options=restore(kind, written),
    )


def with_former_regime(budget: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the budget of a file with what earlier versions kept among the options of language models.

    Args:
        budget: as `RunConfig.to_json` of this version or an earlier one wrote it.
        task: the task of the same file.
    """
    clip_norm = (task.get("options") or task.get("language", {})).get("clip_norm", CLIP_NORM)
    if "regime" in budget or clip_norm == CLIP_NORM or find_task(task["task"]).family != "language":
        return dict(budget)
    return {**budget, "regime": {"clip_norm": clip_norm}}
