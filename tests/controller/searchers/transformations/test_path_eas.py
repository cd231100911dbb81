"""Path-level EAS (spec §9.2): how cells grow, what is learnt from them, and a second stage."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from child_trainer.inheritance.changed_architectures import changed
from child_trainer.inheritance.changes import Branch, InsertIdentity, ReplaceIdentity
from child_trainer.supernets.jobs import TrainOn
from controller.policies.tree_lstm import ADDS, CONCATENATES, Place
from controller.searcher import ChildRecord, is_exclusive
from controller.searchers.policy_gradient.policy_searcher import BASELINE
from controller.searchers.transformations.options import PathEasOptions
from controller.searchers.transformations.path_eas import PathEas, TreeGrower
from controller.spaces.cell_tree import START_TREE, Growth, edges_of, text_of
from controller.spaces.plain import PlainSpace
from controller.spaces.tree_cells import DIGITS, TreeCellSpace
from tests.contracts.searcher import SearcherContract
from tests.controller.searchers.transformations.driven import Search, view

OPTIONS = PathEasOptions(stage_children=(5, 3), edge_embedding=3, encoder_units=4)


class TestContract(SearcherContract):
    draws = False  # the first children are the start

    def make(self) -> PathEas:
        return PathEas(DIGITS, replace(OPTIONS, starts=8))


def grown_search() -> tuple[Search, Sequence[ChildRecord]]:
    search = Search(PathEas(DIGITS, OPTIONS))
    search.ask(1)
    search.end(0.5)
    search.ask(5)
    search.end(0.1, 0.2, 0.9, 0.3, 0.4)
    return search, search.ended[1:]


def test_children_of_a_stage_are_trees_that_grow_from_one_network() -> None:
    search = Search(PathEas(DIGITS, OPTIONS))
    (start,) = search.ask(3)
    assert (start.tokens, start.job, start.notes) == (DIGITS.encode(START_TREE), None, {"stage": 0})
    assert search.ask(3) == []
    search.end(0.5)
    kinds = set[type]()
    for proposal in search.ask(5):
        assert isinstance(proposal.job, TrainOn)
        assert (proposal.job.parent, proposal.job.checksum) == (1, "ab1")
        assert changed(DIGITS.decode(()), proposal.job.changes) == proposal.architecture
        tree = DIGITS.tree(proposal.tokens)
        assert any(edge.below for edge in tree.edges)
        assert all(edge.operation for _, edge in edges_of(tree))
        kinds |= {type(change) for change in proposal.job.changes}
        assert "node" in proposal.notes["change"]
    assert kinds == {Branch, InsertIdentity, ReplaceIdentity}
    assert is_exclusive(search.searcher)


def test_a_second_stage_grows_on_from_the_best_tree() -> None:
    search, _ = grown_search()
    parent = DIGITS.tree(search.ended[3].tokens)
    proposals = search.ask(3, seed=4)
    for proposal in proposals:
        assert (proposal.notes["stage"], proposal.notes["parent"]) == (2, 4)
        assert isinstance(proposal.job, TrainOn)
        assert changed(DIGITS.decode(search.ended[3].tokens), proposal.job.changes) == proposal.architecture
        kept = {path: edge.operation for path, edge in edges_of(parent) if edge.operation != "identity"}
        now = {path: edge.operation for path, edge in edges_of(DIGITS.tree(proposal.tokens))}
        assert kept.items() <= now.items()
    assert search.kept == {4}


FULL = DIGITS.tokens_of("conv_3x3 > sep_3x3 > conv_1x1")
"""A cell about which nothing is left to be decided."""


def test_a_stage_grows_from_the_best_tree_that_can_still_grow() -> None:
    search, _ = grown_search()
    search.ended[0] = replace(search.ended[0], reward=0.05)
    search.ended[3] = replace(search.ended[3], tokens=FULL, architecture_id=DIGITS.decode(FULL).id)
    assert search.kept == {1, 4, 6}  # this stage's parent, the best, and the next stage's parent
    proposals = search.ask(3, seed=4)
    assert [(p.notes["stage"], p.notes["parent"], p.same_as) for p in proposals] == [(2, 6, None)] * 3
    assert all(proposal.notes["decisions"] for proposal in proposals)
    assert search.kept == {4, 6}
    search.end(0.95)
    assert search.kept == {6, 7}


def test_from_children_about_which_nothing_was_decided_only_the_baseline_learns() -> None:
    search, children = grown_search()
    search.ended[3] = replace(search.ended[3], tokens=FULL, architecture_id=DIGITS.decode(FULL).id)
    notes = {"stage": 2, "parent": 4, "change": "none", "decisions": []}
    same = [replace(search.ended[3], id=number, notes=notes, same_as=4) for number in (7, 8)]
    search.ended += same
    update = search.searcher.learn(same, view(search.parameters, search.ended))
    assert update.gradients.keys() == {BASELINE}
    assert update.figures == {"baseline": pytest.approx(0.95 * 0.9), "decision_entropy": 0.0}
    mixed = search.searcher.learn([children[0], *same], view(search.parameters, search.ended))
    assert len(mixed.gradients) > 1


def test_the_recorded_log_probability_is_computed_again_from_the_notes() -> None:
    """T0.1: of children of both stages in one batch."""
    search, children = grown_search()
    search.ask(3, seed=5)
    search.end(0.2, 0.4, 0.6)
    mixed = [*children, *search.ended[-3:]]
    search.searcher.learn(mixed, view(search.parameters, search.ended))
    assert search.score(mixed).log_prob.tolist() == pytest.approx([child.log_prob for child in mixed], abs=1e-4)


def test_learning_follows_the_rewards_above_a_baseline_that_has_them_already() -> None:
    search, children = grown_search()
    update = search.searcher.learn(children, view(search.parameters, search.ended))
    mean = 0.38
    assert update.figures["baseline"] == pytest.approx(0.95 * mean)
    assert update.gradients[BASELINE].tolist() == pytest.approx([mean, 1.0])
    policy = search.searcher._grower.policy
    policy.load(search.parameters)
    total: Any = 0.0
    for child in children:
        scored = search.score([child])
        assert child.reward is not None
        total = total - (child.reward - 0.95 * mean) * scored.log_prob[0] / 5 - 0.01 * scored.entropy[0] / 5
        count = len(child.notes["decisions"])
        assert scored.decision_entropy.item() == pytest.approx(scored.entropy.item() / count)
    for name, gradient in policy.gradients(total).items():
        assert torch.allclose(update.gradients[name], gradient, atol=1e-5), name


def test_a_large_gradient_is_scaled_to_the_bound_of_the_published_code() -> None:
    search, children = grown_search()
    large = [replace(child, reward=(child.reward or 0.0) * 1e6) for child in children]
    gradients = dict(search.searcher.learn(large, view(search.parameters, search.ended)).gradients)
    del gradients[BASELINE]
    assert torch.cat([g.flatten() for g in gradients.values()]).norm().item() == pytest.approx(40.0, rel=1e-3)


def test_the_policy_sees_the_tree_and_the_place_that_is_decided_about() -> None:
    space = TreeCellSpace(stages=1, growth=8, groups=1, operations=("sep_3x3", "identity"))
    grower = TreeGrower(space, OPTIONS)

    def seen(growth: Growth) -> tuple[tuple[Place, ...], int, str]:
        one = grower._seen(growth)
        return one.tree, one.focus, one.actor

    growth = space.growth_of(START_TREE)
    assert seen(growth) == ((Place(None, None), Place(0, 0)), 1, "merge")
    for option in (3, 1, 1):  # concatenated, a node below the first edge, which adds two
        growth, _ = space.decided(growth, option)
    tree = (
        Place(None, None, CONCATENATES, 2),
        Place(0, 0, ADDS, 0),
        Place(1, None),
        Place(1, None),
        Place(0, 0),
    )
    assert seen(growth) == (tree, 2, "operation")
    for option in (0, 1):
        growth, _ = space.decided(growth, option)
    tree = (*tree[:2], Place(1, 1), Place(1, 2), tree[4])
    assert seen(growth) == (tree, 2, "insert")


def test_another_space_and_impossible_options_are_refused() -> None:
    with pytest.raises(ValueError, match="use --space tree-cells, got the space 'plain'"):
        PathEas(PlainSpace(), OPTIONS)
    with pytest.raises(ValueError, match="`operation_noise` must be 0 or more, got -1"):
        PathEasOptions(operation_noise=-1)
    with pytest.raises(ValueError, match="`edge_embedding` must be at least 1, got 0"):
        PathEasOptions(edge_embedding=0)


def test_all_children_grow_from_the_start_unless_stages_are_given() -> None:
    assert PathEasOptions().for_children(25).stage_children == (24,)
    assert PathEasOptions(stage_children=(4, 3)).for_children(25).stage_children == (4, 3)


def test_a_policy_that_is_rewarded_for_a_tree_comes_to_prefer_it() -> None:
    """With the share of separable convolutions among a cell's edges as reward."""
    space = TreeCellSpace(stages=1, growth=4, bottleneck=1, max_depth=2)
    search = Search(PathEas(space, replace(OPTIONS, stage_children=(1_000,))))
    search.ask(1)
    search.end(0.5)
    names = [name for name in search.parameters if name != BASELINE]
    weights = [torch.nn.Parameter(search.parameters[name].clone()) for name in names]
    adam, shares = torch.optim.Adam(weights, lr=0.05), list[float]()
    for step in range(12):
        search.parameters |= {name: weight.detach() for name, weight in zip(names, weights, strict=True)}
        trees = [space.tree(proposal.tokens) for proposal in search.ask(8, seed=step)]
        rewards = [text_of(tree).count("sep_") / len(list(edges_of(tree))) for tree in trees]
        search.end(*rewards)
        shares.append(sum(rewards) / len(rewards))
        update = search.searcher.learn(search.ended[-8:], view(search.parameters, search.ended))
        for name, weight in zip(names, weights, strict=True):
            weight.grad = update.gradients.get(name)
        adam.step()
        search.parameters[BASELINE] = search.parameters[BASELINE] * 0.05 + 0.95 * update.gradients[BASELINE]
    assert sum(shares[-3:]) > 1.5 * sum(shares[:3])
