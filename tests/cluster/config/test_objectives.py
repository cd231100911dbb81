"""The objectives of a run: what is refused, and that runs without them are what they were."""

import json

import pytest

from cluster.config.flags import UsageError, parse_run
from cluster.config.idle_options import idle_options
from cluster.config.known_config import known_config
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig

EVOLUTION = "--searcher evolution"
LATENCY = "--objective accuracy --objective latency=min"


def config(words: str, recipe: str = "digits") -> RunConfig:
    return parse_run(RECIPES[recipe](), words.split(), recipe)


@pytest.mark.parametrize(
    ("recipe", "words", "reason"),
    [
        ("digits", "--objective latncy", "`objective` must be .*, got 'latncy'; did you mean 'latency'"),
        ("digits", "--objective latency=max", "`objective` latency must be latency=min, got 'latency=max'"),
        ("digits", "--objective accuracy=min", "`objective` accuracy must be accuracy=max"),
        ("digits", "--objective latency --objective latency=min", "`objective` names latency twice"),
        (
            "digits",
            "--objective parameters=min latency=min",
            "each time: --objective parameters=min --objective latency",
        ),
        (
            "digits",
            "--objective=flops=min latency=min",
            "`--objective` takes one value each time: --objective flops=min",
        ),
        (
            "digits",
            "--callback a:B c:D --seed 3",
            "`--callback` takes one value each time: --callback a:B --callback c:D",
        ),
        ("digits", "--objective perplexity", "not of the task 'digits', whose metric is the accuracy"),
        ("digits", LATENCY, "`objective` latency needs a `target`, such as `--target latency=5ms`"),
        ("digits", f"{LATENCY} --target latency=5", r"`target` must be a number above 0 with a unit \(us, "),
        ("digits", f"{LATENCY} --target latency=-5ms", "`target` must be a number above 0"),
        ("digits", f"{LATENCY} --target latncy=5ms", "`target` must be one of .*; did you mean 'latency'"),
        ("digits", f"{LATENCY} --target latency=5ms --target latency=6ms", "`target` has latency twice"),
        ("digits", "--target latency=5ms", "`target` has latency, which is no objective"),
        ("digits", f"{LATENCY} --target latency=5ms --target-weights 0.1 0", "`target_weights` must be two numbers"),
        ("digits", "--objective memory --target memory=2GB", "memory is not known .* without `--gpus-per-child`"),
        ("text-rnn", "--objective latency --target latency=5ms", "'text'; these have parameters, flops, seconds"),
        ("synthetic", "--objective parameters --target parameters=5", "'synthetic'; these have seconds"),
        ("nasbench201", f"{LATENCY} {EVOLUTION}", "without `--latency-device`; these have parameters, seconds"),
        ("nasbench201", "--latency-device pixel4", "`latency_device` must be one of .*; did you mean 'pixel"),
        ("seed-agem-digits", "--objective latency --target latency=5ms", "these have parameters, flops, seconds"),
        ("darts-digits", "--objective parameters", "'darts', which follows the gradient of a loss"),
    ],
)
def test_what_a_run_cannot_be_for_is_refused_before_anything_starts(recipe: str, words: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        config(words, recipe)


def test_a_target_makes_a_cost_a_factor_and_without_one_it_is_for_ranks() -> None:
    words = f"{LATENCY} --objective parameters --target parameters=1.5M --target-weights 0 -1 {EVOLUTION}"
    objectives = config(words).objectives
    assert [cost.name for cost in objectives.costs] == ["latency", "parameters"]
    assert [cost.name for cost in objectives.ranked_costs] == ["latency"]
    (target,) = objectives.targets
    assert (target.cost.name, target.value, target.below, target.above) == ("parameters", 1.5e6, 0.0, -1.0)
    for recipe, searcher in (("digits", "random"), ("nasbench201", "evolution"), ("one-shot-digits", "one-shot")):
        device = " --latency-device pixel3" if recipe == "nasbench201" else ""
        assert config(f"{LATENCY} --searcher {searcher}{device}", recipe).objectives.ranked_costs


def test_a_run_with_objectives_is_read_back_as_it_was() -> None:
    launched = config(f"{LATENCY} --target latency=5ms")
    assert RunConfig.from_json(json.loads(json.dumps(launched.to_json()))) == launched
    looked_up = config(f"{LATENCY} --latency-device pixel3 {EVOLUTION}", "nasbench201")
    assert RunConfig.from_json(json.loads(json.dumps(looked_up.to_json()))) == looked_up


@pytest.mark.parametrize("recipe", ["digits", "nasbench201"])
def test_the_metric_alone_leaves_the_configuration_as_earlier_versions_wrote_it(recipe: str) -> None:
    usual, named = config("", recipe), config("--objective accuracy", recipe)
    assert named == config("--objective accuracy=max", recipe) == usual
    data = usual.to_json()
    assert "objectives" not in data
    assert "latency_device" not in data["task"]["options"]
    opened = known_config(data)
    assert opened.config == usual
    assert not opened.unknown


def test_weights_without_a_target_have_no_effect() -> None:
    words = f"{LATENCY} {EVOLUTION} --target-weights 0 -1"
    (said,) = idle_options(config(words), words.split())
    assert said == "`--target-weights` has no effect: without `--target` no cost is a factor of the reward"
