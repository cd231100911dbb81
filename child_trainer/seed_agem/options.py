"""Options of the training of several sub-networks ("A-GEM" of the article; spec §17). Standard library only.

The article's A-GEM has nothing in common with Averaged Gradient Episodic Memory, a method of continual learning that
has the same short name. It comes without code and with formulas that contradict each other, so each default below is
a reading of it.
"""

import math
from dataclasses import dataclass
from typing import Literal

from child_trainer.field_types import check_types

Rule = Literal["prose", "formula"]
Target = Literal["ones", "identity"]

SIMILARITY_REWARD = "similarity_reward"
"""The name of r_sim among a child's measurements, from which the searcher learns."""


@dataclass(frozen=True, kw_only=True)
class SubnetworkOptions:
    """How the sub-networks of a child learn together.

    Raises:
        ValueError: an option is impossible; the message names it and what would be right.
    """

    true_label_weight: float = 0.1
    """Weight of the cross-entropy of the true label in the loss (the article's alpha)."""
    teacher_weight: float = 0.9
    """Weight of the divergence from the teacher in the loss (the article's beta); it slows learning down."""
    teacher_decay: float = 0.99
    """Decay of the teacher's weights, moving averages of a sub-network's own."""
    share: bool = True
    """Whether layers of one shape at one depth become shared; if not, sub-networks stay independent."""
    share_epochs: int | None = None
    """Epochs until all layers that can be are shared, one after another from the input on; unset: half of all."""
    mode_rule: Rule = "prose"
    """What chooses the learning mode of an epoch: the article's text (prose), or its formula with signs mended."""
    accuracy_threshold: float = 0.5
    """Mean probability of the true label from which the prose calls accuracy high."""
    agreement_threshold: float = 0.5
    """Mean cosine similarity of two sub-networks' outputs from which the prose calls similarity high."""
    mode_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Weights of the formula's three terms (the article's gamma)."""
    structure_target: Target = "ones"
    """Outputs that the structural similarity asks for: all equal (ones, the intent), or all different (identity, the
    letter)."""
    structure_weight: float = 1.0
    """Weight of the cosines in the structural similarity."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("true_label_weight", "teacher_weight", "structure_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"`{name}` must be 0 or more, got {value}")
        if not self.true_label_weight + self.teacher_weight:
            raise ValueError("`true_label_weight` and `teacher_weight` must not both be 0: nothing would be learnt")
        if not 0 <= self.teacher_decay < 1:
            raise ValueError(f"`teacher_decay` must be at least 0 and below 1, got {self.teacher_decay}")
        if self.share_epochs is not None and self.share_epochs < 1:
            raise ValueError(f"`share_epochs` must be at least 1, got {self.share_epochs}; `--no-share` shares nothing")
        for name in ("accuracy_threshold", "agreement_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be from 0 to 1, got {getattr(self, name)}")
        if not all(map(math.isfinite, self.mode_weights)):
            raise ValueError(f"`mode_weights` must be finite numbers, got {self.mode_weights}")

    def epochs_until_shared(self, epochs: int) -> float:
        """Return E_share, the epochs after which all layers that can be are shared; infinite if none ever is.

        Args:
            epochs: of the whole training.
        """
        if not self.share:
            return math.inf
        return self.share_epochs if self.share_epochs is not None else max(1, epochs / 2)
