"""The predicted memory of a language model's training, beside what PyTorch really allocates for one on the CPU."""

import random
from dataclasses import replace

import pytest
import torch
from torch.profiler import profile

from child_trainer.architectures.architecture import Architecture
from child_trainer.language_options import LanguageOptions
from child_trainer.networks.language_model import build_language_model, language_model_on_meta
from child_trainer.outcome import Budget
from child_trainer.regime import Regime
from child_trainer.tasks.image_memory import WORKSPACE_BYTES
from child_trainer.tasks.language import LanguageTask
from child_trainer.tasks.language_memory import evaluation_bytes, step_bytes, training_bytes
from child_trainer.training.live_bytes import LiveBytes
from child_trainer.training.train import train
from cluster.config.recipes import RECIPES
from controller.space import first_tokens
from tests.child_trainer.tasks.allocations import peak_of

SMALL = LanguageOptions(hidden_size=32, unroll=20)


def cell(seed: int) -> Architecture:
    space = RECIPES["text-rnn"]().search_space
    return space.decode(first_tokens(space, 0, random.Random(seed)))


def task(vocabulary: int, words: int, options: LanguageOptions = SMALL) -> LanguageTask:
    text = torch.randint(vocabulary, (words,), generator=torch.Generator().manual_seed(0))
    names = tuple(map(str, range(vocabulary)))
    return LanguageTask(name="made", options=options, vocabulary=names, training=text, validation=text[: words // 2])


@pytest.mark.parametrize("seed", [0, 1])
def test_a_step_allocates_what_is_predicted_for_it_to_the_byte(seed: int) -> None:
    model = build_language_model(cell(seed), 300, SMALL)
    words = torch.zeros((SMALL.unroll + 1, 8), dtype=torch.int64)
    state = model.initial_state(8)

    def step() -> None:
        logits, _ = model(words[:-1], state)
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), words[1:].flatten()).backward()

    step()  # what PyTorch allocates once
    model.zero_grad()
    with profile(profile_memory=True) as measured:
        step()
    assert step_bytes(language_model_on_meta(cell(seed), 300, SMALL), 8, SMALL.unroll) == peak_of(measured)


@pytest.mark.parametrize(
    ("vocabulary", "batch_size", "optimizer"), [(50, 64, "sgd"), (2000, 8, "sgd"), (2000, 2, "adam")]
)
def test_a_training_allocates_what_is_predicted_for_it(vocabulary: int, batch_size: int, optimizer: str) -> None:
    made = task(vocabulary, 2000)
    budget = Budget(epochs=1, batch_size=batch_size, momentum=0.0, regime=Regime(optimizer=optimizer))
    train(cell(0), made, budget, seed=0)
    with profile(profile_memory=True) as measured:
        train(cell(0), made, budget, seed=0)
    texts = 8 * (len(made.training) + len(made.validation))  # they are there before
    assert 0.9 < (training_bytes(cell(0), made, budget) - WORKSPACE_BYTES - texts) / peak_of(measured) < 1.4


def test_more_words_and_longer_stretches_take_more() -> None:
    budget = Budget(epochs=1, batch_size=8)
    least = training_bytes(cell(0), task(100, 1000), budget)
    assert least < training_bytes(cell(0), task(200, 1000), budget)
    assert least < training_bytes(cell(0), task(100, 2000), budget)
    assert least < training_bytes(cell(0), task(100, 1000), replace(budget, batch_size=16))
    assert least < training_bytes(cell(0), task(100, 1000, replace(SMALL, unroll=40)), budget)
    model = language_model_on_meta(cell(0), 100, SMALL)
    assert evaluation_bytes(model, 20) < evaluation_bytes(model, 40)


def test_what_nothing_refers_to_any_more_is_not_counted() -> None:
    given = torch.empty(10, device="meta")
    with LiveBytes([given]) as live:
        given.add_(1)
        given.view(2, 5)
        assert (live.now, live.peak) == (0, 0)
        kept = given * 2
        passing = kept + 1
        assert (live.now, live.peak) == (80, 80)
        del passing
        views = kept.split(5)
        del kept
        assert (live.now, live.peak) == (40, 80)
        del views
        assert (live.now, live.peak) == (0, 80)
