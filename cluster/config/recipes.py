"""The named runs, by the system that they are of. Each is a function that returns a configuration."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import MappingProxyType
from typing import Any

from child_trainer import own_files
from child_trainer.own_files import OwnFileError
from cluster.config import (
    eas_recipes,
    gradient_recipes,
    instant_recipes,
    nas_recipes,
    recurrent_recipes,
    sharing_recipes,
    survey_recipes,
)
from cluster.config.run_config import RunConfig
from controller.catalogue import find_entry

Recipe = Callable[..., RunConfig]
"""Returns the configuration of a named run; the command line can change any part of it.

One that has other sizes for other searchers takes the name of one as the argument `searcher`; one that has other sizes
for other tasks likewise as `task`.
"""


@dataclass(frozen=True, kw_only=True)
class System:
    """A published system, or what else the named runs have in common.

    Attributes:
        name: for people.
        paper: the source, with its sections; empty without one.
        took: what the paper's own search took; empty without a paper.
        recipes: its named runs.
    """

    name: str
    paper: str = ""
    took: str = ""
    recipes: Mapping[str, Recipe]


SYSTEMS = (
    System(
        name="NAS: convolutional networks and recurrent cells by policy gradient",
        paper="Zoph & Le 2017, arXiv 1611.01578, sections 3 and 4",
        took="12,800 networks of 50 epochs on 800 GPUs; 28 days by NASNet's account, 540,000 GPU-hours",
        recipes={
            "digits": nas_recipes.digits,
            "fashion-mnist": nas_recipes.fashion_mnist,
            "cifar10": nas_recipes.cifar10,
            "zoph2017-cifar10": nas_recipes.zoph2017_cifar10,
            "text-rnn": nas_recipes.text_rnn,
            "wikitext2-rnn": nas_recipes.wikitext2_rnn,
            "zoph2017-ptb": nas_recipes.zoph2017_ptb,
        },
    ),
    System(
        name="NASNet: cells by proximal policy optimisation",
        paper="Zoph et al. 2018, arXiv 1707.07012, sections 3 and 4",
        took="20,000 networks of 20 epochs on 500 GPUs in 4 days, 48,000 GPU-hours",
        recipes={"nasnet-digits": survey_recipes.nasnet_digits, "nasnet-cifar10": survey_recipes.nasnet_cifar10},
    ),
    System(
        name="AmoebaNet: cells by regularized evolution",
        paper="Real et al. 2019, arXiv 1802.01548, methods",
        took="20,000 networks of 25 epochs on 450 GPUs in about 7 days, 75,600 GPU-hours",
        recipes={
            "amoebanet-digits": survey_recipes.amoebanet_digits,
            "amoebanet-cifar10": survey_recipes.amoebanet_cifar10,
        },
    ),
    System(
        name="PNAS: cells of growing size by a surrogate",
        paper="Liu et al. 2018, arXiv 1712.00559, sections 3 and 4",
        took="1,160 networks of 20 epochs; about 225 GPU-days by later surveys, 5,400 GPU-hours",
        recipes={"pnas-digits": survey_recipes.pnas_digits, "pnas-cifar10": survey_recipes.pnas_cifar10},
    ),
    System(
        name="MetaQNN: chains of layers by Q-learning",
        paper="Baker et al. 2017, arXiv 1611.02167, sections 4 and 5",
        took="2,700 networks of 20 epochs on 10 GPUs in 8 to 10 days, 1,900 to 2,400 GPU-hours",
        recipes={"metaqnn-digits": survey_recipes.metaqnn_digits, "metaqnn-cifar10": survey_recipes.metaqnn_cifar10},
    ),
    System(
        name="HNAS: hierarchical cells by evolution",
        paper="Liu et al. 2018, arXiv 1711.00436, sections 2 to 4",
        took="7,000 networks of 5,000 steps on 200 GPUs in 1.5 days, 7,200 GPU-hours",
        recipes={"hnas-digits": survey_recipes.hnas_digits, "hnas-cifar10": survey_recipes.hnas_cifar10},
    ),
    System(
        name="EAS: trained networks that grow wider and deeper",
        paper="Cai et al. 2018, arXiv 1707.04873, sections 3 and 4",
        took="450 networks of 20 epochs on 5 GPUs in 2 days, 240 GPU-hours",
        recipes={
            "eas-digits": eas_recipes.eas_digits,
            "eas-dense-digits": eas_recipes.eas_dense_digits,
            "eas-cifar10": eas_recipes.eas_cifar10,
            "eas-dense-cifar10": eas_recipes.eas_dense_cifar10,
        },
    ),
    System(
        name="Path-level EAS: cells of a trained network that grow as trees",
        paper="Cai et al. 2018, arXiv 1806.02639, sections 3 and 4",
        took="500 networks of 20 epochs; about 200 GPU-hours",
        recipes={
            "path-eas-digits": eas_recipes.path_eas_digits,
            "path-eas-cifar10": eas_recipes.path_eas_cifar10,
        },
    ),
    System(
        name="NEAT: networks and their weights by neuroevolution",
        paper="Stanley & Miikkulainen 2002, Evolutionary Computation 10(2), sections 3 and 4",
        took="4,755 networks on average for exclusive or; no GPU",
        recipes={"neat-xor": survey_recipes.neat_xor, "neat-pole": survey_recipes.neat_pole},
    ),
    System(
        name="seed-agem: sub-networks of which a policy selects one; not Averaged Gradient Episodic Memory",
        paper="an article on A-GEM, with neither code nor figures; what is read into it is in spec §17",
        took="an unknown time",
        recipes={"seed-agem-digits": survey_recipes.seed_agem_digits},
    ),
    System(
        name="ENAS: networks and cells by a policy that learns from shared weights",
        paper="Pham et al. 2018, arXiv 1802.03268, sections 2 and 3",
        took="0.45 days of one GPU for its cells, 11 GPU-hours",
        recipes={
            "enas-macro-digits": sharing_recipes.enas_macro_digits,
            "enas-micro-digits": sharing_recipes.enas_micro_digits,
            "enas-macro-cifar10": sharing_recipes.enas_macro_cifar10,
            "enas-micro-cifar10": sharing_recipes.enas_micro_cifar10,
            "enas-rnn": recurrent_recipes.enas_rnn,
        },
    ),
    System(
        name="SMASH: weights of any network from a hypernetwork",
        paper="Brock et al. 2018, arXiv 1708.05344, sections 3 and 4",
        took="one hypernetwork's training of 100 epochs, and no training of its paths",
        recipes={"smash-digits": sharing_recipes.smash_digits, "smash-cifar10": sharing_recipes.smash_cifar10},
    ),
    System(
        name="One-Shot: paths of one network, trained with path dropout",
        paper="Bender et al. 2018, Understanding and simplifying one-shot architecture search, sections 3 and 4",
        took="one network's training, and no training of its paths",
        recipes={
            "one-shot-digits": sharing_recipes.one_shot_digits,
            "one-shot-cifar10": sharing_recipes.one_shot_cifar10,
        },
    ),
    System(
        name="DARTS: cells by gradient, through a mixture of all operations",
        paper="Liu et al. 2019, arXiv 1806.09055, sections 2 and 3",
        took="1.5 days of one GPU with the first order, 36 GPU-hours, and 4 with the second",
        recipes={
            "darts-digits": gradient_recipes.darts_digits,
            "darts-cifar10": gradient_recipes.darts_cifar10,
            "darts-rnn": recurrent_recipes.darts_rnn,
        },
    ),
    System(
        name="SNAS: cells by gradient, through relaxed samples",
        paper="Xie et al. 2019, arXiv 1812.09926, sections 2 and 3",
        took="1.5 days of one GPU, 36 GPU-hours",
        recipes={"snas-digits": gradient_recipes.snas_digits, "snas-cifar10": gradient_recipes.snas_cifar10},
    ),
    System(
        name="ProxylessNAS: inverted bottlenecks by gradient, along sampled paths",
        paper="Cai et al. 2019, arXiv 1812.00332, sections 3 and 4",
        took="200 GPU-hours",
        recipes={
            "proxyless-digits": gradient_recipes.proxyless_digits,
            "proxyless-cifar10": gradient_recipes.proxyless_cifar10,
        },
    ),
    System(
        name="Shared weights of a benchmark's cells, to compare scores with its table",
        paper="Dong & Yang 2020, arXiv 2001.00326",
        took="no search; the benchmark trained its 15,625 networks on three data sets, for 200 epochs each",
        recipes={"nasbench201-supernet": sharing_recipes.nasbench201_supernet},
    ),
    System(
        name="Without training: a benchmark's table, and tests of a cluster",
        recipes={
            "nasbench201": instant_recipes.nasbench201,
            "synthetic": instant_recipes.synthetic,
            "rehearsal": instant_recipes.rehearsal,
        },
    ),
)
"""All named runs of ours, by their systems."""

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {name: recipe for system in SYSTEMS for name, recipe in system.recipes.items()}
)
"""All named runs of ours, by their names."""


def find_recipe(name: str) -> Recipe:
    """Return the recipe called `name`, or the function that `FILE.py:NAME` is.

    Raises:
        UnknownName: no recipe of ours has this name.
        OwnFileError: the file cannot be loaded, or does not define a recipe.
    """
    if not own_files.is_own(name):
        return find_entry(RECIPES, name, "recipe")
    made = own_files.load(name)
    if not callable(made) or isinstance(made, type):
        raise OwnFileError(f"{name} must be a function that returns a RunConfig, got {type(made).__name__}")

    def recipe() -> RunConfig:
        config = made()
        if not isinstance(config, RunConfig):
            raise OwnFileError(f"{name} must return a RunConfig, got {type(config).__name__}")
        return config

    recipe.__doc__ = made.__doc__
    return recipe


def configuration(recipe: Recipe, searcher: str | None, task: str | None = None) -> RunConfig:
    """Return the recipe's configuration; if it takes a searcher or a task, that for this one, where one is named."""
    takes = inspect.signature(recipe).parameters
    named = {"searcher": searcher, "task": task}
    return recipe(**{name: value for name, value in named.items() if value is not None and name in takes})


def recipe_label(name: str) -> str:
    """Return the recipe's name without its file, which begins the names of its runs."""
    return name.rpartition(":")[2]


def changed(ours: RunConfig, theirs: RunConfig) -> list[str]:
    """Return the names of the fields in which two configurations differ."""
    return [f.name for f in fields(ours) if getattr(ours, f.name) != getattr(theirs, f.name)]


def differences(recipe: RunConfig) -> dict[str, Any]:
    """Return the values of a recipe that differ from the defaults, which are the paper's, by flag."""
    return _differences(recipe, RunConfig())


def _differences(ours: Any, default: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for f in fields(ours):
        mine, usual = getattr(ours, f.name), getattr(default, f.name)
        if is_dataclass(mine):
            settings |= _differences(mine, usual if type(usual) is type(mine) else type(mine)())  # pyright: ignore[reportCallIssue]
        elif mine != usual:
            settings[f.name.replace("_", "-")] = mine
    return settings
