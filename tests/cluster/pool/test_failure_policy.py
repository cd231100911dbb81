"""What follows for a child after its attempts: the decisions as tables, and the text that sets the policy."""

from dataclasses import replace

import pytest

from child_trainer.outcome import Cause, Outcome
from cluster.pool.failure_policy import (
    DEFAULTS,
    ISOLATE_AFTER_LOST,
    MAX_LOST_ALONE,
    MAX_PREEMPTIONS,
    AttemptHistory,
    FailureAction,
    FailurePolicy,
    Settled,
    Train,
    attempt_history,
    next_attempt,
    parse_failure_policy,
)
from cluster.search.records import LOCAL_WORKER, Attempt, Verdict
from tests.cluster.pool.simulated import bad, good


def test_causes_that_are_not_named_keep_their_action() -> None:
    assert parse_failure_policy("") == DEFAULTS
    actions = parse_failure_policy("out_of_memory=reward:0, preempted=retry,diverged=drop")
    assert actions == {**DEFAULTS, Cause.DIVERGED: FailureAction(reward=None)}


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("crashed=retry", FailureAction(retry=True)),
        ("crashed=reward:-1.5", FailureAction(reward=-1.5)),
        ("crashed=drop", FailureAction(reward=None)),
        ("crashed=retry+drop", FailureAction(retry=True, reward=None)),
        ("crashed=smaller-batch", FailureAction(retry=True, smaller_batch=True)),
        ("crashed=smaller-batch+reward:0.25", FailureAction(retry=True, smaller_batch=True, reward=0.25)),
        ("crashed=reward:1+retry", FailureAction(retry=True, reward=1.0)),
        (" crashed = retry + drop , timeout = retry ,", FailureAction(retry=True, reward=None)),
    ],
)
def test_actions(text: str, action: FailureAction) -> None:
    assert parse_failure_policy(text)[Cause.CRASHED] == action


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
        ("crashed=retry+retry", "takes one of retry and smaller-batch"),
        ("crashed=drop+reward:0", "one of reward:NUMBER and drop"),
        ("crashed=retry,crashed=drop", "got crashed twice"),
    ],
)
def test_a_text_that_is_no_policy_is_an_error_that_quotes_it(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_failure_policy(text)


POLICY = FailurePolicy(max_attempts=3)
NEW = AttemptHistory()


def after(*causes: Cause) -> AttemptHistory:
    return AttemptHistory(retried=causes)


def step(history: AttemptHistory, ended: Outcome | None = None, policy: FailurePolicy = POLICY) -> Train | Settled:
    return next_attempt(policy, history, ended, batch_size=48, seed=7)


CRASH, PREEMPTION, DIVERGENCE = bad(7, Cause.CRASHED), bad(7, Cause.PREEMPTED), bad(7, Cause.DIVERGED)
TRAIN = Train(None)


@pytest.mark.parametrize(
    ("history", "ended", "expected"),
    [
        # No attempt has just ended: the child is new, the run was resumed, or an attempt was never started.
        (NEW, None, TRAIN),
        (after(Cause.CRASHED, Cause.CRASHED), None, TRAIN),
        (replace(NEW, outcome=good(7)), None, Settled(good(7))),
        (replace(NEW, outcome=CRASH), None, Settled(CRASH)),
        # The attempt succeeded.
        (NEW, good(7), Settled(good(7))),
        (after(*[Cause.CRASHED] * 9), good(7), Settled(good(7))),
        # It failed for a cause that is retried, while attempts are left.
        (NEW, CRASH, TRAIN),
        (after(Cause.CRASHED), CRASH, TRAIN),
        (after(Cause.CRASHED, Cause.CRASHED), CRASH, Settled(CRASH)),
        (replace(NEW, lost=9, lost_alone=2), CRASH, TRAIN),
        # Preemptions do not count as failures, and are counted apart.
        (after(Cause.CRASHED, *[Cause.PREEMPTED] * 50), CRASH, TRAIN),
        (after(*[Cause.CRASHED] * 5), PREEMPTION, TRAIN),
        (after(*[Cause.PREEMPTED] * (MAX_PREEMPTIONS - 1)), PREEMPTION, TRAIN),
        (after(*[Cause.PREEMPTED] * MAX_PREEMPTIONS), PREEMPTION, Settled(PREEMPTION)),
        # It failed for a cause that is not retried.
        (NEW, DIVERGENCE, Settled(DIVERGENCE)),
    ],
)
def test_next_attempt(history: AttemptHistory, ended: Outcome | None, expected: Train | Settled) -> None:
    assert step(history, ended) == expected


def test_a_preemption_that_the_run_requested_is_always_retried() -> None:
    policy = FailurePolicy(max_attempts=1, by_cause=parse_failure_policy("preempted=drop"))

    def requested(ended: Outcome) -> Train | Settled:
        history = after(*[Cause.PREEMPTED] * MAX_PREEMPTIONS)
        return next_attempt(policy, history, ended, preempt_requested=True, batch_size=48, seed=7)

    assert requested(PREEMPTION) == TRAIN
    assert requested(CRASH) == Settled(CRASH)  # the child failed before the request reached it
    assert step(NEW, PREEMPTION, policy) == Settled(PREEMPTION)


def test_only_the_causes_that_ask_for_it_halve_the_batch() -> None:
    policy = FailurePolicy(max_attempts=9, by_cause=parse_failure_policy("out_of_memory=smaller-batch"))
    out_of_memory = Cause.OUT_OF_MEMORY
    assert step(after(Cause.CRASHED), policy=policy) == TRAIN
    assert step(NEW, bad(7, out_of_memory), policy) == Train(24)
    assert step(after(out_of_memory, Cause.CRASHED, out_of_memory), policy=policy) == Train(12)
    assert step(after(*[out_of_memory] * 8), policy=policy) == Train(1)


LOST, LOST_LOCALLY = ("worker-0@here:7", Verdict.LOST, None), (LOCAL_WORKER, Verdict.LOST, None)
VOID, RUNNING = ("worker-0@here:7", Verdict.NOT_STARTED, None), ("worker-0@here:7", None, None)
CRASHED, LATE = ("worker-0@here:7", Verdict.RETRY, Cause.CRASHED), ("worker-0@here:7", Verdict.LATE, Cause.CRASHED)
PREEMPTED = (LOCAL_WORKER, Verdict.RETRY, Cause.PREEMPTED)


def attempts(*rows: tuple[str, Verdict | None, Cause | None]) -> list[Attempt]:
    return [
        Attempt(
            child_id=1,
            seed=7,
            key=str(number),
            slot=0,
            worker=worker,
            batch_size=None,
            started_at=float(number),
            verdict=verdict,
            cause=cause,
        )
        for number, (worker, verdict, cause) in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("rows", "retried", "lost", "alone"),
    [
        ([], (), 0, 0),
        ([LOST, LOST, RUNNING], (), 2, 0),
        ([LOST, CRASHED, LOST], (Cause.CRASHED,), 1, 0),
        ([LOST, CRASHED], (Cause.CRASHED,), 0, 0),
        ([LOST, LATE], (Cause.CRASHED,), 0, 0),
        ([LOST, VOID, LOST, VOID], (), 2, 0),  # an attempt that never started says nothing
        ([VOID] * 20, (), 0, 0),
        ([LOST] * (ISOLATE_AFTER_LOST + 1), (), ISOLATE_AFTER_LOST + 1, 1),
        ([LOST_LOCALLY] * 2, (), 2, 2),
        ([LOST_LOCALLY, PREEMPTED, LOST_LOCALLY], (Cause.PREEMPTED,), 1, 1),
    ],
)
def test_lost_attempts_are_counted_since_the_last_known_end(
    rows: list[tuple[str, Verdict | None, Cause | None]], retried: tuple[Cause, ...], lost: int, alone: int
) -> None:
    assert attempt_history(attempts(*rows)) == AttemptHistory(retried=retried, lost=lost, lost_alone=alone)


def test_the_history_has_the_outcome_on_record() -> None:
    (attempt,) = attempts(("worker-0@here:7", Verdict.OUTCOME, Cause.CRASHED))
    assert attempt_history([replace(attempt, outcome=CRASH)]) == AttemptHistory(outcome=CRASH)


@pytest.mark.parametrize(
    ("row", "isolated_after", "failed_after"),
    [(LOST, ISOLATE_AFTER_LOST, ISOLATE_AFTER_LOST + MAX_LOST_ALONE), (LOST_LOCALLY, None, MAX_LOST_ALONE)],
    ids=["among others", "in the driver's process"],
)
def test_a_child_fails_after_so_many_attempts_in_a_row_were_lost_alone(
    row: tuple[str, Verdict | None, Cause | None], isolated_after: int | None, failed_after: int
) -> None:
    for number in range(failed_after):
        history = attempt_history(attempts(*[row] * number))
        assert history.isolated == (isolated_after is not None and number >= isolated_after)
        assert step(history) == TRAIN
        reset = attempt_history(attempts(*[row] * failed_after, CRASHED, *[row] * number))
        assert step(reset) == TRAIN
    settled = step(attempt_history(attempts(*[row] * failed_after)))
    message = f"the run died during {failed_after} consecutive attempts at the child"
    assert settled == Settled(Outcome.failed(Cause.CRASHED, message, seed=7))


@pytest.mark.parametrize("number", ["1e7", "-1e300", "1e308"])
def test_a_reward_that_arithmetic_could_not_hold_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match="must be from -1,000,000 to 1,000,000"):
        parse_failure_policy(f"timeout=reward:{number}")
