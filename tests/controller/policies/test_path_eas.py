"""Path-level EAS's actors (spec §9.2): probabilities, masks and gradients."""

from dataclasses import replace

import pytest
import torch

from controller.policies.path_eas import OpenDecision, PathEasPolicy
from controller.policies.tree_lstm import ADDS, CONCATENATES, Place

TREE = (
    Place(None, None, ADDS, 0),
    Place(0, 0, CONCATENATES, 1),
    Place(1, 2),
    Place(1, None),
    Place(0, 1),
)
BARE = (Place(None, None), Place(0, 0))

MERGE = OpenDecision(BARE, 1, "merge", (True,) * 4)
ADDING = OpenDecision(BARE, 1, "merge", (True, True, True, False))
INSERT = OpenDecision(TREE, 2, "insert", (True, True))
FORCED = OpenDecision(TREE, 4, "insert", (False, True))
OPERATION = OpenDecision(TREE, 3, "operation", (True,) * 5)
DECISIONS = (MERGE, ADDING, INSERT, FORCED, OPERATION)


def policy(seed: int = 3) -> PathEasPolicy:
    made = PathEasPolicy(edges=3, nodes=2, merges=(1, 2, 1), operations=5, embedding=2, units=3)
    made.draw_weights(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(2.0)
    return made


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda one: one.actor)
def test_the_options_of_a_decision_have_the_probability_one_together(decision: OpenDecision) -> None:
    """T0.2, with the masks."""
    options = range(len(decision.allowed))
    with torch.no_grad():
        log_probs, entropies = policy().score([decision] * len(options), options)
    probabilities = log_probs.exp()
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-6)
    assert [p > 0 for p in probabilities.tolist()] == list(decision.allowed)
    allowed = [i for i in options if decision.allowed[i]]
    expected = -sum(probabilities[i] * log_probs[i] for i in allowed)
    torch.testing.assert_close(entropies, torch.full_like(entropies, float(expected)))


def test_a_batch_of_all_kinds_is_scored_as_each_by_itself() -> None:
    made, options = policy(), [2, 1, 0, 1, 4]
    log_probs, entropies = made.score(DECISIONS, options)
    for place, (decision, option) in enumerate(zip(DECISIONS, options, strict=True)):
        log_prob, entropy = made.score([decision], [option])
        assert (log_probs[place].item(), entropies[place].item()) == pytest.approx((log_prob.item(), entropy.item()))
    assert (log_probs[3], entropies[3]) == (0, 0)  # the only option


def test_samples_have_the_probabilities_of_their_scores_and_respect_the_masks() -> None:
    made, generator = policy(), torch.Generator().manual_seed(0)
    for decision in DECISIONS:
        drawn = torch.tensor(made.sample([decision] * 3_000, generator))
        found = torch.bincount(drawn, minlength=len(decision.allowed)) / 3_000
        with torch.no_grad():
            options = range(len(decision.allowed))
            expected = made.score([decision] * len(options), options)[0].exp()
        torch.testing.assert_close(found, expected, atol=0.03, rtol=0)
        assert not found[~torch.tensor(decision.allowed)].any()


def test_the_number_of_branches_is_decided_after_the_kind() -> None:
    """An `add` of 2 or 3: their share is the branch actor's alone, and so is its gradient."""
    made = policy()
    log_probs, _ = made.score([MERGE] * 4, range(4))
    state = made.encoder([BARE])[1:2]
    kinds, numbers = made.merge(state).softmax(1)[0], made.branches["1"](state).softmax(1)[0]
    expected = torch.stack([kinds[0], kinds[1] * numbers[0], kinds[1] * numbers[1], kinds[2]])
    torch.testing.assert_close(log_probs.exp(), expected)


def test_the_last_biases_have_the_gradient_of_the_closed_form() -> None:
    """T0.3: of -log P the difference of the probabilities and the option, of each kind of actor."""
    made = policy()
    log_probs, _ = made.score([OPERATION, INSERT, MERGE], [3, 1, 0])
    gradients = made.gradients(-log_probs.sum())
    state = made.encoder([TREE])
    operation = made.operation(state[3]).softmax(0) - torch.nn.functional.one_hot(torch.tensor(3), 5)
    torch.testing.assert_close(gradients["operation.2.bias"], operation)
    torch.testing.assert_close(gradients["insert.2.bias"], made.insert(state[2]).sigmoid() - 1)
    torch.testing.assert_close(gradients["branches.1.2.bias"], torch.zeros(2))  # the merge is no `add`


def test_every_gradient_is_that_of_finite_differences() -> None:
    """Along a random direction in each tensor."""
    made, options, step = policy(), [2, 1, 0, 1, 4], 1e-2
    generator = torch.Generator().manual_seed(1)

    def loss() -> torch.Tensor:
        log_probs, entropies = made.score(DECISIONS, options)
        return (log_probs * torch.arange(5)).sum() + 0.5 * entropies.sum()

    gradients = made.gradients(loss())
    assert gradients.keys() == made.weights.keys()
    for name, weight in made.weights.items():
        direction = torch.randn(weight.shape, generator=generator)
        direction /= direction.norm()
        ends = []
        for sign in (step, -step):
            with torch.no_grad():
                weight.add_(direction, alpha=sign)
                ends.append(loss().item())
                weight.sub_(direction, alpha=sign)
        assert (gradients[name] * direction).sum().item() == pytest.approx(
            (ends[0] - ends[1]) / (2 * step), abs=2e-3
        ), name


def test_another_tree_around_a_place_gives_other_probabilities() -> None:
    other = replace(INSERT, tree=(*TREE[:4], Place(0, 2)))
    log_probs, _ = policy().score([INSERT, other], [1, 1])
    assert log_probs[0].item() != pytest.approx(log_probs[1].item(), abs=1e-6)
