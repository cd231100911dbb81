"""The searcher `seed-agem`: its reward, its gradient, and the children that it emits at last (spec §17.7, §17.8)."""

import itertools
from collections.abc import Sequence

import pytest
import torch

from child_trainer.outcome import Cause, Failure, Outcome
from child_trainer.seed_agem.options import SIMILARITY_REWARD
from controller.searcher import Proposal, Searcher
from controller.searchers.policy_gradient.policy_searcher import BASELINE
from controller.searchers.seed_agem import searcher as module
from controller.searchers.seed_agem.options import SeedAgemOptions
from controller.searchers.seed_agem.searcher import EMITTED, LEAD_PENALTY, SELECTION_REWARD, SeedAgem
from controller.searchers.seed_agem.selection import LEAST_WIDTH
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.subnetworks import SubnetworkSpace
from tests.contracts.searcher import SearcherContract, initial, recorded, view

SPACE = SubnetworkSpace(layers=2)

TINY = SubnetworkSpace(
    layers=1,
    selection_steps=2,
    filter_heights=(1,),
    filter_widths=(1,),
    num_filters=(4, 8),
    activations=("relu",),
    skip_connections=False,
)
"""16 samples: two numbers of filters and two selections."""


class TestSeedAgem(SearcherContract):
    def make(self) -> Searcher:
        return SeedAgem(SPACE, SeedAgemOptions())


class TestSeedAgemByTheLetter(SearcherContract):
    def make(self) -> Searcher:
        options = SeedAgemOptions(selection="literal", alignment="action", selection_reward="log-odds", queue_size=2)
        return SeedAgem(SPACE, options.for_children(20))


class TestSeedAgemUnaligned(SearcherContract):
    def make(self) -> Searcher:
        return SeedAgem(SPACE, SeedAgemOptions(alignment="none", entropy_bonus=0.01))


def outcome(accuracy: float, *, similarity: float | None = None, failure: Failure | None = None) -> Outcome:
    told = {} if similarity is None else {SIMILARITY_REWARD: similarity}
    return Outcome(curve=(accuracy,), seconds=1.0, parameters=1, flops=1, seed=0, failure=failure, measurements=told)


def proposal(tokens: Sequence[int], reward: float = 0.5, share: float = 0.25) -> Proposal:
    notes = {LEAD_PENALTY: share, SELECTION_REWARD: reward}
    return Proposal(tokens=tuple(tokens), architecture=TINY.decode(tokens), notes=notes)


def test_the_reward_is_accuracy_and_a_tenth_of_each_of_the_others() -> None:
    searcher, tokens = SeedAgem(TINY, SeedAgemOptions()), (0, 0, 0, 0, 0, 1, 0, 0)
    ended = recorded(1, proposal(tokens, reward=0.75), outcome(0.5, similarity=0.9), 0.5)
    assert searcher.reward(ended) == pytest.approx(0.5 + 0.1 * 0.75 + 0.1 * 0.9)
    other = SeedAgem(TINY, SeedAgemOptions(selection_reward_weight=1.0, similarity_reward_weight=0.0))
    assert other.reward(ended) == pytest.approx(1.25)
    failed = outcome(0.5, failure=Failure(cause=Cause.DIVERGED, message=""))
    assert searcher.reward(recorded(1, proposal(tokens), failed, 0.0)) == 0.0


def rewards_of(tokens: Sequence[int]) -> float:
    """Any rewards: here they depend on each token."""
    return 0.1 + 0.3 * tokens[2] + 0.2 * tokens[5] + 0.25 * tokens[6] * tokens[2] - 0.15 * tokens[7]


@pytest.mark.parametrize("alignment", ["none", "action", "random-number"])
def test_the_mean_gradient_over_all_samples_is_that_of_the_expected_reward(
    alignment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T0.6, with the part of the reward that depends on the policy itself."""
    monkeypatch.setattr(module, "THIN", 1e-9)  # no sample counts less
    options = SeedAgemOptions(
        alignment=alignment,  # pyright: ignore[reportArgumentType]
        controller_units=4,
        controller_layers=1,
        controller_init=1.0,
        selection_reward_weight=0.4,
    )
    searcher = SeedAgem(TINY, options)
    parameters = initial(searcher, 3) | {BASELINE: torch.tensor([0.2, 1.0])}
    searcher._policy.load(parameters)
    samples = [
        (0, 0, a, 0, 0, b, s, t)
        for a, b, s, t in itertools.product(range(2), repeat=4)
        if alignment != "action" or s == t
    ]
    bare = [recorded(i, proposal(tokens), outcome(0.0), 0.0) for i, tokens in enumerate(samples)]
    steps, rollout = searcher._rescore(bare)
    p = rollout.log_prob.exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-5)
    rewards = torch.tensor([rewards_of(tokens) for tokens in samples])
    expected = searcher._policy.gradients((p * (rewards + 0.4 * steps.reward_B)).sum())

    found = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for i, tokens in enumerate(samples):
        child = proposal(tokens, reward=steps.reward_B[i].item())
        update = searcher.learn([recorded(i, child, outcome(0.0), rewards_of(tokens))], view(parameters))
        for name, gradient in update.gradients.items():
            found[name] += p[i].item() * gradient.detach()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], -gradient, atol=2e-5, rtol=1e-3)


def test_a_child_of_a_thin_interval_counts_in_proportion_to_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    searcher = SeedAgem(TINY, SeedAgemOptions(controller_units=4, selection="soft-max", selection_reward_weight=0.0))
    parameters = initial(searcher, 0)
    same, apart = (proposal((0, 0, 0, 0, 0, 0, s, t), share=0.0) for s, t in ((0, 0), (1, 0)))
    searcher._policy.load(parameters)
    widths = searcher._rescore([recorded(1, same, outcome(0.5), 1.0), recorded(2, apart, outcome(0.5), 1.0)])[0].width_B
    wide, thin = widths.tolist()
    assert wide > 0.4
    assert LEAST_WIDTH < thin < module.THIN / 10  # two distributions that are nearly the same, but not quite

    def gradients(child: Proposal) -> dict[str, torch.Tensor]:
        known = parameters | {BASELINE: torch.tensor([0.5, 1.0])}
        found = searcher.learn([recorded(1, child, outcome(0.5), 1.0)], view(known)).gradients
        return {name: gradient for name, gradient in found.items() if name != BASELINE}

    def norm(found: dict[str, torch.Tensor]) -> float:
        return max(gradient.abs().max().item() for gradient in found.values())

    counted, whole, share = gradients(apart), gradients(same), thin / module.THIN
    monkeypatch.setattr(module, "THIN", LEAST_WIDTH)  # no sample counts less
    steep = gradients(apart)
    assert norm(steep) > 10 * norm(whole) > 0
    for name, gradient in steep.items():
        torch.testing.assert_close(counted[name], share * gradient)
        torch.testing.assert_close(whole[name], gradients(same)[name])


def test_the_last_children_select_what_is_most_probable_and_are_not_learnt_from() -> None:
    searcher = SeedAgem(TINY, SeedAgemOptions(emitted=2, controller_init=0.5).for_children(10))
    parameters = initial(searcher, 1)
    ended = [recorded(i, proposal((0, 0, 0, 0, 0, 0, 0, 0)), outcome(0.5), 0.5) for i in range(7)]
    asked = searcher.ask(4, view(parameters, completed=7, ended=ended))
    assert [EMITTED in each.notes for each in asked] == [False, True, True, True]
    assert [each.log_prob is None for each in asked] == [False, True, True, True]
    again = [searcher.ask(1, view(parameters, completed=9, seed=seed))[0] for seed in range(8)]
    by_network = {each.tokens[:6]: set() for each in again}
    for each in again:
        by_network[each.tokens[:6]].add(each.tokens[6:])
    assert all(len(selections) == 1 for selections in by_network.values())
    assert [each.notes[LEAD_PENALTY] for each in asked] == pytest.approx([0.15] * 4)
    children = [recorded(i, each, outcome(0.5), 0.5) for i, each in enumerate(asked)]
    assert not searcher.learn(children[1:], view(parameters)).gradients
    alone = searcher.learn(children[:1], view(parameters))
    together = searcher.learn(children, view(parameters))
    assert alone.figures == together.figures


def test_other_spaces_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the space 'convolutional' have none: use the space 'subnetworks'"):
        SeedAgem(ConvolutionalSpace(), SeedAgemOptions())


def test_it_learns_to_select_the_subnetwork_that_earns_more() -> None:
    searcher = SeedAgem(TINY, SeedAgemOptions())
    parameters = initial(searcher)
    groups = searcher.parameters(0)
    weights = {name: value.clone().requires_grad_() for name, value in groups[1].values.items()}
    optimizer = torch.optim.Adam(weights.values(), 0.02)

    def share_of_second(batch: list[Proposal]) -> float:
        return sum(TINY.selected(each.tokens) for each in batch) / len(batch)

    def earned(each: Proposal) -> float:
        return float(TINY.selected(each.tokens))

    shares: list[float] = []
    for seed in range(80):
        now = {name: value.detach() for name, value in weights.items()} | {BASELINE: parameters[BASELINE]}
        batch = searcher.ask(8, view(now, seed=seed))
        children = [recorded(i, each, outcome(earned(each)), earned(each)) for i, each in enumerate(batch)]
        update = searcher.learn(children, view(now))
        parameters[BASELINE] = 0.95 * parameters[BASELINE] + 0.05 * update.gradients[BASELINE]
        for name, weight in weights.items():
            weight.grad = update.gradients.get(name)
        optimizer.step()
        shares.append(share_of_second(batch))
    assert sum(shares[:5]) / 5 < 0.8
    assert sum(shares[-10:]) / 10 > 0.9
