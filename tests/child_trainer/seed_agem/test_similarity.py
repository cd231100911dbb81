"""T17.4: similarity of outputs, the structural penalty in both forms, and the reward."""

import math

import pytest
import torch
from torch import Tensor

from child_trainer.seed_agem.options import Target
from child_trainer.seed_agem.similarity import (
    agreement_matrix,
    cosine_matrix,
    mean_similarity,
    similarity_reward,
    structural_penalty,
)

TARGETS: tuple[Target, ...] = ("ones", "identity")


def random_outputs(networks: int, examples: int = 5, classes: int = 4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(networks, examples, classes, generator=generator, dtype=torch.float64).softmax(-1)


def one_hot_disjoint() -> Tensor:
    first = torch.zeros(3, 4, dtype=torch.float64)
    second = first.clone()
    first[:, 0], second[:, 1] = 1, 1
    return torch.stack([first, second])


def naive_penalty(outputs: Tensor, target: Target, weight: float) -> float:
    """The formula as it is written, one pair and one example after another."""
    networks, examples, _ = outputs.shape
    total = 0.0
    for i in range(networks):
        for j in range(networks):
            pairs = list(zip(outputs[i], outputs[j], strict=True))
            agreement = sum(1 - (p - q).abs().sum().item() / 2 for p, q in pairs) / examples
            cosine = sum((p @ q / (p.norm() * q.norm())).item() for p, q in pairs) / examples
            wanted = 1.0 if target == "ones" or i == j else 0.0
            total += (agreement - wanted) ** 2 + (weight * (1 - cosine) / math.pi if i != j else 0.0)
    return total


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_the_penalty_is_the_formula(target: Target, weight: float) -> None:
    outputs = random_outputs(3)
    assert structural_penalty(outputs, target, weight).item() == pytest.approx(
        naive_penalty(outputs, target, weight), abs=1e-12
    )


def test_equal_outputs_have_no_penalty_and_the_whole_reward() -> None:
    outputs = random_outputs(1).expand(3, -1, -1)
    penalty = structural_penalty(outputs).item()
    assert penalty == pytest.approx(0, abs=1e-12)
    assert similarity_reward(penalty, 3) == pytest.approx(1, abs=1e-12)
    assert similarity_reward(penalty, 3) <= 1
    assert mean_similarity(outputs).item() == pytest.approx(1, abs=1e-12)
    assert structural_penalty(outputs, "identity").item() == pytest.approx(6, abs=1e-12)


@pytest.mark.parametrize("weight", [1.0, 2.5])
def test_disjoint_one_hot_outputs_have_the_penalties_of_the_closed_form(weight: float) -> None:
    outputs = one_hot_disjoint()
    assert torch.equal(agreement_matrix(outputs), torch.eye(2, dtype=torch.float64))
    assert torch.equal(cosine_matrix(outputs), torch.eye(2, dtype=torch.float64))
    identity, ones = (structural_penalty(outputs, target, weight).item() for target in ("identity", "ones"))
    assert identity == pytest.approx(2 * weight / math.pi, abs=1e-12)
    assert ones == pytest.approx(2 + 2 * weight / math.pi, abs=1e-12)
    assert similarity_reward(ones, 2) == pytest.approx(math.exp(-ones / 2))


@pytest.mark.parametrize("target", TARGETS)
def test_the_order_of_the_sub_networks_does_not_matter(target: Target) -> None:
    outputs = random_outputs(4)
    again = structural_penalty(outputs[[2, 0, 3, 1]], target)
    torch.testing.assert_close(again, structural_penalty(outputs, target), atol=1e-12, rtol=0)


@pytest.mark.parametrize("target", TARGETS)
def test_the_penalty_has_the_right_gradient(target: Target) -> None:
    logits = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: structural_penalty(x.softmax(-1), target, 1.5), (logits,))
    assert torch.autograd.gradcheck(lambda x: mean_similarity(x.softmax(-1)), (logits,))


def test_it_is_not_convex_as_the_article_claims() -> None:
    """Two points whose middle has more than their mean: of the article's term -<P, Q>, and of the penalty itself."""

    def product(a: list[float], b: list[float]) -> float:
        return -sum(x * y for x, y in zip(a, b, strict=True))

    assert product([0.5, 0.5], [0.5, 0.5]) > (product([1, 0], [1, 0]) + product([0, 1], [0, 1])) / 2

    def penalty(share: float) -> float:
        outputs = torch.tensor([[[1.0, 0.0]], [[share, 1 - share]]], dtype=torch.float64)
        return structural_penalty(outputs, weight=10.0).item()

    assert penalty(0.25) > (penalty(0.5) + penalty(0.0)) / 2 + 0.1
