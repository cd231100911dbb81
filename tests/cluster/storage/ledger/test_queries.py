"""SQL against the ledger stands in one room."""

import re
from pathlib import Path

import cluster

ROOT = Path(cluster.__path__[0])
ROOMS = (ROOT / "storage" / "ledger", ROOT / "storage" / "object_store" / "ledger_segments.py")


def test_no_sql_stands_outside_of_the_ledgers_room() -> None:
    sql = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE) |\.execute(many|script)?\(")
    outside = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted(ROOT.rglob("*.py"))
        if not any(path.is_relative_to(room) for room in ROOMS)
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if sql.search(line)
    ]
    assert outside == []
