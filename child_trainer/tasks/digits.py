"""scikit-learn's handwritten digits: 1,797 real images of 8 x 8 pixels that need no download."""

from importlib.util import find_spec
from pathlib import Path

import numpy
import torch

from child_trainer.no_options import NoOptions
from child_trainer.tasks.image import ImageTask, carve
from child_trainer.training.image_classifier import Images

NUM_TEST = 360
NUM_TRAINING = 937
NUM_VALIDATION = 500
FILE = "datasets/data/digits.csv.gz"
"""The images in scikit-learn's package, each with its digit in the last column."""

TEST_SEED = 0
"""The test images are the same in every run, whatever its seed."""


def check(name: str, data: Path | None, options: NoOptions, *, download: bool) -> None:
    """Do nothing: the images come with scikit-learn."""


def load(name: str, data: Path | None, options: NoOptions, *, seed: int, device: str) -> ImageTask:
    """Return 937 training and 500 validation images, split by `seed`.

    A mirrored digit is another shape, so images are not flipped.
    """
    _, rest = _test_and_rest()
    training, validation = carve(rest, (NUM_TRAINING, NUM_VALIDATION), seed)
    task = ImageTask(name=name, num_classes=10, flip=False, training=training, validation=validation)
    return task.to(device)


def load_test(name: str, data: Path | None, options: NoOptions, *, device: str) -> Images:
    """Return the 360 images that no search ever sees."""
    return _test_and_rest()[0].to(device)


def _test_and_rest() -> list[Images]:
    # As `sklearn.datasets.load_digits`, whose import takes a second: in each process of a search.
    package = find_spec("sklearn")
    assert package is not None and package.origin is not None
    table = numpy.loadtxt(Path(package.origin).parent / FILE, delimiter=",", dtype=numpy.uint8)
    # Pixels are whole numbers from 0 to 16, so that uint8 holds them exactly.
    table = torch.from_numpy(table)
    images = Images(table[:, :-1].reshape(-1, 1, 8, 8), table[:, -1].to(torch.int64))
    return carve(images, (NUM_TEST, len(images) - NUM_TEST), TEST_SEED)
