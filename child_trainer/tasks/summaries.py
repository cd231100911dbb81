"""What is known of each task before it is loaded. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from child_trainer.architectures.architecture import Kind
from child_trainer.language_options import LanguageOptions
from child_trainer.outcome import Budget, Measure

IMAGE_BUDGET = Budget(epochs=3)
TEXT_BUDGET = Budget(epochs=3, batch_size=20, learning_rate=1.0, weight_decay=0.0, momentum=0.0)
"""What a child is usually given that is trained by hand: that of texts as Zaremba et al. 2014 train, with plain SGD."""

MEDIUM, SMALL = LanguageOptions(), LanguageOptions(hidden_size=64)


@dataclass(frozen=True, slots=True)
class Summary:
    """A task in short.

    Attributes:
        what: the task, in a few words.
        kinds: of architectures that it can judge.
        measure: what its metric is.
        usual: the budget of a child that is trained by hand, unless told otherwise.
        language: the model around a cell, likewise.
        trains: whether it builds and trains networks, for which a process needs PyTorch, memory and perhaps a GPU.
        epochs: the only ones that it can answer for, all of the training data in each; `None`: any budget.
    """

    what: str
    kinds: tuple[Kind, ...]
    measure: Measure
    usual: Budget = IMAGE_BUDGET
    language: LanguageOptions = MEDIUM
    trains: bool = True
    epochs: int | None = None

    def check_budget(self, budget: Budget) -> None:
        """Raise `ValueError` if the task cannot answer for this budget."""
        if self.epochs not in (None, budget.epochs):
            raise ValueError(f"`epochs` must be {self.epochs}, which is all that this table has, got {budget.epochs}")
        if self.epochs is not None and budget.train_fraction != 1:
            raise ValueError(
                "`train_fraction` must be 1, as this table has trainings on all of the training data only, got"
                f" {budget.train_fraction}"
            )


TASKS: Mapping[str, Summary] = MappingProxyType(
    {
        "digits": Summary(
            "scikit-learn's handwritten digits, 8 x 8 pixels; needs no download", ("feedforward",), Measure.ACCURACY
        ),
        "fashion-mnist": Summary("Fashion-MNIST, 28 x 28 pixels, from --data", ("feedforward",), Measure.ACCURACY),
        "cifar10": Summary("CIFAR-10, 32 x 32 pixels in colour, from --data", ("feedforward",), Measure.ACCURACY),
        "ptb": Summary(
            "Penn Treebank, from --data: the next word, word by word", ("recurrent",), Measure.PERPLEXITY, TEXT_BUDGET
        ),
        "wikitext2": Summary(
            "WikiText-2, from --data: the next word, word by word", ("recurrent",), Measure.PERPLEXITY, TEXT_BUDGET
        ),
        "text": Summary(
            "the prose of Python's own manual: the next word; needs no download",
            ("recurrent",),
            Measure.PERPLEXITY,
            TEXT_BUDGET,
            SMALL,
        ),
        "synthetic": Summary(
            "a known function of the architecture, at once; trains nothing",
            ("feedforward", "recurrent"),
            Measure.SCORE,
            trains=False,
        ),
        "nasbench201": Summary(
            "NAS-Bench-201's CIFAR-10, a table from --data; trains nothing",
            ("feedforward",),
            Measure.ACCURACY,
            Budget(epochs=12),
            trains=False,
            epochs=12,
        ),
    }
)
"""Every task by its name."""
