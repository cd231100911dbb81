"""Classification of one's own images: a folder with train/ and perhaps test/, and in each a folder for each class.

Every image is read once: turned as its EXIF tag says, the square at its centre resized, and kept as uint8.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from child_trainer.seeding import derive
from child_trainer.tasks.image import ImageTask
from child_trainer.tasks.image_folder_options import ImageFolderOptions, class_folders, part_of, with_classes
from child_trainer.training.image_classifier import Images
from child_trainer.training.task import TaskError

NO_IMAGES = ("thumbs.db", "desktop.ini")
"""Files that systems leave in folders of images, in small letters; hidden files are left out, too."""

EIGHT_BITS = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "LAB")
"""The modes of Pillow whose channels have at most 8 bits."""

SHOWN = 3
"""Files that an error names at most."""

MAX_READERS = 8
"""Images that are read at once; Pillow decodes outside of Python's lock."""

MAX_MEMORY_SHARE = 0.5
"""Share of the machine's memory that the images may take."""


class Files(NamedTuple):
    """The files of a part of the images, in the order of the classes and then of the names.

    Attributes:
        paths, labels: of each file.
        stamps: its size and the time of its last change, by which a changed file is known.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    stamps: tuple[tuple[int, int], ...]


def check(name: str, data: Path | None, options: ImageFolderOptions, *, download: bool) -> None:
    """Read all images, those of test/ too if there is one: only then is it seen which files are damaged.

    Raises:
        TaskError: a folder is missing, a class has too few images, a file is no whole image, or they are too many for
            the memory; or `download`, as there is nothing to download.
    """
    if download:
        raise TaskError(f"nothing can be downloaded for the task {name!r}: leave out `--download`")
    options = with_classes(options, data)
    _read(_training_files(data, options), options)
    if data is not None and (data / "test").is_dir():
        _read.__wrapped__(_test_files(data, options), options)


def load(name: str, data: Path | None, options: ImageFolderOptions, *, seed: int, device: str) -> ImageTask:
    """Return the task, the images of train/ split by `seed`; those of test/ are not read.

    Raises:
        TaskError: as `check` does.
    """
    options = with_classes(options, data)
    images = _read(_training_files(data, options), options)
    _read.cache_clear()  # what the check has read is used once, and would take the memory twice
    training, validation = _split(images, options, seed)
    return ImageTask(
        name=name,
        num_classes=len(options.classes),
        flip=not options.oriented,
        training=training,
        validation=validation,
    ).to(device)


def load_test(name: str, data: Path | None, options: ImageFolderOptions, *, device: str) -> Images:
    """Return the images of test/, which no search ever sees.

    Raises:
        TaskError: there is no test/, or as `check` does.
    """
    options = with_classes(options, data)
    return _read.__wrapped__(_test_files(data, options), options).to(device)


def describe(data: Path | None, options: ImageFolderOptions) -> str:
    """Return how many images there are, and what memory they take, as a sentence.

    Raises:
        TaskError: as `load` does of folders; no image is read.
    """
    options = with_classes(options, data)
    files = _training_files(data, options)
    shape = " x ".join(map(str, options.shape))
    return (
        f"{len(files.paths):,} images in {len(options.classes)} classes, read as {shape}:"
        f" {_bytes(len(files.paths), options) / 1e6:,.1f} MB in each process that trains"
    )


def _training_files(data: Path | None, options: ImageFolderOptions) -> Files:
    """Return the files of train/, in which each class has two images or more: one to train on, one to validate."""
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


def _test_files(data: Path | None, options: ImageFolderOptions) -> Files:
    """Return the files of test/, which has no class but those of train/."""
    test, train = part_of(data, "test"), part_of(data, "train")
    known = {*class_folders(train), *options.classes}
    if unknown := [name for name in class_folders(test) if name not in known]:
        raise TaskError(f"{test} has the class {unknown[0]!r}, which {train} has not")
    files = _files(test, options.classes)
    if not files.paths:
        raise TaskError(f"{test} has no images; remove it, or give it a folder of images for each class")
    return files


def _files(part: Path, classes: Sequence[str]) -> Files:
    found = [(path, label) for label, name in enumerate(classes) for path in sorted(_below(part / name))]
    paths = tuple(path for path, _ in found)
    return Files(paths, tuple(label for _, label in found), tuple(map(_stamp, paths)))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:  # reading it says why
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder, and in the folders in it, but hidden ones."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith(".") and name.lower() not in NO_IMAGES)


@lru_cache(maxsize=1)
def _read(files: Files, options: ImageFolderOptions) -> Images:
    """Return the images of the files.

    Raises:
        TaskError: a file is no whole image, or they are too many for the memory.
    """
    _check_memory(len(files.paths), options)
    pixels = torch.empty((len(files.paths), *options.shape), dtype=torch.uint8)
    array = pixels.numpy()

    def read(place: int) -> str | None:
        try:
            array[place] = _pixels(files.paths[place], options)
        except Unusable as fault:
            return f"{files.paths[place]} {fault}"
        return None

    with ThreadPoolExecutor(min(MAX_READERS, len(os.sched_getaffinity(0)))) as readers:
        faults = [fault for fault in readers.map(read, range(len(files.paths))) if fault is not None]
    if faults:
        rest = f", and {len(faults) - SHOWN:,} more" if len(faults) > SHOWN else ""
        raise TaskError(f"{', '.join(faults[:SHOWN])}{rest}: remove or mend what is no image in 8 bits a channel")
    return Images(pixels, torch.tensor(files.labels, dtype=torch.int64))


class Unusable(ValueError):
    """A file cannot be used as an image; the message is a clause about it that says why."""


def _pixels(path: Path, options: ImageFolderOptions) -> np.ndarray:
    """Return an image `[C, H, W]` uint8 of the options' shape; of an animation the first picture.

    Transparent places are white. `ImageOps.fit` cuts the centre in the shape of the result, and resizes it (bicubic).

    Raises:
        Unusable: the file is no whole image of 8 bits a channel.
    """
    try:
        with Image.open(path) as file:
            if file.mode not in EIGHT_BITS:
                raise Unusable("has more than 8 bits a channel")
            image = ImageOps.exif_transpose(file)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert("L" if options.greyscale else "RGB")
            fitted = ImageOps.fit(image, (options.resize_to, options.resize_to), Image.Resampling.BICUBIC)
    except UnidentifiedImageError as error:
        raise Unusable("is no image" if path.stat().st_size else "is empty") from error
    except Image.DecompressionBombError as error:
        raise Unusable(f"is too large ({error})") from error
    except Unusable:
        raise
    except OSError as error:
        raise Unusable(f"cannot be read ({error.strerror})" if error.errno else f"is damaged ({error})") from error
    except Exception as error:  # a damaged file may lead Pillow to any error
        raise Unusable(f"is damaged ({error})") from error
    return np.asarray(fitted).reshape(options.resize_to, options.resize_to, -1).transpose(2, 0, 1)


def _split(images: Images, options: ImageFolderOptions, seed: int) -> tuple[Images, Images]:
    """Return the images to train on and those that validate, each class divided alike, both in a random order."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(derive(seed, "split")))
    validates = torch.zeros(len(images), dtype=torch.bool)
    for label in range(len(options.classes)):
        members = order[images.labels[order] == label]
        validates[members[: min(max(1, round(len(members) * options.validation_share)), len(members) - 1)]] = True
    parts = order[~validates[order]], order[validates[order]]
    training, validation = (Images(images.pixels[part], images.labels[part]) for part in parts)
    return training, validation


def _bytes(count: int, options: ImageFolderOptions) -> int:
    channels, height, width = options.shape
    return count * channels * height * width


def _check_memory(count: int, options: ImageFolderOptions) -> None:
    needed, there = _bytes(count, options), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > MAX_MEMORY_SHARE * there:
        raise TaskError(
            f"{count:,} images of {' x '.join(map(str, options.shape))} take {needed / 1e9:,.1f} GB of memory in each"
            f" process that trains, and this machine has {there / 1e9:,.1f} GB: give a smaller `--resize-to`"
        )
