"""Recorded searches come out the same, and what an earlier version has left is read, shown and gone on with."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cluster.cli.main import run as nascluster
from cluster.config.flags import parse_run
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from tests.golden_searches import searches
from tests.golden_searches.searches import RESUMED, SEARCHES, VERSION_4, record, recorded
from tests.real_data import real

Tables = dict[str, list[dict[str, Any]]]


def _check_recorded(found: Tables, records: Sequence[Tables]) -> None:
    """Fail unless this is one of the records, on a processor of whatever kind; the first one shows what differs."""
    if found not in records:
        for table, rows in records[0].items():
            assert found[table] == rows, table


def data_of(name: str) -> Path | None:
    folder = next((word.partition("/")[2] for word in SEARCHES[name] if word.startswith("{data}")), None)
    return real(folder).parent if folder else None


@pytest.mark.parametrize("name", SEARCHES)
def test_a_recorded_search_comes_out_the_same(name: str, tmp_path: Path) -> None:
    found = record(searches.run(name, tmp_path, data_of(name)))
    _check_recorded(found, recorded(name))


def test_a_search_that_an_earlier_version_began_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    shutil.copytree(VERSION_4 / "digits-stopped", tmp_path / "digits")
    begun = record(tmp_path / "digits")["children"]
    ended = [child for child in begun if child["completion"]]
    assert 0 < len(ended) < 12
    _check_recorded(record(searches.resume("digits", tmp_path)), [*recorded("digits"), *recorded(RESUMED)])


@pytest.mark.parametrize("path", sorted(VERSION_4.glob("*/config.json")), ids=lambda path: path.parent.name)
def test_an_old_configuration_is_what_its_command_line_means_now(path: Path) -> None:
    name = path.parent.name.removesuffix("-stopped")
    recipe, *words = [word.replace("{data}", "/data") for word in SEARCHES[name]]
    words += ["--local", "--name", name, "--storage-path", "/runs"]
    restored, typed = RunConfig.from_json(json.loads(path.read_text())), parse_run(RECIPES[recipe](), words, recipe)
    assert restored.to_json() == typed.to_json()


@pytest.mark.parametrize("name", ["synthetic-stream", "text-rnn"])
def test_a_run_of_an_earlier_version_is_shown(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(VERSION_4 / name, tmp_path / name)
    best = max(recorded(name)[0]["children"], key=lambda child: child["reward"])
    for command in ("status", "best"):
        assert nascluster([command, name, "--json", "--storage-path", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert f'"child_id": {best["id"]}' in shown.out
    page = tmp_path / "page.html"
    assert nascluster(["report", name, "--storage-path", str(tmp_path), "--output", str(page)]) == 0
    assert best["architecture_id"] in page.read_text()
