"""Which children's memory is predicted: that of image classifiers, as they are trained."""

import random
from dataclasses import replace

from child_trainer.architectures.architecture import Architecture, node
from child_trainer.supernets.jobs import Score, TrainOn
from child_trainer.tasks.image_memory import training_bytes
from cluster.config.recipes import RECIPES
from cluster.runners.gpu_prediction import memory_predictor
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
    assert memory_predictor(RECIPES["text-rnn"]())(child) is None
