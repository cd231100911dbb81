"""The options of the task of one's own images, and its classes, which are folders. Standard library only."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from child_trainer.field_types import check_types
from child_trainer.tasks.entry import ImageProblem, TaskEntry
from child_trainer.training.task import TaskError

TASK = "image-folder"

LAYOUT = "a folder train/ with a folder of images for each class"

MAX_SIDE = 4096
"""A larger side of the images that networks see is a slip."""


@dataclass(frozen=True, kw_only=True)
class ImageFolderOptions:
    """How one's own images are read.

    Raises:
        ValueError: an option is impossible.
    """

    resize_to: int = 32
    """Height and width of the images that networks see; the square at an image's centre is resized to it."""
    greyscale: bool = False
    """Whether images are read as one channel of grey and not as three of colour."""
    oriented: bool = False
    """Whether a mirrored image is of another class or of none, as with letters; otherwise training mirrors half."""
    validation_share: float = 0.1
    """Share of the images of each class in train/ that validate and are not trained on."""
    classes: tuple[str, ...] = ()
    """The classes, which are folders of train/, in the order of the network's outputs; unset: all, by name."""

    def __post_init__(self) -> None:
        check_types(self)
        if not 1 <= self.resize_to <= MAX_SIDE:
            raise ValueError(f"`resize_to` must be 1 to {MAX_SIDE}, got {self.resize_to}")
        if not 0 < self.validation_share < 1:
            raise ValueError(f"`validation_share` must be above 0 and below 1, got {self.validation_share}")
        if self.classes and (len(set(self.classes)) < 2 or len(set(self.classes)) != len(self.classes)):
            raise ValueError(f"`classes` must be at least two different ones, got {' '.join(self.classes)}")
        if wrong := [name for name in self.classes if name in ("", ".", "..") or "/" in name]:
            raise ValueError(f"`classes` must be names of folders in train/, got {wrong[0]!r}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return (1 if self.greyscale else 3, self.resize_to, self.resize_to)


def with_classes(options: ImageFolderOptions, data: Path | None) -> ImageFolderOptions:
    """Return the options with the classes that the folder has, unless they have some; only its names are read.

    Raises:
        TaskError: there is no such folder, or it has not two classes.
    """
    if options.classes:
        return options
    train = part_of(data, "train")
    classes = class_folders(train)
    if not classes:
        others = "only files" if any(train.iterdir()) else "nothing"
        raise TaskError(f"{train} has no classes, but {others}; `--data` must be {LAYOUT}")
    if len(classes) == 1:
        raise TaskError(f"{train} has one class only, {classes[0]!r}: at least two are needed, a folder for each")
    return replace(options, classes=tuple(classes))


def part_of(data: Path | None, part: str) -> Path:
    """Return the folder of a part of the images.

    Args:
        data: the folder of all; `None`: none is given.
        part: `train` or `test`.

    Raises:
        TaskError: there is none.
    """
    if data is None:
        raise TaskError(f"the task {TASK!r} needs `--data DIR`, {LAYOUT}")
    if not data.is_dir():
        raise TaskError(f"`--data` {data} is not a folder; it must be {LAYOUT}")
    if not (data / part).is_dir():
        raise TaskError(f"{data} has no folder {part}/; `--data` must be {LAYOUT}")
    return data / part


def class_folders(part: Path) -> Sequence[str]:
    """Return the names of the folders in a part of the images, sorted, without hidden ones.

    Raises:
        TaskError: it cannot be read.
    """
    try:
        with os.scandir(part) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise TaskError(f"{part} cannot be read: {error.strerror}") from error


def described(entry: TaskEntry, options: ImageFolderOptions) -> TaskEntry:
    """Return the task's row of the catalogue with what the options tell of the images."""
    problem = ImageProblem(shape=options.shape, classes=len(options.classes)) if options.classes else None
    return replace(entry, problem=problem, class_names=options.classes, preparation=_preparation(options))


def _preparation(options: ImageFolderOptions) -> str:
    """Return how an image in a file becomes the pixels that a network sees, in the order in which it is done."""
    channels = (
        "its colours become one channel of grey, 0.299 red + 0.587 green + 0.114 blue (Pillow's `convert('L')`)"
        if options.greyscale
        else "it gets three channels, red, green and blue in this order (Pillow's `convert('RGB')`)"
    )
    return (
        f"An image in a file is turned as its EXIF tag says, transparent places become white, {channels}, and the"
        f" square at its centre is resized to {options.resize_to} x {options.resize_to} (Pillow's `ImageOps.fit`,"
        " bicubic)."
    )
