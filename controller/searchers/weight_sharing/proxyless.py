"""ProxylessNAS (Cai et al. 2019, arXiv 1812.00332; spec §14): weights and strengths along sampled paths in turn."""

from collections.abc import Mapping
from typing import Any

from controller.searchers.weight_sharing.gradient_options import ProxylessOptions
from controller.searchers.weight_sharing.gradient_search import GradientSearch
from controller.space import SearchSpace

OBJECTIVES = {"full": "proxyless", "two": "proxyless-two", "reinforce": "proxyless-reinforce"}
"""The objective of each mode."""


class Proxyless(GradientSearch):
    """The weights of one sampled path learn in each step; the strengths at every few, after a warm-up without them."""

    name = "proxyless"

    def __init__(self, space: SearchSpace, options: ProxylessOptions) -> None:
        super().__init__(space, options)
        self._own = options

    def objective(self, epoch: int) -> tuple[str, dict[str, float | str]]:
        """Return the objective: that of the mode, after the warm-up."""
        own = self._own
        settings: dict[str, float | str] = {
            "label_smoothing": own.weights_label_smoothing,
            "clip_norm": own.weights_clip_norm,
        }
        if epoch < own.weights_only_epochs:
            return "proxyless-warm-up", settings
        settings["period"] = own.strengths_period
        if own.mode == "two":
            settings["rate"] = own.strengths_learning_rate
        if own.mode == "reinforce":
            settings["samples"] = own.paths_per_step
            if own.cost == "none":
                settings["reward_power"] = 0.0
        if own.cost != "none":
            settings["cost_reference"] = own.cost_reference
            if own.mode != "reinforce":
                names = ("cost_loss", "cost_weight", "cost_scale", "cost_power")
                settings |= {name: getattr(own, name) for name in names}
        return OBJECTIVES[own.mode], settings

    def strengths_rule(self) -> tuple[str, dict[str, float]]:
        """Return Adam without momentum; with two paths plain gradient steps, whose effect the worker computes."""
        rate = self._own.strengths_learning_rate
        if self._own.mode == "two":
            return "sgd", {"lr": rate}
        return "adam", {"lr": rate, "beta1": 0.0, "beta2": 0.999, "weight_decay": self._own.strengths_decay}

    @property
    def costs(self) -> Mapping[str, Any]:
        """The table of costs."""
        return {} if self._own.cost == "none" else {"costs": self._own.cost}
