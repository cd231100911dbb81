import math
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from child_trainer.architectures.architecture import Architecture
from child_trainer.outcome import Cause, Failure, Measure, Outcome
from controller.decisions import Choice, Decisions, Subset, enumerate_samples
from controller.policies.lstm import Policy
from controller.reward import accuracy, cubed_accuracy, perplexity
from controller.searcher import ChildRecord, Proposal, Searcher
from controller.searchers.policy_gradient.options import ReinforceOptions
from controller.searchers.policy_gradient.policy_searcher import BASELINE, baseline, best_different
from controller.searchers.policy_gradient.reinforce import Reinforce
from controller.searchers.random_search import RandomSearch
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.nasbench201 import NasBench201Space
from ps.local import LocalStore
from ps.store import Group, Layout, Push
from tests.contracts.searcher import SearcherContract, end, initial, recorded, view

SPACE = ConvolutionalSpace(strides=(1, 2), layer_types=("conv", "pool"), initial_depth=3, max_depth=4)


class TestReinforce(SearcherContract):
    def make(self) -> Searcher:
        return Reinforce(SPACE, ReinforceOptions())


class TestReinforceWithImportanceWeights(SearcherContract):
    def make(self) -> Searcher:
        return Reinforce(SPACE, ReinforceOptions(importance_clip=1.0))


class TestRandomSearch(SearcherContract):
    def make(self) -> Searcher:
        return RandomSearch(SPACE)


def outcome(*curve: float, failure: Failure | None = None) -> Outcome:
    return Outcome(curve=curve, seconds=1.0, parameters=10, flops=10, seed=0, failure=failure)


def child(number: int, tokens: Sequence[int], reward: float) -> ChildRecord:
    """Return a child of a toy space; its architecture does not matter."""
    proposal = Proposal(tokens=tuple(tokens), architecture=ARCHITECTURE)
    return recorded(number, proposal, outcome=outcome(reward), reward=reward)


ARCHITECTURE = ConvolutionalSpace(initial_depth=1).decode([0, 0, 0])


class ToySpace:
    """One or two decisions, so that expectations can be enumerated."""

    def __init__(self, decisions: Decisions) -> None:
        self._decisions = decisions

    def decisions(self, completed: int) -> Decisions:
        return self._decisions

    def decisions_of(self, num_tokens: int) -> Decisions:
        return self._decisions

    def choice_sizes(self) -> dict[str, int]:
        return {d.name: len(d.options) for d in self._decisions if isinstance(d, Choice)}

    def decode(self, tokens: Sequence[int]) -> Architecture:
        return ARCHITECTURE


def flat(gradients: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> Tensor:
    """Return the policy's gradients as one vector, zero where a tensor has none."""
    names = sorted(name for name in like if name != BASELINE)
    return torch.cat([gradients.get(name, torch.zeros_like(like[name])).flatten() for name in names])


def with_baseline(parameters: dict[str, Tensor], b: float) -> dict[str, Tensor]:
    return {**parameters, BASELINE: torch.tensor([b, 1.0])}


def test_gradient_of_one_categorical_is_the_closed_form() -> None:
    """Spec T0.3: (R - b)(softmax(z) - onehot(a)), read off the gradient of the head's bias, which is dz."""
    searcher = Reinforce(ToySpace((Choice("a", (1, 2, 3)),)), ReinforceOptions())
    parameters = with_baseline(initial(searcher), 0.3)
    policy = Policy({"a_0": 3})
    policy.load_state_dict({name: parameters[name] for name in policy.state_dict()})
    tokens = torch.tensor([[0], [1], [2]])
    probabilities = policy.log_prob((Choice("a", (1, 2, 3)),), tokens).exp()
    update = searcher.learn([child(1, [2], 0.9)], view(parameters))
    expected = (0.9 - 0.3) * (probabilities - torch.tensor([0.0, 0.0, 1.0]))
    assert torch.allclose(update.gradients["heads.a_0.bias"], expected, atol=1e-6)


@pytest.mark.parametrize("bit", [0, 1])
def test_gradient_of_one_bit_is_the_closed_form(bit: int) -> None:
    """Spec T0.4: dz = (R - b)(sigmoid(z) - y); z is linear in v, so dv = dz * tanh(...)."""
    decisions = (Subset("s", 0), Subset("s", 1))
    searcher = Reinforce(ToySpace(decisions), ReinforceOptions(controller_init=0.5))
    parameters = with_baseline(initial(searcher), 0.2)
    policy = Policy({})
    policy.load_state_dict({name: parameters[name] for name in policy.state_dict()})
    yes = policy.log_prob(decisions, torch.tensor([[1]])).exp()
    score = torch.log(yes / (1 - yes))
    (direction,) = torch.autograd.grad(score.sum(), [policy.v])
    update = searcher.learn([child(1, [bit], 0.7)], view(parameters))
    expected = (0.7 - 0.2) * (yes - bit) * direction
    assert torch.allclose(update.gradients["v"], expected, atol=1e-5)


def test_estimator_is_unbiased_and_any_baseline_leaves_it_so() -> None:
    """Spec T0.6, by enumeration over a two-step space, in units of the analytic gradient of -E[R]."""
    decisions = (Choice("a", (1, 2, 3)), Choice("b", (1, 2)))
    searcher = Reinforce(ToySpace(decisions), ReinforceOptions(controller_init=0.5))
    parameters = initial(searcher)
    policy = Policy({"a_0": 3, "b_0": 2})
    policy.load_state_dict({name: parameters[name] for name in policy.state_dict()})
    samples = list(enumerate_samples(decisions))
    rewards = torch.tensor([0.9, 0.1, 0.4, 0.8, 0.3, 0.6])
    probability = policy.log_prob(decisions, torch.tensor(samples)).exp()
    names, weights = zip(*policy.named_parameters(), strict=True)
    analytic = torch.autograd.grad(-(probability * rewards).sum(), weights, materialize_grads=True)
    for b in (0.0, 0.5, -3.0):
        estimate = sum(
            p * flat(searcher.learn([child(1, tokens, r)], view(with_baseline(parameters, b))).gradients, parameters)
            for p, tokens, r in zip(probability.tolist(), samples, rewards.tolist(), strict=True)
        )
        assert torch.allclose(estimate, flat(dict(zip(names, analytic, strict=True)), parameters), atol=1e-6)


def test_a_batch_gives_the_mean_of_its_childrens_gradients() -> None:
    searcher = Reinforce(SPACE, ReinforceOptions())
    parameters = with_baseline(initial(searcher), 0.4)
    proposals = searcher.ask(3, view(parameters))
    children = [recorded(i, p, outcome=outcome(0.1), reward=0.3 * i) for i, p in enumerate(proposals)]
    alone = torch.stack([flat(searcher.learn([c], view(parameters)).gradients, parameters) for c in children])
    together = searcher.learn(children, view(parameters))
    assert torch.allclose(flat(together.gradients, parameters), alone.mean(0), atol=1e-6)
    assert together.gradients[BASELINE].tolist() == pytest.approx([0.3, 1.0])


@pytest.mark.parametrize("space", [SPACE, NasBench201Space()])
@pytest.mark.parametrize("count", [1, 3, 4])
@pytest.mark.parametrize(
    "options",
    [{"entropy_bonus": 0.0}, {"entropy_bonus": 0.001}, {"entropy_bonus": 0.3, "importance_clip": 0.9}],
)
def test_children_that_were_just_drawn_have_the_gradient_of_children_that_are_scored(
    space: Any, count: int, options: dict[str, float]
) -> None:
    """To the bit: what is drawn and learnt from at once takes no part in PyTorch's automatic differentiation."""
    searcher = Reinforce(space, ReinforceOptions(controller_init=0.5, **options))
    parameters = with_baseline(initial(searcher), 0.4)
    seen = view(parameters)
    proposals = searcher.ask(count, replace(seen, rng=random.Random(3)))
    children = [recorded(i, p, outcome=outcome(0.1), reward=0.1 + 0.21 * i) for i, p in enumerate(proposals)]
    drawn, scored = searcher.learn(children, seen), searcher.learn(children, seen)
    assert drawn.figures == scored.figures
    assert drawn.gradients.keys() == scored.gradients.keys()
    for name, gradient in drawn.gradients.items():
        assert torch.equal(gradient, scored.gradients[name]), name


@pytest.mark.parametrize("change", ["weights", "in place", "children"])
def test_children_are_scored_if_they_or_the_weights_are_others_than_were_drawn(change: str) -> None:
    searcher, fresh = (Reinforce(SPACE, ReinforceOptions(controller_init=0.5)) for _ in range(2))
    parameters = with_baseline(initial(searcher), 0.4)
    proposals = searcher.ask(3, view(parameters))
    if change == "weights":
        parameters = stale(parameters, 0.1)
    if change == "in place":
        parameters["v"].add_(1.0)
        parameters["start"].add_(1.0)
    children = [recorded(i, p, outcome=outcome(0.1), reward=0.3 * i) for i, p in enumerate(proposals)]
    children = children[:2] if change == "children" else children
    found, expected = searcher.learn(children, view(parameters)), fresh.learn(children, view(parameters))
    assert found.figures == expected.figures
    assert all(torch.equal(found.gradients[name], gradient) for name, gradient in expected.gradients.items())


def test_children_of_different_depths_share_a_batch() -> None:
    """The depth may grow between two batches; `learn` takes children of any mixture of depths."""
    space = ConvolutionalSpace(initial_depth=2, depth_interval=1, depth_step=1, max_depth=3)
    searcher = Reinforce(space, ReinforceOptions())
    parameters = with_baseline(initial(searcher), 0.4)
    proposals = searcher.ask(2, view(parameters)) + searcher.ask(1, view(parameters, completed=1))
    children = [recorded(i, p, outcome=outcome(0.1), reward=0.3 * i) for i, p in enumerate(proposals)]
    alone = torch.stack([flat(searcher.learn([c], view(parameters)).gradients, parameters) for c in children])
    assert torch.allclose(
        flat(searcher.learn(children, view(parameters)).gradients, parameters), alone.mean(0), atol=1e-6
    )


def test_choices_of_layers_that_no_child_has_are_not_pushed() -> None:
    """Otherwise Adam would count steps for them, and correct the bias of their first real steps too little."""
    searcher = Reinforce(ConvolutionalSpace(initial_depth=1, max_depth=2), ReinforceOptions())
    parameters = initial(searcher)
    proposals = searcher.ask(2, view(parameters))
    children = [recorded(i, p, outcome=outcome(0.1), reward=0.3 * i) for i, p in enumerate(proposals)]
    pushed = searcher.learn(children, view(parameters)).gradients.keys()
    assert "heads.filter_height_1.weight" in pushed
    assert not [name for name in pushed if name.endswith(("_2.weight", "_2.bias"))]


def test_the_first_batch_is_its_own_baseline() -> None:
    """Spec §1.5: b starts at the first rewards' mean, so equal first rewards have no gradient."""
    searcher = Reinforce(SPACE, ReinforceOptions())
    parameters = initial(searcher)
    assert baseline(parameters) is None
    proposals = searcher.ask(3, view(parameters))
    children = [recorded(i, p, outcome=outcome(0.5), reward=0.5) for i, p in enumerate(proposals)]
    update = searcher.learn(children, view(parameters))
    assert update.figures["baseline"] == 0.5
    assert flat(update.gradients, parameters).abs().max() == 0


def stale(parameters: Mapping[str, Tensor], by: float) -> dict[str, Tensor]:
    """Return changed weights, as after steps of other replicas."""
    generator = torch.Generator().manual_seed(5)
    return {
        name: value if name == BASELINE else value + by * torch.randn(value.shape, generator=generator)
        for name, value in parameters.items()
    }


@pytest.mark.parametrize("clip", [0.5, 1.0, 1.5, 100.0])
def test_importance_weights_follow_the_papers(clip: float) -> None:
    """-(1/m) sum_k min(clip, P_now(k) / P_sampled(k)) (R_k - b) grad log P_now(k), a child and a tensor at a time."""
    plain, searcher = (Reinforce(SPACE, ReinforceOptions(importance_clip=c)) for c in (None, clip))
    sampled = with_baseline(initial(searcher), 0.4)
    now = stale(sampled, 0.05)
    proposals = searcher.ask(6, view(sampled))
    children = [recorded(i, p, outcome=outcome(0.1), reward=0.2 * i) for i, p in enumerate(proposals)]
    policy = Policy(SPACE.choice_sizes())
    policy.load_state_dict({name: now[name] for name in policy.state_dict()})
    expected = torch.zeros_like(flat({}, now))
    weights: list[float] = []
    for c in children:
        tokens = torch.tensor([c.tokens])
        log_prob = policy.log_prob(SPACE.decisions_of(tokens.shape[1]), tokens).item()
        assert c.log_prob is not None
        weights.append(math.exp(log_prob - c.log_prob))
        expected += min(clip, weights[-1]) * flat(plain.learn([c], view(now)).gradients, now) / len(children)
    assert min(weights) < 0.9
    assert max(weights) > 1.1
    update = searcher.learn(children, view(now))
    assert torch.allclose(flat(update.gradients, now), expected, atol=1e-5)
    assert not torch.allclose(flat(plain.learn(children, view(now)).gradients, now), expected, atol=1e-4)
    assert update.figures["importance_weight"] == pytest.approx(sum(min(clip, w) for w in weights) / 6, rel=1e-3)
    assert update.figures["importance_clipped"] == pytest.approx(sum(w > clip for w in weights) / 6)
    # What the baseline observes is what the children earned, however likely they are now.
    assert update.gradients[BASELINE].tolist() == pytest.approx([0.5, 1.0])


def test_without_clipping_the_estimate_is_unbiased_for_samples_of_any_weights() -> None:
    """By enumeration over a two-step space: E over the old policy of the weighted gradient is the new one's own."""
    decisions = (Choice("a", (1, 2, 3)), Choice("b", (1, 2)))
    searcher = Reinforce(ToySpace(decisions), ReinforceOptions(controller_init=0.5, importance_clip=1e6))
    old = with_baseline(initial(searcher), 0.3)
    now = stale(old, 0.3)
    policies = {}
    for name, parameters in (("old", old), ("now", now)):
        policies[name] = Policy({"a_0": 3, "b_0": 2})
        policies[name].load_state_dict({n: parameters[n] for n in policies[name].state_dict()})
    samples = list(enumerate_samples(decisions))
    rewards = torch.tensor([0.9, 0.1, 0.4, 0.8, 0.3, 0.6])
    behind, ahead = (policies[name].log_prob(decisions, torch.tensor(samples)) for name in ("old", "now"))
    names, weights = zip(*policies["now"].named_parameters(), strict=True)
    analytic = torch.autograd.grad(-(ahead.exp() * rewards).sum(), weights, materialize_grads=True)
    estimate = torch.zeros_like(flat({}, now))
    for log_prob, tokens, reward in zip(behind.tolist(), samples, rewards.tolist(), strict=True):
        proposal = Proposal(tokens=tuple(tokens), architecture=ARCHITECTURE, log_prob=log_prob)
        sample = recorded(1, proposal, outcome=outcome(reward), reward=reward)
        estimate += math.exp(log_prob) * flat(searcher.learn([sample], view(now)).gradients, now)
    assert torch.allclose(estimate, flat(dict(zip(names, analytic, strict=True)), now), atol=1e-5)


def test_importance_weights_of_new_samples_are_one() -> None:
    plain, searcher = (Reinforce(SPACE, ReinforceOptions(importance_clip=clip)) for clip in (None, 1.0))
    parameters = with_baseline(initial(searcher), 0.4)
    children = end(searcher, parameters)
    update, usual = (s.learn(children, view(parameters)) for s in (searcher, plain))
    assert torch.allclose(flat(update.gradients, parameters), flat(usual.gradients, parameters), atol=1e-5)
    assert update.figures["importance_weight"] == pytest.approx(1, abs=1e-4)
    assert "importance_weight" not in usual.figures


@pytest.mark.parametrize("clip", [0.0, -1.0, math.inf, math.nan])
def test_a_clip_that_is_not_positive_is_rejected(clip: float) -> None:
    with pytest.raises(ValueError, match="`importance_clip` must be a positive number, got"):
        ReinforceOptions(importance_clip=clip)


def store_of(searcher: Reinforce, shards: int = 1) -> LocalStore:
    groups = searcher.parameters(0)
    layout = Layout(
        run="test",
        shards=shards,
        groups=tuple(
            Group(
                name=g.name,
                shapes={n: tuple(v.shape) for n, v in g.values.items()},
                optimizer=g.optimizer,
                options=g.options,
            )
            for g in groups
        ),
    )
    store = LocalStore(layout)
    store.initialize(initial(searcher))
    return store


def test_baseline_on_the_shard_is_the_moving_average() -> None:
    """Spec T0.5: after n identical rewards R from 0 the average is R(1 - decay^n); the quotient is R at once."""
    searcher = Reinforce(SPACE, ReinforceOptions(baseline_decay=0.9))
    store = store_of(searcher)
    for n in range(1, 8):
        snapshot = store.pull()
        children = [recorded(1, searcher.ask(1, view(snapshot.values))[0], outcome=outcome(0.6), reward=0.6)]
        update = searcher.learn(children, view(snapshot.values))
        store.push(Push(client="a", sequence=n, gradients=update.gradients, versions=snapshot.versions))
        value, weight = store.pull().values[BASELINE].tolist()
        assert value == pytest.approx(0.6 * (1 - 0.9**n), rel=1e-5)
        assert weight == pytest.approx(1 - 0.9**n, rel=1e-5)
        assert baseline(store.pull().values) == pytest.approx(0.6, rel=1e-5)


def test_shard_count_does_not_change_twenty_pushes() -> None:
    """Spec T1.5: K = 1, S in {1, 3, 20}: bit-identical parameters."""

    def after_twenty(shards: int) -> dict[str, Tensor]:
        searcher = Reinforce(SPACE, ReinforceOptions())
        store = store_of(searcher, shards)
        for n in range(1, 21):
            snapshot = store.pull()
            seen = view(snapshot.values, seed=n)
            children = [
                recorded(i, p, outcome=outcome(0.1), reward=((i * 7 + n) % 10) / 10)
                for i, p in enumerate(searcher.ask(4, seen))
            ]
            update = searcher.learn(children, seen)
            store.push(Push(client="a", sequence=n, gradients=update.gradients, versions=snapshot.versions))
        return store.pull().values

    one, three, twenty = (after_twenty(shards) for shards in (1, 3, 20))
    for name, value in one.items():
        assert torch.equal(value, three[name]), name
        assert torch.equal(value, twenty[name]), name


def search(searcher: Searcher, pushes: int, replicas: int, seed: int) -> list[float]:
    """Return the mean reward of each batch of 8; the reward is the share of tokens that equal a target (spec T1.6).

    All replicas of a round pull before any of them pushes, so that the staleness is up to K - 1.
    """
    target = random.Random(seed).choices(range(4), k=18)
    store = store_of(searcher) if isinstance(searcher, Reinforce) else None
    means = []
    for n in range(1, pushes // replicas + 1):
        pulled = [store.pull() if store else None for _ in range(replicas)]
        for replica, snapshot in enumerate(pulled):
            seen = view(snapshot.values if snapshot else {}, seed=seed * 10**6 + n * 100 + replica)
            children = []
            for i, p in enumerate(searcher.ask(8, seen)):
                reward = sum(t == w for t, w in zip(p.tokens, target, strict=True)) / len(target)
                children.append(recorded(i, p, outcome=outcome(reward), reward=reward))
            update = searcher.learn(children, seen)
            if store and snapshot:
                client = f"replica-{replica}"
                store.push(Push(client=client, sequence=n, gradients=update.gradients, versions=snapshot.versions))
            means.append(sum(c.reward or 0.0 for c in children) / 8)
    return means


CHAIN = ConvolutionalSpace(skip_connections=False)
FAST = ReinforceOptions(controller_learning_rate=5e-3)


def test_reinforce_converges() -> None:
    """Spec T1.6: from about 1/4 to above 0.9 within 400 pushes of K = 4 replicas with m = 8."""
    means = search(Reinforce(CHAIN, FAST), pushes=400, replicas=4, seed=1)
    assert 0.15 < sum(means[:4]) / 4 < 0.35
    assert sum(means[-10:]) / 10 > 0.9


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_reinforce_beats_random_search(seed: int) -> None:
    learnt = search(Reinforce(CHAIN, FAST), pushes=120, replicas=2, seed=seed)[-20:]
    drawn = search(RandomSearch(CHAIN), pushes=120, replicas=2, seed=seed)[-20:]
    assert sum(learnt) / 20 > sum(drawn) / 20 + 0.1


def test_rewards_follow_the_paper() -> None:
    """Spec §1.6: the best of the last five, cubed; a failed child gives 0."""
    assert cubed_accuracy(outcome(0.9, 0.5, 0.6, 0.8, 0.7, 0.5)) == 0.8**3
    assert accuracy(outcome(0.9, 0.5)) == 0.9
    assert cubed_accuracy(outcome(0.9, failure=Failure(cause=Cause.DIVERGED, message="NaN"))) == 0.0
    assert cubed_accuracy(outcome()) == 0.0
    assert math.isclose(cubed_accuracy(outcome(0.5)), 0.125)


def test_the_reward_of_a_perplexity() -> None:
    """Spec §2.3: 80 / perplexity^2 of the lowest of the last five, however large it is; a failed child gives 0."""

    def found(*curve: float, failure: Failure | None = None) -> Outcome:
        return replace(outcome(*curve, failure=failure), measure=Measure.PERPLEXITY)

    assert perplexity(found(5.0, 40.0, 20.0, 30.0, 50.0, 60.0)) == 80 / 20.0**2
    assert perplexity(found(40.0, failure=Failure(cause=Cause.DIVERGED, message="NaN"))) == 0.0
    assert perplexity(found()) == 0.0
    for beyond_a_finite_square in (2e155, sys.float_info.max):
        assert perplexity(found(beyond_a_finite_square)) == 0.0


def test_the_entropy_bonus_pulls_the_gradient_towards_more_entropy() -> None:
    """With equal rewards only the bonus has a gradient, and a step along it raises the entropy."""
    space = ConvolutionalSpace(initial_depth=2, max_depth=2)

    def step(bonus: float) -> tuple[float, float]:
        searcher = Reinforce(space, ReinforceOptions(entropy_bonus=bonus, controller_init=0.5))
        parameters = initial(searcher, 1)
        children = [replace(child, reward=0.5) for child in end(searcher, parameters)]
        update = searcher.learn(children, view(parameters))
        stepped = {n: v - 0.01 * update.gradients[n] if n in update.gradients else v for n, v in parameters.items()}
        stepped["baseline"] = parameters["baseline"]
        return update.figures["entropy"], searcher.learn(children, view(stepped)).figures["entropy"]

    before, after = step(1.0)
    assert after > before + 1e-4
    before, after = step(0.0)
    assert after == pytest.approx(before, abs=1e-6)


def test_an_impossible_entropy_bonus_is_refused() -> None:
    for wrong in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="`entropy_bonus` must be 0 or more"):
            ReinforceOptions(entropy_bonus=wrong)


class TestReinforceWithAQueue(SearcherContract):
    def make(self) -> Searcher:
        return Reinforce(SPACE, ReinforceOptions(queue_size=2))


def test_a_queue_adds_the_likelihood_of_the_best_different_children() -> None:
    """Priority queue training (Abolafia et al. 2018): the gradient of -weight * the mean log P, beside REINFORCE's."""
    options = ReinforceOptions(queue_size=2, queue_weight=0.3)
    plain, queued = Reinforce(SPACE, ReinforceOptions()), Reinforce(SPACE, options)
    parameters = initial(plain)
    children = end(plain, parameters, n=6)
    now = view(parameters, completed=6, ended=[*children, replace(children[5], id=7, reward=0.1)])
    assert [child.id for child in best_different(now.history(), 2)] == [6, 5]
    without, with_queue = (searcher.learn(children, now).gradients for searcher in (plain, queued))
    policy = Policy(SPACE.choice_sizes())
    policy.load_state_dict({name: value for name, value in parameters.items() if name != BASELINE})
    tokens = torch.tensor([children[5].tokens, children[4].tokens])
    policy.score(SPACE.decisions_of(tokens.shape[1]), tokens).log_prob.mean().backward()
    for name, weight in policy.named_parameters():
        if weight.grad is not None:
            assert torch.allclose(with_queue[name], without[name] - 0.3 * weight.grad, atol=1e-6)
    assert torch.equal(with_queue[BASELINE], without[BASELINE])


def test_the_queue_has_no_child_without_a_reward_and_none_twice() -> None:
    children = end(Reinforce(SPACE, ReinforceOptions()), initial(Reinforce(SPACE, ReinforceOptions())), n=4)
    history = [replace(children[3], id=9, reward=2.0), *children, replace(children[2], id=8, reward=None)]
    assert [child.id for child in best_different(history, 3)] == [9, 3, 2]
    assert best_different([], 3) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"queue_size": -1}, "`queue_size` must be from 0 to 10,000, got -1"),
        ({"queue_size": 10_001}, "`queue_size` must be from 0 to 10,000, got 10001"),
        ({"queue_weight": 0.0}, "`queue_weight` must be a positive number, got 0.0"),
    ],
)
def test_an_impossible_queue_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReinforceOptions(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("learnt", [slice(None), slice(1, 3)], ids=["all", "some"])
def test_learning_from_what_was_just_sampled_gives_what_a_new_searcher_learns(learnt: slice) -> None:
    """As a replica that has died in between, whose successor has not sampled the children."""
    options = ReinforceOptions(queue_size=2, entropy_bonus=0.1)
    searcher = Reinforce(SPACE, options)
    parameters = with_baseline(initial(searcher), 0.25)
    children = end(searcher, parameters)[learnt]
    seen = view(parameters, ended=children)
    updates = [
        searcher.learn(children, seen),
        searcher.learn(children, seen),
        Reinforce(SPACE, options).learn(children, seen),
    ]
    for update in updates[:2]:
        assert update.figures == updates[2].figures
        assert update.gradients.keys() == updates[2].gradients.keys()
        assert all(torch.equal(gradient, updates[2].gradients[name]) for name, gradient in update.gradients.items())


def test_samples_of_other_weights_are_scored_again() -> None:
    searcher = Reinforce(SPACE, ReinforceOptions())
    parameters = with_baseline(initial(searcher), 0.25)
    children = end(searcher, parameters)
    moved = {name: value + 0.125 for name, value in parameters.items()}
    update, expected = (one.learn(children, view(moved)) for one in (searcher, Reinforce(SPACE, ReinforceOptions())))
    assert all(torch.equal(gradient, expected.gradients[name]) for name, gradient in update.gradients.items())
