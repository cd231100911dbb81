import os
import subprocess
import sys
from pathlib import Path

import pytest

from ps.errors import ERRORS, StoreError
from ps.rpc import servicer
from ps.wire import generate


def test_the_generated_code_is_current(tmp_path: Path):
    root = generate.WIRE.parents[1]
    command = [sys.executable, "-m", "ps.wire.generate", "--check"]
    environment = os.environ | {"PYTHONPATH": str(root)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert result.returncode == 0, result


def test_stale_code_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    fresh = generate.generate()
    monkeypatch.setattr(generate, "generate", lambda: fresh | {"ps_pb2.pyi": "other"})
    monkeypatch.setattr(sys, "argv", ["generate", "--check"])
    assert generate.main() == 1
    assert capsys.readouterr().out == (
        "ps/wire/ps.proto has changed since ps_pb2.pyi: run `python -m ps.wire.generate`\n"
    )


def test_every_error_of_the_family_has_a_name_and_a_status():
    assert set(ERRORS.values()) == set(StoreError.__subclasses__())
    # A server reads snapshots only when it starts, so it never sends this error.
    assert set(servicer.CODES) == set(ERRORS.values()) - {ERRORS["CorruptSnapshot"]}
