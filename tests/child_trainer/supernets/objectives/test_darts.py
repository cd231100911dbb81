from dataclasses import dataclass

import pytest
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.architectures.cells.darts_supernet import supernet
from child_trainer.supernets.network import SupernetNetwork
from child_trainer.supernets.objectives import darts
from child_trainer.supernets.objectives.darts import DARTS, WEIGHTED, unrolled
from child_trainer.supernets.objectives.gradients import Gradients
from tests.child_trainer.supernets.problem import Problem
from tests.contracts.objective import Data

PROBLEM = Problem((2, 6, 6), 4)
WINDOW = {"height": 3, "width": 3, "filters": 3, "order": "conv"}
# Without kinks, so that second derivatives exist everywhere.
SMOOTH = Architecture(
    "feedforward",
    (
        node("stem", "conv", "image", **WINDOW),
        node("norm", "batch_norm", "stem"),
        node("a", "conv", "norm", **WINDOW),
        node("b", "sin", "norm"),
        node("first", "mix", ("a", "b", "norm"), gate="first"),
        node("c", "conv", "first", **WINDOW),
        node("d", "tanh", "c"),
        node("second", "mix", ("d", "first"), gate="second"),
    ),
    ("second",),
)


@dataclass
class Setting:
    """A supernet in float64 with data, weights and strengths."""

    network: SupernetNetwork
    data: Data
    weights: dict[str, Tensor]
    strengths: dict[str, Tensor]

    def step(self, objective, half, **values):
        settings = objective.settings_of(values)
        draw = objective.half_steps[half].draw(
            self.network.gate_sizes, self.strengths, settings, Generator().manual_seed(0)
        )
        return objective.half_steps[half].step(self.network, self.data, self.weights, draw, settings)

    def loss(self, batch, weights, strengths) -> Tensor:
        gates = {name: alpha.softmax(0) for name, alpha in strengths.items()}
        return F.cross_entropy(self.network(weights, batch[0], gates), batch[1])


@pytest.fixture(scope="module")
def smooth() -> Setting:
    network = SupernetNetwork(SMOOTH, PROBLEM)
    generator = Generator().manual_seed(5)
    strengths = {
        name: torch.randn(size, generator=generator, dtype=torch.float64) for name, size in network.gate_sizes.items()
    }
    weights = {name: tensor.double() for name, tensor in network.initial(0).items()}
    return Setting(network, Data(PROBLEM.images(16).double(), PROBLEM.labels(16)), weights, strengths)


# --- The second order --------------------------------------------------------------------------------------------


def test_the_unrolled_gradient_of_a_quadratic_is_the_closed_form():  # spec §12.2, T12.1, G13
    """L_train = |w - A a|^2 / 2 and L_val = |w|^2 / 2 give xi A^T w', with w' = w - xi (w - A a)."""
    generator, rate = Generator().manual_seed(0), 0.1
    matrix = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    alpha = torch.randn(3, generator=generator, dtype=torch.float64)
    w = torch.randn(5, generator=generator, dtype=torch.float64)

    def training(weights, of):
        residual = weights["w"] - matrix @ alpha
        return Gradients({"w": residual}, [[-matrix.T @ residual]], residual.square().sum() / 2, 0.0)

    def validation(weights, of):
        return Gradients({"w": weights["w"]}, [[torch.zeros(3).double()]], weights["w"].square().sum() / 2, 0.0)

    ((found,),) = unrolled(training, validation, {"w": w}, rate).gates
    ahead = w - rate * (w - matrix @ alpha)
    torch.testing.assert_close(found, rate * matrix.T @ ahead, rtol=0, atol=1e-6)


def exact(setting: Setting, rate: float, decay: float) -> dict[str, Tensor]:
    """The unrolled gradient by automatic differentiation through the step itself."""
    training, validation = setting.data.training(), setting.data.validation()

    def after_a_step(strengths):
        gradients = torch.func.grad(lambda w: setting.loss(training, w, strengths))(setting.weights)
        ahead = {name: w - rate * (gradients[name] + decay * w) for name, w in setting.weights.items()}
        return setting.loss(validation, ahead, strengths)

    return torch.func.grad(after_a_step)(setting.strengths)


def error(setting: Setting, monkeypatch: pytest.MonkeyPatch, length: float, **values: float) -> float:
    """The largest difference between the measured and the exact gradient, with this step of the measurement."""
    monkeypatch.setattr(darts, "UNROLLED_STEP", length)
    found = setting.step(DARTS, 0, order=2, **values).strengths
    truth = exact(setting, values["rate"], values.get("decay", 0.0))
    return max((found[name] - truth[name]).abs().max().item() for name in truth)


def test_the_measured_second_derivative_is_exact_up_to_the_square_of_its_step(smooth, monkeypatch):
    rough, fine = (error(smooth, monkeypatch, length, rate=0.5) for length in (0.1, 0.01))
    assert rough > 1e-9
    assert fine == pytest.approx(rough / 100, rel=0.2)
    assert error(smooth, monkeypatch, 0.01, rate=0.5, decay=0.1) < 1e-6


def test_the_second_order_differs_from_the_first_by_the_look_ahead(smooth):
    first, second = (smooth.step(DARTS, 0, order=order, rate=0.5).strengths for order in (1, 2))
    nearly = smooth.step(DARTS, 0, order=2, rate=1e-9).strengths
    assert any((first[name] - second[name]).abs().max() > 1e-5 for name in first)
    for name, gradient in first.items():
        torch.testing.assert_close(nearly[name], gradient, rtol=1e-6, atol=1e-8)


# --- The first order ---------------------------------------------------------------------------------------------


def test_the_first_order_is_the_gradient_of_the_validation_loss(smooth):
    truth = torch.func.grad(lambda s: smooth.loss(smooth.data.validation(), smooth.weights, s))(smooth.strengths)
    step = smooth.step(DARTS, 0)
    assert not step.weights
    for name, gradient in step.strengths.items():
        torch.testing.assert_close(gradient, truth[name])
        assert gradient.ne(0).all()  # spec §12.4: no strength is left out
        assert gradient.sum().item() == pytest.approx(0, abs=1e-12)  # a softmax does not see a shift
    assert step.loss == pytest.approx(smooth.loss(smooth.data.validation(), smooth.weights, smooth.strengths).item())


def test_the_weights_follow_the_training_loss(smooth):
    truth = torch.func.grad(lambda w: smooth.loss(smooth.data.training(), w, smooth.strengths))(smooth.weights)
    step = smooth.step(DARTS, 1)
    assert not step.strengths
    assert step.weights.keys() == truth.keys()
    for name, gradient in step.weights.items():
        torch.testing.assert_close(gradient, truth[name])


@pytest.mark.parametrize(("order", "passes"), [(1, 1), (2, 4)])
def test_the_first_order_has_one_backward_pass_and_none_through_weights(smooth, monkeypatch, order, passes):
    asked = []
    real = torch.autograd.grad

    def counted(outputs, inputs, *args, **kwargs):
        asked.append([tuple(x.shape) for x in inputs])
        return real(outputs, inputs, *args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    smooth.step(DARTS, 0, order=order)
    through_losses = asked[:-1]  # The last one goes from the gates to the strengths.
    assert len(through_losses) == passes
    assert any((3, 3, 3, 3) in shapes for shapes in through_losses) == (order == 2)


def test_every_strength_of_the_darts_supernet_is_learnt():
    network = SupernetNetwork(supernet(cells=2, filters=2, nodes=2), PROBLEM)
    data = Data(PROBLEM.images(8), PROBLEM.labels(8))
    setting = Setting(
        network, data, network.initial(0), {name: torch.zeros(size) for name, size in network.gate_sizes.items()}
    )
    step = setting.step(DARTS, 0)
    assert all(gradient.ne(0).all() for gradient in step.strengths.values())


# --- Both losses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0])
def test_the_weighted_objective_adds_the_losses(smooth, weight):  # spec §19
    def loss(strengths: dict[str, Tensor]) -> Tensor:
        training, validation = smooth.data.training(), smooth.data.validation()
        return smooth.loss(training, smooth.weights, strengths) + weight * smooth.loss(
            validation, smooth.weights, strengths
        )

    truth = torch.func.grad(loss)(smooth.strengths)
    step = smooth.step(WEIGHTED, 0, validation_weight=weight)
    for name, gradient in step.strengths.items():
        torch.testing.assert_close(gradient, truth[name])


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="`order` must be 1 or 2, got 3"):
        DARTS.settings_of({"order": 3})
    with pytest.raises(ValueError, match="`rate` must be above 0, got 0"):
        DARTS.settings_of({"rate": 0})
    with pytest.raises(ValueError, match="`validation_weight` must be 0 or more, got -1"):
        WEIGHTED.settings_of({"validation_weight": -1})
