"""Notes at the start of a search: whether it is too short for its searcher, and what data of the user's own is like."""

import re
from contextlib import suppress

from cluster.config.run_config import RunConfig
from cluster.formatting import counted
from cluster.storage.dataset_cache import data_folder


def caution_of(config: RunConfig) -> str | None:
    """Return a warning if the searcher's options do not suit so few children; `None` if they do, or if it has none."""
    options = config.searcher_options
    caution = options.caution(config.max_children) if hasattr(options, "caution") else None
    if caution is None:
        return None
    # The options stand as `compare` takes them, such as `population=10,tournament=5`.
    flags = " ".join(re.sub(r"([a-z-]+)=(\d+),?", r"--\1 \2 ", caution).split())
    return f"Note: {flags}. This search has {counted(config.max_children, 'child')}"


def data_note(config: RunConfig) -> str | None:
    """Return what the task's module tells of the data, and of the memory that it takes; `None` if it tells nothing."""
    describe = getattr(config.task.entry.functions(), "describe", None) if config.task.entry.completed else None
    if describe is None:
        return None
    with suppress(ValueError):  # this machine may train nothing, and have no data
        return describe(data_folder(config.task.data), config.task.options)
    return None
