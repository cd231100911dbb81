"""The run whose children are exported."""

import pytest

from cluster.storage.run_folder import RunFolder
from tests.cluster.export.runs import trained_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Made once, as it takes seconds; no test changes what is in it but its exports."""
    return trained_run(tmp_path_factory.mktemp("runs"))
