"""What a language model is around its cell, and how text reaches it. Standard library only."""

from dataclasses import dataclass

from child_trainer.field_types import check_types

MEDIUM_PARAMETERS = 19_775_200
"""Of the medium LSTM of Zaremba et al. 2014 on a vocabulary of 10,000: 2 (4 650 1300 + 4 650) + 2 650 10000 + 10000."""

CLIP_NORM = 5.0
"""Norm to which gradients are scaled down, unless the regime has another."""


@dataclass(frozen=True, kw_only=True)
class LanguageOptions:
    """The language model around a recurrent cell, and its training (Zoph & Le 2017, section 4.2; spec §2.3)."""

    cell_layers: int = 2
    """Layers of the language model, each a cell of its own (the paper: 2)."""
    target_parameters: int = MEDIUM_PARAMETERS
    """Parameters of the whole model, which settle its width, embeddings included (the paper: a medium LSTM's)."""
    hidden_size: int | None = None
    """Units of each layer and of the embedding; unset: as many as `target_parameters` allow."""
    tied_embeddings: bool = False
    """Whether one matrix both embeds words and predicts them."""
    embedding_dropout: float = 0.2
    """Share of the words whose embedding is dropped, from a whole stretch of text (the paper does not say)."""
    variational_dropout: float = 0.25
    """Share of the units that are dropped before and within each layer and after the last, alike at every step of a
    stretch (the paper does not say)."""
    unroll: int = 35
    """Words of a stretch, through which gradients are propagated; the state is carried on to the next."""
    decay_after: int = 6
    """Epochs after which the learning rate shrinks at each epoch."""
    learning_rate_decay: float = 1.0
    """What the learning rate is multiplied by at each of these epochs; 1 leaves it as it is."""
    max_vocabulary: int | None = None
    """Most words that are distinguished, the most frequent ones of the training text; unset: all."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("cell_layers", "target_parameters", "hidden_size", "unroll"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}")
        for name in ("embedding_dropout", "variational_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 0 and below 1, got {getattr(self, name)}")
        if self.decay_after < 0:
            raise ValueError(f"`decay_after` must be 0 or more, got {self.decay_after}")
        if not 0 < self.learning_rate_decay <= 1:
            raise ValueError(f"`learning_rate_decay` must be above 0 and at most 1, got {self.learning_rate_decay}")
        if self.max_vocabulary is not None and self.max_vocabulary < 2:
            raise ValueError(f"`max_vocabulary` must be at least 2, got {self.max_vocabulary}")

    def learning_rate(self, initial: float, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 1."""
        return initial * self.learning_rate_decay ** max(0, epoch - self.decay_after)
