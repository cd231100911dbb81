"""Warns of a search that is too short for its searcher."""

import re

from cluster.config.run_config import RunConfig
from cluster.formatting import counted


def caution_of(config: RunConfig) -> str | None:
    """Return a warning if the searcher's options do not suit so few children; `None` if they do, or if it has none."""
    options = config.searcher_options
    caution = options.caution(config.max_children) if hasattr(options, "caution") else None
    if caution is None:
        return None
    # The options stand as `compare` takes them, such as `population=10,tournament=5`.
    flags = " ".join(re.sub(r"([a-z-]+)=(\d+),?", r"--\1 \2 ", caution).split())
    return f"Note: {flags}. This search has {counted(config.max_children, 'child')}"
