"""ENAS (spec §6): shared weights and the policy are trained in turns, and samples of the policy are scored at last."""

import random
from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor

from child_trainer.outcome import Outcome
from child_trainer.supernets.jobs import Score, Steps
from controller.policies.enas import EnasConstants, EnasPolicy
from controller.searcher import ChildRecord, Proposal, View, shared_weights_of
from controller.searchers.policy_gradient.policy_searcher import BASELINE
from controller.searchers.weight_sharing.enas import Enas, updated_baseline
from controller.searchers.weight_sharing.path_options import EnasOptions
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.enas_macro import EnasMacroSpace
from controller.spaces.enas_rnn import EnasRnnSpace
from tests.contracts.searcher import SearcherContract, initial, recorded

SPACE = EnasMacroSpace(layers=3, operations=("conv_3x3", "max_3x3"), filters=2)
OPTIONS = EnasOptions(
    search_epochs=2, steps_per_epoch=21, steps_per_child=4, policy_children=5, controller_units=8, restart_epochs=1
)
CELLS = EnasRnnSpace(layers=3)
EPOCH = 6 + 5
"""Children of an epoch: five that make four steps each and one that makes the last, and five that are scored."""
LAST = 2 * EPOCH


class TestContract(SearcherContract):
    def make(self) -> Enas:
        return Enas(SPACE, OPTIONS)


class TestContractOfRecurrentCells(SearcherContract):
    def make(self) -> Enas:
        return Enas(CELLS, OPTIONS)


def records(proposals: Sequence[Proposal], begun: int = 0) -> list[ChildRecord]:
    return [
        ChildRecord(
            id=begun + k,
            tokens=p.tokens,
            architecture_id=p.architecture_id,
            log_prob=p.log_prob,
            notes=p.notes,
            job=p.job,
        )
        for k, p in enumerate(proposals, start=1)
    ]


def view(parameters: Mapping[str, Tensor], completed: int, pending: Sequence[ChildRecord] = ()) -> View:
    rng = random.Random(completed)
    return View(parameters=parameters, completed=completed, history=tuple, pending=lambda: pending, rng=rng)


def ask(n: int, completed: int, pending: Sequence[Proposal] = ()) -> list[Proposal]:
    searcher = Enas(SPACE, OPTIONS)
    return searcher.ask(n, view(initial(searcher), completed, records(pending, completed)))


def policy_of(parameters: Mapping[str, Tensor]) -> EnasPolicy:
    policy = EnasPolicy(SPACE.decisions(0), hidden=8, constants=EnasConstants(tanh_constant=1.5))
    policy.load(parameters)
    return policy


def steps(proposals: Sequence[Proposal]) -> list[Steps]:
    assert all(isinstance(p.job, Steps) for p in proposals)
    return [p.job for p in proposals if isinstance(p.job, Steps)]


POLICY = Score(settings={"batches": 1, "refit_batches": 0})
AT_LAST = Score(settings={"refit_batches": OPTIONS.refit_batches})


def test_an_epoch_trains_the_weights_and_then_the_policy() -> None:
    assert [job.count for job in steps(ask(20, 0))] == [4, 4, 4, 4, 4, 1]
    assert [p.job for p in ask(20, 6)] == [POLICY] * 5
    assert [job.first for job in steps(ask(20, EPOCH))] == [21, 25, 29, 33, 37, 41]
    assert [p.job for p in ask(3, LAST)] == [AT_LAST] * 3
    assert [p.job for p in ask(3, LAST + 3)] == [AT_LAST] * 3


def test_a_phase_begins_when_the_one_before_has_ended() -> None:
    training = ask(6, 0)
    assert ask(4, 5, training[5:]) == []
    assert len(ask(4, 2, training[2:5])) == 1  # the sixth training child
    policy = ask(5, 6)
    assert ask(4, EPOCH - 1, policy[4:]) == []
    last_of_policy = ask(1, LAST - 1)
    assert ask(4, LAST - 1, last_of_policy) == []
    assert len(ask(4, LAST, ask(2, LAST))) == 4


def test_each_step_has_a_fresh_path() -> None:
    jobs = steps(ask(6, 0))
    paths = [path for job in jobs for path in job.paths]
    assert len(paths) == 21
    assert len(set(paths)) > 10
    for path in paths:
        assert SPACE.gates(path)


def test_the_weights_rate_falls_within_each_cycle_of_epochs() -> None:
    options = EnasOptions(search_epochs=3, restart_epochs=1, restart_factor=2, policy_children=1, steps_per_epoch=1)
    searcher = Enas(SPACE, options)
    parameters = initial(searcher)
    rates = [steps(searcher.ask(1, view(parameters, 2 * epoch)))[0].rate for epoch in range(3)]
    assert rates == pytest.approx([0.05, 0.05, (0.05 + 0.0005) / 2])


def test_scored_children_are_samples_of_the_policy_with_their_probability() -> None:
    searcher = Enas(SPACE, OPTIONS)
    parameters = initial(searcher)
    proposals = searcher.ask(4, view(parameters, 6))
    policy = policy_of(parameters)
    for proposal in proposals:
        assert proposal.architecture_id == SPACE.decode(proposal.tokens).id
        log_prob = policy.score(torch.tensor([proposal.tokens])).log_prob.item()
        assert proposal.log_prob == pytest.approx(log_prob, abs=1e-5)


def scored(rewards: Sequence[float], completed: int = 6) -> list[ChildRecord]:
    outcome = Outcome(curve=(0.5,), seconds=1.0, parameters=1, flops=1, seed=0)
    proposals = ask(len(rewards), completed)
    return [recorded(k, p, outcome, reward) for k, (p, reward) in enumerate(zip(proposals, rewards, strict=True))]


# T6.4


def test_the_baseline_starts_at_zero_and_has_the_rewards_before_it_is_used() -> None:
    searcher = Enas(SPACE, EnasOptions(entropy_bonus=0.0, controller_units=8))
    parameters = initial(searcher)
    update = searcher.learn(scored([0.5]), view(parameters, 6))
    assert update.figures["baseline"] == pytest.approx(0.01 * 0.5)  # so that the advantage is 0.495
    assert update.gradients[BASELINE].tolist() == [0.5, 1.0]
    after = torch.tensor([0.005, 0.01])
    assert updated_baseline(after, torch.tensor([1.0, 0.0]), 0.99) == pytest.approx(0.99 * 0.005 + 0.01 * 0.5)


def test_the_policys_gradient_is_that_of_the_specifications_loss() -> None:
    searcher = Enas(SPACE, OPTIONS)
    parameters = initial(searcher)
    parameters[BASELINE] = torch.tensor([0.3, 0.9])
    children = scored([0.5, 0.9])
    update = searcher.learn(children, view(parameters, 6))
    policy = policy_of(parameters)
    rollout = policy.score(torch.tensor([child.tokens for child in children]))
    rewards = torch.tensor([0.5, 0.9]) + 1e-4 * rollout.sample_entropy
    baseline = 0.3 - 0.01 * (0.3 - rewards.mean())
    loss = ((rewards - baseline) * -rollout.log_prob + 0.8 * rollout.skip_kl).mean()
    assert update.figures["skip_divergence"] == pytest.approx(rollout.skip_kl.mean().item())
    expected = policy.gradients(loss)
    assert update.gradients.keys() == {BASELINE, *expected}
    for name, gradient in expected.items():
        torch.testing.assert_close(update.gradients[name], gradient)


def test_learns_nothing_from_the_last_scores_and_from_steps() -> None:
    searcher = Enas(SPACE, OPTIONS)
    parameters = initial(searcher)
    trained = [
        recorded(1, p, Outcome(curve=(), seconds=1.0, parameters=None, flops=None, seed=0), 0.5) for p in ask(1, 0)
    ]
    assert not searcher.learn([*scored([0.5], LAST), *trained], view(parameters, LAST)).gradients


# T6.6


def test_the_policy_and_the_weights_have_no_tensor_in_common() -> None:
    searcher = Enas(SPACE, OPTIONS)
    parameters = initial(searcher)
    update = searcher.learn(scored([0.5, 0.9]), view(parameters, 6))
    shared = shared_weights_of(searcher)
    assert shared is not None
    assert shared.supernet == SPACE.supernet()
    assert (shared.optimizer, shared.options) == ("sgd", {"lr": 0.05, "momentum": 0.9, "nesterov": 1})
    nodes = {node.name for node in shared.supernet.ordered}
    assert update.gradients.keys() <= parameters.keys()
    assert not {name.split("/")[0] for name in parameters} & nodes


def test_a_policy_that_learns_finds_the_operation_with_the_best_rewards() -> None:
    """Rewards are the share of pools: without skips' penalty, 300 children make them the rule."""
    options = EnasOptions(
        policy_children=300, steps_per_epoch=1, controller_learning_rate=0.02, controller_units=16, skip_weight=0.0
    )
    searcher = Enas(SPACE, options)
    parameters = initial(searcher)
    groups = {group.name: group for group in searcher.parameters(0)}
    weights = [parameters[name].requires_grad_() for name in groups["policy"].values]
    adam = torch.optim.Adam(weights, lr=0.02, betas=(0.0, 0.999), eps=1e-3)
    means = []
    for number in range(1, 301, 10):
        asked = searcher.ask(10, view({n: p.detach() for n, p in parameters.items()}, number))
        outcome = Outcome(curve=(0.5,), seconds=1.0, parameters=1, flops=1, seed=0)
        rewards = [(p.tokens[0] + p.tokens[1] + p.tokens[3]) / 3 for p in asked]
        children = [recorded(k, p, outcome, r) for k, (p, r) in enumerate(zip(asked, rewards, strict=True))]
        update = searcher.learn(children, view({n: p.detach() for n, p in parameters.items()}, number))
        parameters[BASELINE] = 0.99 * parameters[BASELINE] + 0.01 * update.gradients[BASELINE]
        for name, weight in zip(groups["policy"].values, weights, strict=True):
            weight.grad = update.gradients.get(name)
        adam.step()
        means.append(sum(rewards) / 10)
    assert sum(means[-5:]) / 5 > 0.8 > sum(means[:5]) / 5


def test_refuses_a_space_without_a_supernet() -> None:
    with pytest.raises(ValueError, match="the space 'convolutional' has none"):
        Enas(ConvolutionalSpace(), OPTIONS)


def test_a_search_must_have_children_that_are_scored_at_last() -> None:
    assert OPTIONS.for_children(LAST + 1) == OPTIONS
    with pytest.raises(ValueError, match="`max_children` must be above 22, the children of the epochs"):
        OPTIONS.for_children(LAST)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("search_epochs", 0),
        ("steps_per_epoch", 0),
        ("steps_per_child", 0),
        ("policy_children", 0),
        ("score_batches", -1),
        ("controller_units", 0),
        ("controller_init", 0.0),
        ("controller_learning_rate", 0.0),
        ("baseline_decay", 1.0),
        ("entropy_bonus", -1.0),
        ("temperature", 0.0),
        ("tanh_constant", 0.0),
        ("operation_tanh_reduce", 0.0),
        ("favoured_init", float("nan")),
        ("favoured_bonus", float("inf")),
        ("skip_weight", -0.1),
        ("skip_rate", 1.0),
        ("weights_learning_rate", 0.0),
        ("weights_last_learning_rate", -0.1),
        ("restart_epochs", 0),
        ("restart_factor", 0),
        ("weights_momentum", 1.0),
        ("weights_l2", -0.1),
        ("weights_clip_norm", -1.0),
        ("refit_batches", -1),
    ],
)
def test_an_impossible_option_is_named(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{option}` must be"):
        EnasOptions(**{option: value})  # type: ignore[arg-type]


# --- Recurrent cells -----------------------------------------------------------------------------------------------


def test_recurrent_cells_have_a_policy_of_their_own_and_the_usual_adam() -> None:
    """Spec §6.3."""
    groups = {group.name: group for group in Enas(CELLS, OPTIONS).parameters(0)}
    assert groups["policy"].options == {"lr": OPTIONS.controller_learning_rate}
    assert groups["policy"].values.keys() == {"w_input", "w_hidden", "start", "embedding", "w_anchor", "w_query", "v"}
    usual = {group.name: group for group in Enas(SPACE, OPTIONS).parameters(0)}
    assert usual["policy"].options == {"lr": OPTIONS.controller_learning_rate, "beta1": 0.0, "eps": 1e-3}


@pytest.mark.parametrize(
    "given", [{"operation_tanh_reduce": 2.5}, {"favoured_operations": ("tanh",)}, {"enas_compat": True}]
)
def test_constants_of_other_controllers_are_refused_with_recurrent_cells(given: dict[str, object]) -> None:
    (name,) = given
    with pytest.raises(
        ValueError, match=f"`{name}` must be left as it is with the space 'enas-rnn', as ENAS's controller of"
    ):
        Enas(CELLS, EnasOptions(**given))  # type: ignore[arg-type]
