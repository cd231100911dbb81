"""What a published network in the zoo is. Standard library only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from child_trainer.architectures.architecture import Architecture
from controller.limits import MAX_CELLS, check_number


@dataclass(frozen=True, kw_only=True, slots=True)
class Images:
    """The images for which a network's parameters are counted.

    Attributes:
        input_shape: channels, height and width of an image.
        num_classes: the number of classes.
    """

    input_shape: tuple[int, int, int]
    num_classes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """The language model for which a recurrent cell's parameters are counted.

    Attributes:
        hidden_size: units of each layer.
        vocabulary: its words.
        layers: its layers.
        tied: whether one table of words is for input and prediction.
    """

    hidden_size: int
    vocabulary: int = 10_000
    layers: int = 2
    tied: bool = False


CIFAR10 = Images(input_shape=(3, 32, 32), num_classes=10)
MOBILE = Images(input_shape=(3, 224, 224), num_classes=1_000)
LARGE = Images(input_shape=(3, 331, 331), num_classes=1_000)


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a network of cells, and what it has for training alone.

    Attributes:
        cells: how many cells, as the entry's `cells_are` says.
        filters: the filters of the first ones.
        drop_path: whether a training may drop paths (ScheduledDropPath).
        auxiliary: whether there is an auxiliary head.
    """

    cells: int
    filters: int
    drop_path: bool = False
    auxiliary: bool = False

    def __post_init__(self) -> None:
        check_number(self, "cells", 1, MAX_CELLS)
        if self.filters < 1:
            raise ValueError(f"`filters` must be at least 1, got {self.filters}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ZooEntry:
    """A published network, or a cell with the network around it.

    Attributes:
        summary: what it is, in one line.
        paper: the source.
        published: the parameters that the paper prints, as text; empty if it prints none.
        parameters: the parameters that we count at the published size, for `counted_for`; a test counts them.
        counted_for: the images or the language model for which they are counted.
        build: makes the network of a size, or from nothing if it has none to choose.
        size: the published size; `None` if it is part of the network.
        cells_are: what the number of cells counts, such as `normal cells in each of three stages`.
        motifs: makes the parts to draw, by name.
        genotypes: makes the cells as text, by notation.
        note: how the count differs from the paper's, or what else to know of it, in a sentence.
    """

    summary: str
    paper: str
    published: str
    parameters: int
    counted_for: Images | Words
    build: Callable[..., Architecture]
    size: Size | None = None
    cells_are: str = ""
    motifs: Callable[[], Mapping[str, Architecture]] = dict
    genotypes: Callable[[], Mapping[str, str]] = dict
    note: str = ""

    def sized(self, **given: int | bool | None) -> Size | None:
        """Return the published size with the attributes that are given; `None` is as if not given.

        Raises:
            ValueError: the network has no size to choose, or a number is below 1.
        """
        chosen = {name: value for name, value in given.items() if value is not None}
        if self.size is not None:
            return replace(self.size, **chosen)
        if any(chosen.values()):
            raise ValueError(
                f"this network has no {' or '.join(f'`{name}`' for name in chosen)} to choose: its size is part of it"
            )
        return None

    def architecture(self, size: Size | None) -> Architecture:
        """Return the network of this size.

        Raises:
            ValueError: it can have no drop path or no auxiliary head.
        """
        return self.build() if size is None else self.build(size)
