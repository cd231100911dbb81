"""JSON for readers of every language."""

import json
import math
from pathlib import Path

import pytest

from child_trainer import portable_json
from child_trainer.command_line import REFERENCE_CELLS, parse, read_architecture


def test_numbers_that_a_double_cannot_hold_are_null_or_text() -> None:
    data = {"loss": math.inf, "rows": [math.nan, (-math.inf, 0.5)], "seed": 2**62 + 1, "kept": -(2**53), "yes": True}
    expected = {"loss": None, "rows": [None, [None, 0.5]], "seed": str(2**62 + 1), "kept": -(2**53), "yes": True}
    assert json.loads(portable_json.dumps(data)) == expected


def test_an_architecture_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    architecture = REFERENCE_CELLS[next(iter(REFERENCE_CELLS))]()
    file = tmp_path / "best.json"
    file.write_text(portable_json.dumps({"seed": 2**62, "architecture": architecture.to_json()}), encoding="utf-8-sig")
    assert read_architecture(str(file)) == architecture


def test_the_data_of_a_child_trained_by_hand_may_be_in_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert parse([next(iter(REFERENCE_CELLS)), "--data=~/images"]).data == Path("/somewhere/images")
