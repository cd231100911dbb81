"""What is known of each task before it is loaded. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from child_trainer.architecture import Kind
from child_trainer.outcome import Budget, Measure


@dataclass(frozen=True, slots=True)
class Summary:
    """A task in short.

    Attributes:
        what: the task, in a few words.
        kinds: of architectures that it can judge.
        measure: what its metric is.
        trains: whether it builds and trains networks, for which a process needs PyTorch, memory and perhaps a GPU.
        epochs: the only budget that it can answer for; `None`: any.
    """

    what: str
    kinds: tuple[Kind, ...]
    measure: Measure
    trains: bool = True
    epochs: int | None = None

    def check_budget(self, budget: Budget) -> None:
        """Raise `ValueError` if the task cannot answer for this budget."""
        if self.epochs not in (None, budget.epochs):
            raise ValueError(f"`epochs` must be {self.epochs}, which is all that this table has, got {budget.epochs}")


TASKS: Mapping[str, Summary] = MappingProxyType(
    {
        "digits": Summary(
            "scikit-learn's handwritten digits, 8 x 8 pixels; needs no download", ("feedforward",), Measure.ACCURACY
        ),
        "fashion-mnist": Summary("Fashion-MNIST, 28 x 28 pixels, from --data", ("feedforward",), Measure.ACCURACY),
        "cifar10": Summary("CIFAR-10, 32 x 32 pixels in colour, from --data", ("feedforward",), Measure.ACCURACY),
        "synthetic": Summary(
            "a known function of the architecture, at once; trains nothing",
            ("feedforward",),
            Measure.SCORE,
            trains=False,
        ),
        "nasbench201": Summary(
            "NAS-Bench-201's CIFAR-10, a table from --data; trains nothing",
            ("feedforward",),
            Measure.ACCURACY,
            trains=False,
            epochs=12,
        ),
    }
)
"""Every task by its name."""
