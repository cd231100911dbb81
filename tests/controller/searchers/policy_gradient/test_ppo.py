"""Proximal policy optimisation: the clipped objective, its passes, and its likeness to REINFORCE (spec §3.2, T3.4)."""

import math
from dataclasses import replace

import pytest
import torch

from controller.searcher import ChildRecord, Searcher
from controller.searchers.policy_gradient.options import PpoOptions, ReinforceOptions
from controller.searchers.policy_gradient.policy_searcher import BASELINE
from controller.searchers.policy_gradient.ppo import MAX_LOG_RATIO, Ppo, clipped_surrogate
from controller.searchers.policy_gradient.reinforce import Reinforce
from controller.spaces.convolutional import ConvolutionalSpace
from tests.contracts.searcher import SearcherContract, end, initial, view

SPACE = ConvolutionalSpace(strides=(1, 2), layer_types=("conv", "pool"), initial_depth=3, max_depth=4)

OPTIONS = PpoOptions(controller_units=35, controller_layers=2, entropy_bonus=0.01)


class TestPpo(SearcherContract):
    def make(self) -> Searcher:
        return Ppo(SPACE, OPTIONS)


def batch(searcher: Searcher) -> tuple[dict[str, torch.Tensor], list[ChildRecord]]:
    parameters = initial(searcher)
    return parameters, end(searcher, parameters, n=8)


def test_at_ratio_one_the_gradient_is_that_of_reinforce() -> None:
    """Spec T3.4."""
    ppo = Ppo(SPACE, OPTIONS)
    reinforce = Reinforce(SPACE, ReinforceOptions(entropy_bonus=0.01))
    parameters, children = batch(ppo)
    one, other = (searcher.learn(children, view(parameters)).gradients for searcher in (ppo, reinforce))
    assert one.keys() | {BASELINE} == other.keys()
    for name, gradient in one.items():
        torch.testing.assert_close(gradient, other[name], rtol=0, atol=1e-7)
    assert any(gradient.abs().max() > 1e-3 for gradient in one.values())


def test_a_queue_is_learnt_from_as_by_reinforce() -> None:
    queue = {"queue_size": 2, "queue_weight": 0.3}
    ppo = Ppo(SPACE, replace(OPTIONS, **queue))
    reinforce = Reinforce(SPACE, ReinforceOptions(entropy_bonus=0.01, queue_size=2, queue_weight=0.3))
    parameters, children = batch(ppo)
    now = view(parameters, completed=8, ended=children)
    without = Ppo(SPACE, OPTIONS).learn(children, now).gradients
    one, other = (searcher.learn(children, now).gradients for searcher in (ppo, reinforce))
    for name, gradient in one.items():
        torch.testing.assert_close(gradient, other[name], rtol=0, atol=1e-6)
    assert any(not torch.allclose(gradient, without[name], atol=1e-3) for name, gradient in one.items())


def test_a_child_that_the_clip_holds_has_no_gradient() -> None:
    ratios = torch.tensor([0.5, 0.9, 1.0, 1.1, 1.5, 0.5, 1.5], requires_grad=True)
    advantages = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, -1.0, -1.0])
    surrogate, clipped = clipped_surrogate(ratios, advantages, 0.2)
    assert surrogate.tolist() == pytest.approx([0.5, 0.9, 1.0, 1.1, 1.2, -0.8, -1.5])
    assert clipped.tolist() == [False, False, False, False, True, True, False]
    surrogate.sum().backward()
    # A child that has become likelier than at its sampling is pushed no further, and neither is a bad one that has
    # become less likely; one that went the wrong way is still brought back.
    assert ratios.grad is not None
    assert ratios.grad.tolist() == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, -1.0]


def test_policy_that_moved_beyond_the_clip_gets_no_gradient_from_good_children() -> None:
    searcher = Ppo(SPACE, replace(OPTIONS, entropy_bonus=0.0))
    parameters, children = batch(searcher)
    good = [replace(children[0], reward=1.0, log_prob=(children[0].log_prob or 0.0) - 1.0)]
    parameters[BASELINE] = torch.tensor([0.5, 1.0])
    update = searcher.learn(good, view(parameters))
    assert update.figures["ratio_clipped"] == 1.0
    assert update.figures["policy_ratio"] == pytest.approx(torch.e, rel=1e-4)
    assert all(not gradient.any() for gradient in update.gradients.values())


def test_a_late_child_that_has_become_likely_gives_finite_gradients() -> None:
    """Of a policy that settled meanwhile: exp(200) is no float32. It is still pushed down if it is bad."""
    searcher = Ppo(SPACE, replace(OPTIONS, entropy_bonus=0.0))
    parameters, children = batch(searcher)
    parameters[BASELINE] = torch.tensor([0.5, 1.0])
    late = [replace(children[0], reward=0.0, log_prob=(children[0].log_prob or 0.0) - 200.0)]
    update = searcher.learn(late, view(parameters))
    assert all(gradient.isfinite().all() for gradient in update.gradients.values())
    assert any(gradient.any() for name, gradient in update.gradients.items() if name != BASELINE)
    assert update.figures["policy_ratio"] == pytest.approx(math.exp(MAX_LOG_RATIO), rel=1e-4)


def test_the_baseline_moves_once_for_each_batch() -> None:
    searcher = Ppo(SPACE, OPTIONS)
    parameters, children = batch(searcher)
    pushed = [
        BASELINE in searcher.learn(children, replace(view(parameters), turn=turn)).gradients
        for turn in range(OPTIONS.passes)
    ]
    assert pushed == [False, False, False, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio_clip": 0.0}, "`ratio_clip` must be above 0 and below 1, got 0.0"),
        ({"ratio_clip": 1.0}, "`ratio_clip` must be above 0"),
        ({"passes": 0}, "`passes` must be from 1 to 1,000, got 0"),
        ({"passes": 1001}, "`passes` must be from 1 to 1,000"),
        ({"entropy_bonus": float("nan")}, "`entropy_bonus` must be 0 or more"),
        ({"controller_units": 0}, "`controller_units` must be at least 1"),
    ],
)
def test_options_are_checked(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PpoOptions(**options)  # type: ignore[arg-type]
