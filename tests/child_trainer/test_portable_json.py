"""JSON for readers of every language."""

import json
import math

from child_trainer import portable_json


def test_numbers_that_a_double_cannot_hold_are_null_or_text() -> None:
    data = {"loss": math.inf, "rows": [math.nan, (-math.inf, 0.5)], "seed": 2**62 + 1, "kept": -(2**53), "yes": True}
    expected = {"loss": None, "rows": [None, [None, 0.5]], "seed": str(2**62 + 1), "kept": -(2**53), "yes": True}
    assert json.loads(portable_json.dumps(data)) == expected
