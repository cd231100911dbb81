"""What a command does where its output cannot go, or a file cannot be used."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.storage.errors import RunFolderError


def command(*arguments: str, encoding: str = "utf-8", output: str | None = None) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "cluster", *arguments]
    if output is not None:
        words = ["sh", "-c", f'exec "$@" {output}', "sh", *words]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    return subprocess.run(words, env=environment, capture_output=True, encoding="utf-8", errors="replace", check=False)


def test_a_character_that_the_output_cannot_take_is_replaced(tmp_path: Path) -> None:
    place = ("--storage-path", str(tmp_path))
    launched = command("launch", "synthetic", "--local", "--max-children", "3", "--name", "r", *place, encoding="ascii")
    assert launched.returncode == 0, launched.stderr
    for encoding in ("ascii", "cp1251"):
        shown = command("best", "r", *place, encoding=encoding)
        assert shown.returncode == 0
        # A layer's inputs are readable: cp1251 has the point, and none of the two the circle.
        rows = re.findall(r"conv .* filters +(\S.*?)  ", shown.stdout)
        assert {"o", "."} <= set("".join(rows).replace("\ufffd", ".").replace(" ", ""))
        assert "?" not in "".join(rows)


def test_a_full_output_is_one_sentence_and_a_closed_one_no_traceback() -> None:
    full = command("recipes", output=">/dev/full")
    assert full.returncode == main.UNPRINTABLE
    assert full.stderr.count("\n") == 1 and full.stderr.endswith("No space left on device\n")
    assert command("recipes", output=">&-").stderr == ""


@pytest.mark.parametrize(("number", "status"), [(errno.ENOSPC, 1), (errno.EDQUOT, 1), (errno.EACCES, 2)])
def test_a_full_disk_is_no_mistake_in_what_was_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, status: int
) -> None:
    def fail(arguments: list[str]) -> int:
        if wrapped:
            raise RunFolderError("the folder cannot be created") from OSError(number, "why", "/x")
        raise OSError(number, "why", "/x")

    monkeypatch.setattr("cluster.cli.recipes.recipes", fail)
    for wrapped in (False, True):  # noqa: B007 - `fail` reads it
        assert main.run(["recipes"]) == status
    assert capsys.readouterr().err == "nascluster: /x: why\nnascluster: the folder cannot be created\n"


def test_the_command_that_best_prints_names_the_storage_path(tmp_path: Path) -> None:
    place = ("--storage-path", str(tmp_path))
    assert command("launch", "synthetic", "--local", "--max-children", "2", "--name", "h", *place).returncode == 0
    assert f"nascluster best h --storage-path {tmp_path} --json > best.json" in command("best", "h", *place).stdout


@pytest.mark.parametrize(
    ("output", "said"), [(">/dev/full", "has finished, but that cannot be printed"), ("| true", "")]
)
def test_a_search_goes_on_where_nothing_can_be_printed(output: str, said: str, tmp_path: Path) -> None:
    place = ("--storage-path", str(tmp_path))
    words = ("launch", "synthetic", "--local", "--max-children", "3", "--name", "r", *place)
    shell = f'"$@" {output}' if output.startswith("|") else f'exec "$@" {output}'
    command_line = ["sh", "-c", shell, "sh", sys.executable, "-m", "cluster", *words]
    launched = subprocess.run(command_line, capture_output=True, text=True, check=False)
    assert said in launched.stderr
    assert "Traceback" not in launched.stderr
    if said:
        assert launched.returncode == main.FULL_DISK
    assert command("status", "r", *place).stdout.startswith("r: finished")


def test_a_launch_names_the_url_that_it_cannot_use() -> None:
    url = "http://127.0.0.1:9/x"
    refused = command("launch", "synthetic", "--local", "--max-children", "3", "--name", "r", "--storage-path", url)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"nascluster: {url}/r cannot be used: ")
    assert refused.stderr.count("\n") == 1


def test_a_configuration_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    place = ("--storage-path", str(tmp_path))
    assert command("launch", "synthetic", "--local", "--max-children", "3", "--name", "r", *place).returncode == 0
    config = tmp_path / "r" / "config.json"
    config.write_bytes(b"\xef\xbb\xbf" + config.read_bytes())
    assert command("status", "r", *place).stdout.startswith("r: finished")
    assert "this version" not in command("best", "r", *place).stdout
