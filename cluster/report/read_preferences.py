"""Reading what a search came to prefer: the options that it sampled, and the values that it learnt of them."""

import random
from collections.abc import Iterator

from child_trainer import own_files
from cluster.config.run_config import KnownConfig
from cluster.formatting import first_line
from cluster.storage.ledger.queries import report as queries
from cluster.storage.ledger.queries.run import num_children
from cluster.storage.ledger.reader import LedgerConnection
from controller.decisions import InvalidTokens
from controller.preferences import Preference, Sample, num_windows, preferences
from controller.searcher import OptionValues, View, option_values_of

MAX_SAMPLES = 100_000
"""Maximum number of children whose tokens are read; of more, only every second, third, ... child's."""

MAX_LEARNT = 10_000
"""Maximum number of ended children from which values are learnt again for a report."""


def read_preferences(db: LedgerConnection, known: KnownConfig) -> tuple[Preference, ...]:
    """Read the shares of the options at each decision, over the search."""
    children = num_children(db)
    windows, stride = num_windows(children), -(-children // MAX_SAMPLES) or 1

    def samples() -> Iterator[Sample]:
        for place, tokens in enumerate(queries.all_tokens(db)):
            if place % stride == 0:
                yield place * windows // children, queries.tokens_of(tokens)

    try:
        return preferences(samples(), known.config.search_space, windows)
    except InvalidTokens:  # the space that sampled them is one that this version does not know
        if not known.unknown:
            raise
        return ()


def read_option_values(db: LedgerConnection, known: KnownConfig) -> tuple[tuple[OptionValues, ...], str]:
    """Read the values that the searcher learnt of the options along its best sample, from the ended children.

    Returns:
        The values, none if the searcher learns none; and why they are not known though it does, or an empty text.
    """
    config = known.config
    if known.unknown or not config.searcher_entry.has_values:
        return (), ""
    if (children := num_children(db)) > MAX_LEARNT:
        return (
            (),
            f"they are learnt again from the ledger, for at most {MAX_LEARNT:,} children, and this has {children:,}",
        )
    history = queries.ended_records(db)
    if not history:
        return (), ""
    view = View(
        parameters={},
        completed=len(history),
        history=lambda: history,
        pending=tuple,
        rng=random.Random(config.seed),
    )
    try:
        searcher = config.searcher_entry.build(config.search_space, config.searcher_options, config.max_children)
        return option_values_of(searcher, view), ""
    except Exception as error:
        if not own_files.is_own(config.searcher):
            raise
        return (), f"`option_values` of {config.searcher} failed: {type(error).__name__}: {first_line(str(error))}"
