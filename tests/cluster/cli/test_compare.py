"""The command `nascluster compare`."""

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.cli import compare as command
from cluster.cli import main as cli
from cluster.compare import one_search
from cluster.compare.search_result import SearchResult
from controller.catalogue import SEARCHERS
from tests.cluster.compare.tables import BEST, DEAREST_S, made_up
from tests.command_line import nascluster
from tests.real_data import real

Nascluster = Callable[..., int]

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up(tmp_path_factory.mktemp("table"))


@pytest.fixture
def compare(data: Path) -> Nascluster:
    def compare(*arguments: object, recipe: str = "nasbench201") -> int:
        flags = ["--recipe", recipe, *(["--data", data] if recipe == "nasbench201" else []), "--processes", 1]
        return nascluster("compare", *arguments, *flags)

    return compare


def results(folder: Path) -> dict[str, list[SearchResult]]:
    """Return the stored results by the first word of the searcher's folder, in the order of the seeds."""
    found: dict[str, list[SearchResult]] = {}
    for file in sorted(folder.glob("searches/*/*.json")):
        found.setdefault(file.parent.name.split("-")[0], []).append(
            SearchResult.from_json(json.loads(file.read_text()))
        )
    return found


SHORT = ("--budget", "900s", "--seeds", 3)


def test_a_comparison_is_a_table_and_a_page(
    compare: Nascluster, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["reinforce:controller-learning-rate=0.05", "evolution"]
    assert compare(*words, *SHORT, "--population", 4, "--tournament", 2, "--seed", 11) == 0
    output = capfd.readouterr()
    kept = folder / "compare-nasbench201-900s"
    assert "Random search is added" in output.err
    text = (kept / "comparison.md").read_text()
    assert output.out.startswith(text)
    assert output.out.rstrip().endswith(f"{kept}/comparison.html")
    assert "# nasbench201, 900 s for each search, seeds 11 to 13" in text
    assert [line.split(" | ")[0] for line in text.splitlines()[4:7]] == [f"| {w}" for w in [*words, "random"]]
    assert f"the best of the table: {BEST:.2f} % validation accuracy, {BEST + 10:.2f} % test accuracy" in text
    assert "training times are measured for 1,000 of its 15,625 architectures and estimated for the others." in text
    assert (
        "<h1>reinforce:controller-learning-rate=0.05, evolution and random</h1>"
        in (kept / "comparison.html").read_text()
    )
    found = results(kept)
    assert list(found) == ["evolution", "random", "reinforce_controller"]
    assert all([result.seed for result in several] == [11, 12, 13] for several in found.values())
    # The first population is random search's with the same seed.
    assert found["evolution"][0].metrics[:4] == found["random"][0].metrics[:4]


def test_finished_searches_are_not_repeated(
    compare: Nascluster, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    done: list[tuple[str, int]] = []
    real = one_search.search

    def counted(config: Any, *rest: Any) -> Any:
        done.append((config.searcher, config.seed))
        return real(config, *rest)

    monkeypatch.setattr(one_search, "search", counted)
    assert compare("reinforce", *SHORT, "--output", "here") == 0
    assert sorted(done) == [(name, seed) for name in ("random", "reinforce") for seed in range(3)]
    first = (folder / "here" / "comparison.md").read_text()
    done.clear()
    assert compare("reinforce", *SHORT, "--output", "here") == 0
    assert done == []
    assert (folder / "here" / "comparison.md").read_text() == first
    assert compare("evolution", "reinforce", "--budget", "900s", "--seeds", 4, "--output", "here") == 0
    assert sorted(done) == [("evolution", 0), ("evolution", 1), ("evolution", 2), ("evolution", 3), *[
        (name, 3) for name in ("random", "reinforce")
    ]]  # fmt: skip
    capfd.readouterr()


def test_after_ctrl_c_the_same_command_continues(
    compare: Nascluster, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real, calls = one_search.search, iter(range(100))

    def interrupted(*arguments: Any) -> Any:
        if next(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    def interrupted_at_once(*_: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)  # as Ctrl-C

    with monkeypatch.context() as patch:
        patch.setattr(one_search, "search", interrupted)
        assert compare("reinforce", *SHORT) == 130
    kept = folder / "compare-nasbench201-900s"
    message = f"interrupted with 4 of 6 searches done, which are kept in {kept}: run the same command to continue"
    assert message in capfd.readouterr().err
    assert sum(map(len, results(kept).values())) == 4
    with monkeypatch.context() as patch:
        patch.setattr(one_search, "search", interrupted_at_once)
        assert compare("reinforce", *SHORT, "--output", "none") == 130
    assert "interrupted with 0 of 6 searches done: nothing is kept\n" in capfd.readouterr().err
    assert not (folder / "none").exists()
    assert not (kept / "comparison.md").exists()
    before = {file: file.stat().st_mtime_ns for file in kept.glob("searches/*/*.json")}
    assert compare("reinforce", *SHORT) == 0
    assert sum(map(len, results(kept).values())) == 6
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert compare("reinforce", *SHORT, "--output", "whole") == 0
    assert (folder / "whole" / "comparison.md").read_text() == (kept / "comparison.md").read_text()


def test_parallel_processes_have_the_results_of_one(
    compare: Nascluster, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = ["reinforce", "--budget", 20, "--seeds", 2]
    assert compare(*flags, "--output", "one", recipe="synthetic") == 0
    arguments = [*flags, "--output", "two", "--recipe", "synthetic", "--processes", 2]
    assert cli.run(["compare", *map(str, arguments)]) == 0
    capfd.readouterr()
    one, two = results(folder / "one"), results(folder / "two")
    for name in ("reinforce", "random"):
        assert [(r.seed, r.architectures, r.metrics) for r in one[name]] == [
            (r.seed, r.architectures, r.metrics) for r in two[name]
        ]
        assert [len(r.metrics) for r in two[name]] == [20, 20]


def test_all_searchers_that_can_are_compared_and_the_others_are_named_with_the_reason(
    compare: Nascluster, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert compare("--all", "evolution:population=5", "--budget", 6, "--seeds", 2) == 0
    output = capfd.readouterr()
    compared = [line.split(" | ")[0].removeprefix("| ") for line in output.out.splitlines() if line.startswith("| ")]
    told = output.err
    assert compared[2:4] == ["evolution:population=5", "reinforce"]
    assert {"ppo", "random", "grid", "evolution", "bayesian", "local-search", "progressive"} < set(compared)
    assert (
        "Left out: enas, one-shot, smash, darts, snas, proxyless: the children share weights, and their metrics cannot"
        in told
    )
    assert [line for line in told.splitlines() if not line.startswith(("Left out: ", "Searches"))] == []
    assert "NasBench201Space" not in told
    assert "Left out: neat: the searcher 'neat' evolves networks with their weights: use the space 'genomes'" in told
    left = re.findall(r"Left out: ([a-z, -]+):", told)
    assert set(SEARCHERS) == {*compared[3:], *", ".join(left).split(", ")}
    assert "Random search is added" not in told


def test_with_several_objectives_searches_are_judged_by_hypervolume(
    compare: Nascluster, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["evolution", "reinforce:target=seconds=70s"]
    flags = ["--objective", "seconds=min", "--population", 4, "--tournament", 2, "--replicas", 1]
    assert compare(*words, *flags, "--budget", 60, "--seeds", 2) == 0
    # By hand: of a cell's six edges up to six are 3x3 convolutions, at most one a 1x1, and the others let pass.
    head, _, *rows = (line.strip("| ").split(" | ") for line in capfd.readouterr().out.splitlines()[2:7])
    assert head[2:5] == ["hypervolume, %", "of 13 on the front", "ahead of random"]
    kept = folder / "compare-nasbench201-60"
    assert "Hypervolume of the children's front" in (kept / "comparison.html").read_text().replace("&#x27;", "'")
    found = results(kept)
    assert [row[0] for row in rows] == [*words, "random"]
    for row, several in zip(
        rows, (found["evolution"], found["reinforce_target=seconds=70s"], found["random"]), strict=True
    ):
        assert 0 < float(row[2].split(" ")[0]) <= 100
        for result in several:
            assert result.points == tuple((-(m or 0), s) for m, s in zip(result.metrics, result.seconds, strict=True))


def test_several_objectives_need_a_table(compare: Nascluster, capfd: pytest.CaptureFixture[str]) -> None:
    assert compare("evolution", "--budget", 9, "--objective", "parameters=min", recipe="digits") == 2
    assert "`objective` parameters needs a task whose front is known" in capfd.readouterr().err


@pytest.mark.parametrize("processes", [1, 2])
def test_a_failed_search_is_named_and_finished_ones_are_kept(
    processes: int, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    diverges = "reinforce:controller-learning-rate=1e38"
    flags = ["--recipe", "synthetic", "--seeds", "2", "--budget", "50", "--output", "here"]
    kept = folder / "here"
    assert cli.run(["compare", "random", *flags, "--processes", "1"]) == 0
    capfd.readouterr()
    assert cli.run(["compare", "random", diverges, *flags, "--processes", str(processes)]) == 1
    output = capfd.readouterr().err
    # Of two processes either seed may come first.
    assert re.fullmatch(
        rf"nascluster: the search of '{diverges}' with seed [01] failed \(value cannot be converted to type float"
        rf" without overflow\); the finished searches are kept in {kept}, and the whole error is in {kept}/error.txt\n",
        output,
    )
    assert "optimizers.py" in (kept / "error.txt").read_text()
    assert {name: len(several) for name, several in results(kept).items()} == {"random": 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*SHORT], "name the searchers to compare"),
        (["foo", *SHORT], "unknown searcher 'foo'"),
        (["reinforce"], "--budget"),
        (["reinforce", "--budget", "5x"], "`budget` must be children, such as 500"),
        (["reinforce", "--budget", "900s", "--seeds", 1], "`seeds` must be 2 to 100,000"),
        (["reinforce", "--budget", "60s"], f"the most expensive costs {DEAREST_S:.1f} s"),
        (
            ["reinforce", *SHORT, "--max-children", 4],
            "options of `max-children` are not for a comparison: use --budget",
        ),
        (["reinforce", *SHORT, "--name", "x"], "options of `name` are not for a comparison: use --output"),
        (["reinforce", *SHORT, "--metrics-port", 8000], "options of `metrics` are not for a comparison"),
        (["reinforce", *SHORT, "--entropy-bonu", 1], "--entropy-bonus"),
        (["reinforce", *SHORT, "stray"], "stray"),
        (["reinforce", *SHORT, "--data", "/nowhere"], "/nowhere"),
        (["reinforce:shards=99999", *SHORT], "'reinforce:shards=99999'"),
        (["reinforce:gpus-per-child=1", *SHORT], "GPU"),
        (
            ["reinforce", *SHORT, "--objective", "seconds=min"],
            "'reinforce': `objective` seconds needs a `target`, such as `--target seconds=90s`",
        ),
        (["evolution:objective=seconds=min", *SHORT], "sets `objective`, which all searchers share"),
        (["evolution", *SHORT, "--objective", "latency=min"], "without `--latency-device`"),
        (["reinforce", *SHORT, "--output", ""], "`output` must be a folder, got nothing"),
        (["reinforce", *SHORT, "--output="], "`output` must be a folder, got nothing"),
        (
            ["reinforce:controller-units=100000000", *SHORT],
            "'reinforce:controller-units=100000000': the parameters of the searcher cannot be made: use a smaller one",
        ),
        (
            [
                "--all",
                *SHORT,
                "--replicas",
                2,
                "reinforce:controller-learning-rate=0.03,entropy-bonus=0.05,queue-size=5",
            ],
            "put the searchers before the flags of a run, got"
            " 'reinforce:controller-learning-rate=0.03,entropy-bonus=0.05,queue-size=5' behind `--replicas`",
        ),
        (["--population", 4, "random", *SHORT], "put the searchers before the flags of a run, got 'random' behind"),
        (["--all", *SHORT, "--data", "enas", "random"], "got 'random' behind `--data`"),
        (
            ["random", *SHORT, "--replicas", 2, "a-word-of-many-letters=0.03,that-is-broken=0.05,by-the-box=5"],
            "Unrecognized options: a-word-of-many-letters=0.03,that-is-broken=0.05,by-the-box=5 (",
        ),
        (["darts", "--budget", 12, "--recipe", "darts-digits"], "'darts': the children share weights, and their"),
        (
            ["reinforce", "--budget", 4, "--early-stop", "median", "--stop-min-children", 9, "--recipe", "digits"],
            "`stop_min_children` must be below `--budget`, 4, got 9",
        ),
    ],
)
def test_bad_input_is_refused_before_any_search(
    arguments: list[object],
    message: str,
    data: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def nothing(*_: object) -> None:
        raise AssertionError("something was done")

    monkeypatch.setattr(command, "run_comparison", nothing)
    given: list[object] = [] if "--recipe" in arguments else ["--recipe", "nasbench201"]
    given += [] if "--data" in arguments or "--recipe" in arguments else ["--data", data]
    assert cli.run(["compare", *map(str, [*arguments, *given])]) == 2
    output = capfd.readouterr().err
    assert output.startswith("nascluster: ")
    assert message in output
    assert output.count("\n") == 1
    assert list(folder.iterdir()) == []


def test_a_budget_in_seconds_needs_a_table(compare: Nascluster, capfd: pytest.CaptureFixture[str]) -> None:
    assert compare("reinforce", "--budget", "900s", recipe="synthetic") == 2
    assert (
        "a budget in seconds needs a task that knows the cost of a child (nasbench201, nasbench201-200, table-file)"
        in capfd.readouterr().err
    )
    assert compare("reinforce", "--budget", 9, recipe="syntetic") == 2
    assert "did you mean 'synthetic'?" in capfd.readouterr().err


def test_help_lists_the_flags(compare: Nascluster, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == 0
    assert "compare SEARCHER ..." in capfd.readouterr().out
    assert compare("--help") == 0
    output = " ".join(capfd.readouterr().out.split())
    for word in ("SEARCHER", "--recipe", "--budget", "--seeds", "--output", "--processes", "--open"):
        assert word in output
    assert "reinforce:entropy-bonus=0.1,children=1" in output


def test_the_real_table(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", "evolution", "--recipe", "nasbench201", "--data", str(real("nasbench201"))]
    small = ["--population", "10", "--tournament", "3", "--seeds", "5", "--budget", "12000s", "--processes", "1"]
    assert cli.run([*arguments, *small]) == 0
    assert "84.89 % validation accuracy, 94.37 % test accuracy" in capfd.readouterr().out
    for several in results(folder / "compare-nasbench201-12000s").values():
        for result in several:
            assert 60 < len(result.metrics) < 160  # some 113 s each
            assert 11_700 < sum(result.seconds) <= 12_000
