"""Given networks, with each combination of the values of training settings."""

import pytest

from child_trainer.field_docs import field_docs
from child_trainer.hyperparameters import HYPERPARAMETERS, OF_LANGUAGE, own_language_options, with_hyperparameters
from child_trainer.language_options import LanguageOptions
from child_trainer.outcome import Budget
from child_trainer.regime import Regime
from controller.decisions import enumerate_samples
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.listed import text_of
from controller.spaces.recurrent import RecurrentSpace
from controller.spaces.settings import EXAMPLE, SettingsSpace, setting_of
from tests.contracts.search_space import SearchSpaceContract

NETWORKS = tuple(ConvolutionalSpace(initial_depth=2).decode([1, 1, 0, 1, 1, 1, last]) for last in (0, 1))

SPACE = SettingsSpace(
    architectures=tuple(map(text_of, NETWORKS)), settings=("learning-rate=.2,0.1", "decay_at=.5"), seeds=2
)


class TestSettingsSpace(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> SettingsSpace:
        return SettingsSpace()


def test_a_sample_is_the_network_with_the_settings_as_its_hyperparameters() -> None:
    samples = list(enumerate_samples(SPACE.decisions(0)))
    assert samples == [(network, rate, 0, seed) for network in (0, 1) for rate in (0, 1) for seed in (0, 1)]
    found = SPACE.decode((1, 0, 0, 1))
    assert (found.nodes, found.outputs) == (NETWORKS[1].nodes, NETWORKS[1].outputs)
    assert dict(found.hyperparameters) == {"decay_at": 0.5, "learning_rate": 0.2} == SPACE.settings_of((1, 0, 0, 1))
    assert SPACE.decode((1, 0, 0, 0)) == found
    plain = SettingsSpace(architectures=(text_of(found),), settings=())  # what a grid search has chosen stays
    assert plain.decode((0, 0)) == found


def test_the_paper_names_four_settings() -> None:
    """36 combinations of learning rate, weight decay, epsilon and the time of decay; the values are ours."""
    samples = list(enumerate_samples(SettingsSpace().decisions(0)))
    assert len(samples) == 3 * 3 * 2 * 2
    assert len({SettingsSpace().decode(tokens).id for tokens in samples}) == 36
    assert SettingsSpace().networks == (EXAMPLE,)


def test_settings_replace_those_of_the_budget_and_of_its_regime() -> None:
    own = {"learning_rate": 1, "momentum": 0.5, "decay_at": 0.5, "cutout": 4.0, "norm_epsilon": 1e-3}
    found = with_hyperparameters(Budget(regime=Regime(schedule="cosine", decay=0.2)), own)
    regime = Regime(schedule="steps", decay_at=(0.5,), decay=0.2, cutout=4, norm_epsilon=1e-3)
    assert found == Budget(learning_rate=1.0, momentum=0.5, regime=regime)
    assert with_hyperparameters(Budget(), {}) == Budget()


def test_each_setting_is_one_of_a_training() -> None:
    for name in HYPERPARAMETERS:
        value = 2.0 if name == "cutout" else 0.5
        assert (with_hyperparameters(Budget(), {name: value}) != Budget()) == (name not in OF_LANGUAGE)
        changed = own_language_options(LanguageOptions(), {name: value}) != LanguageOptions()
        assert changed == (name in OF_LANGUAGE)
        assert name.replace("_", "-") in field_docs(SettingsSpace)["settings"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning-rate", "a setting must be written as NAME=VALUE,VALUE, such as learning-rate=0.2,0.1, got"),
        ("learning-rate=", "a setting must be written as NAME=VALUE,VALUE"),
        ("warmth=1", "there is no setting 'warmth'; the settings are learning-rate, weight-decay, momentum, decay"),
        ("epochs=5", "there is no setting 'epochs'"),
        ("learning-rate=.1,fast", "the values of the setting learning-rate must be numbers, got 'fast'"),
        ("learning-rate=.1,,.2", "the values of the setting learning-rate must be numbers, got ''"),
        ("learning-rate=.1,0", "the setting learning-rate cannot be 0: `learning_rate` must be a positive number"),
        ("learning-rate=nan", "the setting learning-rate cannot be nan: `learning_rate` must be a positive number"),
        ("cutout=2.5", "the setting cutout cannot be 2.5: `cutout` must be a whole number, got 2.5"),
        ("cutout=inf", "the setting cutout cannot be inf"),
        (
            "embedding-dropout=1",
            "the setting embedding-dropout cannot be 1: `embedding_dropout` must be at least 0 and",
        ),
        ("decay-at=.5,1", "the setting decay-at cannot be 1: `decay_at` must be rising shares"),
        ("momentum=.9,0.9", "the values of the setting momentum must be different ones, got 0.9 twice"),
    ],
)
def test_what_is_no_setting_is_said_in_one_sentence(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        setting_of(text)
    assert message in str(error.value)


def test_what_is_no_space() -> None:
    with pytest.raises(ValueError, match="`settings` must be different ones, got learning-rate twice"):
        SettingsSpace(settings=("learning-rate=.1", "learning_rate=.2"))
    with pytest.raises(ValueError, match="`architectures` must be networks as JSON text: an architecture lacks `kind`"):
        SettingsSpace(architectures=("{}",))
    with pytest.raises(ValueError, match="`architectures` must be networks as JSON text: "):
        SettingsSpace(architectures=("net.json",))
    cell = RecurrentSpace(base=2)
    other = text_of(cell.decode([0] * len(cell.decisions(0))))
    with pytest.raises(ValueError, match="`architectures` must be of one kind, got feedforward and recurrent"):
        SettingsSpace(architectures=(text_of(EXAMPLE), other))
    with pytest.raises(ValueError, match="`seeds` must be at least 1, got 0"):
        SettingsSpace(seeds=0)
