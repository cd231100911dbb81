"""The commands of the README and of docs/ are run as they are printed, in the order of each page.

A page has a home of its own in which runs called demo, NAME and RANDOM are, a folder DIR with the data, and best.json,
so that no word of a command is replaced. What cannot be run here is in `exemptions.py`. `NASCLUSTER_DOCS=1` runs those
that take minutes as well.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import webbrowser
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.monitoring.status import read_status
from cluster.storage.find_run import run_folder
from tests.command_line import nascluster
from tests.deploy.files import ROOT
from tests.docs.exemptions import EXEMPT, MINUTES
from tests.docs.pages import PAGES, commands, words_of
from tests.extending.files import write_files

PATIENT = bool(os.environ.get("NASCLUSTER_DOCS"))

TIMEOUT_S = 1_200.0
"""Seconds for one command."""

RUN = (
    *("launch", "digits", "--local", "--searcher", "random", "--replicas", "1", "--children", "4", "--epochs", "1"),
    *("--train-fraction", "0.1", "--num-filters", "4", "6", "8", "10", "12", "14", "1000000000"),
    *("--on-failure", "invalid=retry", "--max-children", "20", "--seed", "2"),
)
"""A search whose children 12 and 17 fail at every attempt, as the pages suppose."""

PARTS = {
    "README.md": ("fashion-mnist", "nasbench201"),
    "docs/running.md": ("fashion-mnist", "nasbench201", "cifar10"),
    "docs/objectives.md": ("nasbench201",),
    "docs/tables.md": ("nasbench201",),
    "docs/compare.md": ("nasbench201",),
    "docs/systems.md": ("nasbench201",),
}
"""The data sets that DIR holds, by page."""

BENCHMARK = "python -m benchmarks."
"""Begins, after variables, what measures for minutes: `make bench` runs it."""


def _is_run(command: str) -> bool:
    if BENCHMARK in command:
        return False
    return command not in EXEMPT or (PATIENT and EXEMPT[command] == MINUTES)


TO_RUN = {page: [*filter(_is_run, commands(page))] for page in PAGES}


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has ended, and may have two children more: it can be resumed as one that was stopped."""
    storage = tmp_path_factory.mktemp("runs")
    assert nascluster(*RUN, "--name", "demo", "--storage-path", storage) == 0
    folder = run_folder(storage, "demo")
    folder.change_limits(replace(folder.read_config(), max_children=22))
    return storage / "demo"


@pytest.fixture
def home(request: pytest.FixtureRequest, tmp_path: Path, finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    page: Path = request.param
    runs = tmp_path / "nascluster_runs"
    for name in ("NAME", "RANDOM", *(["demo"] if "nascluster launch digits --name demo" not in TO_RUN[page] else [])):
        shutil.copytree(finished_run, runs / name)
    here = tmp_path / "here"
    here.mkdir()
    write_files(here)
    for code in re.findall(r"```python\n(class Best.*?)```", page.read_text(), re.S):
        (here / "best.py").write_text(code)
    (here / "DIR").mkdir()
    for part in PARTS.get(str(page.relative_to(ROOT)), ()):
        _add_data(here / "DIR", part)
    best = read_status(run_folder(runs, "NAME"), 0.0).best
    assert best is not None
    (here / "best.json").write_text(json.dumps({"tokens": best.tokens, "architecture": dict(best.graph)}))
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("PYTHONPATH", f"{here}:{ROOT}")
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setattr(webbrowser, "open", lambda url: True)
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "nascluster"  # the console script of the checkout that is tested
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m cluster "$@"\n')
    script.chmod(0o755)
    return here


def _add_data(folder: Path, part: str) -> None:
    """Fill DIR as a reader would who has the data; without it there are no such commands to run."""
    root = os.environ.get("NASCLUSTER_DATA")
    if part == "cifar10":
        if PATIENT and root:
            subprocess.run([sys.executable, f"{root}/cifar10-compact/unpack.py", str(folder)], check=True)
    elif root and (Path(root) / part).is_dir():
        for path in (Path(root) / part).iterdir():
            shutil.copytree(path, folder / path.name) if path.is_dir() else shutil.copy(path, folder / path.name)


def _possible(command: str) -> bool:
    """Return whether what the command needs is here."""
    if " DIR" in command and not os.environ.get("NASCLUSTER_DATA"):
        return False
    return command.split(maxsplit=1)[0] not in ("openssl",) or shutil.which("openssl") is not None


def _carry_out(command: str) -> int:
    """Run one line: in this process if it is one of ours alone, else in a shell."""
    each = None if PATIENT and EXEMPT.get(command) == MINUTES else words_of(command)
    if each is not None:
        return next((status for words in each if (status := nascluster(*words[1:]))), 0)
    without_token = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN"}
    # With the token of all tests, Ray makes no file of one, as it does for a reader.
    return subprocess.run(["bash", "-c", command], check=False, timeout=TIMEOUT_S, env=without_token).returncode


@pytest.mark.timeout(7_200 if PATIENT else 300)
@pytest.mark.parametrize(
    ("home", "page"),
    [(page, page) for page in PAGES if TO_RUN[page]],
    indirect=["home"],
    ids=[str(page.relative_to(ROOT)) for page in PAGES if TO_RUN[page]],
)
def test_the_commands_of_a_page_work_as_printed(home: Path, page: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wrong = []
    for command in filter(_possible, TO_RUN[page]):
        capfd.readouterr()
        status = _carry_out(command)
        said = capfd.readouterr()
        # A finding on this machine is no fault of the command.
        if status not in ((0, 1) if command.startswith("nascluster doctor") else (0,)) or "Traceback" in said.err:
            wrong.append(f"{command}: status {status}\n{said.err}{said.out[-2000:]}")
    assert not wrong, "\n".join(wrong)


def test_every_page_with_commands_is_run_or_exempted() -> None:
    """Else the commands are looked for in the wrong places."""
    found = {str(page.relative_to(ROOT)): commands(page) for page in PAGES}
    for name in ("README.md", "docs/running.md", "docs/tutorial.md", "docs/compare.md", "docs/faults.md"):
        assert len(found[name]) >= 7, name
    assert sum(map(len, TO_RUN.values())) >= 50


def test_each_benchmark_of_a_page_is_there() -> None:
    named = {name for page in PAGES for name in re.findall(rf"{BENCHMARK}(\w+)".replace(".", r"\."), page.read_text())}
    assert len(named) >= 20
    assert not {name for name in named if not (ROOT / "benchmarks" / f"{name}.py").is_file()}


def test_no_exemption_is_left_of_a_command_that_no_page_has() -> None:
    printed = {command for page in PAGES for command in commands(page)}
    assert EXEMPT.keys() <= printed, EXEMPT.keys() - printed
