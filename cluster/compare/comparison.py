"""Plans a comparison, checks it before anything is searched, and carries it out."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from child_trainer.tasks.catalogue import load_table, names_of
from child_trainer.tasks.lookup_table import Table
from cluster.compare.plan import (
    OBJECTIVES,
    Entrant,
    Limit,
    Plan,
    check_common,
    in_words_of_comparison,
    make_entrant,
    make_plan,
    max_children_within,
    searcher_flags,
)
from cluster.compare.process_pool import Job, in_processes, run_job
from cluster.compare.search_result import ResultError, Searches, SearchResult, searches
from cluster.compare.standings import Best, Summary, summarize
from cluster.compare.table_front import TableFront
from cluster.config.flags import UsageError, flag_of, flags_among, flags_not_among, parse_run, value_of
from cluster.config.recipes import configuration, find_recipe
from cluster.config.run_checks import MAX_CHILDREN
from cluster.config.run_config import RunConfig
from cluster.placement.node_check import check_data
from cluster.placement.versions import versions
from cluster.runners.interruption import interruptible
from cluster.runners.sample_files import START
from cluster.storage.dataset_cache import local_data, located
from controller.catalogue import SEARCHERS
from controller.searcher import keeps_weights, shared_weights_of


def searchers_that_fit(recipe: str, flags: Sequence[str], limit: Limit) -> tuple[list[str], dict[str, str]]:
    """Return the searchers that can be compared on the recipe's space and task, and why each of the others cannot.

    Raises:
        ValueError: a flag is invalid.
    """
    base = _shared_settings(recipe, tuple(SEARCHERS), flags, limit)
    fitting: list[str] = []
    others: dict[str, str] = {}
    for name in SEARCHERS:
        try:
            _check_entrant(make_entrant(name, base, recipe, flags_among(flags, OBJECTIVES)))
        except ValueError as error:
            others[name] = str(error).removeprefix(f"{name!r}: ")
        else:
            fitting.append(name)
    return fitting, others


def plan_comparison(
    recipe: str, words: Sequence[str], flags: Sequence[str], seeds: int, limit: Limit, *, joining: Sequence[str] = ()
) -> tuple[Plan, Table | None]:
    """Plan a comparison and check it before any search starts; return the plan and, for a tabular task, the table.

    `joining` are searchers that join, unless the words name one with the same options.

    Raises:
        ValueError: an option is invalid, or the options do not fit together.
    """
    everyone = [*words, *joining]
    base = _shared_settings(recipe, everyone, flags, limit)
    own_flags = flags_among(flags, searcher_flags(everyone) | OBJECTIVES)
    plan = make_plan(recipe, base, words, seeds, limit, own_flags, joining=joining)
    if limit.seconds is not None and base.task.entry.family != "table":
        raise UsageError(
            f"a budget in seconds needs a task that knows the cost of a child ({', '.join(names_of('table'))}), and"
            f" {base.task.task!r} does not: use a budget in children"
        )
    costs = plan.config.objectives.costs
    if costs and base.task.entry.family != "table":
        raise UsageError(
            f"`objective` {costs[0].name} needs a task whose front is known, as searches are judged by their share of"
            f" its hypervolume: a table ({', '.join(names_of('table'))}), and {base.task.task!r} is none"
        )
    table = None
    if base.task.entry.family == "table":
        with base.task.own_file():
            table = load_table(
                base.task.task,
                data=local_data(base.task.data),
                options=base.task.options,
                decode=base.search_space.decode,
            )
    else:
        check_data(base.task)
    for entrant in plan.entrants:
        _check_entrant(entrant)
    if costs and table is not None:
        plan = replace(plan, front=TableFront.of(table, costs))
    return plan if table is None or limit.seconds is None else _bounded(plan, table, limit.seconds), table


def _shared_settings(recipe: str, words: Sequence[str], flags: Sequence[str], limit: Limit) -> RunConfig:
    """Return the settings that all searchers share: the recipe with the flags that are not each searcher's own.

    Raises:
        ValueError: a flag is invalid, or not for a comparison.
    """
    base_recipe = configuration(find_recipe(recipe), None, value_of(flags, "--task"))
    if START in map(flag_of, flags):
        raise UsageError(f"`{START}` is not for a comparison, in which each searcher begins by itself")
    try:
        base_recipe = replace(base_recipe, max_children=limit.children or MAX_CHILDREN)
        base = parse_run(base_recipe, flags_not_among(flags, searcher_flags(words) | OBJECTIVES), recipe)
    except ValueError as error:
        raise UsageError(in_words_of_comparison(error)) from error
    check_common(base, base_recipe)
    return replace(base, local=True, task=replace(base.task, data=located(base.task.data)))


def _check_entrant(entrant: Entrant) -> None:
    """Raise `ValueError` if a searcher cannot be built with its options, or its children cannot be compared."""
    from cluster.runners.build import check_layout
    from cluster.runners.local import check_locally
    from cluster.runners.network_check import check_networks

    check_locally(entrant.config)
    try:
        # First without a limit: where more children would not help, that they are too few is not the reason.
        unlimited = replace(entrant.config, max_children=MAX_CHILDREN)
        check_layout(unlimited, "compared")
        _check_children(unlimited)
        check_layout(entrant.config, "compared")
        check_networks(entrant.config)
    except ValueError as error:
        raise UsageError(f"{entrant.label!r}: {in_words_of_comparison(error)}") from error


def _check_children(config: RunConfig) -> None:
    """Raise `ValueError` if a searcher's children cannot be compared with those of others."""
    searcher = config.make_searcher()
    if shared_weights_of(searcher):
        raise ValueError(
            "the children share weights, and their metrics cannot be compared with those of children that are trained"
        )
    if keeps_weights(searcher) and config.task.entry.family == "images":
        raise ValueError(
            "the children begin with the weights of others, and a comparison keeps none: launch it as a run of its own"
        )


def _bounded(plan: Plan, table: Table, seconds: float) -> Plan:
    """Return the plan with a bound on children, so that a search over children of 0 s ends, too."""
    costs = [answer.seconds for answer in table.answers.values() if answer.seconds is not None]
    if len(costs) < len(table.answers):
        unknown = len(table.answers) - len(costs)
        raise UsageError(
            f"`budget` must be a number of children: the table has no seconds for {unknown:,} of its"
            f" {len(table.answers):,} architectures"
        )
    if seconds < max(costs):
        raise UsageError(f"`budget` must pay for every child, and the most expensive costs {max(costs):.1f} s")
    max_children = max_children_within(seconds, min(costs))
    return replace(
        plan, entrants=tuple(replace(e, config=replace(e.config, max_children=max_children)) for e in plan.entrants)
    )


def run_comparison(plan: Plan, folder: Path, processes: int, console: Console, table: Table | None = None) -> Summary:
    """Run the searches that the folder lacks, and return the summary of all.

    Args:
        plan: what is compared.
        folder: where the results are stored.
        processes: number of searches that run at one time.
        console: where the progress bar is drawn.
        table: the task's table, for a tabular task.

    Raises:
        ResultError: a result cannot be written or read.
        SearchFailed: a search failed; results of finished ones are kept.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, with a message that says what is kept.
    """
    code = [versions().code, versions().torch]
    stored = {entrant.label: searches(folder, entrant, plan.limit, code) for entrant in plan.entrants}
    jobs = [
        Job(
            label=entrant.label,
            config=replace(entrant.config, seed=seed),
            limit=plan.limit,
            stored=stored[entrant.label],
        )
        for seed in plan.seeds
        for entrant in plan.entrants
        if stored[entrant.label].read(seed) is None
    ]
    total = len(plan.seeds) * len(plan.entrants)
    columns = (TextColumn("Searches"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    done = total - len(jobs)
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task("", total=total, completed=done)
            with interruptible(), closing(in_processes(run_job, jobs, processes)) as running:
                for _ in running:
                    done += 1
                    bar.update(task, completed=done)
    except KeyboardInterrupt:
        kept = f", which are kept in {folder}: run the same command to continue" if done else ": nothing is kept"
        raise KeyboardInterrupt(f"interrupted with {done} of {total} searches done{kept}") from None
    results = {label: [_read(results_folder, seed) for seed in plan.seeds] for label, results_folder in stored.items()}
    return summarize(plan, results, table and best_of_table(table))


def best_of_table(table: Table) -> Best:
    """Return the table's best metric and best test metric."""
    better = min if table.measure.lower_is_better else max
    tests = [answer.test for answer in table.answers.values() if answer.test is not None]
    return Best(
        metric=better(answer.metric for answer in table.answers.values() if answer.metric is not None),
        test=better(tests) if tests else None,
        measured=sum(not answer.estimated and answer.seconds is not None for answer in table.answers.values()),
        known=len(table.answers),
    )


def _read(stored: Searches, seed: int) -> SearchResult:
    result = stored.read(seed)
    if result is None:
        raise ResultError(
            f"{stored.file(seed)} was removed during the comparison; run the same command to repeat that search"
        )
    return result
