"""Fashion-MNIST and CIFAR-10 in the folder layouts that torchvision downloads and expects.

Only files that torchvision's checksums vouch for are read. Fashion-MNIST is read from its four `.gz` archives, if
present, so that a read-only folder will do.
"""

import gzip
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from child_trainer.no_options import NoOptions
from child_trainer.tasks.folder_hint import folder_hint
from child_trainer.tasks.image import ImageTask, carve
from child_trainer.tasks.torchvision_import import datasets
from child_trainer.training.image_classifier import Images
from child_trainer.training.task import TaskError


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One data set on disk.

    Attributes:
        layout: what the user's folder must hold, as the middle of a sentence.
        sizes: of the training and the validation part carved from the training images.
        check: raises `TaskError` unless the training (True) or test (False) files under a folder are whole.
        read: all training (True) or test (False) images under a folder that has been checked.
        download: fetches and unpacks what is missing under a folder.
    """

    layout: str
    sizes: tuple[int, int]
    check: Callable[[Path, bool], None]
    read: Callable[[Path, bool], Images]
    download: Callable[[Path], object]


def check(name: str, data: Path | None, options: NoOptions, *, download: bool) -> None:
    """Make sure that the training images of the task `name` in the folder `data` are whole; load nothing.

    Raises:
        TaskError: no folder is given, a file is missing or corrupt, or it cannot be downloaded.
    """
    _checked_folder(name, data, download=download)


def load(name: str, data: Path | None, options: NoOptions, *, seed: int, device: str) -> ImageTask:
    """Return the task `name`, its training images split by `seed`; the test images are not read."""
    source = SOURCES[name]
    images = source.read(_checked_folder(name, data), True)
    training, validation = carve(images, source.sizes, seed)
    return ImageTask(name=name, num_classes=10, flip=True, training=training, validation=validation).to(device)


def load_test(name: str, data: Path | None, options: NoOptions, *, device: str) -> Images:
    """Return the test images of the task `name`, which no search ever sees."""
    return SOURCES[name].read(_checked_folder(name, data, training=False), False).to(device)


def _checked_folder(name: str, data: Path | None, *, download: bool = False, training: bool = True) -> Path:
    """Return the folder `data`, once the files of the task `name` in it are known to be whole.

    Raises:
        TaskError: as `check` does.
    """
    source = SOURCES[name]
    if data is None:
        raise TaskError(
            f"the task {name!r} needs `--data DIR`, a folder that holds {source.layout}; `--download` fills it"
        )
    if download:
        _download(name, source, data)
    if not data.is_dir():
        raise TaskError(
            f"`--data` {data} is not a folder; the task {name!r} needs one that holds {source.layout},"
            " and `--download` fills it"
        )
    source.check(data, training)
    return data


def _download(name: str, source: Source, data: Path) -> None:
    try:
        source.download(data)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())  # all of it: torchvision names the file first and the cause last
        raise TaskError(f"the task {name!r} could not be downloaded to {data}: {reason}") from error


def _missing(path: Path, data: Path, layout: str) -> TaskError:
    hint = folder_hint(data, path.relative_to(data))
    return TaskError(f"{_refuse(path, 'is missing', layout)}{hint}")


def _refuse(path: Path, fault: str, layout: str) -> TaskError:
    return TaskError(f"{path} {fault}; `--data` must be a folder that holds {layout}, and `--download` fetches it")


# --- CIFAR-10: pickled batches, each with a checksum -------------------------------------------------------------

_cifar_layout = "cifar-10-batches-py/data_batch_1 and its siblings"


def _check_cifar(data: Path, training: bool) -> None:
    kind = datasets.CIFAR10
    # torchvision wants all files before it reads any: those of the other part too.
    for name, checksum in [*kind.train_list, *kind.test_list, _cifar_meta()]:
        path = data / kind.base_folder / name
        if not path.is_file():
            raise _missing(path, data, _cifar_layout)
        if not datasets.utils.check_integrity(path, checksum):
            raise _refuse(path, "is corrupt (its md5 is not the published one)", _cifar_layout)


def _cifar_meta() -> tuple[str, str]:
    return datasets.CIFAR10.meta["filename"], datasets.CIFAR10.meta["md5"]


def _read_cifar(data: Path, training: bool) -> Images:
    source = datasets.CIFAR10(data, train=training)
    pixels = torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous()
    return Images(pixels, torch.tensor(source.targets))


# --- Fashion-MNIST: four files in the IDX format, packed or not --------------------------------------------------

_fashion_layout = "FashionMNIST/raw/train-images-idx3-ubyte.gz and its siblings"
_fashion_counts = {True: ("train", 60_000), False: ("t10k", 10_000)}


def _fashion_files(data: Path, training: bool) -> dict[Path, tuple[int, ...]]:
    """Return the two unpacked files' paths, and the shapes of their contents."""
    prefix, count = _fashion_counts[training]
    folder = data / "FashionMNIST" / "raw"
    return {
        folder / f"{prefix}-images-idx3-ubyte": (count, 28, 28),
        folder / f"{prefix}-labels-idx1-ubyte": (count,),
    }


def _check_fashion(data: Path, training: bool) -> None:
    checksums = dict(datasets.FashionMNIST.resources)
    for path, shape in _fashion_files(data, training).items():
        packed = _packed(path)
        if packed.is_file():
            if not datasets.utils.check_integrity(packed, checksums[packed.name]):
                raise _refuse(packed, "is corrupt (its md5 is not the published one)", _fashion_layout)
        elif not path.is_file():
            raise _missing(packed, data, _fashion_layout)
        elif (size := path.stat().st_size) != (right := len(_idx_header(shape)) + math.prod(shape)):
            raise _refuse(path, f"is corrupt (it has {size:,} bytes instead of {right:,})", _fashion_layout)


def _read_fashion(data: Path, training: bool) -> Images:
    arrays = []
    for path, shape in _fashion_files(data, training).items():
        content = gzip.decompress(_packed(path).read_bytes()) if _packed(path).is_file() else path.read_bytes()
        header = _idx_header(shape)
        if not content.startswith(header):
            raise _refuse(path, "is corrupt (it does not begin as an IDX file of its size)", _fashion_layout)
        arrays.append(torch.frombuffer(bytearray(content[len(header) :]), dtype=torch.uint8).reshape(shape))
    pixels, labels = arrays
    return Images(pixels.unsqueeze(1), labels.long())


def _packed(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")


def _idx_header(shape: tuple[int, ...]) -> bytes:
    """Return two zeros, the code of uint8, the number of axes, then each side as four bytes, the highest first."""
    return bytes((0, 0, 8, len(shape))) + b"".join(side.to_bytes(4, "big") for side in shape)


SOURCES: Mapping[str, Source] = {
    "fashion-mnist": Source(
        layout=_fashion_layout,
        sizes=(55_000, 5_000),
        check=_check_fashion,
        read=_read_fashion,
        download=lambda data: datasets.FashionMNIST(data, download=True),
    ),
    "cifar10": Source(
        layout=_cifar_layout,
        sizes=(45_000, 5_000),
        check=_check_cifar,
        read=_read_cifar,
        download=lambda data: datasets.CIFAR10(data, download=True),
    ),
}
"""The data sets by the name of their task."""
