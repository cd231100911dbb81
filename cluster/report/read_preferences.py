"""Reading what a search came to prefer: the options that it sampled, and the values that it learnt of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from child_trainer import own_files
from child_trainer.own_calls import failure_text
from cluster.config.known_config import KnownConfig
from cluster.config.run_config import RunConfig
from cluster.formatting import first_line
from cluster.monitoring.recorded_view import recorded_view
from cluster.report.facts import Derived
from cluster.storage.ledger.queries import report as queries
from cluster.storage.ledger.queries.run import num_children
from cluster.storage.ledger.reader import LedgerConnection
from controller.decisions import InvalidTokens
from controller.preferences import Preference, Sample, num_windows, preferences
from controller.searcher import OptionValues, ValuesAt, option_values_of, value_history_of
from controller.searchers.weight_sharing.option_names import NONE
from controller.space import HasSupernet

MAX_SAMPLES = 100_000
"""Maximum number of children whose tokens are read; of more, only every second, third, ... child's."""

MAX_LEARNT = 10_000
"""Maximum number of ended children from which values are learnt again for a report."""


def read_preferences(db: LedgerConnection, known: KnownConfig) -> tuple[Preference, ...]:
    """Read the shares of the options at each decision, over the search."""
    children = queries.num_sampled(db)
    windows, stride = num_windows(children), -(-children // MAX_SAMPLES) or 1

    def samples() -> Iterator[Sample]:
        for number, tokens in enumerate(queries.sampled_tokens(db, stride)):
            yield number * stride * windows // children, tokens

    try:
        return preferences(samples(), known.config.search_space, windows)
    except InvalidTokens:  # the space that sampled them is one that this version does not know
        if not known.unknown:
            raise
        return ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Learnt:
    """What a searcher has learnt of the options, from the ended children.

    Attributes:
        values: those along its best sample; none if the searcher learns none.
        derived: the architectures that it has derived from its strengths, the first first; none if it has none.
        missing: why they are not known though it learns values; or empty.
    """

    values: tuple[OptionValues, ...] = ()
    derived: tuple[Derived, ...] = ()
    missing: str = ""


def read_learnt(db: LedgerConnection, known: KnownConfig) -> Learnt:
    """Read what the searcher has learnt of the options; nothing of a searcher that learns no values."""
    config = known.config
    if known.unknown or not config.searcher_entry.has_values:
        return Learnt()
    if (children := num_children(db)) > MAX_LEARNT:
        why = f"they are learnt again from the ledger, for at most {MAX_LEARNT:,} children, and this has {children:,}"
        return Learnt(missing=why)
    view = recorded_view(db, config.seed)
    if not view.completed:
        return Learnt()
    try:
        searcher = config.make_searcher()
        return Learnt(
            values=option_values_of(searcher, view), derived=_derived(value_history_of(searcher, view), config)
        )
    except Exception as error:
        if isinstance(error, own_files.OwnFileError):
            return Learnt(missing=first_line(str(error)))
        if not own_files.is_own(config.searcher):
            raise
        return Learnt(missing=failure_text(config.searcher, error, "option_values"))


def _derived(history: Sequence[ValuesAt], config: RunConfig) -> tuple[Derived, ...]:
    space = config.search_space
    if not history or not isinstance(space, HasSupernet):
        return ()
    ends = (history[0].child.id, history[-1].child.id)
    return tuple(
        Derived(
            child_id=at.child.id,
            tokens=at.child.tokens,
            metric=at.child.outcome and at.child.outcome.metric,
            values=at.values,
            connections=_connections(at, space),
            architecture=space.decode(at.child.tokens) if at.child.id in ends else None,
        )
        for at in history
    )


def _connections(at: ValuesAt, space: HasSupernet) -> dict[str, str]:
    gates, options = space.gates(at.child.tokens), {row.kind: row.options for row in at.values}
    return {
        gate: " + ".join(names)
        for gate, vector in gates.items()
        if (names := [name for name, on in zip(options[gate], vector, strict=True) if on and name != NONE])
    }
