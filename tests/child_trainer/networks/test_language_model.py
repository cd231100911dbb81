"""The language model around a cell: its size, its dropout and its predictions."""

import pytest
import torch
from torch.nn import functional as F

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture, node
from child_trainer.architectures.reference_cells import lstm, nas_cell
from child_trainer.language_options import MEDIUM_PARAMETERS, LanguageOptions
from child_trainer.networks import cost
from child_trainer.networks.language_model import build_language_model, count_parameters, solved_width
from tests.golden import GOLDEN_LAYERS, architecture

PTB_WORDS = 10_000
PLAIN = LanguageOptions(hidden_size=5, embedding_dropout=0.0, variational_dropout=0.0)


def test_the_width_of_the_paper_is_solved_for():
    """Spec T2.5, and the widths that spec §2.4 derives from the published sizes."""
    assert solved_width(nas_cell(), PTB_WORDS, LanguageOptions()) == 533
    published = {(False, 32_000_000): 735, (True, 25_000_000): 741, (True, 54_000_000): 1152}
    for (tied, target), width in published.items():
        options = LanguageOptions(tied_embeddings=tied, target_parameters=target)
        assert solved_width(nas_cell(), PTB_WORDS, options) == width


def test_the_medium_lstm_has_the_published_size():
    """Spec §2.3."""
    assert count_parameters(lstm(), PTB_WORDS, 650, LanguageOptions()) == MEDIUM_PARAMETERS
    assert solved_width(lstm(), PTB_WORDS, LanguageOptions()) == 650


FIXED = Architecture(
    "recurrent",
    (
        node("x1", "linear", "x", bias=False),
        node("h1", "linear", "h", bias=False),
        node("s", "add", ("x1", "h1")),
        node("narrow", "linear", "s", units=7),
        node("y", "linear", "narrow"),
    ),
    ("y",),
)


@pytest.mark.parametrize("cell", [lstm(), nas_cell(), FIXED], ids=["lstm", "nas", "with maps of fixed sizes"])
@pytest.mark.parametrize("target", [500, 12_345, 400_000])
@pytest.mark.parametrize("tied", [False, True])
def test_the_width_is_the_largest_that_fits(cell, target, tied):
    options = LanguageOptions(target_parameters=target, tied_embeddings=tied, cell_layers=3)
    width = solved_width(cell, 50, options)
    assert count_parameters(cell, 50, width, options) <= target < count_parameters(cell, 50, width + 1, options)
    assert cost.parameters(build_language_model(cell, 50, options)) == count_parameters(cell, 50, width, options)


def test_a_target_below_the_smallest_model_is_refused_with_its_size():
    options = LanguageOptions(target_parameters=100)
    least = count_parameters(lstm(), 50, 1, options)
    with pytest.raises(InvalidArchitecture, match=rf"with 50 words .* has {least:,} parameters; .* is 100$"):
        build_language_model(lstm(), 50, options)


def test_an_image_network_is_no_cell():
    with pytest.raises(InvalidArchitecture, match="needs a recurrent architecture, got a feedforward one"):
        build_language_model(architecture(GOLDEN_LAYERS[:1]), 50, PLAIN)


def test_it_scores_every_next_word_from_the_words_before_it():
    torch.manual_seed(0)
    model = build_language_model(nas_cell(), 11, PLAIN)
    words = torch.randint(11, (7, 3))
    logits, state = model(words, model.initial_state(3))
    hidden = F.embedding(words, model.embedding)
    for layer, (h, c) in zip(model.layers, model.initial_state(3), strict=True):
        hidden, _ = layer(hidden, (h, c))
    torch.testing.assert_close(logits, hidden @ model.prediction.t() + model.bias)
    first, between = model(words[:4], model.initial_state(3))
    second, last = model(words[4:], between)
    torch.testing.assert_close(torch.cat([first, second]), logits)
    for one, other in zip(state, last, strict=True):
        torch.testing.assert_close(one, other)
    changed = words.clone()
    changed[5] = (changed[5] + 1) % 11
    other, _ = model(changed, model.initial_state(3))
    torch.testing.assert_close(other[:5], logits[:5])
    assert not torch.allclose(other[5:], logits[5:])


def test_a_tied_model_has_one_table():
    model = build_language_model(lstm(), 11, LanguageOptions(hidden_size=5, tied_embeddings=True))
    assert model.prediction is None
    logits, _ = model(torch.zeros(2, 1, dtype=torch.int64), model.initial_state(1))
    logits.square().mean().backward()
    assert (model.embedding.grad != 0).any(1).all()


def test_weights_come_from_the_generator_and_from_nothing_else():
    def weights(seed):
        model = build_language_model(nas_cell(), 11, PLAIN, generator=torch.Generator().manual_seed(seed))
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    before = torch.get_rng_state()
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert weights(1).abs().max() <= 5**-0.5
    assert build_language_model(lstm(), 11, PLAIN).embedding.abs().max() > 0.9 * 5**-0.5


# --- Dropout -----------------------------------------------------------------------------------------------------


def test_dropped_units_are_equal_at_all_steps_and_differ_between_streams():
    torch.manual_seed(0)
    model = build_language_model(lstm(), 11, LanguageOptions(hidden_size=200, variational_dropout=0.25))
    dropped = model._dropped(torch.ones(6, 3, 200))
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    assert not torch.equal(dropped[0, 0], dropped[0, 1])
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.05)


def test_a_dropped_word_is_dropped_at_all_of_its_places():
    torch.manual_seed(0)
    model = build_language_model(lstm(), 1000, LanguageOptions(hidden_size=4, embedding_dropout=0.2))
    table = model._embedding()
    gone = (table == 0).all(1)
    assert gone.float().mean().item() == pytest.approx(0.2, abs=0.05)
    torch.testing.assert_close(table[~gone], model.embedding[~gone] / 0.8)


def test_nothing_is_dropped_in_evaluation():
    torch.manual_seed(0)
    model = build_language_model(nas_cell(), 11, LanguageOptions(hidden_size=5)).eval()
    words = torch.randint(11, (7, 3))
    with torch.no_grad():
        assert torch.equal(model(words, model.initial_state(3))[0], model(words, model.initial_state(3))[0])
    model.train()
    assert not torch.equal(model(words, model.initial_state(3))[0], model(words, model.initial_state(3))[0])


# --- Its options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell_layers": 0}, "`cell_layers` must be at least 1, got 0"),
        ({"target_parameters": 0}, "`target_parameters` must be at least 1, got 0"),
        ({"hidden_size": 0}, "`hidden_size` must be at least 1, got 0"),
        ({"unroll": 0}, "`unroll` must be at least 1, got 0"),
        ({"embedding_dropout": 1.0}, r"`embedding_dropout` must be at least 0 and below 1, got 1\.0"),
        ({"variational_dropout": -0.1}, r"`variational_dropout` must be at least 0 and below 1, got -0\.1"),
        ({"variational_dropout": float("nan")}, "`variational_dropout` .* got nan"),
        ({"decay_after": -1}, "`decay_after` must be 0 or more, got -1"),
        ({"learning_rate_decay": 0.0}, r"`learning_rate_decay` must be above 0 and at most 1, got 0\.0"),
        ({"learning_rate_decay": 1.5}, r"`learning_rate_decay` .* got 1\.5"),
        ({"max_vocabulary": 1}, "`max_vocabulary` must be at least 2, got 1"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LanguageOptions(**options)


def test_the_learning_rate_shrinks_after_some_epochs():
    """Zaremba et al. 2014: the rate is 1 for six epochs, then divided by 1.2 after each."""
    options = LanguageOptions(decay_after=6, learning_rate_decay=1 / 1.2)
    assert [options.learning_rate(1.0, epoch) for epoch in (1, 6, 7, 8)] == pytest.approx([1, 1, 1 / 1.2, 1 / 1.44])
    assert LanguageOptions().learning_rate(0.5, 100) == 0.5
