"""The files and the commands of docs/extending.md."""

import re
import shlex
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()

FILES = dict(
    match[::-1] for match in re.findall(r"```python\n(# (?:\S+\.py)\n.*?)```", PAGE, re.DOTALL) for match in [
        (match, match.partition("\n")[0].removeprefix("# "))
    ]
)  # fmt: skip
"""The text of each file, by its name, which its first line says."""

COMMANDS = [shlex.split(line) for line in re.findall(r"^    nascluster (.*)$", PAGE, re.MULTILINE)]
"""The words of each command, after `nascluster`."""


def write_files(folder: Path) -> None:
    """Write the files as a user would who copies them from the page."""
    for name, text in FILES.items():
        (folder / name).write_text(text)
