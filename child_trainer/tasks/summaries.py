"""What is known of each task before it is loaded. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from child_trainer.architecture import Kind
from child_trainer.outcome import Measure


@dataclass(frozen=True, slots=True)
class Summary:
    """A task in short.

    Attributes:
        what: the task, in a few words.
        kinds: of architectures that it can judge.
        measure: what its metric is.
    """

    what: str
    kinds: tuple[Kind, ...]
    measure: Measure


TASKS: Mapping[str, Summary] = MappingProxyType(
    {
        "digits": Summary(
            "scikit-learn's handwritten digits, 8 x 8 pixels; needs no download", ("feedforward",), Measure.ACCURACY
        ),
        "fashion-mnist": Summary("Fashion-MNIST, 28 x 28 pixels, from --data", ("feedforward",), Measure.ACCURACY),
        "cifar10": Summary("CIFAR-10, 32 x 32 pixels in colour, from --data", ("feedforward",), Measure.ACCURACY),
        "synthetic": Summary(
            "a known function of the architecture, at once; trains nothing", ("feedforward", "recurrent"), Measure.SCORE
        ),
    }
)
"""Every task by its name."""
