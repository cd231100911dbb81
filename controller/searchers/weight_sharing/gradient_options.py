"""Options of the searchers that learn strengths by gradient, with the weights. Standard library only."""

from dataclasses import dataclass
from typing import Literal, Self

from controller.searchers.weight_sharing.options import StepOptions, is_least, is_positive, require
from controller.searchers.weight_sharing.rates import cosine
from controller.searchers.weight_sharing.schedule import Slot

Cost = Literal["none", "parameters", "flops", "latency"]
"""What an architecture costs besides its errors: nothing, its weights, its operations for one image, or the time in µs
that these take on the machine that launches the run."""


@dataclass(frozen=True, kw_only=True)
class GradientOptions(StepOptions):
    """Options that all of them have; the values are those of DARTS (spec §12.3)."""

    search_epochs: int = 50
    """Epochs of the search; at the end of each, the architecture that the strengths favour is scored."""
    steps_per_epoch: int = 390
    """Steps of an epoch (the paper: 25,000 images in batches of 64)."""
    steps_per_child: int = 30
    """Steps that one child makes; a worker that dies repeats none of them."""
    weights_learning_rate: float = 0.025
    """Learning rate of the shared weights in the first epoch."""
    weights_last_learning_rate: float = 0.001
    """Where it falls to along a cosine, epoch by epoch."""
    weights_momentum: float = 0.9
    """Momentum of the shared weights."""
    weights_decay: float = 3e-4
    """Weight decay of the shared weights."""
    weights_clip_norm: float = 5.0
    """Norm of all gradients of a step's weights together, to which longer ones are scaled down; 0: never."""
    strengths_learning_rate: float = 3e-4
    """Learning rate of the strengths (alpha)."""
    strengths_decay: float = 1e-3
    """Weight decay of the strengths."""
    refit_batches: int = 8
    """Batches of training data from which batch normalisation is refit before an architecture is scored; with 0 each
    batch of validation data has statistics of its own."""

    early_stop_skips: int = 0
    """Early stopping (DARTS+, arXiv 1909.06035): the search ends after an epoch whose favoured normal cell, or whole
    architecture where there are no cells, has so many skip connections (the paper: 2); 0: never."""

    def __post_init__(self) -> None:
        self.check_weights()
        for name in ("search_epochs", "steps_per_epoch"):
            require(self, name, getattr(self, name) >= 1, "at least 1")
        require(self, "strengths_learning_rate", is_positive(self.strengths_learning_rate), "a positive number")
        for name in ("weights_last_learning_rate", "weights_decay", "weights_clip_norm", "strengths_decay"):
            require(self, name, is_least(getattr(self, name), 0), "0 or more")
        require(self, "early_stop_skips", self.early_stop_skips >= 0, "0 or more")

    @property
    def epochs(self) -> int:
        """How many epochs there are in all."""
        return self.search_epochs

    @property
    def total_steps(self) -> int:
        """The steps of all epochs."""
        return self.epochs * self.steps_per_epoch

    @property
    def children_per_epoch(self) -> int:
        """How many children make the steps of an epoch; one more scores an architecture."""
        return self.children_of(self.steps_per_epoch)

    @property
    def num_children(self) -> int:
        """How many children the search has."""
        return self.epochs * (self.children_per_epoch + 1)

    def slot(self, begun: int) -> Slot | None:
        """See `Schedule.slot`: the steps of each epoch, then one architecture that is scored."""
        epoch, place = divmod(begun, self.children_per_epoch + 1)
        if epoch >= self.epochs:
            return None
        if place == self.children_per_epoch:
            return Slot(2 * epoch + 1, 0)
        return Slot(2 * epoch, self.count_of(self.steps_per_epoch, place))

    @property
    def nesterov(self) -> bool:
        """Whether the weights' momentum is Nesterov's."""
        return False

    def rate(self, epoch: int) -> float:
        """Return the learning rate of the weights in an epoch, counted from 0."""
        return cosine(self.weights_learning_rate, self.weights_last_learning_rate, epoch / self.search_epochs)

    def for_children(self, children: int) -> Self:
        """Return the options, which must not need more children than the search may have.

        Raises:
            ValueError: they do.
        """
        if children < self.num_children:
            raise ValueError(
                f"`max_children` must be at least {self.num_children:,}: each of {self.epochs:,} epochs takes"
                f" {self.children_per_epoch:,} children for its {self.steps_per_epoch:,} steps, and one that is scored;"
                f" got {children:,}"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class DartsOptions(GradientOptions):
    """Options of DARTS (spec §12)."""

    order: Literal[1, 2] = 1
    """1: strengths by the validation loss with the weights as they are; 2: with the weights after their next step, in
    about three times the time."""
    strengths_objective: Literal["validation", "weighted"] = "validation"
    """What the strengths descend: validation: the validation loss, as in the paper; weighted: the training loss plus
    `validation_weight` times the validation loss, both with the weights as they are (spec §19)."""
    validation_weight: float = 1.0
    """With weighted: weight of the validation loss beside the training loss (lambda)."""
    strengths_beta1: float = 0.5
    """Adam's decay of the strengths' mean gradient (DARTS's search for recurrent cells: 0.9)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "order", self.order in (1, 2), "1 or 2")
        weighted = self.strengths_objective == "weighted"
        require(self, "order", self.order == 1 or not weighted, "1 where `strengths_objective` is weighted")
        require(self, "validation_weight", is_least(self.validation_weight, 0), "0 or more")
        require(self, "strengths_beta1", 0 <= self.strengths_beta1 < 1, "at least 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class SnasOptions(GradientOptions):
    """Options of SNAS (spec §13)."""

    search_epochs: int = 150
    """Epochs of the search; at the end of each, the architecture that the strengths favour is scored."""
    first_temperature: float = 1.0
    """Temperature of the relaxed samples at the start."""
    last_temperature: float = 0.03
    """Temperature at the end, where samples are nearly one-hot; it falls linearly."""
    cost: Cost = "none"
    """What counts in the loss besides the error: the expected logarithm of an option's weights, operations or µs."""
    cost_weight: float = 0.0015
    """Weight of the cost in the loss (the paper's mild constraint)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("first_temperature", "last_temperature"):
            require(self, name, getattr(self, name) > 0, "above 0")
        require(self, "cost_weight", self.cost_weight >= 0, "0 or more")


@dataclass(frozen=True, kw_only=True)
class ProxylessOptions(GradientOptions):
    """Options of ProxylessNAS (spec §14)."""

    search_epochs: int = 120
    """Epochs of the search after the warm-up; at the end of each, the architecture that the strengths favour is
    scored."""
    weights_only_epochs: int = 40
    """Epochs before them, in which only the weights learn, along random paths."""
    weights_only_learning_rate: float = 0.05
    """Learning rate of the weights in the first epoch of the warm-up; it falls to 0 along a cosine."""
    weights_last_learning_rate: float = 0.0
    """Where the learning rate of the search falls to along a cosine, epoch by epoch."""
    weights_decay: float = 4e-5
    """Weight decay of the shared weights."""
    weights_clip_norm: float = 0.0
    """Norm of all gradients of a step's weights together, to which longer ones are scaled down; 0: never."""
    weights_label_smoothing: float = 0.1
    """Share of each label that is spread evenly over all classes, in the loss of the weights' steps and in that of the
    strengths' steps; the accuracy by which reinforce learns has none."""
    strengths_learning_rate: float = 1e-3
    """Learning rate of the strengths (alpha)."""
    strengths_decay: float = 0.0
    """Weight decay of the strengths."""
    mode: Literal["full", "two", "reinforce"] = "full"
    """full: all options of each choice are computed for a step of the strengths (the published code's full_v2); two:
    two of them, and the strengths take plain gradient steps; reinforce: paths are scored, for the policy gradient."""
    strengths_period: int = 5
    """Steps of the weights for each step of the strengths."""
    paths_per_step: int = 10
    """With reinforce: paths that are scored for a step of the strengths."""
    cost: Cost = "none"
    """What is held down besides the error: the expected number of weights or operations, or the expected latency, from
    a table that is measured when the run is made."""
    cost_loss: Literal["add", "add#linear", "mul#log"] = "mul#log"
    """How the cost E enters the loss, beside the cross-entropy CE: add: CE + `cost_weight` * E, as in the paper;
    add#linear: CE + `cost_weight` * (E / `cost_reference` - 1); mul#log, the published code's default: `cost_scale` *
    CE * (log E / log `cost_reference`) ** `cost_power`."""
    cost_reference: float = 1e6
    """Cost that is aimed at: a number of weights or of operations, or the µs for one image."""
    cost_weight: float = 0.1
    """Weight of the cost in the two sums."""
    cost_scale: float = 0.2
    """Factor of the product."""
    cost_power: float = 0.3
    """Power of the product's ratio; 0: the cost does not count."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "weights_only_epochs", self.weights_only_epochs >= 0, "0 or more")
        require(self, "weights_only_learning_rate", self.weights_only_learning_rate > 0, "a positive number")
        require(self, "weights_momentum", self.weights_momentum > 0, "above 0, as the momentum is Nesterov's")
        require(self, "weights_label_smoothing", 0 <= self.weights_label_smoothing < 1, "at least 0 and below 1")
        require(self, "strengths_period", self.strengths_period >= 1, "at least 1")
        require(self, "paths_per_step", self.paths_per_step >= 2, "at least 2, as their mean reward is subtracted")
        require(self, "cost_reference", self.cost_reference > 1, "above 1")
        require(self, "cost_scale", is_positive(self.cost_scale), "a positive number")
        for name in ("cost_weight", "cost_power"):
            require(self, name, is_least(getattr(self, name), 0), "0 or more")
        require(self, "strengths_decay", self.mode != "two" or not self.strengths_decay, "0 where `mode` is two")

    @property
    def epochs(self) -> int:
        """How many epochs there are in all."""
        return self.weights_only_epochs + self.search_epochs

    @property
    def nesterov(self) -> bool:
        """Whether the weights' momentum is Nesterov's."""
        return True

    def rate(self, epoch: int) -> float:
        """Return the learning rate of the weights in an epoch, counted from 0."""
        if epoch < self.weights_only_epochs:
            return cosine(self.weights_only_learning_rate, 0.0, epoch / self.weights_only_epochs)
        return super().rate(epoch - self.weights_only_epochs)
