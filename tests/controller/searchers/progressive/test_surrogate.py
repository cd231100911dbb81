"""The surrogates against the networks as the paper draws them (Liu et al. 2018, section 4.2; spec §5.2)."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from controller.decisions import Choice, Pointer, Subset, Tokens
from controller.searchers.progressive import surrogate
from controller.searchers.progressive.candidates import Candidates
from controller.searchers.progressive.options import ProgressiveOptions
from controller.searchers.progressive.surrogate import Lstm, Mlp, Scale, fit, prefixes
from controller.searchers.progressive.vocabulary import Vocabulary
from controller.statistics import spearman
from tests.controller.searchers.progressive.driven import FAST, SPACE, Additive

VOCABULARY = Candidates(SPACE, beam=2).vocabulary
OPTIONS = replace(FAST, embedding=5, hidden=7)
CELLS: list[Tokens] = [tuple(part) for part in SPACE.parts(1)]
LARGER = np.array([[*cell, *other] for cell in sorted(CELLS)[:6] for other in SPACE.parts(2)[:9]])
OBSERVATIONS = [(cell, Additive(SPACE, seed=0)(cell)) for cell in CELLS]


def drawn(member: Any) -> Any:
    """The member with weights from a normal distribution."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in member.parameters():
            parameter.normal_(generator=generator)
    return member


def test_options_of_one_name_are_one_word_at_every_place() -> None:
    words = VOCABULARY.words(np.array([[0, 1, 0, 2, 2, 1, 2, 0]])).tolist()[0]
    assert words[1] == words[5]
    assert words[2] == words[7]
    assert words[3] == words[6]
    assert len(set(words)) == 5
    assert VOCABULARY.num_words == 4 + 3
    assert [VOCABULARY.num_parts(length) for length in (4, 8, 12)] == [1, 2, 3]


def test_every_kind_of_decision_has_words() -> None:
    vocabulary = Vocabulary(
        (Choice("height", (3, 5), 1), Subset("skip", 0), Subset("skip", 1), Pointer("index", 3)), [3]
    )
    assert vocabulary.words(np.array([[1, 1, 2]])).tolist() == [[1, 3, 6]]
    assert [vocabulary.decision(position).kind for position in range(3)] == ["height", "skip", "index"]
    assert [vocabulary.name(position, 1) for position in range(3)] == ["5", "yes", "1"]


def test_the_perceptron_is_that_of_the_mean_of_the_parts_embeddings() -> None:
    mlp = drawn(Mlp(VOCABULARY, OPTIONS))
    words = torch.from_numpy(VOCABULARY.words(LARGER))
    parts = mlp.embedding_VD[words].reshape(len(words), 2, 4 * 5)
    hidden = torch.relu(parts.mean(1) @ mlp.hidden_SDH.reshape(4 * 5, 7) + mlp.hidden_bias_H)
    torch.testing.assert_close(mlp(words), hidden @ mlp.output_H + mlp.output_bias)


def test_the_lstm_is_pytorchs() -> None:
    lstm = drawn(Lstm(VOCABULARY, OPTIONS))
    theirs = nn.LSTM(5, 7, batch_first=True)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(lstm.input_DG.T)
        theirs.weight_hh_l0.copy_(lstm.recurrent_HG.T)
        theirs.bias_ih_l0.copy_(lstm.gates_G)
        theirs.bias_hh_l0.zero_()
    words = torch.from_numpy(VOCABULARY.words(LARGER))
    _, (hidden, _) = theirs(lstm.embedding_VD[words])
    torch.testing.assert_close(lstm(words), hidden[0] @ lstm.output_H + lstm.output_bias)


def test_each_distinct_prefix_is_read_once() -> None:
    words = torch.tensor([[0, 1, 2], [0, 1, 3], [0, 1, 3], [0, 2, 3], [1, 2, 3]])
    steps = [[column.tolist() for column in step] for step in prefixes(words)]
    assert steps == [
        [[0, 0], [0, 1], [0, 0, 0, 0, 1]],
        [[0, 0, 1], [1, 2, 2], [0, 0, 0, 1, 2]],
        [[0, 0, 1, 2], [2, 3, 3, 3], [0, 1, 1, 2, 3]],
    ]


@pytest.mark.parametrize("kind", ["mlp", "lstm"])
def test_a_fit_is_a_function_of_the_observations(kind: Any) -> None:
    options = replace(OPTIONS, surrogate=kind)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first = fit(VOCABULARY, options, OBSERVATIONS)
    predictions = first.predict(LARGER)
    again = fit(VOCABULARY, options, OBSERVATIONS[::-1])
    assert (again.predict(LARGER) == predictions).all()
    fit(VOCABULARY, options, [(tuple(LARGER[0].tolist()), 0.9)], first)
    assert (first.predict(LARGER) == predictions).all(), "a later fit changed an earlier one"
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("kind", ["mlp", "lstm"])
def test_a_fit_learns_the_rewards_and_the_bias_is_where_it_starts(kind: Any) -> None:
    options = ProgressiveOptions(
        surrogate=kind, ensemble=1, embedding=20, hidden=20, fit_steps=1, fit_learning_rate=1e-9
    )
    cells = np.array(sorted(CELLS))
    assert fit(VOCABULARY, options, OBSERVATIONS).predict(cells) == pytest.approx(0.858, abs=0.02)
    longer = replace(options, fit_steps=100, fit_learning_rate=0.01, fit_batch_size=21)
    rewards = dict(OBSERVATIONS)
    predicted = fit(VOCABULARY, longer, OBSERVATIONS).predict(cells)
    errors = [abs(value - rewards[tuple(cell)]) for cell, value in zip(cells.tolist(), predicted, strict=True)]
    assert np.mean(errors) < 0.01


def test_each_member_is_fitted_without_one_share_of_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[list[tuple[int, ...]]] = []
    monkeypatch.setattr(
        surrogate, "_train", lambda _, words, *rest: kept.append([tuple(row.tolist()) for row in words])
    )
    fit(VOCABULARY, replace(OPTIONS, ensemble=5), OBSERVATIONS[:20])
    assert [len(of_member) for of_member in kept] == [16] * 5
    assert sorted(Counter(row for of_member in kept for row in of_member).values()) == [4] * 20
    kept.clear()
    fit(VOCABULARY, replace(OPTIONS, ensemble=1), OBSERVATIONS[:20])
    assert [len(set(of_member)) for of_member in kept] == [20]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_ranks_cells_that_are_larger_than_all_that_it_was_fitted_to(seed: int) -> None:
    """T5.4: the rank correlation on the next size; the state that no smaller cell has is worth what is not known."""
    worth = Additive(SPACE, seed)
    cells = sorted((tuple(row), worth(tuple(row))) for row in LARGER.tolist())
    options = ProgressiveOptions(embedding=20, hidden=20, fit_steps=500)
    fitted = fit(VOCABULARY, options, [(cell, worth(cell)) for cell in CELLS])
    known = [(cell, reward) for cell, reward in cells if max(cell[4:6]) < 2]
    predicted = fitted.predict(np.array([cell for cell, _ in known])).tolist()
    correlation = spearman([(value, reward) for value, (_, reward) in zip(predicted, known, strict=True)])
    assert correlation is not None
    assert correlation > 0.8


def test_a_state_that_was_never_seen_is_taken_for_an_average_one() -> None:
    fitted = fit(VOCABULARY, OPTIONS, OBSERVATIONS)
    words = [VOCABULARY.words(np.array([[0, 0, 0, 0, state, 0, 0, 0]]))[0, 4] for state in range(3)]
    for member in fitted.members:
        known, other, unseen = (member.embedding_VD[word] for word in words)
        torch.testing.assert_close(unseen, (known + other) / 2)
    assert [bool(fitted.seen_V[word]) for word in words] == [True, True, False]


def test_fewer_children_than_members_are_all_learnt() -> None:
    options = ProgressiveOptions(ensemble=2, embedding=20, hidden=20, fit_steps=600)
    fitted = fit(VOCABULARY, options, OBSERVATIONS[:1])
    assert fitted.predict(np.array([CELLS[0]])) == pytest.approx(OBSERVATIONS[0][1], abs=0.02)


def test_rewards_beyond_the_sigmoids_range_are_scaled() -> None:
    rewards = torch.tensor([-1.0, 0.5, 3.0])
    scale = Scale.of(rewards.tolist())
    assert scale.targets(rewards).tolist() == [0, 0.375, 1]
    assert torch.equal(scale.rewards(scale.targets(rewards)), rewards)
    assert Scale.of([0.2, 0.9]) == (0, 1)
    assert Scale.of([7.0]).targets(torch.tensor([7.0])).tolist() == [0]
    far = fit(VOCABULARY, OPTIONS, [(cell, 100 * reward) for cell, reward in OBSERVATIONS])
    assert (far.predict(LARGER) > 50).all()
