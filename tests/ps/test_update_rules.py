"""Which modules an update rule imports. For its arithmetic see `test_bit_identity.py`."""

import subprocess
import sys

import pytest

STEP = """
import sys
import torch
from ps.shard.shard import Shard
from ps.shard.messages import ShardPush
from ps.store import Group, Layout

layout = Layout(run="run", shards=1, groups=(Group(name="g", shapes={{"a": (3,)}}, optimizer={!r}, options={!r}),))
shard = Shard(layout, 0)
shard.initialize({{"a": torch.zeros(3)}})
shard.push(ShardPush(client="k", sequence=1, gradients={{"a": torch.ones(3)}}, seen_version=0, seen_applied=0))
assert shard.pull().values["a"].abs().min() > 0
print(sorted(name for name in sys.modules if name in ("sympy", "torch._dynamo")))
"""


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [("adam", {"lr": 0.1}), ("sgd", {"lr": 0.1, "momentum": 0.5}), ("average", {"decay": 0.5})],
)
def test_a_shard_that_steps_does_not_import_pytorchs_compiler(optimizer: str, options: dict[str, float]) -> None:
    """Importing it takes as long as PyTorch, and clients wait for a shard that restarts."""
    result = subprocess.run(
        [sys.executable, "-c", STEP.format(optimizer, options)], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
