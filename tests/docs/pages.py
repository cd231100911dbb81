"""The commands of the README and of the pages of docs/, as they are printed."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from tests.deploy.files import ROOT, code_lines

PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").glob("**/*.md")) if page.name != "extending.md"),
]
"""Without docs/extending.md, whose commands `tests/extending` runs."""

PROGRAMS = ("nascluster", "python", "make", "pip", "ray", "tensorboard", "openssl", "printf", ".", "chmod", "export")
"""Programs whose lines are commands; other lines of a block are what a command prints."""

ASSIGNMENT = re.compile(r"[A-Z_]+=\S")
"""Begins a command with a variable of its environment."""


def commands(page: Path) -> list[str]:
    """Return the different commands of a page in order, without comments; those in a paragraph come last."""
    lines = [" ".join(without_comment(line).split()) for line in code_lines(page)]
    return list(dict.fromkeys(line for line in lines if is_command(line)))


def is_command(line: str) -> bool:
    """Return whether a line of code is a shell command with arguments."""
    words = line.split()
    return len(words) > 1 and (words[0] in PROGRAMS or ASSIGNMENT.match(line) is not None)


def without_comment(line: str) -> str:
    """Return a line up to the comment behind it."""
    return re.split(r"\s#\s", line, maxsplit=1)[0]


def words_of(command: str) -> list[Sequence[str]] | None:
    """Return the words of each nascluster command in a line; `None` if the line needs a shell or another program."""
    if re.search(r"[|&><$]", command):
        return None
    each = [shlex.split(part) for part in command.split(";")]
    return each if all(words[:1] == ["nascluster"] for words in each) else None
