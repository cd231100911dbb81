"""Which children's memory is predicted: that of image classifiers and language models, as they are trained."""

import random
from dataclasses import replace
from pathlib import Path

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.supernets.jobs import Score, TrainOn
from child_trainer.tasks import language_memory
from child_trainer.tasks.image_memory import training_bytes
from child_trainer.tasks.language import LanguageTask
from cluster.config.recipes import RECIPES
from cluster.runners.gpu_prediction import memory_predictor
from cluster.runners.trainer import loaded_task
from cluster.search.evaluator import Assignment
from controller.space import first_tokens


def test_the_memory_of_image_classifiers_is_predicted_and_of_others_nothing() -> None:
    config = RECIPES["digits"]()
    drawn = config.search_space.decode(first_tokens(config.search_space, 0, random.Random(0)))
    child, predict = Assignment(child_id=1, seed=0, architecture=drawn), memory_predictor(config)
    entry = config.task.entry
    assert entry.problem is not None
    assert predict(child) == training_bytes(drawn, entry.problem, config.budget, entry.examples)
    assert predict(replace(child, job=TrainOn(parent=1, checksum="0" * 64))) == predict(child)
    assert predict(replace(child, job=Score())) is None
    assert predict(replace(child, architecture=None)) is None
    flat = (node("flat", "flatten", "image"), node("a", "conv", "flat", height=3, width=3, filters=4))
    assert predict(replace(child, architecture=Architecture("feedforward", flat, ("a",)))) is None


def test_the_memory_of_language_models_is_predicted_from_the_text() -> None:
    config = RECIPES["text-rnn"]()
    cell = config.search_space.decode(first_tokens(config.search_space, 0, random.Random(0)))
    child, predict = Assignment(child_id=1, seed=0, architecture=cell), memory_predictor(config)
    task = loaded_task(config.task)
    assert isinstance(task, LanguageTask)
    assert predict(child) == language_memory.training_bytes(cell, task, config.budget)
    assert predict(replace(child, job=Score())) is None
    wrong = (node("a", "tanh", "x"), node("b", "conv", "a", height=1, width=1, filters=1))
    assert predict(replace(child, architecture=Architecture("recurrent", wrong, ("b",)))) is None


def test_without_the_text_nothing_is_predicted(tmp_path: Path) -> None:
    config = RECIPES["wikitext2-rnn"]()
    config = replace(config, task=replace(config.task, data=tmp_path))
    cell = config.search_space.decode(first_tokens(config.search_space, 0, random.Random(0)))
    assert memory_predictor(config)(Assignment(child_id=1, seed=0, architecture=cell)) is None
