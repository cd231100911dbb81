"""Parts of a user's own: every file and every command of docs/extending.md, and what can go wrong with them."""

import json
import pickle
import re
import subprocess
from pathlib import Path

import pytest

from child_trainer import own_files
from cluster.api.python_api import launch, load
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from tests.command_line import nascluster
from tests.extending.files import COMMANDS, FILES, write_files

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with the files, which is the current one."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "120")
    own = tmp_path / "own"
    own.mkdir()
    write_files(own)
    monkeypatch.chdir(own)
    return own


def test_the_page_has_a_file_of_each_kind() -> None:
    names = ["my_search.py", "my_generations.py", "my_space.py", "my_task.py", "my_table.py", "my_recipe.py"]
    assert list(FILES) == names
    assert len(COMMANDS) == 8


def test_nothing_of_the_packages_is_edited() -> None:
    packages = ("cluster", "controller", "child_trainer", "ps")
    ours = {path.name for package in packages for path in (ROOT / package).rglob("*.py")}
    assert not ours & FILES.keys()
    for text in FILES.values():
        imported = re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE)
        assert not set(imported) & set(packages), "a user's file needs the public API alone"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_of_the_page_works_in_one_process(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert nascluster(*words) == 0
    assert "Traceback" not in capfd.readouterr().err


def test_own_options_are_flags_of_these_parts_alone(capfd: pytest.CaptureFixture[str]) -> None:
    parts = [
        "--searcher",
        "my_search.py:HillClimber",
        "--space",
        "my_space.py:TwoTower",
        "--task",
        "my_task.py:STRIPES",
    ]
    assert nascluster("launch", "digits", *parts, "--help") == 0
    shown = capfd.readouterr().out
    flags = {word for word in shown.split() if word.startswith("--")}
    assert {"--restart", "--widths", "--sides", "--noise"} <= flags
    assert not {"--population", "--entropy-bonus", "--filter-heights", "--child-seconds"} & flags
    assert "Probability that a proposal is random" in shown


def test_readers_need_no_file_and_a_resume_goes_on_with_the_text_that_is_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    config = RunConfig.from_json(
        json.loads(json.dumps(launch("my_recipe.py:stripes", local=True, show=False, name="whole").config.to_json()))
    )
    run_here = launch("my_recipe.py:stripes", local=True, show=False, name="part", max_children=500, wait=False)
    while run_here.status().ended < 2:
        pass
    assert run_here.stop().state == "stopped"
    saved = tmp_path / "home" / "nascluster_runs" / "part" / "config.json"
    data = json.loads(saved.read_text())
    assert data["files"].keys() == {"my_search.py", "my_space.py", "my_task.py"}
    saved.write_text(json.dumps(data | {"max_children": run_here.status().ended + 4}))

    (folder / "my_search.py").write_text(FILES["my_search.py"] + "\n# a change\n")
    assert nascluster("resume", "part") == 2
    said = capfd.readouterr().err
    assert "'my_search.py' has changed since the run was launched" in said
    assert "launch a new run, which begins with this one's best by `--warm-start part`" in said

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for words in (["status", "whole"], ["best", "whole"], ["report", "whole", "--output", "page.html"]):
        assert nascluster(*words) == 0
    assert "gate" in capfd.readouterr().out
    assert load("whole").config == config
    assert nascluster("resume", "part") == 0
    assert load("part").status().state == "finished"


def test_the_best_child_trains_again_by_hand(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    flags = ["--local", "--max-children", 2, "--name", "own", "--noise", 0.3]
    assert nascluster("launch", "my_recipe.py:stripes", *flags) == 0
    capfd.readouterr()
    assert nascluster("best", "own", "--json") == 0
    best = json.loads(capfd.readouterr().out)
    (folder / "best.json").write_text(json.dumps(best))
    assert nascluster("best", "own") == 0
    command = next(line for line in capfd.readouterr().out.splitlines() if "python -m child_trainer" in line)
    assert "--noise 0.3" in command
    done = subprocess.run(command, shell=True, check=True, capture_output=True, text=True, env=environment())
    assert f"{best['metric']:.4f}" in done.stdout


def environment() -> dict[str, str]:
    import os
    import sys

    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | {"PYTHONPATH": str(ROOT), "PATH": path, "OMP_NUM_THREADS": "1"}


SEARCHER, SPACE, TASK = FILES["my_search.py"], FILES["my_space.py"], FILES["my_task.py"]


SEARCH, SPACE_FLAG, TASK_FLAG = "--searcher part.py:HillClimber", "--space part.py:TwoTower", "--task part.py:STRIPES"

WRONG = [
    ("", SEARCH, "'part.py' has no 'HillClimber'; it has nothing of its own"),
    ("x = (", SEARCH, "'part.py', line 1 cannot be loaded: SyntaxError"),
    ("\nimport nowhere_to_be_found\n", SPACE_FLAG, "'part.py', line 2 cannot be loaded: ModuleNotFoundError"),
    (SEARCHER.replace("def ask", "def demand"), SEARCH, "is not a searcher: it lacks `ask`"),
    (SEARCHER.replace("options: HillClimberOptions", "options: dict"), SEARCH, "must be annotated with a dataclass"),
    (
        SEARCHER.replace("return ()", "raise KeyError('x')"),
        SEARCH,
        "part.py:HillClimber: `parameters` failed: KeyError",
    ),
    (
        SEARCHER.replace("    def ask", "    def keeps(self, view):\n        return frozenset()\n\n    def ask", 1),
        SEARCH,
        "must have `exclusive = True`, as it has a method `keeps`",
    ),
    ("HillClimber = 3", SEARCH, "must be a class that is a searcher, got int"),
    (SPACE.replace("def decode", "def make"), SPACE_FLAG, "is not a space: it lacks `decode`"),
    (SPACE.replace('return "feedforward"', 'return "recurrent"'), SPACE_FLAG, "trains feedforward architectures"),
    (SPACE.replace("!= 3", "!= 4"), SPACE_FLAG, "`decisions` or `decode` failed: InvalidTokens"),
    (SPACE.replace("len(choice.options)", "1"), SPACE_FLAG, "`choice_sizes` must have 'width_0' with 3 options"),
    (SPACE.replace('"gate": Own', '"relu": Own'), SPACE_FLAG, "there is another operation 'relu'"),
    (TASK.replace("def load", "def read"), TASK_FLAG, "lacks the function `load`"),
    ("STRIPES = 1", TASK_FLAG, "must be a TaskEntry, got int"),
    ("f1 = 1", "--reward part.py:f1", "must be a function from an Outcome to a number, got int"),
    (
        SEARCHER.replace("(Figure(name=", "Figure(name=").replace('batch"),)', 'batch")'),
        SEARCH,
        "must be a tuple of Figure",
    ),
    (
        SEARCHER.replace("    restart: float", "    seed: int = 3\n    restart: float"),
        SEARCH,
        "`seed` is an option of RunConfig",
    ),
    (SEARCHER.replace("restart: float = 0.1", "restart: float"), SEARCH, "and `restart` has none"),
    (
        SEARCHER.replace('figures={"best"', 'figures={"bset"'),
        SEARCH,
        "the figure 'bset', which `FIGURES` does not list",
    ),
    (
        SEARCHER.replace("return Update(gradients={}", "return dict(x={}"),
        SEARCH,
        "`learn` must return an Update, got dict",
    ),
    (
        SEARCHER.replace("return Update(gradients={}", "return Update(gradients={'x': 0}"),
        SEARCH,
        "a gradient for 'x', which",
    ),
    ("import sys\nsys.exit(3)", SEARCH, "'part.py', line 2 cannot be loaded: SystemExit: 3"),
    ("OPERATIONS = 3\nX = 1", SEARCH, "`OPERATIONS` must map names to OwnOperation"),
    ("def f1(outcome): return 'x'", "--reward part.py:f1", "must return a finite number, got 'x'"),
    ("def f1(): return 1.0", "--reward part.py:f1", "`f1` failed: TypeError"),
    ("", "--searcher part.py", "name the searcher in the file, as in part.py:NAME"),
    ("", "--searcher nowhere.py:X", "there is no file 'nowhere.py'"),
    ("", "--searcher no.such.module:X", "there is no module 'no.such.module'"),
    ("", "--searcher :X", "must be FILE.py:NAME or MODULE:NAME"),
]


@pytest.mark.parametrize(("text", "flags", "message"), WRONG, ids=[message for _, _, message in WRONG])
def test_what_a_part_lacks_is_said_in_one_sentence_before_anything_starts(
    text: str, flags: str, message: str, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "part.py").write_text(text)
    assert nascluster("launch", "digits", "--local", *flags.split()) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("[]", "`ask` must return 1 proposal, got 0"),
        ("['conv']", "`ask` must return a list of Proposal, got a list with a str"),
        ("None", "`ask` must return a list of Proposal, got NoneType"),
        ("1 / 0", "`ask` failed: ZeroDivisionError: division by zero"),
    ],
)
def test_a_searcher_that_answers_wrongly_is_refused_before_anything_starts(
    answer: str, message: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ask = next(line for line in SEARCHER.splitlines() if "def ask" in line)
    (folder / "part.py").write_text(SEARCHER.replace(ask, f"{ask}\n        return {answer}"))
    assert nascluster("launch", "digits", "--local", "--searcher", "part.py:HillClimber") == 2
    assert f"part.py:HillClimber: {message}" in capfd.readouterr().err


def test_options_come_back_from_the_runs_file_as_they_were(folder: Path) -> None:
    fields = (
        "    where: tuple[tuple[int, int], ...] = ((1, 2),)\n"
        "    place: Path = Path('a')\n"
        "    pair: tuple[int, float] = (1, 0.5)\n"
    )
    text = SEARCHER.replace("    restart: float", fields + "    restart: float").replace(
        "import dataclass", "import dataclass\nfrom pathlib import Path"
    )
    (folder / "part.py").write_text("\ufeff" + text.replace("\n", "\r\n"), newline="")
    config = RunConfig(searcher="part.py:HillClimber")
    assert config.searcher_options.where == ((1, 2),)
    assert RunConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert pickle.loads(pickle.dumps(config)) == config


def test_a_part_of_an_installed_package_is_imported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = folder / "own_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "options.py").write_text(SEARCHER.partition("@dataclass(frozen=True)\n")[0])
    rest = "from .options import *\nfrom .options import HillClimberOptions\n@dataclass(frozen=True)\n"
    (package / "climber.py").write_text(rest + SEARCHER.partition("@dataclass(frozen=True)\n")[2])
    monkeypatch.syspath_prepend(folder)
    assert (
        nascluster(
            "launch", "synthetic", "--local", "--max-children", 4, "--searcher", "own_package.climber:HillClimber"
        )
        == 0
    )


def test_one_text_gives_one_class_and_a_changed_file_another(folder: Path) -> None:
    first = own_files.load("my_search.py:HillClimber")
    assert own_files.load("my_search.py:HillClimber") is first
    kept = RunConfig(searcher="my_search.py:HillClimber")
    (folder / "my_search.py").write_text(SEARCHER.replace("restart: float = 0.1", "restart: float = 0.7"))
    assert own_files.load("my_search.py:HillClimber") is not first
    assert RunConfig(searcher="my_search.py:HillClimber").searcher_options.restart == 0.7
    assert kept.searcher_entry.options().restart == 0.1
    assert RunConfig.from_json(json.loads(json.dumps(kept.to_json()))) == kept


def test_names_of_a_catalogue_are_refused_in_python_as_on_the_command_line() -> None:
    for wrong in ({"searcher": "bogus"}, {"space": "bogus"}, {"reward": "bogus"}):
        with pytest.raises(ValueError, match=r"unknown .* 'bogus'; there are "):
            RunConfig(**wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="`searcher_options` of the searcher 'random' must be NoOptions"):
        RunConfig(searcher="random", searcher_options=RECIPES["digits"]().searcher_options)
