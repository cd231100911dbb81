"""Early stopping by learning-curve prediction (Baker et al. 2018, arXiv 1705.10823)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

from child_trainer.outcome import Stopped
from controller.stopping.curve_model import CurveModel
from controller.stopping.stopper import KnownCurve, KnownCurves, metric_of

MAX_CURVES = 200
"""Curves that a model is fitted to at most, the latest ones; the paper's have 100."""


@dataclass(kw_only=True)
class CurvePrediction:
    """Stops a child that exceeds the best one at its end with a probability below delta.

    Each epoch has a model of its own, which predicts the final metric from the values until then. It is fitted to the
    curves of the first children that were trained to their last epoch: of `min_children`, and again of twice as many
    and so on, so that it follows from what is recorded and not from when it is asked. The prediction is taken for a
    normal distribution around the predicted metric, or around the present one if that is better, whose deviation is
    that of the model's errors on curves that it was not fitted to.

    Attributes:
        min_epochs: epochs that each child is trained.
        min_children: complete curves that the first models are fitted to.
        delta: least probability of exceeding the best child with which a child goes on.
        seed: of the models' draws.
        lower_is_better: whether the metric is better the lower it is.
    """

    min_epochs: int
    min_children: int
    delta: float
    seed: int
    lower_is_better: bool
    _models: dict[tuple[int, tuple[int, ...]], CurveModel] = field(default_factory=dict, init=False, repr=False)

    def judge(self, child: KnownCurve, known: KnownCurves) -> Stopped | None:
        """See `Stopper.judge`."""
        epoch, best = len(child.values), known.best_ended
        if epoch < self.min_epochs or child.best >= best or len(known.complete) < self.min_children:
            return None
        predicted, deviation = self._model(epoch, known.complete).predict(child)
        expected = max(predicted, child.best)
        probability = 1 - NormalDist(expected, deviation).cdf(best)
        if probability >= self.delta:
            return None
        final, record = (metric_of(value, lower_is_better=self.lower_is_better) for value in (expected, best))
        return Stopped(
            epoch=epoch,
            reason=f"it is predicted to end at {final:.4g}, and to exceed the best child, {record:.4g}, with a"
            f" probability of {probability:.2g}, which is below {self.delta:g}",
            predicted=final,
        )

    def _model(self, epoch: int, complete: Sequence[KnownCurve]) -> CurveModel:
        """Return the model of an epoch, fitted to the curves that were complete at the last doubling."""
        size = self.min_children
        while 2 * size <= len(complete):
            size *= 2
        curves = complete[max(0, size - max(MAX_CURVES, self.min_children)) : size]
        key = epoch, tuple(curve.child_id for curve in curves)
        if key not in self._models:
            self._models[key] = CurveModel.fitted(curves, epoch, self.seed)
        return self._models[key]
