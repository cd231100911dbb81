"""That nothing was lost and nothing done twice, from the folder of an ended run alone; knows the synthetic task only.

Each invariant is a function that says what breaks it. Nothing here trusts a total that the run itself has kept: the
children, the attempts, the pushes and the optimizers' own counters must agree with one another.
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from child_trainer.architectures.architecture import Architecture
from child_trainer.outcome import LAST_EPOCHS, Cause, Outcome
from child_trainer.tasks.synthetic import score
from cluster.runners.build import initial_values, make_parameters, make_reward
from cluster.search.records import Verdict
from cluster.search.replica import client
from cluster.search.seeding import child_seed
from cluster.storage.run_folder import RunFolder
from controller.searcher import View, is_exclusive
from controller.searchers.policy_gradient.policy_searcher import BASELINE
from tests.chaos.ended import Broken, EndedRun, Row, read_ended


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a run was made of.

    Attributes:
        children: that have ended.
        attempts: at them.
        trainings: attempts that came to an end of their own, be it too late.
        pushes: that each shard has applied.
        lost: pushes that a shard has not applied, over all shards.
        duplicated: pushes that a shard has applied more than once, likewise.
        repeated: attempts at a child that had its outcome.
    """

    children: int
    attempts: int
    trainings: int
    pushes: int
    lost: int
    duplicated: int
    repeated: int


def check(path: Path, *, any_searcher: bool = False) -> Report:
    """Return the report of the ended run in this folder; it assumes `accumulate` 1 and mode async.

    Args:
        path: of the run's folder.
        any_searcher: check what holds for every searcher, and not what holds for REINFORCE alone.

    Raises:
        Broken: with everything that is wrong.
    """
    run = read_ended(RunFolder(path))
    wrong = [
        f"{invariant.__name__.strip('_').replace('_', ' ')}: {what}"
        for invariant in (GENERAL if any_searcher else INVARIANTS)
        for what in invariant(run)
    ]
    if wrong:
        raise Broken("\n".join(wrong))
    rows = [row for rows in run.attempts.values() for row in rows]
    counted = [state.metadata["pushes"] for state in run.shards]
    return Report(
        children=len(run.children),
        attempts=len(rows),
        trainings=sum(row.attempt.outcome is not None and row.attempt.outcome.failure is None for row in rows),
        pushes=run.pushes,
        lost=sum(max(0, run.pushes - count) for count in counted),
        duplicated=sum(max(0, count - run.pushes) for count in counted),
        repeated=sum(len(list(_after_the_outcome(rows))) for rows in run.attempts.values()),
    )


def _every_child_has_ended(run: EndedRun) -> Iterator[str]:
    if list(run.children) != list(range(1, run.config.max_children + 1)):
        yield f"the children must be 1 to {run.config.max_children}, got {len(run.children)}"
    for child_id, (_, _, state, _, _, completion) in run.rows.items():
        outcome = run.children[child_id].outcome
        if completion is None or outcome is None or state != ("failed" if outcome.failure else "finished"):
            yield f"child {child_id} is {state}"


def _completions_count_the_children(run: EndedRun) -> Iterator[str]:
    completions = sorted(row[5] or 0 for row in run.rows.values())
    if completions != list(range(1, len(run.rows) + 1)):
        yield "the completion numbers are not 1 to the number of children"


def _one_attempt_gave_the_outcome(run: EndedRun) -> Iterator[str]:
    for child_id, child in run.trained.items():
        given = [r.attempt.outcome for r in run.attempts[child_id] if r.attempt.verdict == Verdict.OUTCOME]
        if len(given) != 1:
            yield f"child {child_id} has {len(given)} attempts that gave its outcome"
        elif given[0] != child.outcome:
            yield f"child {child_id} has another outcome than its attempt"


def _attempts_have_ended(run: EndedRun) -> Iterator[str]:
    keys = Counter(row.attempt.key for rows in run.attempts.values() for row in rows)
    for child_id, rows in run.attempts.items():
        if [row.number for row in rows] != list(range(1, len(rows) + 1)):
            yield f"the attempts at child {child_id} are not numbered from 1"
        for row in rows:
            if row.ended_at is None or row.attempt.verdict is None:
                yield f"attempt {row.number} at child {child_id} has not ended"
            if keys[row.attempt.key] > 1:
                yield f"attempt {row.number} at child {child_id} shares its key"


def _after_the_outcome(rows: list[Row]) -> Iterator[Row]:
    """Yield the attempts that began once the child had its outcome."""
    settled = [row for row in rows if row.attempt.verdict == Verdict.OUTCOME and row.ended_at is not None]
    for row in rows:
        if any(s is not row and row.attempt.started_at >= (s.ended_at or 0.0) for s in settled):
            yield row


def _nothing_is_trained_after_its_outcome(run: EndedRun) -> Iterator[str]:
    for child_id, rows in run.attempts.items():
        for row in _after_the_outcome(rows):
            yield f"attempt {row.number} at child {child_id} began after its outcome"


def _outcomes_are_right(run: EndedRun) -> Iterator[str]:
    for child_id, child in run.children.items():
        seed = child_seed(run.config.seed, child_id)
        if run.rows[child_id][3] != seed:
            yield f"child {child_id} has another seed than its own"
        if run.config.space_options.decode(child.proposal.tokens) != child.proposal.architecture:
            yield f"child {child_id} has another architecture than its tokens say"
        if child.outcome is not None and child_id in run.trained:
            yield from _outcome_is_right(run, child_id, child.proposal.architecture, child.outcome, seed)


def _outcome_is_right(
    run: EndedRun, child_id: int, architecture: Architecture, outcome: Outcome, seed: int
) -> Iterator[str]:
    goal, metric = score(architecture), run.rows[child_id][4]
    curve = tuple(goal * (1 - 0.5**epoch) for epoch in range(1, run.config.budget.epochs + 1))
    if outcome.seed != seed:
        yield f"child {child_id} was trained with another seed"
    if outcome.failure is None and (outcome.curve != curve or metric != max(curve[-LAST_EPOCHS:])):
        yield f"child {child_id} has a curve or a metric that its architecture does not give"
    if outcome.failure is not None:  # given up, as its workers were killed: only after so many
        deaths = sum(row.attempt.cause == Cause.CRASHED for row in run.attempts[child_id])
        if outcome.failure.cause != Cause.CRASHED or deaths != run.config.failures.max_attempts or metric is not None:
            yield f"child {child_id} was given up after {deaths} crashes"


def _rewards_are_right(run: EndedRun) -> Iterator[str]:
    reward = make_reward(run.config)
    for child_id, child in run.children.items():
        if child.outcome is not None and child.reward != reward(child.outcome):
            yield f"child {child_id} has the reward {child.reward}"


def _batches_are_whole_and_learned(run: EndedRun) -> Iterator[str]:
    topology = run.config.topology
    if set(run.batches) - set(range(topology.replicas)):
        yield f"there are batches of replicas {sorted(run.batches)}"
    sizes = Counter(row[:2] for row in run.rows.values())
    short = [batch for batch, size in sizes.items() if size < topology.children]
    if topology.batching == "stream":  # each replica's last batch is of what it has left, and no other is
        one_too_many = any(number != max(run.batches.get(replica, [0])) for replica, number in short)
    else:
        one_too_many = len(short) > 1
    if is_exclusive(run.config.make_searcher()):  # it ends a generation or a level with what is left of it
        one_too_many = False
    if one_too_many or any(size > topology.children for size in sizes.values()):
        yield f"all batches but the last must have {topology.children} children"
    for replica, numbers in run.batches.items():
        if sorted(numbers) != list(range(1, len(numbers) + 1)):
            yield f"the batches of replica {replica} have holes: {sorted(numbers)}"
        for number, (learned_at, pushed) in numbers.items():
            if learned_at is None or pushed != bool(run.layout) or (replica, number) not in sizes:
                yield f"batch {number} of replica {replica} was not learnt from and pushed"
    if strays := sorted(set(sizes) - {(r, n) for r, numbers in run.batches.items() for n in numbers}):
        yield f"there are children of batches that are none: {strays}"


def _batches_are_of_those_that_ended_first(run: EndedRun) -> Iterator[str]:
    for replica in run.batches:
        ended = sorted((row[5] or 0, row[1]) for row in run.rows.values() if row[0] == replica)
        if [batch for _, batch in ended] != sorted(batch for _, batch in ended):
            yield f"replica {replica} has learnt from children before others that had ended earlier"


def _shards_know_each_replicas_last_batch(run: EndedRun) -> Iterator[str]:
    last = {client(replica): max(numbers) * run.passes for replica, numbers in run.batches.items()}
    for index, state in enumerate(run.shards):
        known = {name: sequence for name, (sequence, _) in state.metadata["clients"].items()}
        if known != last:
            yield f"shard {index} knows {known}, and the ledger {last}"


def _shards_have_counted_each_push_once(run: EndedRun) -> Iterator[str]:
    for index, state in enumerate(run.shards):
        if (state.metadata["pushes"], state.metadata["dropped"]) != (run.pushes, 0):
            yield f"shard {index} has applied {state.metadata['pushes']} of {run.pushes} pushes"


def _optimizers_have_stepped_once_for_each_push(run: EndedRun) -> Iterator[str]:
    """Adam's own counter of each tensor, against the batches whose gradient names it."""
    steps = _expected_steps(run)
    for index, state in enumerate(run.shards):
        for name in (key.removeprefix("value/") for key in state.tensors if key.startswith("value/")):
            if name != BASELINE:
                counter = state.tensors.get(f"optimizer/step/{name}")
                found = 0 if counter is None else int(counter)
                if found != steps[name]:
                    yield f"{name} on shard {index} has taken {found} steps, and should have {steps[name]}"


def _expected_steps(run: EndedRun) -> Counter[str]:
    """How many batches name each tensor: the searcher leaves out what no child of the batch has to do with.

    Which tensors have a gradient does not depend on their values, so the first ones do.
    """
    searcher = run.config.make_searcher()
    values = initial_values(make_parameters(run.config, searcher))
    steps: Counter[str] = Counter()
    known: dict[frozenset[int], list[str]] = {}
    for children in run.lessons:
        lengths = frozenset(len(child.proposal.tokens) for child in children)
        if lengths not in known:  # which choices a child has its number of tokens says
            view = View(parameters=values, completed=0, history=list, pending=list, rng=random.Random(0))
            known[lengths] = list(searcher.learn([child.record for child in children], view).gradients)
        steps.update(known[lengths])
    return steps


def _the_baseline_has_averaged_each_push_once(run: EndedRun) -> Iterator[str]:
    """Its second element is the moving average of as many ones as there were pushes, step by step as on the shard."""
    decay = run.config.searcher_options.baseline_decay
    weight = torch.zeros(())
    for _ in run.lessons:
        weight.mul_(decay).add_(torch.ones(()), alpha=1 - decay)
    for state in run.shards:
        held = state.tensors.get(f"value/{BASELINE}")
        if held is not None and len(held) == 2 and held[1] != weight:
            yield f"its weight is {held[1]}, and {len(run.lessons)} pushes give {weight}"


GENERAL = (
    _every_child_has_ended,
    _completions_count_the_children,
    _one_attempt_gave_the_outcome,
    _attempts_have_ended,
    _nothing_is_trained_after_its_outcome,
    _outcomes_are_right,
    _rewards_are_right,
    _batches_are_whole_and_learned,
    _batches_are_of_those_that_ended_first,
    _shards_know_each_replicas_last_batch,
    _shards_have_counted_each_push_once,
)

INVARIANTS = (
    *GENERAL,
    _optimizers_have_stepped_once_for_each_push,
    _the_baseline_has_averaged_each_push_once,
)
