"""The benchmark of supernets of NAS-Bench-201's cells: its images and its table, without the training."""

from dataclasses import replace

import torch

from benchmarks import supernet_correlation
from benchmarks.supernet_correlation import HALVED, rows
from child_trainer.training.image_classifier import Images
from cluster.config.recipes import RECIPES
from tests.cluster.correlation.test_report import CORRELATION


def test_images_have_half_the_height_and_width() -> None:
    pixels = torch.tensor([[0, 4, 8, 8], [4, 8, 8, 8]], dtype=torch.uint8).expand(2, 3, 2, 4)
    halved = supernet_correlation._halved(Images(pixels, torch.zeros(2, dtype=torch.int64)))
    assert halved.pixels.shape == (2, 3, 1, 2)
    assert halved.pixels[0, 0].tolist() == [[4, 8]]
    assert HALVED.problem is not None
    assert HALVED.problem.shape == (3, 16, 16)


def test_a_row_has_the_mean_over_the_seeds_and_its_deviation() -> None:
    reversed_order = [each._replace(truth=1 - each.truth) for each in CORRELATION.judged]
    table = rows([CORRELATION, replace(CORRELATION, judged=reversed_order)])
    assert table[0] == "| score, normalisation refit | 0.00 ± 1.41 | 0.00 ± 1.41 | 0.00 ± 1.41 | 0.00 ± 1.41 |"
    assert rows([CORRELATION])[0] == "| score, normalisation refit | 1.00 | 1.00 | 1.00 | 1.00 |"


def test_its_recipe_trains_single_paths_from_convolutions_that_are_the_identity() -> None:
    recipe = RECIPES["nasbench201-supernet"]()
    assert recipe.searcher_options.trains == "one-path"
    assert recipe.budget.regime.initial == "identity"
