"""Checks the rows of a run's ledger that say by themselves whether they are right."""

from child_trainer.supernets.jobs import Steps
from cluster.replay.difference import Difference
from cluster.replay.record import Record
from cluster.runners.build import make_reward
from cluster.search.seeding import child_seed
from cluster.storage.ledger.queries.replays import ReplayedChild


def check_rows(record: Record) -> None:
    """Check each child's seed, outcome, reward and versions, and each batch's versions, in their order.

    Raises:
        Difference: at the first row that is wrong.
    """
    judges = {stage: make_reward(stage.config) for stage in record.stages}
    seed = record.stages[-1].config.seed  # of all stages
    for child_id, child in record.children.items():
        where = f"the row of child {child_id} in the ledger"
        if child.seed != (own := child_seed(seed, child_id)):
            raise Difference(f"{where} has the seed {child.seed}, and the child's is {own}")
        _check_outcome(child, where)
        outcome = child.record.outcome
        if outcome is not None:
            judge = judges[record.stage_of_outcome(child.completion)]
            reward = None if isinstance(child.record.job, Steps) else judge(outcome)
            if child.record.reward != reward:
                raise Difference(f"{where} has the reward {child.record.reward}, and its outcome earns {reward}")
        _check_versions(record, child, where)
    _check_batches(record)


def _check_outcome(child: ReplayedChild, where: str) -> None:
    outcome = child.record.outcome
    if (outcome is None) != (child.completion is None):
        raise Difference(f"{where} has {'an' if outcome else 'no'} outcome, and its completion is {child.completion}")


def _check_versions(record: Record, child: ReplayedChild, where: str) -> None:
    versions = record.origins[child.record.id].versions
    batch = record.batches.get((child.replica, child.batch))
    if child.batch and batch is None:
        raise Difference(f"{where} has batch {child.batch} of replica {child.replica}, which the ledger lacks")
    named = child.versions if child.versions is not None else batch and batch.versions
    if named is not None and named != versions:
        raise Difference(f"{where} has the versions {_numbers(named)}, and was sampled from {_numbers(versions)}")


def _check_batches(record: Record) -> None:
    oldest: dict[tuple[int, int], tuple[int, ...]] = {}
    for child_id, child in record.children.items():
        place, versions = (child.replica, child.batch), record.origins[child_id].versions
        oldest[place] = tuple(map(min, oldest.get(place, versions), versions))
    for place, batch in record.batches.items():
        where = f"the row of batch {place[1]} of replica {place[0]} in the ledger"
        if place not in oldest:
            raise Difference(f"{where} has no children")
        if batch.versions != oldest[place]:
            raise Difference(
                f"{where} has the versions {_numbers(batch.versions)}, and its children were sampled from"
                f" {_numbers(oldest[place])}"
            )


def _numbers(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers)) or "none"
