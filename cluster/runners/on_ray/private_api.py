"""Everything that this project uses of Ray's private API, one function for each use. Written against Ray 2.60.

Ray has no public API for these: `ray.util.state` asks the dashboard, which a Ray of our own does not have, and knows
neither which nodes drain nor what each node has free. `tests/cluster/runners/on_ray/test_private_api.py` calls every
function on a real Ray, so that a change of Ray's shows here, by name, and a second test keeps private imports out of
all other files.
"""

import json
import random
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ray import _raylet
from ray._private import node as ray_node
from ray._private import services, utils
from ray._private import worker as ray_worker
from ray._private.state import state
from ray._private.utils import estimate_available_memory
from ray.core.generated import autoscaler_pb2, common_pb2, gcs_pb2
from ray.experimental.internal_kv import _initialize_internal_kv, _internal_kv_get
from ray.job_config import JobConfig

from cluster.formatting import first_line, last_line
from cluster.placement.cluster_state import Actor, Demand

# Compiled and generated code, which has no types that a type checker could see.
_RAYLET: Any = _raylet
_ActorTableData: Any = vars(gcs_pb2)["ActorTableData"]
_GetClusterResourceStateReply: Any = vars(autoscaler_pb2)["GetClusterResourceStateReply"]
_LABEL_NOT_IN: Any = vars(common_pb2)["LabelSelectorOperator"].Value("LABEL_OPERATOR_NOT_IN")

_AGENT_PORTS = (
    _RAYLET.METRICS_AGENT_PORT_NAME,
    _RAYLET.METRICS_EXPORT_PORT_NAME,
    _RAYLET.DASHBOARD_AGENT_LISTEN_PORT_NAME,
)
_AGENT_COMMAND = "--dashboard_agent_command="
_NO_PORT = -1
_CHOSEN_PORTS = 20_000, 30_000  # below those that Linux gives to a process that asks for any

ANSWER_TIMEOUT_S = 5.0
"""Timeout for one answer of the head to `connect_to_head` and `pending_demands`."""


# --- This process and this machine ----------------------------------------------------------------------------------


def reload_settings() -> None:
    """Have Ray read its settings (`RAY_AUTH_MODE` and others) and its token again, as at its import and first call."""
    _RAYLET.Config.initialize("")
    _RAYLET.AuthenticationTokenLoader.instance().reset_cache()


def job_config(folders: Sequence[str]) -> Any:
    """Return a job's configuration whose processes look for modules in these folders first, in this order.

    Without it Ray puts the driver's current folder first, where a file of the user's may have the name of one of ours.
    """
    # Ray inserts one after another at the front. It adds no folders of its own to those of a client's job.
    return JobConfig(_client_job=True, _py_driver_sys_path=list(reversed(folders)))


def silence_worker_deaths() -> None:
    """Stop this driver from printing each worker's death; Ray has no option for it."""
    ray_worker._worker_logs_enabled = False


def node_logs_folder() -> str:
    """Return the folder of this node's Ray logs, which no other Ray on the machine shares."""
    node: Any = ray_worker._global_node
    return node.get_logs_dir_path()


def available_memory() -> int:
    """Return the free memory of this machine or container in bytes."""
    return estimate_available_memory()


def last_started_address() -> str | None:
    """Return the address that the last `ray start` on this machine wrote down, whether or not that Ray still runs."""
    return services.find_bootstrap_address(None)


def auto_address() -> str | None:
    """Return the address that Ray takes `RAY_ADDRESS=auto` for; `None` if no Ray runs on this machine."""
    try:
        return services.get_ray_address_from_environment("auto", None)
    except ConnectionError:
        return None


@contextmanager
def lean_nodes() -> Iterator[None]:
    """Have `ray.init` start nodes without the processes that serve only Ray's dashboard, command line and autoscaler.

    These are the dashboard's server, of which `include_dashboard=False` leaves one for usage statistics, its agent, the
    autoscaler's monitor and the log monitor. Each imports Ray, and `ray.init` waits for two of them, and for the agent
    of runtime environments, which starts here beside the rest: a driver that joins has one.
    """
    with _replaced(ray_node, "Node", _LeanNode):
        yield


class _LeanNode(ray_node.Node):
    def start_monitor(self) -> None:
        """Start no autoscaler."""

    def start_log_monitor(self) -> None:
        """Start nothing that prints the workers' output here."""

    def start_api_server(self, **_: Any) -> None:
        """Start no dashboard."""
        self._webui_url = ""

    def start_raylet(self, *args: Any, **options: Any) -> None:
        """Start the raylet without the dashboard's agent, as Ray has none where its extra packages are missing.

        The raylet waits for the files with the agents' ports, of which -1 means that there is none, and ends if the
        process of an agent does: `cat` stays as long as the raylet holds the other end of its input.
        """
        self._ray_params.runtime_env_agent_port = _unused_port(self._node_ip_address)
        ports = dict.fromkeys(_AGENT_PORTS, _NO_PORT)
        ports[_RAYLET.RUNTIME_ENV_AGENT_PORT_NAME] = self._ray_params.runtime_env_agent_port
        for name, port in ports.items():
            _RAYLET.persist_port(self._session_dir, self._node_id, name, port)
        with (
            _replaced(utils, "get_dashboard_dependency_error", lambda: None),  # it imports the dashboard
            _replaced(services, "start_ray_process", _without_agent(services.start_ray_process)),
        ):
            super().start_raylet(*args, **options)


def _without_agent(start: Callable[..., Any]) -> Callable[..., Any]:
    """Return Ray's function that starts a process, changed so that a raylet is given `cat` as its dashboard's agent."""

    def start_process(command: Sequence[str], *args: Any, **options: Any) -> Any:
        words = [f"{_AGENT_COMMAND}cat" if word.startswith(_AGENT_COMMAND) else word for word in command]
        return start(words, *args, **options)

    return start_process


def _unused_port(address: str) -> int:
    """Return a port that no process listens on here, and that none is given which asks for any."""
    ports = list(range(*_CHOSEN_PORTS))
    random.shuffle(ports)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in ports:
        with suppress(OSError), socket.create_server((address, port), family=family):
            return port
    raise OSError(f"no port of {address} from {_CHOSEN_PORTS[0]} to {_CHOSEN_PORTS[1] - 1} is free")


@contextmanager
def _replaced(module: Any, name: str, value: object) -> Iterator[None]:
    usual = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, usual)


# --- The cluster that this process has joined or has connected to ---------------------------------------------------


def draining_nodes() -> Mapping[str, int]:
    """Return the ids of the nodes that drain, each with its deadline in ms since the epoch (0: none)."""
    return state.get_draining_nodes()


def free_resources() -> Mapping[str, Mapping[str, float]]:
    """Return what is free on each node now, by the node's id and by Ray's names of resources."""
    return state.available_resources_per_node()


def internal_value(key: bytes, namespace: bytes | None = None) -> bytes | None:
    """Return a value of the head's key-value store; `None` if it has no such key."""
    return _internal_kv_get(key, namespace=namespace)


@dataclass(frozen=True, kw_only=True, slots=True)
class ActorProcess:
    """The process of an actor.

    Attributes:
        node: the id of the node where it is, or was last; `None` if Ray does not know.
        pid: its process id there.
        alive: it is up.
    """

    node: str | None
    pid: int | None
    alive: bool


def actor_process(actor: Any) -> ActorProcess:
    """Return where the actor with this handle runs, or ran last."""
    row = state.actor_table(actor._actor_id.hex())
    return ActorProcess(
        node=row.get("Address", {}).get("NodeID") or None, pid=row.get("Pid"), alive=row.get("State") == "ALIVE"
    )


# --- A cluster that this process has not joined ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """A connection to a cluster's head.

    Attributes:
        client: Ray's own.
        ray, python: exact versions that the cluster was started with.
    """

    client: Any
    ray: str
    python: str


def connect_to_head(address: str) -> Head:
    """Connect to the head at host:port without joining its cluster; the other functions then read that cluster.

    Raises:
        RayError: it does not answer, or refuses these credentials.
    """
    client = _RAYLET.GcsClient(address=address)
    written = client.internal_kv_get(b"CLUSTER_METADATA", namespace=b"cluster", timeout=ANSWER_TIMEOUT_S)
    metadata = json.loads(written or b"{}")
    _initialize_internal_kv(client)
    state._initialize_global_state(_RAYLET.GcsClientOptions.create(address, None, True, True))
    return Head(client=client, ray=metadata.get("ray_version", "?"), python=metadata.get("python_version", "?"))


def node_table() -> list[dict[str, Any]]:
    """Return the rows of `ray.nodes()`, also for a process that has not joined the cluster."""
    return state.node_table()


def actors() -> tuple[Actor, ...]:
    """Return the actors of all jobs, the dead ones that Ray still remembers included."""
    rows = state._connect_and_get_accessor().get_actor_table(None, None)
    return tuple(_actor(_ActorTableData.FromString(row)) for row in rows)


def pending_demands(head: Head) -> tuple[Demand, ...]:
    """Return what tasks and actors of all jobs wait for."""
    reply = head.client.get_cluster_resource_state(timeout_s=ANSWER_TIMEOUT_S)
    requests = _GetClusterResourceStateReply.FromString(reply).cluster_resource_state.pending_resource_requests
    return tuple(
        Demand(needs=dict(by_count.request.resources_bundle), count=by_count.count, labels=_labels(by_count.request))
        for by_count in requests
    )


def _actor(row: Any) -> Actor:
    return Actor(
        name=row.name or row.class_name,
        state=_ActorTableData.ActorState.Name(row.state),
        job=row.job_id.hex(),
        address=row.address.ip_address,
        pid=row.pid,
        restarts=int(row.num_restarts),
        needs=dict(row.required_resources),
        labels=dict(row.label_selector),
        reason=_death_reason(row.death_cause),
    )


def _death_reason(cause: Any) -> str:
    kind = cause.WhichOneof("context")
    if kind is None:
        return ""
    context = getattr(cause, kind)
    if kind == "creation_task_failure_context":  # a traceback, which ends with the error
        return last_line(context.formatted_exception_string)
    return first_line(getattr(context, "error_message", "")) or kind.removesuffix("_context")


def _labels(request: Any) -> dict[str, str]:
    """Return the first alternative of the request's label selectors, in the form that Ray's options take."""
    for selector in request.label_selectors[:1]:
        return {constraint.label_key: _label_condition(constraint) for constraint in selector.label_constraints}
    return {}


def _label_condition(constraint: Any) -> str:
    not_ = "!" if constraint.operator == _LABEL_NOT_IN else ""
    values = sorted(constraint.label_values)
    return f"{not_}{values[0]}" if len(values) == 1 else f"{not_}in({','.join(values)})"
