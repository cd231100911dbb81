"""The option `--processes` of commands that run searches side by side."""

from cluster.config.flags import UsageError
from cluster.placement.cores import usable_cores


def process_count(requested: int | None) -> int:
    """Return how many processes to use; without a request, as many as there are processors for this process.

    Raises:
        UsageError: the number is out of its bounds.
    """
    if requested is None:
        return usable_cores()
    if not 1 <= requested <= 1000:
        raise UsageError(f"`processes` must be 1 to 1000, got {requested}")
    return requested
