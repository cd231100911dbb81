"""Distributed neural architecture search: the public API. Re-exports, nothing else.

from nascluster import launch, load

run = launch("digits", searcher="evolution", max_children=32)
print(run.best, run.status())
"""

from importlib.util import find_spec as _find_spec
from pathlib import Path as _Path


def _check_own_packages() -> None:
    """Raise `ImportError` if a file of the user's hides one of our packages: what comes of it would be a riddle."""
    ours = {
        "child_trainer": "outcome.py",
        "cluster": "api/python_api.py",
        "controller": "searcher.py",
        "ps": "store.py",
    }
    for name, part in ours.items():
        found = _find_spec(name)
        folders = list(found.submodule_search_locations or []) if found else []
        if found and not any((_Path(folder) / part).is_file() for folder in folders):
            where = found.origin or folders[0]
            raise ImportError(
                f"{where} hides the package `{name}` of nascluster: rename it, or start Python from another folder"
            )


_check_own_packages()

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture, Node, node
from child_trainer.architectures.drawing import draw
from child_trainer.architectures.operation_types import Attribute, Operation, OwnOperation
from child_trainer.language_options import LanguageOptions
from child_trainer.outcome import Budget, Cause, Failure, Measure, Outcome
from child_trainer.regime import Regime
from child_trainer.tasks.catalogue import load_task
from child_trainer.tasks.entry import ImageProblem, TaskEntry
from child_trainer.tasks.image import ImageTask
from child_trainer.tasks.image_folder_options import ImageFolderOptions
from child_trainer.tasks.lookup_table import Answer, Table
from child_trainer.tasks.synthetic_options import SyntheticOptions
from child_trainer.training.image_classifier import Images
from child_trainer.training.train import train
from cluster.api.python_api import Run, RunFailed, evaluate, launch, load
from cluster.config.failure_options import FailureOptions
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.monitoring.failed_attempts import FailedAttempt, read_failures
from cluster.monitoring.status import Best, Status, read_status
from cluster.runners.driver import execute
from cluster.storage.find_run import existing_run, run_folder
from controller.catalogue import Figure
from controller.decisions import (
    Choice,
    Condition,
    Decisions,
    InvalidTokens,
    check_tokens,
    enumerate_samples,
    mutate,
    uniform,
)
from controller.searcher import Child, ChildRecord, OptionValues, ParameterGroup, Proposal, Searcher, Update, View
from controller.searchers.bayesian.options import BayesianOptions
from controller.searchers.evolutionary.options import EvolutionOptions, LocalSearchOptions
from controller.searchers.policy_gradient.options import ReinforceOptions
from controller.searchers.policy_gradient.reinforce import Reinforce
from controller.searchers.q_learning.options import QLearningOptions
from controller.searchers.random_search import RandomSearch
from controller.space import HasSupernet, SearchSpace, first_tokens, mutated_tokens
from controller.spaces.cells import AmoebaNetSpace, NasNetSpace, PnasSpace
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.darts import DartsSpace
from controller.spaces.darts_rnn import DartsRnnSpace
from controller.spaces.enas_macro import EnasMacroSpace
from controller.spaces.enas_micro import EnasMicroSpace
from controller.spaces.enas_rnn import EnasRnnSpace
from controller.spaces.genotypes import from_darts, from_nasnet, to_darts, to_nasnet
from controller.spaces.mbconv import MbconvSpace
from controller.spaces.one_shot import OneShotSpace
from controller.spaces.recurrent import RecurrentSpace
from controller.spaces.smash import SmashSpace
from ps.consistency import Consistency
from ps.local import LocalStore
from ps.rpc.client import GrpcStore
from ps.rpc.server import ShardServer
from ps.store import Ack, Group, Layout, ParameterStore, Push, Snapshot

__all__ = [
    "RECIPES",
    "Ack",
    "AmoebaNetSpace",
    "Answer",
    "Architecture",
    "Attribute",
    "BayesianOptions",
    "Best",
    "Budget",
    "Cause",
    "Child",
    "ChildRecord",
    "Choice",
    "Condition",
    "Consistency",
    "ConvolutionalSpace",
    "DartsRnnSpace",
    "DartsSpace",
    "Decisions",
    "EnasMacroSpace",
    "EnasMicroSpace",
    "EnasRnnSpace",
    "EvolutionOptions",
    "FailedAttempt",
    "Failure",
    "FailureOptions",
    "Figure",
    "Group",
    "GrpcStore",
    "HasSupernet",
    "ImageFolderOptions",
    "ImageProblem",
    "ImageTask",
    "Images",
    "InvalidArchitecture",
    "InvalidTokens",
    "LanguageOptions",
    "Layout",
    "LocalSearchOptions",
    "LocalStore",
    "MbconvSpace",
    "Measure",
    "NasNetSpace",
    "Node",
    "OneShotSpace",
    "Operation",
    "OptionValues",
    "Outcome",
    "OwnOperation",
    "ParameterGroup",
    "ParameterStore",
    "PnasSpace",
    "Proposal",
    "Push",
    "QLearningOptions",
    "RandomSearch",
    "RecurrentSpace",
    "Regime",
    "Reinforce",
    "ReinforceOptions",
    "Run",
    "RunConfig",
    "RunFailed",
    "SearchSpace",
    "Searcher",
    "ShardServer",
    "SmashSpace",
    "Snapshot",
    "Status",
    "SyntheticOptions",
    "Table",
    "TaskEntry",
    "TaskOptions",
    "Topology",
    "Update",
    "View",
    "check_tokens",
    "draw",
    "enumerate_samples",
    "evaluate",
    "execute",
    "existing_run",
    "first_tokens",
    "from_darts",
    "from_nasnet",
    "launch",
    "load",
    "load_task",
    "mutate",
    "mutated_tokens",
    "node",
    "read_failures",
    "read_status",
    "run_folder",
    "to_darts",
    "to_nasnet",
    "train",
    "uniform",
]
