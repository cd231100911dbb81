"""One search of a comparison has the result of a local run."""

import json
import math
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from child_trainer.tasks.catalogue import load_table
from child_trainer.tasks.synthetic_options import SyntheticOptions
from cluster.compare.one_search import search
from cluster.compare.plan import Limit, make_plan
from cluster.compare.search_result import ResultError, Searches, SearchResult, identity, searches
from cluster.config.failure_options import FailureOptions
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from controller.searchers.evolutionary.options import EvolutionOptions
from tests.cluster.compare.tables import made_result, made_up
from tests.cluster.runners.test_local import search as run_locally


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    recipe = RECIPES["nasbench201"]()
    data = made_up(tmp_path_factory.mktemp("table"))
    return replace(
        recipe,
        local=True,
        seed=5,
        max_children=30,
        task=replace(recipe.task, data=data),
    )


def searched(config: RunConfig, limit: Limit) -> SearchResult:
    result = search(config, limit, lambda: False)
    assert result is not None
    return result


@pytest.mark.parametrize("searcher", ["reinforce", "random", "evolution", "local-search", "q-learning"])
def test_a_search_has_the_results_of_a_local_run(searcher: Any, table: RunConfig, tmp_path: Path) -> None:
    config = table.with_searcher(searcher)
    if searcher == "evolution":
        config = replace(config, searcher_options=EvolutionOptions(population=5, tournament=2))
    assert run_locally(config, tmp_path).state == "finished"
    with sqlite3.connect(tmp_path / "run" / "ledger.sqlite") as db:
        rows = db.execute(
            "SELECT architecture_id, metric, reward, seconds FROM children ORDER BY completion"
        ).fetchall()
    db.close()
    result = searched(config, Limit(children=30))
    columns = (result.architectures, result.metrics, result.rewards, result.seconds)
    assert list(zip(*columns, strict=True)) == rows
    assert len(rows) == 30


def test_the_test_metric_is_the_tables(table: RunConfig) -> None:
    result = searched(table, Limit(children=30))
    answers = load_table("nasbench201", data=Path(str(table.task.data))).answers.values()
    assert set(zip(result.metrics, result.tests, strict=True)) <= {(a.metric, a.test) for a in answers}
    assert all(t == pytest.approx((m or 0) + 0.1) for m, t in zip(result.metrics, result.tests, strict=True))


@pytest.mark.parametrize("seconds", [100.0, 333.0, 500.0])
def test_a_budget_in_seconds_pays_for_the_first_children(seconds: float, table: RunConfig) -> None:
    endless = replace(table.with_searcher("evolution"), max_children=1000)
    paid, more = searched(endless, Limit(seconds=seconds)), searched(endless, Limit(seconds=seconds + 200))
    count = len(paid.seconds)
    assert 0 < count < len(more.seconds)
    assert paid.metrics == more.metrics[:count]
    assert sum(paid.seconds) <= seconds < sum(more.seconds[: count + 1])


def test_failed_children_have_no_metric_and_count_towards_the_budget() -> None:
    recipe = replace(RECIPES["synthetic"](), max_children=12, failures=FailureOptions(max_attempts=1))
    result = searched(
        replace(recipe, task=replace(recipe.task, options=SyntheticOptions(child_faults="diverged=0.5"))),
        Limit(children=12),
    )
    assert len(result.metrics) == 12
    assert 0 < result.metrics.count(None) < 12
    assert {reward for metric, reward in zip(result.metrics, result.rewards, strict=True) if metric is None} == {0.0}


def test_a_stopped_search_has_no_result(table: RunConfig) -> None:
    answers = iter([False] * 3 + [True] * 100)
    assert search(table, Limit(children=30), lambda: next(answers)) is None


def test_a_result_survives_write_and_read(tmp_path: Path) -> None:
    stored = Searches(tmp_path / "not" / "yet")
    assert stored.read(3) is None
    result = made_result(3, [0.5, None], [1.5, 2.0], [0.25, None])
    stored.write(result)
    assert stored.read(3) == result
    for text in ("", "{}", "[]", '{"seed": 3}', '{"seed": 3, "metrics": 4}', "[" * 100_000):
        stored.file(3).write_text(text)
        with pytest.raises(ResultError, match=r"seed-3\.json is damaged .*remove it to repeat the search"):
            stored.read(3)


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": ["x", 0.5]},
        {"metrics": [True, 0.5]},
        {"metrics": [math.nan, 0.5]},
        {"metrics": [10**400, 0.5]},
        {"metrics": [0.5]},
        {"metrics": []},
        {"tests": [0.5]},
        {"tests": []},
        {"tests": [[], 0.5]},
        {"rewards": [None, 0.5]},
        {"seconds": [-1.0, 0.5]},
        {"seconds": [math.inf, 0.5]},
        {"architectures": []},
        {"architectures": [1, 2]},
        {"seed": 4},
        {"seed": "3"},
        {"more": [1, 2]},
    ],
)
def test_a_result_with_invalid_data_is_damaged(changes: dict[str, Any], tmp_path: Path) -> None:
    stored = Searches(tmp_path)
    data = made_result(3, [0.5, None], [1.5, 2.0], [0.25, None]).to_json()
    stored.file(3).write_text(json.dumps(data | changes))
    with pytest.raises(ResultError, match=r"seed-3\.json is damaged .*remove it to repeat the search"):
        stored.read(3)


def test_options_budget_and_code_change_the_results_folder(tmp_path: Path) -> None:
    base = RECIPES["synthetic"]()
    limit = Limit(children=9)
    plan = make_plan("synthetic", base, ["reinforce:children=2", "reinforce:children=3"], 2, limit)
    first, second, _ = plan.entrants
    names = {
        identity(first, limit, ["code"]),
        identity(second, limit, ["code"]),
        identity(first, Limit(seconds=9.0), ["code"]),
        identity(first, limit, ["other code"]),
    }
    assert len(names) == 4
    later = make_plan("synthetic", replace(base, seed=100), ["reinforce:children=2"], 50, limit).entrants[0]
    assert searches(tmp_path, later, limit, ["code"]) == searches(tmp_path, first, limit, ["code"])
