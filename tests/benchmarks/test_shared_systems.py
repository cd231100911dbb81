"""The table of searches with shared weights beside random search."""

import math

from benchmarks.shared_systems import text_row


def result(ours: float, random: float) -> dict[str, float]:
    return {"ours": ours, "random": random, "shared": 1.0, "seconds": 10.0, "tried": 5}


def test_a_winner_that_diverges_is_counted_and_ends_no_table() -> None:
    ended = text_row("S", "r", [result(50.0, 52.0), result(51.0, 53.0)])
    assert ended == "| S | `r` | 10 | 5 | 50.50 ± 0.71 | 52.50 ± 0.71 | +2.00 [+2.00, +2.00] |"
    one = text_row("S", "r", [result(50.0, 52.0), result(math.inf, 53.0)])
    assert one == "| S | `r` | 10 | 5 | 50.00 (1 of 2 diverged) | 52.50 ± 0.71 | - |"
    both = text_row("S", "r", [result(math.inf, math.inf)] * 2)
    assert both == "| S | `r` | 10 | 5 | - (2 of 2 diverged) | - (2 of 2 diverged) | - |"
