"""ENAS (spec §6.1): halves of an epoch that alternate, and what the policy learns from scores."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from child_trainer.outcome import Outcome
from child_trainer.supernets.jobs import Score, Steps
from child_trainer.supernets.objectives.catalogue import OBJECTIVES
from controller.decisions import check_tokens
from controller.policies.enas import skip_divergence
from controller.searcher import ChildRecord, Proposal, View
from controller.searchers.policy_gradient.policy_searcher import BASELINE
from controller.searchers.weight_sharing.enas import Enas, updated_baseline
from controller.searchers.weight_sharing.options import EnasOptions
from controller.spaces.chain import ChainSpace
from controller.spaces.enas_macro import EnasMacroSpace
from tests.contracts.searcher import SearcherContract, initial, view

SPACE = EnasMacroSpace(layers=4, operations=("conv_3x3", "max_3x3"), filters=2)
OPTIONS = EnasOptions(controller_units=6, epoch_steps=50, steps_per_child=8, epoch_scores=6, refit_batches=2)
TRAINING, SCORES = 7, 6


class TestContract(SearcherContract):
    samples_after = TRAINING

    def make(self) -> Enas:
        return Enas(SPACE, OPTIONS)


def records(proposals: Sequence[Proposal], first: int = 1) -> list[ChildRecord]:
    return [
        ChildRecord(id=first + place, tokens=p.tokens, architecture_id=p.architecture_id, job=p.job)
        for place, p in enumerate(proposals)
    ]


def ask(n: int, completed: int, pending: Sequence[Proposal] = ()) -> list[Proposal]:
    searcher = Enas(SPACE, OPTIONS)
    present = View(
        parameters=initial(searcher),
        completed=completed,
        history=tuple,
        pending=lambda: records(pending),
        rng=random.Random(completed),
    )
    return searcher.ask(n, present)


def test_halves_of_an_epoch_alternate_and_wait_for_each_other() -> None:
    training = ask(20, 0)
    assert [proposal.job.count for proposal in training if isinstance(proposal.job, Steps)] == [8, 8, 8, 8, 8, 8, 2]
    assert ask(4, TRAINING - 1, training[-1:]) == []
    scores = ask(20, TRAINING)
    assert [type(proposal.job) for proposal in scores] == [Score] * SCORES
    assert ask(4, TRAINING + SCORES - 2, scores[-2:]) == []
    assert [type(proposal.job) for proposal in ask(3, TRAINING + SCORES)] == [Steps] * 3
    assert len(ask(20, TRAINING + 1, scores[:2])) == SCORES - 3


def test_each_step_has_a_path_of_its_own_which_the_policy_samples() -> None:
    (first, *_) = ask(3, 0)
    assert isinstance(first.job, Steps)
    assert len(first.job.paths) == first.job.count == 8
    for path in first.job.paths:
        check_tokens(SPACE.decisions(0), path)
    assert len(set(first.job.paths)) > 4
    settings = OBJECTIVES["path"].settings_of(first.job.settings)
    assert (settings.l2, settings.clip_norm) == (OPTIONS.weights_l2, 5.0)


def test_paths_are_scored_on_few_images_with_the_batches_own_statistics_unless_told_otherwise() -> None:
    (score,) = ask(1, TRAINING)
    assert score.job == Score(settings={"refit_batches": 2, "batches": 1})
    assert score.architecture_id == SPACE.decode(score.tokens).id
    assert EnasOptions().refit_batches == 0


def test_the_baseline_moves_before_it_is_used() -> None:
    """T6.4: b -= (1 - decay) (b - R), and the advantage is R - b."""
    assert updated_baseline(torch.zeros(1), torch.tensor([0.5]), 0.99) == pytest.approx(0.005)
    assert updated_baseline(torch.tensor([0.3]), torch.tensor([0.5, 0.7]), 0.9) == pytest.approx(0.33)


def scored(searcher: Enas, rewards: Sequence[float]) -> list[ChildRecord]:
    proposals = searcher.ask(len(rewards), view(initial(searcher), completed=TRAINING))
    outcome = Outcome(curve=(0.5,), seconds=1.0, parameters=1, flops=1, seed=0)
    pairs = zip(records(proposals), rewards, strict=True)
    return [replace(record, reward=reward, outcome=outcome) for record, reward in pairs]


def test_the_gradient_is_that_of_the_loss_as_it_is_written() -> None:
    options = replace(OPTIONS, entropy_bonus=0.1)
    searcher = Enas(SPACE, options)
    parameters = {name: value + 0.1 for name, value in initial(searcher).items()}
    children = scored(searcher, [0.2, 0.9, 0.4])
    update = searcher.learn(children, view(parameters))

    policy = searcher._enas_policy
    tokens = torch.tensor([child.tokens for child in children])
    rollout, skips = policy.score_skips(SPACE.decisions(0), tokens)
    rewards = [child.reward + 0.1 * entropy for child, entropy in zip(children, rollout.entropy.tolist(), strict=True)]  # type: ignore[operator]
    mean = sum(rewards) / 3
    baseline = 0.99 * 0.1 + 0.01 * mean
    losses = [-(reward - baseline) * log_prob for reward, log_prob in zip(rewards, rollout.log_prob, strict=True)]
    loss = sum(losses) / 3 + 0.8 * skip_divergence(skips, 0.4).mean()
    assert isinstance(loss, torch.Tensor)
    names = [name for name in update.gradients if name != BASELINE]
    expected = torch.autograd.grad(loss, [dict(policy.named_parameters())[name] for name in names])
    for name, gradient in zip(names, expected, strict=True):
        assert torch.allclose(update.gradients[name], gradient, atol=1e-6), name
    assert update.gradients[BASELINE].item() == pytest.approx(mean)
    assert update.figures["baseline"] == pytest.approx(baseline)


def test_the_policy_learns_what_earns_more() -> None:
    """Rewards that favour one operation in every layer; the policy's own steps, without a supernet."""
    searcher = Enas(SPACE, replace(OPTIONS, skip_weight=0.0, controller_learning_rate=0.02, entropy_bonus=0.0))
    values = initial(searcher)
    optimizer = torch.optim.Adam(
        [values[name] for name in values if name != BASELINE], lr=0.02, betas=(0.0, 0.999), eps=1e-3
    )
    outcome = Outcome(curve=(0.5,), seconds=1.0, parameters=1, flops=1, seed=0)
    means = []
    for turn in range(80):
        proposals = [
            p for _ in range(2) for p in searcher.ask(SCORES, view(values, completed=TRAINING, seed=2 * turn + _))
        ]
        operations = [[tokens[0], tokens[1], tokens[3], tokens[6]] for tokens in (p.tokens for p in proposals)]
        rewards = [sum(operation) / 4 for operation in operations]
        means.append(sum(rewards) / len(rewards))
        children = [
            replace(record, reward=reward, outcome=outcome)
            for record, reward in zip(records(proposals), rewards, strict=True)
        ]
        update = searcher.learn(children, view(values))
        for name, value in values.items():
            if name != BASELINE:
                value.grad = update.gradients.get(name)
        optimizer.step()
        values[BASELINE].mul_(0.99).add_(0.01 * update.gradients[BASELINE])
    assert sum(means[-10:]) / 10 > 0.85 > sum(means[:10]) / 10 + 0.2


def test_refuses_a_space_without_a_supernet_and_a_search_that_only_trains() -> None:
    with pytest.raises(ValueError, match="a ChainSpace has none"):
        Enas(ChainSpace(), OPTIONS)
    with pytest.raises(ValueError, match="`max_children` must be above 7, the children that train the supernet"):
        OPTIONS.for_children(7)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epoch_steps", 0),
        ("epoch_scores", 0),
        ("score_batches", -1),
        ("controller_layers", 2),
        ("skip_target", 1.0),
        ("skip_weight", -1.0),
        ("weights_clip_norm", float("inf")),
        ("logit_bound", 0.0),
        ("entropy_bonus", -1.0),
        ("weights_momentum", 1.0),
    ],
)
def test_an_impossible_option_is_named(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{option}` must be"):
        EnasOptions(**{option: value})  # type: ignore[arg-type]
