"""The ablation of the paper's network of 15 layers, with a twelfth of its filters and for one epoch."""

import json
from pathlib import Path

from benchmarks.skip_connections import VARIANTS, measured, network, num_inputs, row


def test_the_variants_differ_in_their_inputs_alone() -> None:
    assert [num_inputs(skips) for skips in VARIANTS.values()] == [65, 105, 14]
    convolutions = [[node.label() for node in network(skips).nodes if node.op == "conv"] for skips in VARIANTS.values()]
    assert len(convolutions[0]) == 15
    assert convolutions[0] == convolutions[1] == convolutions[2]
    assert {node.attribute("filters") for node in network(None).nodes if node.op == "conv"} == {9, 12}


def test_a_training_is_not_done_again(tmp_path: Path) -> None:
    result = measured("a chain", 1, tmp_path, epochs=1, divisor=12)
    assert 0 < result["errors"] <= 100
    stored = tmp_path / "a-chain-1.json"
    stored.write_text(json.dumps(result | {"errors": 17.0}))
    assert measured("a chain", 1, tmp_path, epochs=1, divisor=12) == result | {"errors": 17.0}


def test_a_row_compares_with_the_published_network_seed_by_seed() -> None:
    ours = [{"errors": errors, "parameters": 1000, "seconds": 5.0} for errors in (3.0, 5.0, 4.0)]
    theirs = [{"errors": errors, "parameters": 2000, "seconds": 6.0} for errors in (1.0, 1.0, 2.0)]
    assert row("a chain", ours, theirs) == (
        "| a chain | 14 | 1,000 | 5 | 4.00 (3.00 to 5.00) | 2.00 (2.00 to 4.00) | 7.97 |"
    )
