"""Makes the stopper of a run from its options."""

from typing import assert_never

from controller.stopping.halving import Halving
from controller.stopping.median import MedianRule
from controller.stopping.options import StoppingOptions
from controller.stopping.stopper import Stopper


def make_stopper(options: StoppingOptions, epochs: int, seed: int, *, lower_is_better: bool) -> Stopper | None:
    """Return the stopper that the options ask for, or `None` if no child is stopped early.

    Args:
        options: of early stopping.
        epochs: of a whole training.
        seed: of its random draws.
        lower_is_better: whether the metric is better the lower it is.
    """
    least = options.stop_min_epochs, options.min_children
    match options.early_stop:
        case None:
            return None
        case "median":
            return MedianRule(min_epochs=least[0], min_children=least[1], lower_is_better=lower_is_better)
        case "halving":
            return Halving(options=options, epochs=epochs, lower_is_better=lower_is_better)
        case "curve":
            from controller.stopping.curve import CurvePrediction  # scikit-learn takes a second

            return CurvePrediction(
                min_epochs=least[0],
                min_children=least[1],
                delta=options.stop_delta,
                seed=seed,
                lower_is_better=lower_is_better,
            )
        case other:
            assert_never(other)
