import json
from collections import Counter
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from child_trainer.language_options import LanguageOptions
from child_trainer.outcome import Budget
from child_trainer.regime import Regime
from child_trainer.tasks.synthetic_options import SyntheticOptions
from cluster.config.failure_options import FailureOptions
from cluster.config.flags import option_names
from cluster.config.recipes import RECIPES, differences
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions, known_task
from cluster.config.topology import Topology
from cluster.pool.failure_policy import FailurePolicy, parse_failure_policy
from cluster.pool.supervision import Rules
from controller.catalogue import SEARCHERS
from controller.searchers.policy_gradient.options import ReinforceOptions
from controller.spaces.catalogue import SPACES


def untyped(value: Any) -> Any:
    """A value as a script without types passes it."""
    return value


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_configuration_survives_its_file(recipe: str) -> None:
    config = RECIPES[recipe]()
    assert RunConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_paths_and_tuples_survive_too() -> None:
    config = RunConfig(task=TaskOptions(data=Path("/data")), name="x", topology=Topology(gpus_per_child=0.25))
    assert RunConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_a_regime_survives_and_a_run_from_before_the_regimes_has_the_default_one() -> None:
    regime = Regime(schedule="steps", decay_at=(0.5, 0.75), adam_betas=(0.5, 0.9), clip_norm=1.0, restart_below=0.15)
    config = RunConfig(budget=Budget(regime=regime))
    data = json.loads(json.dumps(config.to_json()))
    assert RunConfig.from_json(data) == config
    del data["budget"]["regime"]
    assert RunConfig.from_json(data).budget == Budget()


def test_the_clipping_of_a_language_model_was_an_option_of_its_task() -> None:
    def read(**task: Any) -> RunConfig:
        return RunConfig.from_json(
            {"budget": {"epochs": 7}, "space": "recurrent", "reward": "perplexity", "task": task}
        )

    assert read(task="text", options={"clip_norm": 0.5}).budget == Budget(epochs=7, regime=Regime(clip_norm=0.5))
    assert read(task="text", language={"clip_norm": 0.5}).budget == Budget(epochs=7, regime=Regime(clip_norm=0.5))
    assert read(task="text", options={"clip_norm": 5.0}).budget == Budget(epochs=7)
    images = RunConfig.from_json({"budget": {}, "task": {"task": "digits", "language": {"clip_norm": 0.5}}})
    assert images.budget == Budget()


def test_a_regime_that_the_task_cannot_have_is_refused() -> None:
    with pytest.raises(ValueError, match="`cutout` must be below 8, the side of the task's images, got 16"):
        RunConfig(budget=Budget(regime=Regime(cutout=16)))


def test_a_run_from_before_the_threads_has_one_for_each_child() -> None:
    data = RunConfig(topology=Topology(threads_per_child=2)).to_json()
    assert RunConfig.from_json(data).topology.threads_per_child == 2
    del data["topology"]["threads_per_child"]
    assert RunConfig.from_json(data).topology.threads_per_child == 1
    with pytest.raises(ValueError, match="`threads_per_child` must be 1 to 1024, got 0"):
        Topology(threads_per_child=0)


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        ({"task": "digits", "data": None}, TaskOptions()),
        (
            {"task": "text", "language": {"hidden_size": 32, "cell_layers": 1}},
            TaskOptions(task="text", options=LanguageOptions(hidden_size=32, cell_layers=1)),
        ),
        (
            {"task": "synthetic", "child_seconds": 2.0, "child_faults": "hang=0.1", "language": {"hidden_size": 32}},
            TaskOptions(task="synthetic", options=SyntheticOptions(child_seconds=2.0, child_faults="hang=0.1")),
        ),
        (
            {"task": "cifar10", "data": "/data", "download": True},
            TaskOptions(task="cifar10", data=Path("/data"), download=True),
        ),
        ({"task": "cifar10", "data": "s3://b/data"}, TaskOptions(task="cifar10", data="s3://b/data")),
    ],
)
def test_a_task_in_the_form_of_version_4_is_read(old: dict[str, Any], expected: TaskOptions) -> None:
    usual = {"data": None, "download": False, "child_seconds": 0.0, "child_spread": 0.0, "child_faults": ""}
    assert known_task({**usual, "language": asdict(LanguageOptions()), **old}) == (expected, ())


@pytest.mark.parametrize("file", sorted(Path("tests/golden_searches/version-4").glob("*/config.json")), ids=str)
def test_a_configuration_of_version_4_survives_the_present_form(file: Path) -> None:
    old = RunConfig.from_json(json.loads(file.read_text()))
    written = json.loads(json.dumps(old.to_json()))
    assert written["task"].keys() == {"task", "data", "download", "options"}
    assert RunConfig.from_json(written) == old


def test_what_a_file_does_not_say_is_the_default() -> None:
    assert RunConfig.from_json({}) == RunConfig()
    assert RunConfig.from_json({"searcher": "evolution"}) == RunConfig(searcher="evolution")


def test_the_papers_recipe_has_the_papers_constants() -> None:
    """Spec §1.5 and §1.6."""
    config = RECIPES["zoph2017-cifar10"]()
    assert (config.topology.shards, config.topology.replicas, config.topology.children) == (20, 100, 8)
    assert config.max_children == 12_800
    assert config.reward == "cubed-accuracy"
    assert config.budget == Budget(epochs=50, learning_rate=0.1, weight_decay=1e-4, momentum=0.9, train_fraction=1.0)
    space, controller = config.space_options, config.searcher_options
    assert (space.filter_heights, space.filter_widths, space.num_filters) == (
        (1, 3, 5, 7),
        (1, 3, 5, 7),
        (24, 36, 48, 64),
    )
    assert (space.initial_depth, space.depth_step, space.depth_interval) == (6, 2, 1600)
    assert (controller.controller_layers, controller.controller_units) == (2, 35)
    assert (controller.controller_init, controller.controller_learning_rate) == (0.08, 0.0006)


def test_differences_are_by_flag() -> None:
    assert differences(RunConfig(topology=Topology(replicas=3), seed=1)) == {"seed": 1, "replicas": 3}
    assert differences(RunConfig()) == {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Topology(replicas=0), "`replicas` must be at least 1, got 0"),
        (lambda: Topology(shards=-1), "`shards` must be at least 1, got -1"),
        (lambda: Topology(children=0), "`children` must be at least 1, got 0"),
        (lambda: Topology(workers=0), "`workers` must be at least 1, got 0"),
        (lambda: Topology(workers_per_process=0), "`workers_per_process` must be at least 1, got 0"),
        (lambda: RunConfig(topology=Topology(workers_per_process=2)), "`workers_per_process` must be 1 with a `task`"),
        (lambda: Topology(accumulate=0), "`accumulate` must be at least 1, got 0"),
        (lambda: Topology(gpus_per_child=-0.5), "`gpus_per_child` must be a fraction of one GPU or a whole number"),
        (lambda: Topology(gpus_per_child=1.5), "`gpus_per_child` .* got 1.5"),
        (lambda: Topology(gpus_per_child="all"), "`gpus_per_child` must be a number or one of auto or unset"),  # type: ignore[arg-type]
        (
            lambda: RunConfig(topology=Topology(gpus_per_child="auto", workers_per_process=2)),
            "`workers_per_process` must be 1",
        ),
        (
            lambda: RunConfig(topology=Topology(gpus_per_child="auto"), task=TaskOptions(task="synthetic")),
            "`gpus_per_child` auto is for tasks that train networks, and the task 'synthetic' trains nothing",
        ),
        (lambda: Topology(gpus_per_child=float("inf")), "`gpus_per_child` .* got inf"),
        (lambda: Topology(gpus_per_child=float("nan")), "`gpus_per_child` .* got nan"),
        (
            lambda: RunConfig(seed=2**53 + 1),
            "`seed` must be from -9007199254740992 to 9007199254740992, got 9007199254740993",
        ),
        (lambda: RunConfig(max_children=0), "`max_children` must be at least 1, got 0"),
        (lambda: RunConfig(name="a/b"), "`name` must be a folder's name .* got 'a/b'"),
        (lambda: RunConfig(name=".hidden"), "`name` must be a folder's name"),
        (lambda: RunConfig(name=""), "`name` must be a folder's name"),
        (lambda: SyntheticOptions(child_spread=-1), "`child_spread` must be 0 or more, got -1"),
        (lambda: TaskOptions(task="cifar"), "there is no task 'cifar'; .*; did you mean 'cifar10'"),
        (lambda: TaskOptions(options=SyntheticOptions()), "options of the task 'digits' must be NoOptions"),
        (lambda: RunConfig(searcher="bogus"), "unknown searcher 'bogus'; there are reinforce"),
        (lambda: RunConfig(space="bogus"), "unknown space 'bogus'"),
        (lambda: RunConfig(reward="bogus"), "unknown reward 'bogus'"),
        (lambda: RunConfig(searcher=untyped(None)), "`searcher` must be a text, got None"),
        (lambda: RunConfig(max_children=untyped("12")), "`max_children` must be a whole number, got '12'"),
        (lambda: RunConfig(max_children=untyped(True)), "`max_children` must be a whole number, got True"),
        (lambda: RunConfig(seed=untyped(0.5)), "`seed` must be a whole number, got 0.5"),
        (lambda: RunConfig(task=untyped("digits")), "`task` must be TaskOptions, got 'digits'"),
        (lambda: RunConfig(budget=untyped({"epochs": 3})), "`budget` must be Budget, got"),
        (
            lambda: RunConfig(searcher_options=ReinforceOptions(controller_layers=untyped(1.5))),
            "`controller_layers` must be a whole number, got 1.5",
        ),
        (lambda: Topology(replicas=untyped("3")), "`replicas` must be a whole number, got '3'"),
        (lambda: Topology(on_stale=untyped("keep")), "`on_stale` must be one of apply, scale, drop, got 'keep'"),
        (lambda: Budget(learning_rate=untyped("fast")), "`learning_rate` must be a number, got 'fast'"),
        (lambda: FailureOptions(child_timeout=untyped(30)), "`child_timeout` must be a text or unset, got 30"),
        (lambda: TaskOptions(task=untyped(3)), "`task` must be a text, got 3"),
        (lambda: LanguageOptions(unroll=untyped([35])), r"`unroll` must be a whole number, got \[35\]"),
        (lambda: SyntheticOptions(child_seconds=-1), "`child_seconds` must be 0 or more, got -1"),
        (lambda: SyntheticOptions(child_seconds=float("nan")), "`child_seconds` must be 0 or more, got nan"),
    ],
)
def test_impossible_settings_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("600s", 600), ("90m", 5400), ("2h", 7200), ("1d", 86400), ("45", 45), ("0.5s", 0.5), ("1.5h", 5400), (" 5 s", 5)],
)
def test_times_have_a_unit_or_are_seconds(text: str, seconds: float) -> None:
    assert FailureOptions(child_timeout=text).rules.child_timeout_s == seconds
    assert FailureOptions(worker_silence=text).rules.heartbeat_timeout_s == seconds


@pytest.mark.parametrize("text", ["", "s", "soon", "5 minutes", "5x", "-5s", "0", "0h", "nan", "infs", "1h30m"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"`child_timeout` must be a time above 0 such as 2h, 90m or 600s, got ") as no:
        FailureOptions(child_timeout=text)
    assert repr(text) in str(no.value)
    with pytest.raises(ValueError, match=r"`worker_silence` must be a time above 0"):
        FailureOptions(worker_silence=text)


def test_failure_options_become_rules_and_reactions() -> None:
    default = FailureOptions()
    assert default.rules == Rules(child_timeout_s=None, heartbeat_timeout_s=60.0, recycle_after=None, checkpoints=False)
    assert default.policy == FailurePolicy(max_attempts=3)
    other = FailureOptions(max_attempts=1, on_failure="crashed=drop", recycle_after=5, checkpoint_children=True)
    assert (other.rules.recycle_after, other.rules.checkpoints) == (5, True)
    assert other.policy == FailurePolicy(max_attempts=1, by_cause=parse_failure_policy("crashed=drop"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_attempts": 0}, "`max_attempts` must be at least 1, got 0"),
        ({"recycle_after": 0}, "`recycle_after` must be at least 1, got 0"),
        ({"on_failure": "crashed=explode"}, "the actions of `on_failure` are"),
    ],
)
def test_impossible_failure_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FailureOptions(**options)


@pytest.mark.parametrize("searcher", SEARCHERS)
@pytest.mark.parametrize("space", SPACES)
def test_no_two_parts_have_an_option_of_one_name(searcher: str, space: str) -> None:
    """An option is a flag, so that such a searcher and such a space could not be used together."""
    own = [f.name for options in (SEARCHERS[searcher].options, SPACES[space].options) for f in fields(options)]
    chosen = {f.name for config in (RunConfig().searcher_options, RunConfig().space_options) for f in fields(config)}
    others = [name for _, name in option_names(RunConfig()) if name not in chosen]
    assert max(Counter(own + others).values()) == 1
