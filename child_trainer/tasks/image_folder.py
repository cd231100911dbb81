"""Classification of one's own images: a folder with train/ and perhaps test/, and in each a folder for each class.

Every image is read once: turned as its EXIF tag says, the square at its centre resized, and kept as uint8.
"""

import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from child_trainer.seeding import derive
from child_trainer.tasks.image import ImageTask
from child_trainer.tasks.image_files import Files, split, testing_files, training_files
from child_trainer.tasks.image_folder_options import ImageFolderOptions, with_classes
from child_trainer.training.image_classifier import Images
from child_trainer.training.task import TaskError

EIGHT_BITS = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "LAB")
"""The modes of Pillow whose channels have at most 8 bits; it also reads some files of more bits into them."""

DEEP = re.compile(r";(?:1[26]|32)[BLNS]")
"""What Pillow's name of a file's own mode has where a channel has more than 8 bits, such as `RGB;16B`."""

MAX_VALUE = 255
"""The largest value of a channel of 8 bits."""

SHOWN = 3
"""Files that an error names at most."""

MAX_READERS = 8
"""Images that are read at once; Pillow decodes outside of Python's lock."""

MAX_MEMORY_SHARE = 0.5
"""Share of the machine's memory that the images may take."""


def check(name: str, data: Path | None, options: ImageFolderOptions, *, download: bool) -> None:
    """Read all images, those of test/ too if there is one: only then is it seen which files are damaged.

    Raises:
        TaskError: a folder is missing, a class has too few images, a file is no whole image, or they are too many for
            the memory; or `download`, as there is nothing to download.
    """
    if download:
        raise TaskError(f"nothing can be downloaded for the task {name!r}: leave out `--download`")
    options = with_classes(options, data)
    _read(training_files(data, options), options)
    if data is not None and (data / "test").is_dir():
        _read.__wrapped__(testing_files(data, options), options)


def load(name: str, data: Path | None, options: ImageFolderOptions, *, seed: int, device: str) -> ImageTask:
    """Return the task, the images of train/ split by `seed`; those of test/ are not read.

    Raises:
        TaskError: as `check` does.
    """
    options = with_classes(options, data)
    files = training_files(data, options)
    images = _read(files, options)
    _read.cache_clear()  # what the check has read is used once, and would take the memory twice
    parts = split(files, options.validation_share, derive(seed, "split"))
    training, validation = (Images(images.pixels[part], images.labels[part]) for part in parts)
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
    return _read.__wrapped__(testing_files(data, options), options).to(device)


def describe(data: Path | None, options: ImageFolderOptions) -> str:
    """Return how many images there are, and what memory they take, as a sentence.

    Raises:
        TaskError: as `load` does of folders; no image is read.
    """
    options = with_classes(options, data)
    files = training_files(data, options)
    shape = " x ".join(map(str, options.shape))
    return (
        f"{len(files.paths):,} images in {len(options.classes)} classes, read as {shape}:"
        f" {_bytes(len(files.paths), options) / 1e6:,.1f} MB in each process that trains"
    )


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
        if not stat.S_ISREG(path.stat().st_mode):  # a FIFO would be waited for without an end
            raise Unusable("is no regular file")
        with Image.open(path) as file:
            if file.mode not in EIGHT_BITS or _is_deep(file):
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


def _is_deep(file: Image.Image) -> bool:
    """Return whether an opened file, of which nothing is read yet, has more than 8 bits a channel by its header."""
    for tile in getattr(file, "tile", ()):
        arguments = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        deepest = max((value for value in arguments if isinstance(value, int)), default=0)
        # The first argument is the file's own mode; that of a PPM is followed by the largest value of a channel.
        if DEEP.search(str(arguments[0])) or (tile.codec_name.startswith("ppm") and deepest > MAX_VALUE):
            return True
    return False


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
