"""How long the tests take: `make test` has half an hour; `make chaos` runs the long ones at full length."""

import os

import pytest

FACTOR = int(os.environ.get("NASCLUSTER_CHAOS", "1"))
"""How many times longer than in `make test` the random runs are."""

LONG = pytest.mark.skipif(FACTOR == 1, reason="takes long: `make chaos` runs it")
"""For tests of which a shorter one of the same kind is in `make test`."""
