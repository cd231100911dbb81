"""A value of the wrong type is one sentence, with every option of every command."""

import re

import pytest

from cluster.cli.main import COMMANDS
from tests.command_line import nascluster

TEXTS = ("STR", "PATH", "DIR", "TABLE", "COST", "TEXT", "NAME", "KEY=", "SYSTEM", "{")
"""How the values that are texts, and not numbers, begin in the help."""

OF_RUNS = ("launch", "evaluate")
"""Commands with the options of a run alone; those are in the test below this one."""

NEEDED = {"compare": ["--recipe", "synthetic", "--budget", "5"]}


@pytest.mark.usefixtures("folder")
def test_a_number_that_is_none_is_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    tried: set[tuple[str, str]] = set()
    for command in sorted(set(COMMANDS).difference(OF_RUNS)):
        assert nascluster(command, "--help") == 0
        shown = re.findall(r"^│\s+(--[\w-]+) (?:\{None\}\|)?([^\s│]+)", capfd.readouterr().out, re.MULTILINE)
        for flag in [flag for flag, takes in shown if not takes.startswith(TEXTS)]:
            assert nascluster(command, "demo", *NEEDED.get(command, []), flag, "2.5x") == 2
            said = capfd.readouterr().err
            assert re.fullmatch(rf"nascluster: {flag} must be a (whole )?number, got 2\.5x \(.*\)\n", said), command
            tried.add((command, flag))
    assert {("zoo", "--cells"), ("replay", "--until"), ("compare", "--seeds"), ("simulate", "--cost")} < tried


@pytest.mark.parametrize(
    ("flag", "takes"),
    [
        ("--max-children", "a whole number"),
        ("--learning-rate", "a number"),
        ("--gpus-per-child", "a number or auto"),
        ("--num-filters", "whole numbers"),
        ("--decay-at", "numbers"),
    ],
)
def test_an_option_of_a_run_that_is_no_number_is_one_sentence(
    flag: str, takes: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert nascluster("launch", "digits", flag, "2.5x") == 2
    assert capfd.readouterr().err.startswith(f"nascluster: {flag} must be {takes}, got 2.5x (")
