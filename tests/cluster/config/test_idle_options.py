"""Options that change nothing are refused or warned of."""

import pytest

from cluster.config.flags import UsageError, parse_run
from cluster.config.idle_options import idle_options
from cluster.config.recipes import RECIPES
from tests.command_line import nascluster


def warnings(words: str) -> list[str]:
    recipe, *flags = words.split()
    return idle_options(parse_run(RECIPES[recipe](), flags, recipe), flags)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("digits --local --workers 3", "`--workers` has no effect: with `--local` the one process trains"),
        ("digits --local --worker-silence 9s --recycle-after=2", "`--worker-silence` and `--recycle-after` have no"),
        ("digits --early-stop median --fuse-seeds 3", "with `--early-stop median` every child is trained"),
        ("text-rnn --local --fuse-seeds 3", "`--fuse-seeds` has no effect: the task text trains its networks one by"),
        ("digits --searcher evolution --shards 3", "the searcher evolution keeps no parameters on shards"),
        (
            "one-shot-digits --consistency ssp",
            "on shards but the weights that its children share, whose options begin with `--weights-`",
        ),
        ("digits --searcher random --consistency sync", "`--consistency` has no effect: the searcher random"),
        (
            "digits --weights-snapshot 0",
            "`--weights-snapshot` has no effect: the children of the searcher reinforce share",
        ),
        (
            "darts-digits --epochs 2 --learning-rate 5",
            "`--epochs` and `--learning-rate` have no effect: the children of the searcher darts train the weights",
        ),
        ("enas-rnn --clip-norm 1", "`--clip-norm` has no effect: the children of the searcher enas train the weights"),
        ("digits --metrics-host 0.0.0.0", "no metrics are served without `--metrics-port`"),
        ("digits --data x", "`--data` has no effect: the task digits needs no data"),
        ("digits --download", "`--download` has no effect"),
        ("wikitext2-rnn --data x --download", "nothing can be downloaded for the task wikitext2"),
        ("nasbench201 --data x --download", "nothing can be downloaded for the task nasbench201"),
        ("nasbench201 --data x --learning_rate 0.1", "`--learning-rate` has no effect: the task nasbench201 looks"),
        ("nasbench201 --data x --checkpoint-children", "a child of the task nasbench201 takes no time"),
        ("synthetic --batch-size 3 --momentum 0", "`--batch-size` and `--momentum` have no effect: the task synthetic"),
        ("text-rnn --decay-after 2", "without `--learning-rate-decay`"),
        ("digits --pool-sizes 2", "`--layer-types` has no pool"),
        ("digits --layer-types pool --num-filters 3", "`--layer-types` has no conv"),
        ("digits --max-depth 4 --depth-interval 5", "all networks have 4 layers"),
        (
            "nasnet-digits --path-keep 0.6",
            "the networks of the space nasnet have no paths to drop without `--drop-path`",
        ),
        ("nasnet-digits --auxiliary-weight 1 --drop-path", "nasnet have no auxiliary head without `--auxiliary`"),
        (
            "digits --path-keep 0.6",
            "`--path-keep` has no effect: the networks of the space convolutional have no paths",
        ),
        ("digits --adam-betas 0.5 0.9", "`--adam-betas` has no effect: the optimizer is sgd"),
        ("digits --optimizer-epsilon 0.1 --momentum 0", "`--optimizer-epsilon` has no effect: the optimizer is sgd"),
        ("digits --optimizer adam --momentum 0.5", "`--momentum` has no effect: the optimizer is adam"),
        ("digits --decay 0.5", "`--decay` has no effect: the schedule is constant"),
        ("nasnet-digits --decay-every 2", "`--decay-every` has no effect: the schedule is cosine"),
        ("digits --restarts 3 --restart-decay 0.5", "`--restart-decay` and `--restarts` have no effect: no training"),
        ("neat-xor --cutout 3 --schedule cosine", "`--schedule` and `--cutout` have no effect: the task xor trains"),
        ("nasbench201 --data x --label-smoothing 0.1", "`--label-smoothing` has no effect: the task nasbench201 looks"),
        ("amoebanet-digits --crossover-kind cells", "`--crossover-kind` has no effect: without `--crossover`"),
        ("hnas-digits --tournament 3", "`--tournament` has no effect: `--tournament-share` takes its place"),
        ("amoebanet-digits --selection roulette --tournament 3", "`--selection` roulette has no tournaments"),
        ("amoebanet-digits --repeats refused --unchanged 0.1", "with `--repeats` refused every child is new"),
        ("digits --queue-weight 0.5", "`--queue-weight` has no effect: there is no queue without `--queue-size`"),
        ("metaqnn-digits --state-tokens 3", "`--state-tokens` has no effect: the space chain has states of its own"),
        ("eas-digits --wider-steps 0 --wider-noise 0.1", "`--wider-noise` has no effect: no layer becomes wider with"),
        (
            "path-eas-digits --operations identity max_3x3 --operation-noise 0.1",
            "`--operation-noise` has no effect: no edge becomes a convolution with these `--operations`",
        ),
        ("one-shot-digits --trains one-path --ghost-groups 3", "with `--trains one-path` a step has one path and one"),
        ("enas-macro-digits --favoured-bonus 0.1", "no operation is favoured without `--favoured-operations`"),
        ("enas-micro-digits --skip-rate 0.1", "`--skip-rate` has no effect: the space enas-micro has no skips"),
        ("enas-macro-digits --restart-factor 3", "the search ends with its first cycle of `--restart-epochs`"),
        ("seed-agem-digits --selection soft-max --lead-penalty 0.3", "no leader loses a share of its lead"),
        ("seed-agem-digits --odds-clip 3", "without `--selection-reward log-odds` there are no odds"),
        ("seed-agem-digits --no-share --share-epochs 3", "`--share-epochs` has no effect: with `--no-share`"),
        ("seed-agem-digits --mode-rule formula --accuracy-threshold 0.3", "`--mode-rule formula` has no thresholds"),
        ("seed-agem-digits --mode-weights 1 2 3", "without `--mode-rule formula` they change no mode"),
        ("proxyless-digits --cost-reference 300", "`--cost-reference` has no effect: without `--cost` nothing counts"),
        ("proxyless-digits --cost flops --cost-weight 2", "`--cost-weight` has no effect: `--cost-loss` mul#log is a"),
        (
            "proxyless-digits --cost flops --mode reinforce --cost-weight 2",
            "with `--mode reinforce` the cost is in the",
        ),
        (
            "proxyless-digits --cost flops --cost-loss add#linear --cost-scale 2 --cost-power 1",
            "`--cost-scale` and `--cost-power` have no effect: `--cost-loss` add#linear is a sum",
        ),
        (
            "proxyless-digits --cost flops --cost-loss add --cost-reference 300",
            "`--cost-loss` add has no reference",
        ),
        ("proxyless-digits --paths-per-step 3", "with `--mode full` no paths are scored for a step"),
        ("darts-digits --validation-weight 2", "without `--strengths-objective weighted` the validation loss stands"),
        ("snas-digits --cost-weight 2", "`--cost-weight` has no effect: without `--cost` nothing counts"),
        ("neat-xor --recurrent-link 0.5", "`--recurrent-link` has no effect: the space has no recurrent networks"),
    ],
)
def test_an_option_without_effect_is_told_with_the_reason(words: str, text: str) -> None:
    (said,) = warnings(words)
    assert text in said


@pytest.mark.parametrize(
    "words",
    [
        "digits --workers 3 --shards 2 --epochs 1 --fuse-seeds 2",
        "digits --local --gpus-per-child 0 --max-attempts 2 --fuse-seeds 2",
        "digits --metrics-port 0 --metrics-host 0.0.0.0",
        "fashion-mnist --data x --download",
        "synthetic --child-seconds 1 --child-spread 0.5 --checkpoint-children --epochs 2",
        "digits --layer-types conv pool --pool-sizes 2",
        "text-rnn --learning-rate-decay 0.9 --decay-after 2",
        "digits --searcher evolution --population 5 --replicas 2",
        "nasbench201 --data x",
        "nasnet-digits --path-keep 0.6 --drop-path --auxiliary-weight 0.4 --auxiliary",
        "digits --optimizer adam --adam-betas 0.5 0.9 --optimizer-epsilon 0.1",
        "digits --schedule steps --decay-at 0.5 --decay 0.2",
        "metaqnn-digits --decay-every 2 --restarts 3 --replays 10",
        "amoebanet-digits --crossover 0.5 --crossover-kind cells --selection truncation --tournament 3 --unchanged 0.1",
        "amoebanet-digits --selection roulette --dies worst --tournament 3",
        "digits --queue-size 4 --queue-weight 0.5",
        "path-eas-digits --operations identity conv_1x1 --operation-noise 0.1 --branch-noise 0",
        "eas-dense-digits --wider-steps 0 --wider-noise 0.1",
        "digits --searcher q-learning --state-tokens 3",
        "enas-macro-digits --favoured-operations conv_3x3 --favoured-bonus 0.1 --skip-rate 0.1 --restart-epochs 2"
        " --restart-factor 3",
        "neat-pole --recurrent-link 0.5",
        "seed-agem-digits --lead-penalty 0.3 --selection-reward log-odds --odds-clip 3 --share-epochs 3",
        "proxyless-digits --cost flops --cost-loss add#linear --cost-weight 2 --cost-reference 300",
        "proxyless-digits --cost flops --cost-loss add --cost-weight 1e-6",
        "proxyless-digits --cost flops --cost-scale 2 --cost-power 1 --cost-reference 300",
        "proxyless-digits --cost flops --cost-reference 300 --mode reinforce --paths-per-step 3",
        "darts-digits --strengths-objective weighted --validation-weight 2",
        "snas-digits --cost latency --cost-weight 2",
        "nasbench201 --data population --name restart",
    ],
)
def test_an_option_with_an_effect_is_not(words: str) -> None:
    assert warnings(words) == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            "digits --searcher evolution --entropy-bonus 0.1",
            r"--entropy-bonus \(an option of the searcher reinforce.*; the run has the searcher",
        ),
        ("digits --population 5", r"--population \(an option of the searcher evolution"),
        ("digits --cells-per-stage 3", r"--cells-per-stage \(an option of the space nasbench201"),
        (
            "nasbench201 --data x --no-skip-connections",
            "an option of the space convolutional or subnetworks;",
        ),
        ("digits --child-seconds 3", "an option of the task synthetic; the run has the task digits"),
        ("digits --hidden_size 3", r"--hidden-size \(an option of the task ptb or wikitext2 or text or text-folder;"),
    ],
)
def test_an_option_of_another_part_is_refused_with_its_owner(words: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        warnings(words)


def test_a_launch_warns_and_goes_on(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert nascluster("launch", "synthetic", "--local", "--max-children", 4, "--workers", 2) == 0
    assert capfd.readouterr().err.startswith("nascluster: `--workers` has no effect: with `--local`")
