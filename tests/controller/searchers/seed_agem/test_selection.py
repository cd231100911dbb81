"""T17.2, T17.3 and T17.5: aligned selection, its reward, soft-max and soft-soft-max."""

import itertools

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from controller.policies.rollout import Rollout, drawing, reading
from controller.searchers.seed_agem.options import SeedAgemOptions
from controller.searchers.seed_agem.selection import (
    SelectionSteps,
    alignment,
    inverse_cdf,
    literal_soft_soft_max,
    log_odds,
    without_lead,
)


def logits(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


# --- The reward of a selection -----------------------------------------------------------------------------------


def test_of_two_the_log_odds_are_the_logarithm_of_the_articles_ratio() -> None:
    phi = logits((1.25, -0.5), (0.0, 3.0))
    expected = torch.stack([phi[:, 0] - phi[:, 1], phi[:, 1] - phi[:, 0]], 1)
    torch.testing.assert_close(log_odds(phi, 5.0), expected, atol=1e-12, rtol=0)


def test_the_log_odds_are_those_of_the_soft_max_and_bounded() -> None:
    phi = logits((0.3, -1.0, 2.0, 0.1))
    p = phi.softmax(1)
    torch.testing.assert_close(log_odds(phi, 5.0), p.log() - (1 - p).log(), atol=1e-12, rtol=0)
    assert log_odds(logits((1e4, -1e4, 0.0)), 5.0).tolist() == [[5.0, -5.0, -5.0]]


@pytest.mark.parametrize("options", [SeedAgemOptions(), SeedAgemOptions(selection="literal")])
def test_huge_logits_give_finite_probabilities_and_rewards(options: SeedAgemOptions) -> None:
    phi = torch.tensor([[1e4, -1e4], [-1e4, 1e4]])
    steps = SelectionSteps(0, options, torch.full((2,), 0.5), torch.tensor([0.3, 0.3]))
    decided = steps(phi[:, None], slice(0, 1), drawing(torch.Generator()))
    assert decided.log_prob.isfinite().all()
    assert steps.reward_B.isfinite().all()


# --- Soft-max and soft-soft-max ----------------------------------------------------------------------------------


def test_without_a_share_it_is_the_soft_max_and_with_all_the_first_two_are_equal() -> None:
    phi = logits((0.5, 3.0, 1.0), (2.0, 2.0, -1.0), (1.0, 1.0, 1.0))
    assert torch.equal(without_lead(phi, 0.0), phi)
    tied = without_lead(phi, 1.0).softmax(1).topk(2, dim=1).values
    torch.testing.assert_close(tied[:, 0], tied[:, 1], atol=1e-12, rtol=0)
    torch.testing.assert_close(without_lead(phi, 1.0)[1:], phi[1:])  # a tie has no leader


def test_only_the_leader_changes_the_order_stays_and_its_probability_never_grows() -> None:
    phi = torch.randn(200, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    leader = phi.argmax(1, keepdim=True)
    last = phi.softmax(1).gather(1, leader)
    for share in (0.1, 0.25, 0.5, 0.75, 1.0):
        changed = without_lead(phi, share)
        assert torch.equal(changed != phi, torch.zeros_like(phi, dtype=torch.bool).scatter(1, leader, True))
        assert (changed.gather(1, leader) >= phi.topk(2, dim=1).values[:, 1:] - 1e-12).all()
        p = changed.softmax(1)
        torch.testing.assert_close(p.sum(1), torch.ones(200, dtype=torch.float64))
        assert (p.gather(1, leader) <= last).all()
        last = p.gather(1, leader)


def test_a_constant_on_all_logits_changes_nothing() -> None:
    phi = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for adjusted in (lambda x: without_lead(x, 0.5), literal_soft_soft_max):
        torch.testing.assert_close(adjusted(phi + 7).softmax(1), adjusted(phi).softmax(1), atol=1e-12, rtol=0)


def test_to_the_letter_the_leaders_share_grows_with_its_lead() -> None:
    for lead in (0.5, 1.0, 2.0):
        phi = logits((lead, 0.0))
        assert literal_soft_soft_max(phi).softmax(1)[0, 0] > phi.softmax(1)[0, 0]
    # Normalised, the article's exp(phi_k - max_{j != k} e^{phi_j}), where no power is too large.
    phi = logits((0.0, -0.25, -1.5))
    written = torch.tensor([0.0 - torch.tensor(-0.25).exp(), -0.25 - 1.0, -1.5 - 1.0], dtype=torch.float64).exp()
    torch.testing.assert_close(literal_soft_soft_max(phi).softmax(1)[0], written / written.sum(), atol=1e-7, rtol=0)


def test_the_share_falls_linearly_over_the_search() -> None:
    options = SeedAgemOptions().for_children(20)
    assert [options.lead_penalty_at(n) for n in (0, 10, 20, 30)] == [0.5, 0.25, 0.0, 0.0]
    assert SeedAgemOptions(schedule_children=10).for_children(20).lead_penalty_at(5) == 0.25
    assert SeedAgemOptions(selection="soft-max").lead_penalty_at(0) == 0.0
    assert [options.is_emitted(n) for n in (0, 18, 19, 20)] == [False, False, True, True]


# --- Aligned selection -------------------------------------------------------------------------------------------

PHI = torch.tensor([[0.4, -0.3, 0.1], [1.0, 0.2, -1.0], [-0.5, 0.0, 0.5]])
"""The logits of three steps."""


def rolled(options: SeedAgemOptions, steps: SelectionSteps, phi: Tensor, pick: object, batch: int) -> Rollout:
    """Make the steps of the logits, one after another, as the policy does."""
    tokens, log_prob, entropy = [], torch.zeros(batch), torch.zeros(batch)
    for step, row in enumerate(phi):
        decided = steps(row.expand(batch, 1, -1), slice(step, step + 1), pick)  # pyright: ignore[reportArgumentType]
        tokens.append(decided.tokens)
        log_prob, entropy = log_prob + decided.log_prob, entropy + decided.entropy
    return Rollout(torch.cat(tokens, 1), log_prob, entropy)


def test_each_action_has_its_soft_max_probability_whatever_the_others_are() -> None:
    count, options = 30_000, SeedAgemOptions(selection="soft-max")
    numbers = torch.rand(count, generator=torch.Generator().manual_seed(0))
    steps = SelectionSteps(0, options, torch.zeros(count), numbers)
    tokens = rolled(options, steps, PHI, drawing(torch.Generator()), count).tokens
    for step, row in enumerate(PHI):
        expected = count * row.double().softmax(0)
        observed = torch.bincount(tokens[:, step], minlength=3).double()
        assert chisquare(observed, expected).pvalue > 0.01
    drawn_apart = (PHI.softmax(1)[0] * PHI.softmax(1)[1]).sum().item()
    assert (tokens[:, 0] == tokens[:, 1]).float().mean() > drawn_apart + 0.15


def test_equal_logits_give_equal_actions() -> None:
    count, options = 1_000, SeedAgemOptions(selection="soft-max")
    steps = SelectionSteps(
        0, options, torch.zeros(count), torch.rand(count, generator=torch.Generator().manual_seed(1))
    )
    rollout = rolled(options, steps, PHI[:1].expand(4, -1), drawing(torch.Generator()), count)
    assert (steps.alignment_B == 1).all()
    expected = PHI[0].log_softmax(0)[rollout.tokens[:, 0]]
    torch.testing.assert_close(rollout.log_prob, expected, atol=1e-5, rtol=0)  # one draw, not four


@pytest.mark.parametrize("alignment", ["random-number", "none"])
def test_the_probabilities_of_all_sequences_sum_to_one(alignment: str) -> None:
    options = SeedAgemOptions(alignment=alignment)  # pyright: ignore[reportArgumentType]
    every = torch.tensor(list(itertools.product(range(3), repeat=3)))
    rollout = rolled(options, SelectionSteps(0, options, torch.full((27,), 0.5)), PHI, reading(every), 27)
    assert rollout.log_prob.exp().sum().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("alignment", ["random-number", "action", "none"])
def test_a_sample_is_scored_as_it_was_drawn(alignment: str) -> None:
    count, options = 500, SeedAgemOptions(alignment=alignment)  # pyright: ignore[reportArgumentType]
    share, generator = torch.full((count,), 0.3), torch.Generator().manual_seed(2)
    drawn = SelectionSteps(0, options, share, torch.rand(count, generator=generator))
    sample = rolled(options, drawn, PHI, drawing(generator), count)
    again = SelectionSteps(0, options, share)
    scored = rolled(options, again, PHI, reading(sample.tokens), count)
    torch.testing.assert_close(scored.log_prob, sample.log_prob)
    torch.testing.assert_close(again.reward_B, drawn.reward_B)
    torch.testing.assert_close(again.alignment_B, drawn.alignment_B)
    assert (drawn.alignment_B == 1).all() == (alignment == "action")


@pytest.mark.parametrize("alignment", ["random-number", "action", "none"])
def test_a_greedy_sample_takes_the_most_probable_action_of_each_step(alignment: str) -> None:
    options = SeedAgemOptions(alignment=alignment)  # pyright: ignore[reportArgumentType]
    greedy = torch.tensor([True, True])
    steps = SelectionSteps(0, options, torch.zeros(2), torch.tensor([0.999, 0.0]), greedy)
    tokens = rolled(options, steps, PHI, drawing(torch.Generator().manual_seed(0)), 2).tokens
    assert tokens.tolist() == [[0, 0, 0] if alignment == "action" else [0, 0, 2]] * 2


def test_the_inverse_reaches_the_last_index_and_alignment_counts_the_first() -> None:
    p = torch.tensor([[0.25, 0.5, 0.25]]).expand(5, -1)
    assert inverse_cdf(p, torch.tensor([0.0, 0.2499, 0.25, 0.75, 1 - 2**-24])).tolist() == [0, 0, 1, 2, 2]
    assert alignment(torch.tensor([[1, 1, 1, 1], [0, 1, 0, 1], [2, 0, 0, 0]])).tolist() == [1.0, 0.5, 0.25]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lead_penalty": 1.5}, "`lead_penalty` must be from 0 to 1, got 1.5"),
        ({"schedule_children": 0}, "`schedule_children` must be at least 1, got 0"),
        ({"odds_clip": 0.0}, "`odds_clip` must be a positive number, got 0.0"),
        ({"similarity_reward_weight": -1.0}, "`similarity_reward_weight` must be 0 or more, got -1.0"),
        ({"emitted": -1}, "`emitted` must be 0 or more, got -1"),
        ({"selection": "argmax"}, "`selection` must be one of soft-max, soft-soft-max, literal, got 'argmax'"),
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SeedAgemOptions(**wrong)  # pyright: ignore[reportArgumentType]
