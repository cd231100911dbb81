"""The outer loop of docs/evaluate.md runs as it is printed."""

import re
from pathlib import Path
from typing import Any

import pytest

from nascluster import Run
from tests.deploy.files import ROOT


def test_the_outer_loop_gets_scores_failures_and_known_duplicates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    page = (ROOT / "docs" / "evaluate.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    names: dict[str, Any] = {}
    exec(code, names)
    history = names["history"]
    states = [(told["status"], told["known"]) for told in history]
    assert {("finished", False), ("finished", True), ("invalid", False)} == set(states)
    failures = {told["failure"] for told in history if told["status"] == "invalid"}
    assert all("must be a whole number, got 'three'" in text for text in failures)
    assert len(capfd.readouterr().out.splitlines()) == len(history)
    children = Run("outer-loop").children
    assert len(children) == states.count(("finished", False))
    assert len({child["architecture"] for child in children}) == len(children)
