import pytest

from child_trainer.outcome import Cause
from cluster.pool.failure_policy import (
    DEFAULTS,
    LOST_ALONE,
    MOST_LOST,
    MOST_PREEMPTIONS,
    Past,
    Reaction,
    Reactions,
    parse_reactions,
    past_of,
)
from cluster.search.records import Attempt, Verdict


def test_what_is_not_named_stays_as_it_is() -> None:
    assert parse_reactions("") == DEFAULTS
    found = parse_reactions("out_of_memory=reward:0, preempted=retry,diverged=drop")
    assert found == {**DEFAULTS, Cause.DIVERGED: Reaction(reward=None)}


@pytest.mark.parametrize(
    ("text", "reaction"),
    [
        ("crashed=retry", Reaction(retry=True)),
        ("crashed=reward:-1.5", Reaction(reward=-1.5)),
        ("crashed=drop", Reaction(reward=None)),
        ("crashed=retry+drop", Reaction(retry=True, reward=None)),
        ("crashed=smaller-batch", Reaction(retry=True, smaller_batch=True)),
        ("crashed=smaller-batch+reward:0.25", Reaction(retry=True, smaller_batch=True, reward=0.25)),
        ("crashed=reward:1+retry", Reaction(retry=True, reward=1.0)),
        (" crashed = retry + drop , timeout = retry ,", Reaction(retry=True, reward=None)),
    ],
)
def test_actions(text: str, reaction: Reaction) -> None:
    assert parse_reactions(text)[Cause.CRASHED] == reaction


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("crash=retry", "a cause of out_of_memory, timeout, .*, got 'crash=retry'"),
        ("crashed", "must be CAUSE=ACTION"),
        (",", "must be CAUSE=ACTION .*, got ''"),
        ("crashed=retry,,timeout=retry", "must be CAUSE=ACTION .*, got ''"),
        ("crashed=", "the actions of `on_failure` are retry"),
        ("crashed=explode", "retry, smaller-batch, reward:NUMBER and drop, got 'crashed=explode'"),
        ("crashed=reward:much", "got 'crashed=reward:much'"),
        ("crashed=reward:nan", "got 'crashed=reward:nan'"),
        ("crashed=retry+retry", "one way to train again"),
        ("crashed=drop+reward:0", "one to give up"),
        ("crashed=retry,crashed=drop", "got crashed twice"),
    ],
)
def test_what_cannot_be_understood_is_named(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_reactions(text)


def test_failures_are_counted_and_preemptions_apart() -> None:
    policy = Reactions(max_attempts=3)
    assert policy.again(Cause.CRASHED, Past())
    assert policy.again(Cause.CRASHED, Past((Cause.CRASHED, *[Cause.PREEMPTED] * 50)))
    assert not policy.again(Cause.CRASHED, Past((Cause.CRASHED, Cause.CRASHED)))
    assert policy.again(Cause.PREEMPTED, Past((Cause.CRASHED,) * 5))
    assert not policy.again(Cause.PREEMPTED, Past((Cause.PREEMPTED,) * MOST_PREEMPTIONS))
    assert not policy.again(Cause.DIVERGED, Past())


def test_only_the_causes_that_ask_for_it_halve_the_batch() -> None:
    policy = Reactions(max_attempts=9, by_cause=parse_reactions("out_of_memory=smaller-batch"))
    assert policy.batch_size(48, Past((Cause.CRASHED,))) == 48
    assert policy.batch_size(48, Past((Cause.OUT_OF_MEMORY, Cause.CRASHED, Cause.OUT_OF_MEMORY))) == 12
    assert policy.batch_size(2, Past((Cause.OUT_OF_MEMORY,) * 5)) == 1


LOST, VOID, RUNNING = (Verdict.LOST, None), (Verdict.NOT_STARTED, None), (None, None)
CRASHED, LATE = (Verdict.RETRY, Cause.CRASHED), (Verdict.LATE, Cause.CRASHED)


@pytest.mark.parametrize(
    ("history", "causes", "lost"),
    [
        ([], (), 0),
        ([LOST, LOST, RUNNING], (), 2),
        ([LOST, CRASHED, LOST], (Cause.CRASHED,), 1),
        ([LOST, CRASHED], (Cause.CRASHED,), 0),
        ([LOST, LATE], (Cause.CRASHED,), 0),
        ([LOST, VOID, LOST, VOID], (), 2),  # what never began tells nothing
        ([VOID] * 20, (), 0),
    ],
)
def test_losses_are_counted_since_the_last_end_that_is_known(
    history: list[tuple[Verdict | None, Cause | None]], causes: tuple[Cause, ...], lost: int
) -> None:
    attempts = [
        Attempt(
            child_id=1,
            seed=7,
            key=str(number),
            slot=0,
            worker="w",
            batch_size=None,
            started_at=float(number),
            verdict=verdict,
            cause=cause,
        )
        for number, (verdict, cause) in enumerate(history)
    ]
    assert past_of(attempts) == Past(causes, lost)


def test_a_child_around_which_the_run_dies_is_suspected_and_then_given_up() -> None:
    policy = Reactions(max_attempts=1)
    assert [Past(lost=lost).suspected for lost in (0, LOST_ALONE - 1, LOST_ALONE, MOST_LOST)] == [0, 0, 1, 1]
    assert policy.hopeless(Past(lost=MOST_LOST - 1)) is None
    reason = policy.hopeless(Past(lost=MOST_LOST))
    assert reason == "the run died around 10 attempts at the child in a row"
