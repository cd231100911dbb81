"""DARTS (Liu et al. 2019, arXiv 1806.09055; spec §12): strengths by validation loss, weights by training loss."""

from controller.searchers.weight_sharing.gradient_options import DartsOptions
from controller.searchers.weight_sharing.gradient_search import GradientSearch
from controller.space import SearchSpace


class Darts(GradientSearch):
    """In each step the strengths first descend the validation loss, then the weights the training loss."""

    name = "darts"

    def __init__(self, space: SearchSpace, options: DartsOptions) -> None:
        super().__init__(space, options)
        self._order, self._beta1 = options.order, options.strengths_beta1

    def strengths_rule(self) -> tuple[str, dict[str, float]]:
        """Return the optimizer of the strengths and its options."""
        optimizer, rule = super().strengths_rule()
        return optimizer, rule | {"beta1": self._beta1}

    def objective(self, epoch: int) -> tuple[str, dict[str, float | str]]:
        """Return the objective; the second order looks ahead by the step that the weights will take."""
        options = self._options
        settings: dict[str, float | str] = {"order": self._order, "clip_norm": options.weights_clip_norm}
        if self._order == 2:
            settings |= {"rate": options.rate(epoch), "decay": options.weights_decay}
        return "darts", settings
