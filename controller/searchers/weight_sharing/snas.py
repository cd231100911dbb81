"""SNAS (Xie et al. 2019, arXiv 1812.09926; spec §13): strengths and weights by one loss, through relaxed samples."""

from collections.abc import Mapping
from typing import Any

from controller.searchers.weight_sharing.gradient_options import SnasOptions
from controller.searchers.weight_sharing.gradient_search import GradientSearch
from controller.space import SearchSpace


class Snas(GradientSearch):
    """In each step one relaxed sample of an architecture moves the strengths and the weights by the training loss."""

    name = "snas"
    first_strengths = (1.0, 0.01)
    keeps_before = True

    def __init__(self, space: SearchSpace, options: SnasOptions) -> None:
        super().__init__(space, options)
        self._own = options

    def objective(self, epoch: int) -> tuple[str, dict[str, float | str]]:
        """Return the objective; its temperature falls from step to step."""
        own = self._own
        return "snas", {
            "first_temperature": own.first_temperature,
            "last_temperature": own.last_temperature,
            "cost_weight": 0.0 if own.cost == "none" else own.cost_weight,
            "clip_norm": own.weights_clip_norm,
        }

    @property
    def costs(self) -> Mapping[str, Any]:
        """The table of costs, which counts logarithms."""
        return {} if self._own.cost == "none" else {"costs": self._own.cost, "log_costs": True}
