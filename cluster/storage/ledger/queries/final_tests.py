"""What finished networks reached on the test data: one record each, which nothing replaces."""

import json
import sqlite3
from dataclasses import asdict, dataclass

TEST_KEY = "test of child "
"""The beginning of the keys in the table `run`; the child's id follows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalTest:
    """One look at the test data.

    Attributes:
        child_id: the child whose network looked.
        metric: what it reached; `None` if its outputs are not finite.
        examples: how many images or words the data has.
        weights: the checksum of the network's weights.
        tested_at: the Unix time.
        fault: why there is no metric, if there is none.
    """

    child_id: int
    metric: float | None
    examples: int
    weights: str
    tested_at: float
    fault: str | None = None


def put_test(db: sqlite3.Connection, test: FinalTest) -> bool:
    """Record a test unless the child has one; return whether it was recorded."""
    data = asdict(test)
    del data["child_id"]
    insert = "INSERT INTO run (key, value) VALUES (?, ?) ON CONFLICT (key) DO NOTHING"
    return db.execute(insert, (f"{TEST_KEY}{test.child_id}", json.dumps(data))).rowcount == 1


def final_tests(db: sqlite3.Connection) -> dict[int, FinalTest]:
    """Return the tests by the child's id."""
    rows = db.execute("SELECT key, value FROM run WHERE key LIKE ?", (f"{TEST_KEY}%",))
    found = {int(key.removeprefix(TEST_KEY)): json.loads(value) for key, value in rows}
    return {child: FinalTest(child_id=child, **data) for child, data in sorted(found.items())}


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedNetwork:
    """A child of a run that trains networks for good.

    Attributes:
        child_id, tokens, architecture_id: of the child.
        weights: the checksum of its weights; `None` if it has failed or was not trained yet.
        cause: why it has failed, if it has.
        metric: on the validation data; `None` if there is none.
    """

    child_id: int
    tokens: tuple[int, ...]
    architecture_id: str
    weights: str | None
    cause: str | None
    metric: float | None


def finished_networks(db: sqlite3.Connection) -> list[FinishedNetwork]:
    """Return all children in the order of their ids."""
    query = """
    SELECT id, tokens, architecture_id, json_extract(outcome, '$.weights'), cause, metric FROM children ORDER BY id
    """
    return [
        FinishedNetwork(
            child_id=child,
            tokens=tuple(json.loads(tokens)),
            architecture_id=network,
            weights=weights,
            cause=cause,
            metric=metric,
        )
        for child, tokens, network, weights, cause, metric in db.execute(query)
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkTests:
    """A network with the tests of its trainings.

    Attributes:
        architecture_id: its canonical id.
        tests: at least one, in the order of the children.
    """

    architecture_id: str
    tests: tuple[FinalTest, ...]


def network_tests(db: sqlite3.Connection) -> list[NetworkTests]:
    """Return the networks that were tested, in the order of their first trainings; none of a run without tests."""
    tests, found = final_tests(db), dict[str, list[FinalTest]]()
    if tests:
        for network in finished_networks(db):
            if network.child_id in tests:
                found.setdefault(network.architecture_id, []).append(tests[network.child_id])
    return [NetworkTests(architecture_id=name, tests=tuple(each)) for name, each in found.items()]
