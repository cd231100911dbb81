"""ENAS's policy (spec §6.1) against its definition, and T6.2."""

import math

import pytest
import torch

from controller.decisions import Decisions, enumerate_samples
from controller.policies.enas import EnasPolicy, skip_divergence
from controller.spaces.enas_macro import EnasMacroSpace

SPACE = EnasMacroSpace(layers=3, operations=("conv_3x3", "max_3x3"), filters=2)
DECISIONS: Decisions = SPACE.decisions(0)


@pytest.fixture
def policy() -> EnasPolicy:
    policy = EnasPolicy(SPACE.choice_sizes(), hidden=5, bound=1.5)
    policy.initialize(torch.Generator().manual_seed(1), 2.0)
    return policy


def test_the_probabilities_of_all_samples_sum_to_one(policy: EnasPolicy) -> None:
    samples = list(enumerate_samples(DECISIONS))
    assert len(samples) == 2**3 * 2**3
    assert policy.log_prob(DECISIONS, torch.tensor(samples)).exp().sum().item() == pytest.approx(1.0, abs=1e-5)


def test_samples_are_drawn_with_the_probabilities_that_they_are_scored_with(policy: EnasPolicy) -> None:
    drawn = policy.sample(DECISIONS, 50, torch.Generator().manual_seed(3))
    assert torch.allclose(drawn.log_prob, policy.log_prob(DECISIONS, drawn.tokens), atol=1e-6)


def test_layers_share_one_softmax_and_one_embedding_and_nothing_has_a_bias(policy: EnasPolicy) -> None:
    names = dict(policy.named_parameters())
    assert sum(name.startswith("heads") for name in names) == 1
    assert sum(name.startswith("embeddings") for name in names) == 1
    assert not [name for name in names if "bias" in name]


def test_logits_are_bounded(policy: EnasPolicy) -> None:
    """An operation's odds are at most e^(2 * 1.5) to 1, and so are a skip's: its logits are -q and q."""
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(100)
    samples = torch.tensor(list(enumerate_samples(DECISIONS)))
    least = policy.log_prob(DECISIONS, samples).exp().min().item()
    decisions = 3 + 3
    assert least >= (1 / (1 + math.exp(3.0))) ** decisions * 0.999


def test_the_scores_of_skips_are_those_that_they_are_sampled_with(policy: EnasPolicy) -> None:
    samples = torch.tensor(list(enumerate_samples(DECISIONS)))
    rollout, scores = policy.score_skips(DECISIONS, samples)
    assert [tuple(score.shape) for score in scores] == [(64, 1), (64, 2)]
    probability = rollout.log_prob.exp()
    # The first skip is the token after the second layer's operation.
    taken = samples[:, 2] == 1
    expected = (probability * torch.sigmoid(scores[0][:, 0])).sum()
    assert probability[taken].sum().item() == pytest.approx(expected.item(), abs=1e-5)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_the_divergence_is_0_at_the_prior_and_numeric_elsewhere() -> None:
    at_prior = [torch.full((1, 1), logit(0.4)), torch.full((1, 2), logit(0.4))]
    assert skip_divergence(at_prior, 0.4).item() == pytest.approx(0.0, abs=1e-7)
    scores = [torch.tensor([[logit(0.5)]]), torch.tensor([[logit(0.1), logit(0.9)]])]

    def kl(p: float) -> float:
        return p * math.log(p / 0.4) + (1 - p) * math.log((1 - p) / 0.6)

    assert skip_divergence(scores, 0.4).item() == pytest.approx((kl(0.5) + kl(0.1) + kl(0.9)) / 2, rel=1e-5)


def test_as_in_the_authors_code_it_is_0_where_skips_are_sampled_with_308() -> None:
    """T6.2's quirk: the divergence takes sigmoid(q) for the probability, and sampling sigmoid(2 q)."""
    score = torch.full((1, 1), logit(4 / 13))
    assert torch.sigmoid(score).item() == pytest.approx(0.308, abs=5e-4)
    assert skip_divergence([score], 0.4, compatible=True).item() == pytest.approx(0.0, abs=1e-6)
    assert skip_divergence([score], 0.4).item() > 0.01
