"""The systems that a survey searches with, each by its small named run, and those that it leaves out. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cluster.config.recipes import SYSTEMS


@dataclass(frozen=True, kw_only=True)
class Surveyed:
    """A system of the survey.

    Attributes:
        name: for people.
        recipe: its small named run.
        reported: what the paper reports of the networks that it has found, on CIFAR-10 unless it says otherwise.
        searcher: the searcher in place of the recipe's; `None`: that of the recipe.
        paper: the source, if it is not that of the recipe.
    """

    name: str
    recipe: str
    reported: str
    searcher: str | None = None
    paper: str | None = None

    @property
    def source(self) -> str:
        """Return the paper, without its sections."""
        recipes = {recipe: system.paper for system in SYSTEMS for recipe in system.recipes}
        return (self.paper or recipes[self.recipe]).partition(", section")[0].removesuffix(", methods")

    @property
    def took(self) -> str:
        """Return what the paper's search took; empty if it is not that of the recipe."""
        return "" if self.paper else next(system.took for system in SYSTEMS if self.recipe in system.recipes)


SURVEYED: Mapping[str, Surveyed] = MappingProxyType(
    {
        "nas": Surveyed(name="NAS", recipe="digits", reported="3.65 % error, 37.4 M parameters"),
        "nasnet": Surveyed(name="NASNet", recipe="nasnet-digits", reported="2.65 % error, 3.3 M, with cutout"),
        "amoebanet": Surveyed(name="AmoebaNet", recipe="amoebanet-digits", reported="3.34 ± 0.06 % error, 3.2 M"),
        "pnas": Surveyed(name="PNAS", recipe="pnas-digits", reported="3.41 ± 0.09 % error, 3.2 M"),
        "bayesian": Surveyed(
            name="Bayesian optimisation",
            recipe="nasnet-digits",
            reported="other spaces; here it searches NASNet's cells",
            searcher="bayesian",
            paper="White et al. 2021, arXiv 1910.11858",
        ),
        "metaqnn": Surveyed(name="MetaQNN", recipe="metaqnn-digits", reported="6.92 % error, 11.3 M"),
        "hnas": Surveyed(name="HNAS", recipe="hnas-digits", reported="3.75 ± 0.12 % error, 15.7 M"),
        "eas": Surveyed(name="EAS", recipe="eas-digits", reported="4.23 % error"),
        "eas-dense": Surveyed(name="EAS, DenseNets", recipe="eas-dense-digits", reported="3.44 % error"),
        "path-eas": Surveyed(
            name="Path-level EAS", recipe="path-eas-digits", reported="2.30 % error, 14.3 M, in PyramidNet"
        ),
        "seed-agem": Surveyed(
            name="seed-agem", recipe="seed-agem-digits", reported="nothing", paper="an article on A-GEM, without code"
        ),
        "enas-macro": Surveyed(name="ENAS, layers", recipe="enas-macro-digits", reported="4.23 % error"),
        "enas-micro": Surveyed(name="ENAS, cells", recipe="enas-micro-digits", reported="3.54 % error, 4.6 M"),
        "one-shot": Surveyed(name="One-Shot", recipe="one-shot-digits", reported="about 4 % error"),
        "smash": Surveyed(name="SMASH", recipe="smash-digits", reported="4.03 % error, 16 M"),
        "darts": Surveyed(name="DARTS", recipe="darts-digits", reported="3.00 % error (first order), 3.3 M"),
        "snas": Surveyed(name="SNAS", recipe="snas-digits", reported="2.98 % error, 2.9 M (mild constraint)"),
        "proxyless": Surveyed(name="ProxylessNAS", recipe="proxyless-digits", reported="2.08 % error, 5.7 M"),
    }
)
"""The systems by the words that choose them. All of them, their published figures are in docs/systems.md."""

LEFT_OUT: Mapping[str, str] = MappingProxyType(
    {
        "NEAT": "it evolves the weights, too, on tasks of its own (neat-xor, neat-pole), and takes no images",
        "ENAS and DARTS for recurrent cells": "they search on text (enas-rnn, darts-rnn)",
        "NAS for recurrent cells": "it searches on text (text-rnn)",
        "MnasNet's reward and NSGA-II's ranks": "they are objectives, which any run can have (--objective)",
        "early stopping by learning curves": "it is an option of any run that trains (--early-stop)",
    }
)
"""Systems of the survey that this measures nothing of, each with the reason."""


@dataclass(frozen=True, kw_only=True)
class SurveyTask:
    """What the systems search on.

    Attributes:
        train_fraction: the share of the training images that a child of a search is trained on.
        retrain_epochs: for how many epochs the winners are trained, on all of them.
    """

    train_fraction: float
    retrain_epochs: int


TASKS: Mapping[str, SurveyTask] = MappingProxyType(
    {
        "digits": SurveyTask(train_fraction=1.0, retrain_epochs=20),
        "fashion-mnist": SurveyTask(train_fraction=0.05, retrain_epochs=5),
    }
)
"""The tasks of a survey."""
