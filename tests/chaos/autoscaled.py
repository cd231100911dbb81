"""A Ray cluster on this machine whose own autoscaler starts and ends its nodes, as a cloud's would."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray._private import ray_constants
from ray._private.services import get_node_ip_address
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FakeMultiNodeProvider
from ray.autoscaler.v2.sdk import get_cluster_status

from tests.chaos.machines import MARK, marked
from tests.ports import free_port
from tests.waiting import TIMEOUT_S, until

IDLE_S = 3.0
"""Seconds after which a node that nobody uses is ended."""


class Provider(FakeMultiNodeProvider):
    """Ray's own for tests, but that the nodes keep our code apart, as machines do."""

    def _create_node_with_resources_and_labels(self, *arguments: Any, **named: Any) -> None:
        # In the autoscaler's process, which starts nothing else.
        ray_constants.DEFAULT_RUNTIME_ENV_DIR_NAME = f"runtime_resources-{secrets.token_hex(4)}"
        super()._create_node_with_resources_and_labels(*arguments, **named)


class Autoscaled:
    """A head without cores, and nodes of one type, which come when Ray's second autoscaler finds them wanted.

    `ray.cluster_utils.AutoscalingCluster` would do the same, but ends every Ray of the machine when it starts.

    Args:
        resources: of each node.
        labels: of each node.
        most: how many there may be.
    """

    def __init__(self, resources: Mapping[str, float], labels: Mapping[str, str], most: int) -> None:
        self._mark = secrets.token_hex(8)
        self._folder = Path(tempfile.mkdtemp(prefix="nc-", dir="/tmp"))  # short, as Ray's sockets are below it
        self.address = f"{get_node_ip_address()}:{free_port()}"
        config = self._folder / "cluster.json"
        config.write_text(json.dumps(_config(self.address, resources, labels, most)))
        environment = os.environ | {
            "RAY_AUTH_MODE": "disabled",
            MARK: f"{self._mark}-nodes",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "RAY_TMPDIR": str(self._folder),
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        }
        environment.pop("RAY_ADDRESS", None)
        command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=0"]
        command += [f"--autoscaling-config={config}", f"--port={self.address.rpartition(':')[2]}"]
        command += ["--include-dashboard=false", "--disable-usage-stats"]
        self._log = (self._folder / "head.log").open("wb")
        self._head = subprocess.Popen(command, env=environment, stdout=self._log, stderr=subprocess.STDOUT)
        try:
            until(lambda: b"Ray runtime started" in (self._folder / "head.log").read_bytes(), "the head is up")
        except BaseException:
            self.close()
            raise

    @property
    def environment(self) -> dict[str, str]:
        """Of a driver that is to join."""
        return os.environ | {"RAY_ADDRESS": self.address, "RAY_AUTH_MODE": "disabled", MARK: f"{self._mark}-driver"}

    def asked(self) -> list[tuple[dict[str, float], int]]:
        """Return the requests to the autoscaler: resources, and how many times; this process must have joined."""
        constraints = get_cluster_status(self.address).resource_demands.cluster_constraint_demand
        return [(dict(each.bundle), each.count) for one in constraints for each in one.bundles_by_count]

    def close(self) -> None:
        """End the cluster."""
        self._head.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._head.wait(TIMEOUT_S / 4)
        for pid, _, _ in marked(self._mark):  # the autoscaler's nodes do not end with it
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _config(address: str, resources: Mapping[str, float], labels: Mapping[str, str], most: int) -> dict[str, Any]:
    return {
        "cluster_name": "test",
        "max_workers": most,
        "provider": {
            "type": "external",
            "module": f"{__name__}.{Provider.__name__}",
            "gcs_address": address,
            "head_node_id": FAKE_HEAD_NODE_ID,
            "launch_multiple": True,
            "disable_node_updaters": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "children": {
                "resources": dict(resources),
                "labels": dict(labels),
                "node_config": {},
                "min_workers": 0,
                "max_workers": most,
            },
        },
        "head_node_type": "ray.head.default",
        "upscaling_speed": 100,
        "idle_timeout_minutes": IDLE_S / 60,
        "auth": {},
        "docker": {},
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
    }
