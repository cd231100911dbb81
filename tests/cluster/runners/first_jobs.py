"""The first steps on shared weights that a search proposes."""

from child_trainer.supernets.jobs import Steps
from cluster.config.run_config import RunConfig
from cluster.runners.build import initial_values, make_parameters
from tests.contracts.searcher import view


def first_job(of: RunConfig, count: int) -> Steps:
    """The job of the first child, which makes so many steps."""
    searcher = of.make_searcher()
    job = searcher.ask(1, view(initial_values(make_parameters(of, searcher))))[0].job
    assert isinstance(job, Steps)
    assert job.count == count
    return job
