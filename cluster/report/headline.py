"""The head of the page: the run's name and state, and its figures."""

from datetime import UTC, datetime
from statistics import mean

from cluster.formatting import counted, duration, metric_name, noun, number
from cluster.monitoring.live_view import failures
from cluster.monitoring.status import FIRST
from cluster.monitoring.summary import gain_over_first
from cluster.report.facts import Facts
from cluster.report.html.markup import Markup, joined, tag
from cluster.storage.ledger.queries.continued import continued_text


def headline(facts: Facts) -> Markup:
    """Return the head of the page: the run's name and state, and its figures."""
    status = facts.status
    when = datetime.fromtimestamp(facts.now, UTC).strftime("%Y-%m-%d %H:%M UTC")
    badge = "failed" if status.state == "finished" and not status.finished else status.state
    continues = f"it goes on from {continued_text(status.continues)}" if status.continues else ""
    texts = (status.message, _sentence(continues), _sentence(status.unknown_text))
    messages = [tag("p", text) for text in texts if text]
    return joined(
        [
            tag("h1", status.name, tag("span", status.state, class_=f"badge {badge}")),
            tag(
                "p",
                f"{_searched(facts)} As of {when}; the run's files are in ",
                tag("code", facts.place),
                ".",
                class_="soft",
            ),
            *messages,
            tag("div", *(_tile(*tile) for tile in _tiles(facts)), class_="tiles"),
        ]
    )


def _searched(facts: Facts) -> str:
    names, seed = facts.known.names, facts.config.seed
    return f"A search by {names['searcher']} in the {names['space']} space, on {names['task']}, seed {seed}."


def _sentence(clause: str) -> str:
    return f"{clause[0].upper()}{clause[1:]}." if clause else ""


def _tile(value: str, what: str) -> Markup:
    return tag("div", tag("b", value), tag("span", what), class_="tile")


def _tiles(facts: Facts) -> list[tuple[str, str]]:
    status, work = facts.status, facts.work
    left = f"; {status.time_left}" if status.time_left else ""
    best, gain = status.best, gain_over_first(status)
    gain = gain and f", {gain}"
    steps = status.supernet.steps if status.supernet else 0
    updated = status.updates or not steps  # shared weights may be all that a search learns
    tiles = [
        (
            f"{status.ended:,} of {status.max_children:,}",
            f"{noun(status.max_children, 'child')} ended; {status.running:,} in training",
        ),
        (
            number(best and best.metric),
            f"best {metric_name(facts.config.measure)}" + (f" (child {best.child_id}{gain})" if best else ""),
        ),
        (number(status.recent_reward), f"mean reward of the last {FIRST}{_of_all(facts)}"),
        (duration(status.seconds), f"running, without pauses{left}"),
        (
            duration(work.seconds),
            f"of worker time in {counted(work.attempts, 'attempt')}{_useful(facts)}",
        ),
        (f"{status.failed:,}", f"{noun(status.failed, 'child')} {failures(status).partition(' ')[2]}"),
        *([(f"{status.updates:,}", noun(status.updates, "update") + _stale(facts))] if updated else []),
        *([(f"{steps:,}", f"{noun(steps, 'step')} of the shared weights")] if steps else []),
        (
            f"{facts.distinct:,}",
            f"{noun(facts.distinct, 'different architecture')} among {facts.with_architecture:,} sampled",
        ),
        (_percent(facts.utilisation), f"of the time of {counted(status.workers, 'worker')} was training"),
    ]
    if reached := [test.metric for test in status.tests if test.metric is not None]:
        among = "" if len(reached) == 1 else f", mean of {len(reached)} trainings"
        tiles.append((number(mean(reached)), f"test {status.measure}{among}"))
    tiles += [(one.text, f"used of what the whole search may ({one.flag})") for one in status.ceiling_list]
    if facts.gpu_seconds:
        tiles.append((f"{facts.gpu_seconds / 3600:,.2f}", "GPU-hours, failed attempts included"))
    return tiles


def _of_all(facts: Facts) -> str:
    mean = facts.status.mean_reward
    return "" if mean is None else f"; {number(mean)} of all"


def _useful(facts: Facts) -> str:
    work = facts.work
    return f"; {_percent(work.useful / work.seconds)} gave a metric" if work.seconds else ""


def _stale(facts: Facts) -> str:
    staleness = facts.status.staleness
    return f"; staleness {staleness[0]:.1f} on average, {staleness[1]} at most" if staleness else ""


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
