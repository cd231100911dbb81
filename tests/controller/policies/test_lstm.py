import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from controller.decisions import Choice, Condition, Decisions, Pointer, Subset, Tokens, enumerate_samples
from controller.policies.lstm import Policy
from controller.policies.rollout import Rollout, decide, drawing
from controller.spaces.convolutional import ConvolutionalSpace

CHOICE_SIZES = {"type_1": 2, "filters_1": 3, "pool_1": 2, "type_2": 2, "pool_0": 2, "units_0": 3}


def narrower(tokens: Tokens) -> tuple[int, ...]:
    """Allow a later option than that of the second token only, or the last."""
    return tuple(range(min(tokens[1] + 1, 2), 3))


TOY: Decisions = (
    Choice("type", ("conv", "pool"), 1),
    Choice("filters", (8, 16, 32), 1, Condition(0, (0,))),
    Choice("pool", (2, 3), 1, Condition(0, (1,))),
    Subset("skip", 0),
    Choice("type", ("conv", "pool"), 2),
    Subset("skip", 1),
    Pointer("from", 2),
    Choice("pool", (2, 3)),
    Subset("skip", 3),
    Choice("units", (64, 32, 16), when=Condition(4, (1,)), allowed=narrower),
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def policy() -> Policy:
    policy = Policy(CHOICE_SIZES, hidden=7)
    policy.initialize(generator(), bound=0.8)  # far from uniform
    return policy


def test_log_prob_of_samples_is_the_sampling_log_prob(policy: Policy) -> None:
    """Spec T0.1."""
    rollout = policy.sample(TOY, 64, generator())
    assert torch.equal(policy.log_prob(TOY, rollout.tokens), rollout.log_prob)
    assert torch.equal(policy.entropy(TOY, rollout.tokens), rollout.entropy)


def test_probabilities_of_all_samples_add_up_to_one(policy: Policy) -> None:
    """Spec T0.2, with every kind of decision."""
    tokens = torch.tensor(list(enumerate_samples(TOY)))
    assert policy.log_prob(TOY, tokens).double().exp().sum().item() == pytest.approx(1.0, abs=1e-6)


def test_expected_entropy_is_minus_the_expected_log_prob(policy: Policy) -> None:
    """Summed conditional entropies along samples have the joint entropy as their expectation."""
    scored = policy.score(TOY, torch.tensor(list(enumerate_samples(TOY))))
    probability = scored.log_prob.exp()
    joint = -(probability * scored.log_prob).sum()
    assert (probability * scored.entropy).sum().item() == pytest.approx(joint.item(), abs=1e-5)


def test_samples_follow_the_probabilities(policy: Policy) -> None:
    all_tokens = torch.tensor(list(enumerate_samples(TOY)))
    expected = policy.log_prob(TOY, all_tokens).exp()
    drawn = policy.sample(TOY, 20_000, generator()).tokens
    counts = (drawn[:, None] == all_tokens[None]).all(-1).sum(0)
    assert counts.sum() == 20_000  # nothing outside the space
    chi_square = ((counts - 20_000 * expected) ** 2 / (20_000 * expected)).sum().item()
    degrees = len(all_tokens) - 1
    assert chi_square < degrees + 5 * math.sqrt(2 * degrees)


@pytest.mark.parametrize("depth", [1, 6, 15])
def test_log_prob_under_zero_weights_is_the_closed_form(depth: int) -> None:
    """Spec T1.4."""
    space = ConvolutionalSpace(initial_depth=depth)
    policy = Policy(space.choice_sizes())
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
    expected = -depth * 3 * math.log(4) - depth * (depth - 1) / 2 * math.log(2)
    rollout = policy.sample(space.decisions(0), 3, generator())
    assert rollout.log_prob.tolist() == pytest.approx([expected] * 3, rel=1e-6)


def test_the_controller_is_the_papers() -> None:
    """Spec §1.5: two LSTM layers of 35 units, all weights uniform in [-0.08, 0.08]."""
    policy = Policy(ConvolutionalSpace().choice_sizes())
    policy.initialize(generator())
    weights = torch.cat([p.flatten() for p in policy.parameters()])
    assert [tuple(cell.weight_hh.shape) for cell in policy.cells] == [(140, 35)] * 2  # type: ignore[union-attr]
    assert 0.079 < weights.abs().max() <= 0.08
    assert abs(weights.mean()) < 0.002
    assert weights.std().item() == pytest.approx(0.16 / math.sqrt(12), rel=0.02)


@dataclass
class Naive:
    """The controller as the paper writes it: one sample, one step after another, no batch. Slow on purpose."""

    policy: Policy

    def log_prob(self, decisions: Decisions, tokens: list[int]) -> Tensor:
        policy, total, used = self.policy, torch.zeros(()), 0
        states = [(torch.zeros(policy.hidden), torch.zeros(policy.hidden)) for _ in policy.cells]
        next_input, anchors, values = policy.start, [], []
        for decision in decisions:
            own = tokens[used : used + decision.width]
            used += decision.width
            values.append(own[0] if own else None)
            if (
                isinstance(decision, Choice)
                and decision.when
                and values[decision.when.decision] not in decision.when.tokens
            ):
                continue
            x = next_input if isinstance(decision, Choice) else policy.anchor
            for i, cell in enumerate(policy.cells):
                states[i] = cell(x, states[i])
                x = states[i][0]
            h = x
            if isinstance(decision, Choice):
                logits = policy.heads[decision.name](h)
                if decision.allowed is not None:
                    forbidden = set(range(len(logits))) - set(decision.allowed(tuple(tokens[: used - 1])))
                    logits = logits.index_fill(0, torch.tensor(sorted(forbidden), dtype=torch.int64), -math.inf)
                total = total + torch.log_softmax(logits, 0)[own[0]]
                next_input = policy.embeddings[decision.name].weight[own[0]]  # type: ignore[union-attr,index]
                continue
            scores = [policy.v @ torch.tanh(policy.w_prev @ h_j + policy.w_curr @ h) for h_j in anchors]
            if isinstance(decision, Subset):
                for bit, score in zip(own, scores, strict=True):
                    total = total + torch.log(torch.sigmoid(score) if bit else 1 - torch.sigmoid(score))
                selected = [h_j for bit, h_j in zip(own, anchors, strict=True) if bit]
            else:
                index = own[0] if own else 0
                total = total + torch.log_softmax(torch.stack(scores), 0)[index]
                selected = [anchors[index]]
            next_input = torch.stack(selected).mean(0) if selected else torch.zeros(policy.hidden)
            anchors.append(h)
        return total


def test_batched_policy_agrees_with_the_naive_one(policy: Policy) -> None:
    rollout = policy.sample(TOY, 16, generator(3))
    naive = torch.stack([Naive(policy).log_prob(TOY, tokens) for tokens in rollout.tokens.tolist()])
    assert torch.allclose(naive, rollout.log_prob, atol=1e-5)


def test_gradients_agree_with_the_naive_ones(policy: Policy) -> None:
    tokens = policy.sample(TOY, 8, generator(4)).tokens
    scored = policy.log_prob(TOY, tokens).sum()
    ours = torch.autograd.grad(scored, list(policy.parameters()), materialize_grads=True)
    naive = sum(Naive(policy).log_prob(TOY, row) for row in tokens.tolist())
    theirs = torch.autograd.grad(naive, list(policy.parameters()), materialize_grads=True)  # type: ignore[arg-type]
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(ours, theirs, strict=True))


PASSED: Mapping[str, Decisions] = {
    "choices and subsets": (
        Subset("skip", 0),
        Choice("type", ("conv", "pool"), 1),
        Subset("skip", 1),
        Subset("skip", 2),
        Choice("units", (64, 32, 16), allowed=narrower),
        Choice("type", ("conv", "pool"), 1),
        Subset("skip", 0),
        Subset("skip", 1),
    ),
    "choices": tuple(Choice("pool", (2, 3), place) for place in (1, 0, 1)),
    "the paper's": ConvolutionalSpace(initial_depth=4).decisions(0),
}


@pytest.mark.parametrize("name", PASSED)
@pytest.mark.parametrize(("hidden", "layers", "count"), [(35, 2, 8), (7, 1, 5), (64, 3, 1)])
def test_a_pass_written_out_has_the_bits_of_automatic_differentiation(
    name: str, hidden: int, layers: int, count: int
) -> None:
    decisions = PASSED[name]
    choices = {one.name: len(one.options) for one in decisions if isinstance(one, Choice)}
    policy = Policy(choices, hidden=hidden, layers=layers)
    policy.initialize(generator(1), bound=0.5)
    weights = torch.arange(1.0, count + 1)
    losses: list[Callable[[Rollout], Tensor]] = [
        lambda one: (weights * one.log_prob).sum(),
        lambda one: (weights * one.log_prob).sum() - 0.1 * one.entropy.mean(),
        lambda one: one.entropy.square().sum(),
    ]
    for loss in losses:
        drawn = policy.sample(decisions, count, generator(2), differentiable=True)
        by_torch = policy._unroll(decisions, count, drawing(generator(2)), decide)
        for one, other in zip(drawn, by_torch, strict=True):
            assert torch.equal(one, other)
        total = loss(drawn)
        torch.autograd.grad(
            total, list(policy.parameters()), retain_graph=True, allow_unused=True
        )  # it may be taken twice
        gradients, expected = policy.gradients(total), policy.gradients(loss(by_torch))
        assert gradients.keys() == expected.keys() != policy.weights.keys()
        for weight, gradient in gradients.items():
            if weight == "v":  # a sum that MKL takes in another order on Intel's processors
                assert torch.allclose(gradient, expected[weight], rtol=1e-5, atol=1e-6), weight
            else:
                assert torch.equal(gradient, expected[weight]), weight


@pytest.mark.parametrize(
    "loss_of",
    [
        pytest.param(lambda one, *_: (one.log_prob * torch.arange(4.0)).mean(), id="one"),
        pytest.param(lambda one, *_: (one.log_prob * one.entropy).sum() + one.entropy[0], id="one, both results"),
        pytest.param(lambda one, other, _: (one.log_prob * other.log_prob).sum(), id="two"),
        pytest.param(lambda one, _, graph: one.log_prob.sum() + graph.log_prob[0], id="one, and a graph of PyTorch's"),
        pytest.param(lambda _, __, graph: graph.log_prob.sum(), id="a graph of PyTorch's"),
    ],
)
@pytest.mark.parametrize("weighs", [False, True], ids=["scores alone", "and a weight itself"])
def test_gradients_of_any_number_of_passes_are_those_of_automatic_differentiation(
    policy: Policy, loss_of: Callable[..., Tensor], *, weighs: bool
) -> None:
    """A single pass is differentiated past PyTorch's engine; nothing else that a loss depends on is left out."""

    def loss() -> Tensor:
        decisions = (PASSED["choices and subsets"], PASSED["choices and subsets"], TOY)
        scored = [policy.sample(one, 4, generator(seed), differentiable=True) for seed, one in enumerate(decisions)]
        return loss_of(*scored) + (policy.v.square().sum() if weighs else 0)

    names, weights = list(policy.weights), list(policy.weights.values())
    by_torch = zip(names, torch.autograd.grad(loss(), weights, allow_unused=True), strict=True)
    expected = {name: gradient for name, gradient in by_torch if gradient is not None}
    gradients = policy.gradients(loss())
    assert list(gradients) == list(expected)
    assert all(torch.equal(gradients[name], expected[name]) for name in expected)


def test_a_gradient_at_changed_weights_and_probabilities_that_are_none_are_errors() -> None:
    decisions = PASSED["choices"]
    policy = Policy({"pool_0": 2, "pool_1": 2})
    policy.initialize(generator())
    loss = policy.sample(decisions, 3, generator(), differentiable=True).log_prob.sum()
    policy.load({name: value + 1 for name, value in policy.values().items()})
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        policy.gradients(loss)
    policy.load({name: value * math.nan for name, value in policy.values().items()})
    with pytest.raises(ValueError, match="not finite"):
        policy.sample(decisions, 3, generator())


def test_differentiable_samples_are_scored_to_the_bit(policy: Policy) -> None:
    drawn = policy.sample(TOY, 6, generator(), differentiable=True)
    plain = policy.sample(TOY, 6, generator())
    scored = policy.score(TOY, plain.tokens)
    assert torch.equal(drawn.tokens, plain.tokens)
    assert not plain.log_prob.requires_grad
    weights = torch.arange(6.0)
    gradients = [policy.gradients((weights * one.log_prob).sum() + 0.1 * one.entropy.mean()) for one in (drawn, scored)]
    assert torch.equal(drawn.log_prob, scored.log_prob)
    assert torch.equal(drawn.entropy, scored.entropy)
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradient, gradients[1][name]) for name, gradient in gradients[0].items())


def test_weights_are_loaded_again_unless_nothing_has_changed(policy: Policy) -> None:
    pulled = policy.values()
    assert not policy.load(pulled)
    assert policy.load(pulled)
    pulled["v"].add_(1.0)
    assert not policy.load(pulled)
    assert torch.equal(policy.v, pulled["v"])
    with torch.no_grad():
        policy.v.zero_()
    assert not policy.load(pulled)
    pulled["v"] = pulled["v"].clone()
    assert not policy.load(pulled)
    assert torch.equal(policy.v, pulled["v"])
