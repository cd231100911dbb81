"""The searchers by name. A new one takes one file and one entry here. Standard library only."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from child_trainer.close_names import suggestion
from child_trainer.no_options import NoOptions
from controller.objectives import Cost
from controller.searcher import Searcher
from controller.searchers.bayesian.options import BayesianOptions
from controller.searchers.evolutionary.options import EvolutionOptions, LocalSearchOptions
from controller.searchers.given import GivenOptions
from controller.searchers.grid import GridOptions
from controller.searchers.neat.options import NeatOptions
from controller.searchers.policy_gradient.options import PpoOptions, ReinforceOptions
from controller.searchers.progressive.options import ProgressiveOptions
from controller.searchers.q_learning.options import QLearningOptions
from controller.searchers.seed_agem.options import SeedAgemOptions
from controller.searchers.transformations.options import EasOptions, PathEasOptions
from controller.searchers.weight_sharing.gradient_options import DartsOptions, ProxylessOptions, SnasOptions
from controller.searchers.weight_sharing.options import OneShotOptions
from controller.searchers.weight_sharing.path_options import EnasOptions, SmashOptions
from controller.space import SearchSpace

T = TypeVar("T")


class UnknownName(ValueError):
    """A catalogue has no entry of this name; the message lists its entries."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A number that a searcher gives with each update; the panel, the metrics and the report show all that are listed.

    Attributes:
        name: its key in `Update.figures`, lower case with underscores.
        words: a description for people, such as `Entropy of the policy`.
        unit: such as `nats`; empty for a pure number.
        note: how to read it, in a sentence.
        whole: whether it is a whole number, such as a count.
    """

    name: str
    words: str
    unit: str = ""
    note: str = ""
    whole: bool = False

    def text(self, value: float) -> str:
        """Return the figure's name with its value and unit, such as `entropy 9.1000 nats`."""
        shown = f"{value:,.0f}" if self.whole else f"{value:.4f}"
        return " ".join(filter(None, (self.name.replace("_", " "), shown, self.unit)))


@dataclass(frozen=True, kw_only=True, slots=True)
class SearcherEntry:
    """A searcher.

    Attributes:
        summary: what it does, in one line.
        paper: the source.
        options: the frozen dataclass of its options.
        make: makes it from a space and its options; or `module:name` of such a function, imported when a search begins.
        figures: the numbers in its updates.
        has_values: whether it has a method `option_values`, which gives the values that it learnt of options.
        values: what these are, in a sentence.
        learns_from_any: whether it learns from any architecture in the history, and not only from those that it has
            proposed itself with notes or a log-probability, so that a search may begin with given ones.
        several_objectives: how it searches for low costs beside a high reward: `by-target`, the reward has them as
            factors, for which each needs a target; `by-rank`, without targets it selects by Pareto rank, and `make`
            takes the `costs`; `unused`, it learns from no reward, and any costs may be recorded; `refused`, not at all.
    """

    summary: str
    paper: str
    options: type
    make: str | Callable[[SearchSpace, Any], Searcher]
    figures: tuple[Figure, ...] = ()
    has_values: bool = False
    values: str = (
        "The reward that the searcher expects with each option, the best option of each decision first; it is taken"
        " before the next decision."
    )

    learns_from_any: bool = False
    several_objectives: Literal["by-target", "by-rank", "unused", "refused"] = "by-target"

    def build(
        self, space: SearchSpace, options: Any, children: int | None = None, costs: Sequence[Cost] = ()
    ) -> Searcher:
        """Return a new searcher over the space.

        Args:
            space: where it searches.
            options: its settings. Those that have a method `for_children` are replaced by what it returns.
            children: how many children the search has, if that is known.
            costs: those to select by, with the reward, where it does that by Pareto rank.
        """
        if children is not None and hasattr(options, "for_children"):
            options = options.for_children(children)
        make: Any = self.make
        if isinstance(make, str):
            module, _, name = make.partition(":")
            make = getattr(import_module(module), name)
        ranked = {"costs": tuple(costs)} if costs and self.several_objectives == "by-rank" else {}
        return make(space, options, **ranked)


BASELINE = Figure(name="baseline", words="Moving average of rewards")

ENTROPY = Figure(
    name="entropy",
    words="Entropy of the policy, a whole architecture",
    unit="nats",
    note="It grows with the depth of the networks; near zero the policy samples the same ones.",
)

DECISION_ENTROPY = Figure(
    name="decision_entropy",
    words="Entropy of a decision of the policy, on average",
    unit="nats",
    note="Near zero the policy makes the same changes always.",
)

STRENGTHS = (
    Figure(
        name="strengths_entropy",
        words="Entropy of a choice by its strengths, on average",
        unit="nats",
        note="It falls as the search decides; near zero each choice has one option left.",
    ),
    Figure(
        name="skip_share",
        words="Share of skip connections in the architecture that the strengths favour",
        note="Towards 1 the search has collapsed: skip connections are favoured because they learn nothing.",
    ),
    Figure(
        name="normal_skips",
        whole=True,
        words="Skip connections in the normal cell that the strengths favour",
        note="Of the whole architecture where there are no cells; --early-stop-skips ends a search by it.",
    ),
)
"""The figures of searchers that learn strengths."""

PROBABILITIES = "The probability of each option by the strengths, when the last architecture was scored."

SEARCHERS: Mapping[str, SearcherEntry] = MappingProxyType(
    {
        "reinforce": SearcherEntry(
            summary="A recurrent policy, trained by policy gradient, samples architectures token by token.",
            paper="Zoph & Le 2017, arXiv 1611.01578",
            options=ReinforceOptions,
            make="controller.searchers.policy_gradient.reinforce:Reinforce",
            figures=(
                BASELINE,
                ENTROPY,
                Figure(name="importance_weight", words="Mean importance weight of the last batch's children"),
                Figure(name="importance_clipped", words="Share of importance weights that were clipped"),
            ),
        ),
        "ppo": SearcherEntry(
            summary="As reinforce, with several steps on each batch, bounded by a clip of the policy ratio.",
            paper="Zoph et al. 2018, arXiv 1707.07012; Schulman et al. 2017, arXiv 1707.06347",
            options=PpoOptions,
            make="controller.searchers.policy_gradient.ppo:Ppo",
            figures=(
                BASELINE,
                ENTROPY,
                Figure(name="policy_ratio", words="Mean ratio of a child's probability now to that at its sampling"),
                Figure(name="ratio_clipped", words="Share of policy ratios that the clip held"),
            ),
        ),
        "random": SearcherEntry(
            summary="Every decision is uniform; the baseline that each searcher must beat.",
            paper="Li & Talwalkar 2019, arXiv 1902.07638",
            options=NoOptions,
            make="controller.searchers.random_search:RandomSearch",
            learns_from_any=True,
            several_objectives="unused",
        ),
        "given": SearcherEntry(
            summary="Given architectures, one after another: the best of another run (--from-run), or any list.",
            paper="",
            options=GivenOptions,
            make="controller.searchers.given:Given",
            several_objectives="unused",
        ),
        "grid": SearcherEntry(
            summary="Every sample of a small space once, in order; the search then ends.",
            paper="",
            options=GridOptions,
            make="controller.searchers.grid:Grid",
            learns_from_any=True,
        ),
        "evolution": SearcherEntry(
            summary="Mutates the best of a few members of a population; the oldest, the worst or none is removed.",
            paper="Real et al. 2019, arXiv 1802.01548",
            options=EvolutionOptions,
            make="controller.searchers.evolutionary.evolution:Evolution",
            learns_from_any=True,
            several_objectives="by-rank",
        ),
        "bayesian": SearcherEntry(
            summary="A Gaussian process predicts rewards; the largest expected improvement is tried next.",
            paper="Jones et al. 1998; White et al. 2021, arXiv 1910.11858",
            options=BayesianOptions,
            make="controller.searchers.bayesian.bayesian:BayesianOptimisation",
            learns_from_any=True,
            figures=(
                Figure(name="length_scale", words="Length scale of the surrogate", note="In decisions that differ."),
                Figure(name="noise", words="Noise of the surrogate, as a share of its variance"),
                Figure(
                    name="expected_improvement",
                    words="Largest improvement expected of a child",
                    note="In standard deviations of the rewards' ranks or of the rewards; near zero little is left.",
                ),
            ),
        ),
        "local-search": SearcherEntry(
            summary="Climbs to a better neighbour until there is none, then starts from a random architecture.",
            paper="White et al. 2021, arXiv 2005.02960",
            options=LocalSearchOptions,
            make="controller.searchers.evolutionary.local_search:LocalSearch",
            learns_from_any=True,
        ),
        "neat": SearcherEntry(
            summary="Evolves networks and their weights in species, from none to as many hidden nodes as it takes.",
            paper="Stanley & Miikkulainen 2002, NEAT",
            options=NeatOptions,
            make="controller.searchers.neat.neat:Neat",
            figures=(
                Figure(name="generation", whole=True, words="Generation"),
                Figure(name="species", whole=True, words="Species", note="In the last whole generation."),
                Figure(name="best_fitness", words="Best fitness", note="Of the search so far."),
                Figure(name="hidden_nodes", whole=True, words="Hidden nodes of the best network"),
                Figure(name="links", whole=True, words="Links of the best network", note="Those that are enabled."),
            ),
        ),
        "q-learning": SearcherEntry(
            summary="Makes each decision by its Q value, learnt by temporal difference, and ever fewer at random.",
            paper="Baker et al. 2017, arXiv 1611.02167",
            options=QLearningOptions,
            make="controller.searchers.q_learning.q_learning:QLearning",
            learns_from_any=True,
            has_values=True,
            figures=(
                Figure(name="epsilon", words="Share of decisions that are random"),
                Figure(name="unique_models", whole=True, words="Unique architectures that have ended"),
                Figure(
                    name="start_value",
                    words="Largest Q value of the first decision",
                    note="The reward that the searcher expects of the best architecture that it knows how to make.",
                ),
                Figure(name="known_states", whole=True, words="States in which a decision was learnt from"),
            ),
        ),
        "seed-agem": SearcherEntry(
            summary="A recurrent policy samples several sub-networks of a child, and selects one of them.",
            paper="the article on A-GEM, which is not Averaged Gradient Episodic Memory",
            options=SeedAgemOptions,
            make="controller.searchers.seed_agem.searcher:SeedAgem",
            figures=(
                BASELINE,
                ENTROPY,
                Figure(name="selection_reward", words="Mean reward of the selections"),
                Figure(
                    name="similarity_reward",
                    words="Mean similarity reward of the last batch's children",
                    note="Above 0 and at most 1, where the sub-networks of each child give equal outputs.",
                ),
                Figure(
                    name="alignment",
                    words="Share of selections that are those of the first step",
                    note="Of the last batch's children.",
                ),
                Figure(name="lead_penalty", words="Share of its lead that the leader of a selection loses"),
            ),
        ),
        "progressive": SearcherEntry(
            summary="Searches by increasing size: a surrogate chooses which of the best to try with one part more.",
            paper="Liu et al. 2018, arXiv 1712.00559",
            options=ProgressiveOptions,
            make="controller.searchers.progressive.progressive:ProgressiveSearch",
            figures=(
                Figure(
                    name="level",
                    whole=True,
                    words="Level of the search",
                    note="The number of blocks of a cell; in a space of one size the number of the round.",
                ),
                Figure(
                    name="spearman",
                    words="Rank correlation of the surrogate's predictions with the level's rewards",
                    note="From -1 to 1, over the level's ended children; near zero the surrogate chooses at random.",
                ),
            ),
        ),
        "eas": SearcherEntry(
            summary="A policy makes a trained network wider and deeper; each child begins with the parent's weights.",
            paper="Cai et al. 2018, arXiv 1707.04873",
            options=EasOptions,
            make="controller.searchers.transformations.eas:Eas",
            figures=(BASELINE, DECISION_ENTROPY),
        ),
        "path-eas": SearcherEntry(
            summary="A policy grows the cells of a trained network as trees; children begin with its weights.",
            paper="Cai et al. 2018, arXiv 1806.02639",
            options=PathEasOptions,
            make="controller.searchers.transformations.path_eas:PathEas",
            figures=(BASELINE, DECISION_ENTROPY),
        ),
        "enas": SearcherEntry(
            summary="A recurrent policy samples paths of one supernet, and learns from their scores on its weights.",
            paper="Pham et al. 2018, arXiv 1802.03268",
            options=EnasOptions,
            make="controller.searchers.weight_sharing.enas:Enas",
            figures=(
                BASELINE,
                ENTROPY,
                Figure(
                    name="skip_divergence",
                    words="Divergence of the skips from their prior",
                    unit="nats",
                    note="The mean over layers; near zero skips are as frequent as the prior has them.",
                ),
            ),
        ),
        "one-shot": SearcherEntry(
            summary="Trains one supernet whose paths are all architectures, and scores random paths of it.",
            paper="Bender et al. 2018, Understanding and simplifying one-shot architecture search",
            options=OneShotOptions,
            make="controller.searchers.weight_sharing.one_shot:OneShot",
            several_objectives="unused",
        ),
        "smash": SearcherEntry(
            summary="Trains a hypernetwork that generates the weights of any path, and scores random paths.",
            paper="Brock et al. 2018, arXiv 1708.05344",
            options=SmashOptions,
            make="controller.searchers.weight_sharing.smash:Smash",
        ),
        "darts": SearcherEntry(
            summary="Relaxes each choice to a mixture, whose strengths descend the validation loss beside the weights.",
            paper="Liu et al. 2019, arXiv 1806.09055",
            options=DartsOptions,
            make="controller.searchers.weight_sharing.darts:Darts",
            several_objectives="refused",
            figures=STRENGTHS,
            has_values=True,
            values=PROBABILITIES,
        ),
        "snas": SearcherEntry(
            summary="Samples relaxed architectures that become discrete; one loss moves strengths and weights.",
            paper="Xie et al. 2019, arXiv 1812.09926",
            options=SnasOptions,
            make="controller.searchers.weight_sharing.snas:Snas",
            several_objectives="refused",
            figures=STRENGTHS,
            has_values=True,
            values=PROBABILITIES,
        ),
        "proxyless": SearcherEntry(
            summary="Trains one sampled path at a time, and the strengths of the options at every few steps.",
            paper="Cai et al. 2019, arXiv 1812.00332",
            options=ProxylessOptions,
            make="controller.searchers.weight_sharing.proxyless:Proxyless",
            several_objectives="refused",
            figures=STRENGTHS,
            has_values=True,
            values=PROBABILITIES,
        ),
    }
)
"""All built-in searchers by name."""


def find_entry(table: Mapping[str, T], name: str, what: str) -> T:
    """Return the entry of this name.

    Raises:
        UnknownName: there is none; the message lists the entries, and suggests a close one.
    """
    if name in table:
        return table[name]
    if name.endswith(".py"):
        raise UnknownName(f"name the {what} in the file, as in {name}:NAME")
    raise UnknownName(f"unknown {what} {name!r}; there are {', '.join(table)}{suggestion(name, table)}")
