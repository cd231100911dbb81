"""The best practices for research on NAS, answered as far as one run can.

Lindauer and Hutter, Best Practices for Scientific Research on Neural Architecture Search, JMLR 21 (2020), in our words.
Items that a run cannot answer stay visibly open for the author to answer.
"""

from dataclasses import dataclass
from typing import Literal

from cluster.formatting import duration
from cluster.report.facts import Facts

Answer = Literal["yes", "partly", "open"]


@dataclass(frozen=True, slots=True)
class Item:
    """One practice, whether the run follows it, and why."""

    practice: str
    answer: Answer
    why: str


def checklist(facts: Facts) -> dict[str, tuple[Item, ...]]:
    """Return the items by heading."""
    return {
        "Releasing code": _code(facts),
        "Comparing methods": _comparing(facts),
        "Reporting details": _details(facts),
    }


def _code(facts: Facts) -> tuple[Item, ...]:
    names = facts.known.names
    digest = facts.version("code")
    version = f"of the code `{digest}`; say where to get it" if digest else "of a version that you must state"
    tested = f"This run is that evaluation, and each training was tested once, by nascluster {version}."
    seeds = "All are in the configuration above; a network with settings of its own has them in its JSON."
    return (
        Item(
            "Code of the training pipeline that evaluates the final architectures",
            "partly" if facts.tested else "open",
            tested if facts.tested else _FINAL,
        ),
        Item(
            "Hyperparameters and seeds of that final evaluation",
            "yes" if facts.tested else "open",
            seeds if facts.tested else _FINAL,
        ),
        Item(
            "Code of the search space",
            "partly",
            f"It is nascluster's {names['space']} space with the options above, {version}.",
        ),
        Item(
            "Code of the method",
            "partly",
            f"It is nascluster's {names['searcher']} searcher, {version}.",
        ),
        Item(
            "Hyperparameters and seeds of the method",
            "yes",
            f"All are in the configuration above; every random number comes from the seed {facts.config.seed}.",
        ),
    )


_FINAL = "The best architecture is still to be trained in full and tested; a search knows validation data only."


def _comparing(facts: Facts) -> tuple[Item, ...]:
    other = facts.other
    compared = f"the run {other.name!r} ({other.searcher})" if other else ""
    task, table = facts.config.task.entry, facts.config.task.entry.family == "table"
    times = "worker time" if not facts.gpus_per_child else "both worker time and GPU-hours"
    return (
        Item(
            "The same benchmark for all methods: data and split, search space, training code and its hyperparameters",
            "partly" if other else "open",
            f"Compare the configurations of this run and of {compared}." if other else _ALONE,
        ),
        Item(
            "Confounding factors under control: hardware, versions of libraries, running time",
            "partly" if other else "open",
            "Both are on one axis of worker time; the hardware is not in the ledger." if other else _ALONE,
        ),
        Item("Ablation studies", "open", "They need runs that differ in one option."),
        Item("The same evaluation protocol for all methods", "partly" if other else "open", compared or _ALONE),
        Item("Performance over time", "yes", f"Plotted against children, wall time and {times}."),
        _random_search(facts, compared),
        Item("Several runs, and their seeds", "open", f"This is one run, of seed {facts.config.seed}."),
        Item(
            "A tabular or surrogate benchmark for in-depth evaluations",
            "yes" if table else "open",
            "A table answered: its seconds are not this machine's."
            if table
            else "Children were trained."
            if task.trains
            else "Children only pretended to train: figures of a rehearsal.",
        ),
    )


def _random_search(facts: Facts, compared: str) -> Item:
    other = facts.other
    one_is_random = other is not None and (other.searcher == "random") != (facts.known.names["searcher"] == "random")
    if other is not None and one_is_random and not other.unlike:
        answer, text = "yes", f"With {compared}."
    elif other is not None and one_is_random:
        answer, text = "open", f"With {compared}, but that has another {' and another '.join(other.unlike)}."
    elif facts.known.names["searcher"] == "random":
        answer, text = "open", "This is random search: name it in `--compare` of another run of the same recipe."
    else:
        answer = "open"
        text = "Launch the same recipe with `--searcher random`, and name that run in `--compare`."
    return Item("Comparison with random search", answer, text)


_ALONE = "This report has no comparison."


def _details(facts: Facts) -> tuple[Item, ...]:
    gpus = facts.gpu_seconds
    cost = f"{duration(facts.work.seconds)} of worker time" + (f", {duration(gpus)} of GPU time" if gpus else "")
    return (
        Item("How hyperparameters were tuned, and at what cost in time and resources", "open", "The run cannot know."),
        Item(
            "The time of the whole method from end to end, not of the search alone",
            "partly",
            f"The search, with everything that failed: {duration(facts.status.seconds)}, {cost}. Tuning before it and"
            " the final training after it are not included.",
        ),
        Item(
            "All details of the experimental setup",
            "partly",
            "Configuration, seed and cost are above; the hardware and the data's version are not in the run's folder.",
        ),
    )
