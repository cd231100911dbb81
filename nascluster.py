"""Distributed neural architecture search: the public API. Re-exports, nothing else."""

from child_trainer.architectures.architecture import Architecture, InvalidArchitecture, Node, node
from child_trainer.architectures.drawing import draw
from child_trainer.outcome import Budget, Cause, Failure, Outcome
from child_trainer.tasks.catalogue import load_task
from child_trainer.training.train import train
from cluster.config.failure_options import FailureOptions
from cluster.config.recipes import RECIPES
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.config.topology import Topology
from cluster.monitoring.failed_attempts import FailedAttempt, read_failures
from cluster.monitoring.status import Best, Status, read_status
from cluster.runners.driver import execute
from cluster.storage.find_run import existing_run, run_folder
from controller.searcher import Child, ChildRecord, ParameterGroup, Proposal, Searcher, Update, View
from controller.searchers.policy_gradient.options import ReinforceOptions
from controller.searchers.policy_gradient.reinforce import Reinforce
from controller.searchers.random_search import RandomSearch
from controller.space import SearchSpace
from controller.spaces.convolutional import ConvolutionalSpace
from controller.spaces.recurrent import RecurrentSpace
from ps.consistency import Consistency
from ps.local import LocalStore
from ps.rpc.client import GrpcStore
from ps.rpc.server import ShardServer
from ps.store import Ack, Group, Layout, ParameterStore, Push, Snapshot

__all__ = [
    "RECIPES",
    "Ack",
    "Architecture",
    "Best",
    "Budget",
    "Cause",
    "Child",
    "ChildRecord",
    "Consistency",
    "ConvolutionalSpace",
    "FailedAttempt",
    "Failure",
    "FailureOptions",
    "Group",
    "GrpcStore",
    "InvalidArchitecture",
    "Layout",
    "LocalStore",
    "Node",
    "Outcome",
    "ParameterGroup",
    "ParameterStore",
    "Proposal",
    "Push",
    "RandomSearch",
    "RecurrentSpace",
    "Reinforce",
    "ReinforceOptions",
    "RunConfig",
    "SearchSpace",
    "Searcher",
    "ShardServer",
    "Snapshot",
    "Status",
    "TaskOptions",
    "Topology",
    "Update",
    "View",
    "draw",
    "execute",
    "existing_run",
    "load_task",
    "node",
    "read_failures",
    "read_status",
    "run_folder",
    "train",
]
