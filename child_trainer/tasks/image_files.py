"""The files of one's own images: those in train/ and in test/, and which of them validate. Standard library only."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from child_trainer.tasks.image_folder_options import ImageFolderOptions, class_folders, part_of
from child_trainer.training.task import TaskError

NO_IMAGES = ("thumbs.db", "desktop.ini")
"""Files that systems leave in folders of images, in small letters; hidden files are left out, too."""

PARTS = ("train", "test")


class Files(NamedTuple):
    """The files of a part of the images, in the order of the classes and then of the names.

    Attributes:
        paths: of each file.
        names: its path in the folder of the part, with slashes; it begins with the class.
        labels: the number of its class.
        stamps: its size in bytes and the time of its last change, by which a changed file is known.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    labels: tuple[int, ...]
    stamps: tuple[tuple[int, int], ...]


class Places(NamedTuple):
    """The places in a list of files of those to train on and of those that validate, each in a random order."""

    training: list[int]
    validation: list[int]


def training_files(data: Path | None, options: ImageFolderOptions) -> Files:
    """Return the files of train/, in which each class has two images or more: one to train on, one to validate.

    Raises:
        TaskError: a folder is missing or cannot be read, or a class has too few images.
    """
    train = part_of(data, "train")
    there = class_folders(train)
    if missing := [name for name in options.classes if name not in there]:
        raise TaskError(f"{train} has no folder for the class {missing[0]!r}; it has {', '.join(there) or 'none'}")
    files = _files(train, options.classes)
    counts = Counter(files.labels)
    for label, name in enumerate(options.classes):
        if (count := counts[label]) < 2:
            raise TaskError(
                f"the class {name!r} in {train} has {'no image' if count == 0 else '1 image'}: at least 2 are needed,"
                " one to train on and one to validate"
            )
    return files


def testing_files(data: Path | None, options: ImageFolderOptions) -> Files:
    """Return the files of test/, which has no class but those of train/.

    Raises:
        TaskError: a folder is missing or cannot be read, test/ has another class, or it has no images.
    """
    test, train = part_of(data, "test"), part_of(data, "train")
    known = {*class_folders(train), *options.classes}
    if unknown := [name for name in class_folders(test) if name not in known]:
        raise TaskError(f"{test} has the class {unknown[0]!r}, which {train} has not")
    files = _files(test, options.classes)
    if not files.paths:
        raise TaskError(f"{test} has no images; remove it, or give it a folder of images for each class")
    return files


def sizes(options: ImageFolderOptions, data: Path) -> Mapping[str, int]:
    """Return the size in bytes of each file of the classes in train/ and in test/, by its path in the folder.

    Raises:
        TaskError: a folder is missing or cannot be read.
    """
    found: dict[str, int] = {}
    for part in PARTS:
        if part == "train" or (data / part).is_dir():
            files = _files(part_of(data, part), options.classes)
            found |= {f"{part}/{name}": size for name, (size, _) in zip(files.names, files.stamps, strict=True)}
    return found


def is_used(options: ImageFolderOptions, path: str) -> bool:
    """Return whether a file is one of those that `sizes` would find, by its path in the folder of the images."""
    part, *folders = PurePosixPath(path).parts
    named = len(folders) > 1 and part in PARTS and folders[0] in options.classes
    return named and not any(name.startswith(".") for name in folders) and folders[-1].lower() not in NO_IMAGES


def split(files: Files, share: float, seed: int) -> Places:
    """Return which files validate: in each class those whose names have the lowest hashes.

    A hash depends on the seed and on the file's name alone. So one file more or less in a class changes the part of one
    other file at most, and of none in the other classes. The number in a class is the share, rounded, and so exact; it
    is at least one, and at least one is left to train on. The order within the parts follows from other bits of the
    hashes.

    Args:
        files: of train/.
        share: of each class that validates, above 0 and below 1.
        seed: of the split.
    """
    digests = [hashlib.sha256(f"{seed}:".encode() + os.fsencode(name)).digest() for name in files.names]
    members: dict[int, list[int]] = {}
    for place, label in enumerate(files.labels):
        members.setdefault(label, []).append(place)
    validates: set[int] = set()
    for places in members.values():
        count = min(max(1, round(len(places) * share)), len(places) - 1)
        validates.update(sorted(places, key=lambda place: digests[place][:16])[:count])
    order = sorted(range(len(digests)), key=lambda place: digests[place][16:])
    return Places([p for p in order if p not in validates], [p for p in order if p in validates])


def _files(part: Path, classes: Sequence[str]) -> Files:
    """Return the files of the classes that have a folder in this part."""
    there = [(label, part / name) for label, name in enumerate(classes) if (part / name).is_dir()]
    found = [(path, label) for label, folder in there for path in sorted(_below(folder, set()))]
    paths = tuple(path for path, _ in found)
    names = tuple(path.relative_to(part).as_posix() for path in paths)
    return Files(paths, names, tuple(label for _, label in found), tuple(map(_stamp, paths)))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:  # reading it says why
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _below(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """Yield the files in a folder, and in the folders in it, but hidden ones; links are followed.

    Args:
        folder: to look into.
        seen: the device and the number of each folder that has been looked into; it grows. A link to one of them
            would lead round in circles, or bring the same images twice, and is left out.

    Raises:
        TaskError: a folder cannot be read.
    """
    try:
        here = folder.stat()
        if (here.st_dev, here.st_ino) in seen:
            return
        seen.add((here.st_dev, here.st_ino))
        with os.scandir(folder) as entries:
            found = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise TaskError(f"{error.filename or folder} cannot be read: {error.strerror}") from error
    for name, is_folder in found:
        if is_folder:
            yield from _below(folder / name, seen)
        elif name.lower() not in NO_IMAGES:
            yield folder / name
