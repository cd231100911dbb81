"""A language model's weights by name: kept with their words, given to another model, refused where they do not fit."""

from dataclasses import replace

import pytest
import torch

from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.reference_cells import lstm, nas_cell
from child_trainer.inheritance.trained_weights import Start, TrainedWeights
from child_trainer.language_options import LanguageOptions
from child_trainer.networks import cost
from child_trainer.networks.language_model import LanguageModel, build_language_model
from child_trainer.networks.language_weights import VOCABULARY, kept, load, named, words_of
from child_trainer.networks.weights import WrongWeights
from child_trainer.tasks.catalogue import load_task
from child_trainer.tasks.entry import TEXT_BUDGET
from child_trainer.tasks.language import LanguageTask
from child_trainer.training.train import train

WORDS = ("the", "<eos>", "<unk>", "café")
OPTIONS = LanguageOptions(hidden_size=5, cell_layers=2)


def model(cell: Architecture, options: LanguageOptions = OPTIONS, seed: int = 0) -> LanguageModel:
    return build_language_model(cell, len(WORDS), options, generator=torch.Generator().manual_seed(seed)).eval()


def logits(model: LanguageModel) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.tensor([[0, 3], [2, 1], [1, 1]]), model.initial_state(2))[0]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("cell", [lstm(), nas_cell()], ids=["lstm", "nas-cell"])
def test_a_model_with_the_weights_of_another_computes_the_same(cell: Architecture, tied: bool) -> None:
    options = replace(OPTIONS, tied_embeddings=tied)
    one, other = model(cell, options), model(cell, options, seed=1)
    weights = kept(one, WORDS)
    assert sum(tensor.numel() for tensor in named(one).values()) == cost.parameters(one)
    assert not torch.equal(logits(one), logits(other))
    load(other, WORDS, weights)
    assert torch.equal(logits(one), logits(other))
    assert words_of(weights) == WORDS
    assert ("prediction" in weights) != tied


def test_names_are_those_of_the_cells_nodes() -> None:
    one = model(lstm())
    names = [name for name in named(one) if name.startswith("2/")]
    assert sorted(names) == sorted(f"2/{n}" for g in "ifgo" for n in (f"x_{g}/weight", f"h_{g}/weight", f"x_{g}/bias"))
    assert named(one)["2/h_g/weight"].shape == (5, 5)


def test_what_does_not_fit_is_refused_and_changes_nothing() -> None:
    one, weights = model(lstm()), kept(model(lstm(), seed=1), WORDS)
    before = logits(one)
    for changed, message in (
        (
            {name: t for name, t in weights.items() if name != "2/x_i/bias"},
            "has a parameter '2/x_i/bias', for which no",
        ),
        (weights | {"3/x_i/bias": torch.zeros(5)}, "has no parameter '3/x_i/bias'"),
        (weights | {"bias": torch.zeros(3)}, r"'bias' has the shape \(4,\), got \(3,\)"),
        (kept(one, ("the", "<eos>", "<unk>", "tea")), "another text: its word 4 is 'tea', and that of this one 'café'"),
        ({name: t for name, t in weights.items() if name != VOCABULARY}, "they have no vocabulary"),
    ):
        with pytest.raises(WrongWeights, match=message):
            load(one, WORDS, changed)
        assert torch.equal(logits(one), before)


def test_a_training_on_text_keeps_its_weights_and_goes_on_from_them() -> None:
    task = load_task("text", options=LanguageOptions(hidden_size=6, cell_layers=1, max_vocabulary=40))
    assert isinstance(task, LanguageTask)
    found: dict[str, bytes] = {}

    class Slot:
        def save(self, checksum: str, data: bytes) -> None:
            found[checksum] = data

    budget = replace(TEXT_BUDGET, epochs=1, train_fraction=0.05)
    first = train(lstm(), task, budget, seed=1, keep=Slot())
    assert first.failure is None
    assert first.weights is not None
    weights = TrainedWeights.from_bytes(found[first.weights])
    second = train(lstm(), task, replace(budget, learning_rate=1e-30), seed=2, start=Start(parent=weights))
    assert second.metric == first.metric
