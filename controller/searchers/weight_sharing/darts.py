"""DARTS (Liu et al. 2019, arXiv 1806.09055; spec §12): strengths by validation loss, weights by training loss.

Also the objective of spec §19, by which the strengths descend both.
"""

from controller.searchers.weight_sharing.gradient_options import DartsOptions
from controller.searchers.weight_sharing.gradient_search import GradientSearch
from controller.space import SearchSpace


class Darts(GradientSearch):
    """In each step the strengths first descend the validation loss, or both losses, then the weights descend theirs."""

    name = "darts"

    def __init__(self, space: SearchSpace, options: DartsOptions) -> None:
        super().__init__(space, options)
        self._own = options

    def strengths_rule(self) -> tuple[str, dict[str, float]]:
        """Return the optimizer of the strengths and its options."""
        optimizer, rule = super().strengths_rule()
        return optimizer, rule | {"beta1": self._own.strengths_beta1}

    def objective(self, epoch: int) -> tuple[str, dict[str, float | str]]:
        """Return the objective; the second order looks ahead by the step that the weights will take."""
        own = self._own
        if own.strengths_objective == "weighted":
            return "weighted", {"validation_weight": own.validation_weight, "clip_norm": own.weights_clip_norm}
        settings: dict[str, float | str] = {"order": own.order, "clip_norm": own.weights_clip_norm}
        if own.order == 2:
            settings |= {"rate": own.rate(epoch), "decay": own.weights_decay}
        return "darts", settings
