"""The tasks of images in the catalogue. Standard library only."""

from collections.abc import Mapping
from types import MappingProxyType

from child_trainer.outcome import Measure
from child_trainer.tasks.entry import ImageProblem, TaskEntry
from child_trainer.tasks.image_files import is_used, sizes
from child_trainer.tasks.image_folder_options import ImageFolderOptions, described, with_classes

TORCHVISION = "child_trainer.tasks.torchvision_images"


def _images(
    summary: str,
    shape: tuple[int, int, int],
    examples: int,
    module: str,
    class_names: tuple[str, ...],
    licence: str,
) -> TaskEntry:
    """Return the entry of a task with so many training images of this shape, in these classes."""
    return TaskEntry(
        summary=summary,
        family="images",
        kinds=("feedforward",),
        measure=Measure.ACCURACY,
        problem=ImageProblem(shape=shape, classes=len(class_names)),
        examples=examples,
        module=module,
        class_names=class_names,
        licence=licence,
    )


IMAGES: Mapping[str, TaskEntry] = MappingProxyType(
    {
        "digits": _images(
            "scikit-learn's handwritten digits, 8 x 8 pixels; needs no download",
            (1, 8, 8),
            937,
            "child_trainer.tasks.digits",
            tuple("0123456789"),
            "CC BY 4.0: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository"
            " (1998), in the copy of scikit-learn",
        ),
        "fashion-mnist": _images(
            "Fashion-MNIST, 28 x 28 pixels, from --data",
            (1, 28, 28),
            55_000,
            TORCHVISION,
            ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
            "MIT, copyright Zalando SE (2017): Xiao, Rasul and Vollgraf, arXiv 1708.07747",
        ),
        "cifar10": _images(
            "CIFAR-10, 32 x 32 pixels in colour, from --data",
            (3, 32, 32),
            45_000,
            TORCHVISION,
            ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
            "none is stated; its authors ask to be cited: Krizhevsky, Learning Multiple Layers of Features from Tiny"
            " Images (2009)",
        ),
    }
)
"""The tasks on images, each of which can also be learnt by several sub-networks."""

IMAGE_FOLDER = TaskEntry(
    summary="images of your own, from --data: a folder train/ with a folder for each class",
    family="images",
    kinds=("feedforward",),
    measure=Measure.ACCURACY,
    options=ImageFolderOptions,
    module="child_trainer.tasks.image_folder",
    licence="that of the images, which their owner knows",
    completed=with_classes,
    files=sizes,
    uses=is_used,
    describes=described,
)
"""The task of images of the user's own; how many classes there are, the options say."""
