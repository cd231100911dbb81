import pytest

from child_trainer.outcome import Cause
from cluster.pool.reactions import DEFAULTS, MOST_PREEMPTIONS, Past, Reaction, Reactions, parse_reactions


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
    ],
)
def test_actions(text: str, reaction: Reaction) -> None:
    assert parse_reactions(text)[Cause.CRASHED] == reaction


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("crash=retry", "a cause of out_of_memory, timeout, .*, got 'crash=retry'"),
        ("crashed", "must be CAUSE=ACTION"),
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
