"""The files for `ray up`: what Ray's own schema, AWS's and Google's say to them, and what this project asks of them."""

import functools
import os
import re
import shlex
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import botocore.session
import jsonschema
import pytest
import yaml
from botocore.validate import ParamValidator
from ray._private.ray_constants import LABELS_ENVIRONMENT_VARIABLE
from ray.autoscaler._private.aws.config import _configure_security_group
from ray.autoscaler._private.command_runner import _with_environment_variables
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start

from tests.deploy.dockerfile import sources
from tests.deploy.files import DEPLOY, MARKET, POOL, ROOT, documents, mappings, with_key

CLOUDS = {"aws": DEPLOY / "cluster.yaml", "gcp": DEPLOY / "cluster-gcp.yaml"}

PROVIDER = {
    "aws": {"type", "region", "availability_zone", "cache_stopped_nodes", "security_group", "use_internal_ips"},
    "gcp": {"type", "region", "availability_zone", "cache_stopped_nodes", "project_id", "use_internal_ips"},
}
"""Ray's schema takes any key here. https://docs.ray.io/en/latest/cluster/vms/references/ray-cluster-configuration.html"""

GCP_INSTANCE: dict[str, Any] = {
    "machineType": None,
    "disks": {"boot": None, "autoDelete": None, "type": None, "initializeParams": {"diskSizeGb", "sourceImage"}},
    "scheduling": {"provisioningModel", "instanceTerminationAction", "onHostMaintenance", "automaticRestart"},
    "serviceAccounts": {"email", "scopes"},
    "guestAccelerators": {"acceleratorType", "acceleratorCount"},
}
"""The part of it that is used here. https://cloud.google.com/compute/docs/reference/rest/v1/instances"""

cloud = pytest.mark.parametrize("cloud", CLOUDS)


def config(name: str) -> dict[str, Any]:
    (document,) = documents(CLOUDS[name])
    return document


def check(document: dict[str, Any]) -> dict[str, Any]:
    """The configuration as Ray completes it; raises what is wrong with it."""
    prepared = prepare_config(deepcopy(document))
    validate_config(prepared)
    kind = document["provider"]["type"]
    unknown = document["provider"].keys() - PROVIDER[kind]
    assert not unknown, unknown
    for node_type in document["available_node_types"].values():
        {"aws": check_ec2, "gcp": check_compute}[kind](node_type["node_config"])
    return prepared


def check_ec2(node_config: dict[str, Any]) -> None:
    """What Ray hands to EC2, against EC2's own description of it."""
    report = ParamValidator().validate({**node_config, "MinCount": 1, "MaxCount": 1}, _run_instances())
    assert not report.has_errors(), report.generate_report()


@functools.cache
def _run_instances() -> Any:
    return botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape


def check_compute(value: Any, known: Any = GCP_INSTANCE) -> None:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            assert known is not None and item.keys() <= set(known), f"{item.keys()} among {known}"
            for key, inner in item.items():
                check_compute(inner, known[key] if isinstance(known, dict) else None)


@cloud
def test_ray_and_the_cloud_accept_it(cloud: str) -> None:
    prepared = check(config(cloud))
    assert prepared["head_node_type"] == "head"
    assert prepared["available_node_types"].keys() == {"head", "stable", "children"}, (
        "Ray's defaults are not among them"
    )


FREE = ("file_mounts", "labels", "resources", "available_node_types")
"""Mappings whose keys are the user's."""


@cloud
def test_an_unknown_key_is_refused_wherever_it_stands(cloud: str) -> None:
    document = config(cloud)
    places = [path for path in mappings(document) if not (path and path[-1] in FREE)]
    assert len(places) > 10
    for path in places:
        with pytest.raises((jsonschema.ValidationError, AssertionError)):
            check(with_key(document, path, "idel_timeout", 5))


@cloud
@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        ((), "max_workers", "six"),
        (("available_node_types", "children", "labels"), POOL, 1),
        (("available_node_types", "children"), "min_workers", 99),
        ((), "head_node_type", "haed"),
    ],
)
def test_a_wrong_value_is_refused(cloud: str, path: tuple[str, ...], key: str, value: Any) -> None:
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        check(with_key(config(cloud), path, key, value))


@cloud
def test_the_pools_are_labelled_as_placement_expects_and_as_they_are_paid(cloud: str) -> None:
    types = config(cloud)["available_node_types"]
    stable = {POOL: "stable", MARKET: "on-demand"}
    expected = {"head": stable, "stable": stable, "children": {POOL: "children", MARKET: "spot"}}
    assert {name: node_type["labels"] for name, node_type in types.items()} == expected
    bought = {name: bought_on_spot(node_type["node_config"]) for name, node_type in types.items()}
    assert bought == {"head": False, "stable": False, "children": True}


@cloud
def test_a_node_has_its_labels_when_ray_is_started_as_ray_up_starts_it(cloud: str) -> None:
    labels = config(cloud)["available_node_types"]["children"]["labels"]
    script = (
        "from ray._private.resource_and_label_spec import ResourceAndLabelSpec as Spec;"
        "spec = Spec(num_cpus=1, num_gpus=0, memory=1, object_store_memory=1, resources={}, labels={});"
        "print(spec.resolve(is_head=False, node_ip_address='127.0.0.1').labels)"
    )
    line = _with_environment_variables(
        shlex.join([sys.executable, "-c", script]), {LABELS_ENVIRONMENT_VARIABLE: labels}
    )
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout == f"{labels}\n"


def bought_on_spot(node_config: dict[str, Any]) -> bool:
    aws = node_config.get("InstanceMarketOptions", {}).get("MarketType") == "spot"
    return aws or node_config.get("scheduling", {}).get("provisioningModel") == "SPOT"


@cloud
def test_nothing_is_left_to_pay_when_nothing_runs(cloud: str) -> None:
    document = config(cloud)
    assert document["available_node_types"]["children"]["min_workers"] == 0
    assert document["idle_timeout_minutes"] <= 10
    assert document["provider"]["cache_stopped_nodes"] is False, "a stopped machine's disk is paid for"
    most = sum(t["max_workers"] for t in document["available_node_types"].values())
    assert document["max_workers"] <= most, "the limit of costs is below what the pools may have"


def start_options(commands: list[str]) -> dict[str, Any]:
    """What `ray start` makes of the last command with it, which it would do on a node."""
    (line,) = [line for line in commands if "ray start" in line]
    words = shlex.split(line.partition("ray start")[2])
    return start.make_context("ray start", words).params


@cloud
def test_the_dashboard_is_on_the_loopback_and_the_token_is_asked_for(cloud: str) -> None:
    prepared = check(config(cloud))
    head, worker = (start_options(prepared[f"{kind}_start_ray_commands"]) for kind in ("head", "worker"))
    assert head["head"] and head["dashboard_host"] == "127.0.0.1"
    assert head["autoscaling_config"] == "~/ray_bootstrap_config.yaml"
    assert worker["address"] == "$RAY_HEAD_IP:6379" and not worker["head"]
    assert "0.0.0.0" not in str(prepared)
    assert prepared["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    for commands in ("head_setup_commands", "worker_setup_commands"):
        assert any("RAY_AUTH_MODE=token" in line and ".bashrc" in line for line in prepared[commands])


@cloud
def test_what_is_copied_is_there_and_is_what_an_installation_needs(cloud: str) -> None:
    mounts = config(cloud)["file_mounts"]
    mounted = {Path(remote).relative_to("/home/ubuntu"): local for remote, local in mounts.items()}
    copied = {path.name for path in mounted if path.parts[0] == "nascluster"}
    assert copied == sources() | {"spot-notice.sh"}, "the nodes and the image are installed from the same"
    for path, local in mounted.items():
        if path.parts[0] == "nascluster":
            assert (ROOT / local).exists(), local
            assert Path(local).name == path.name


@cloud
def test_every_command_is_sound_shell(cloud: str) -> None:
    prepared = check(config(cloud))
    lines = [line for key, value in prepared.items() if key.endswith("_commands") for line in value]
    assert len(lines) > 10
    for line in lines:
        done = subprocess.run(["bash", "-n"], input=line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (line, done.stderr)
    assert any(re.search(rf"spot-notice.sh {cloud} <", line) for line in prepared["worker_start_ray_commands"])


def test_a_security_group_of_ones_own_is_the_only_one() -> None:
    """Ray adds a rule that lets everybody try SSH to each group that it makes, whatever else is written for that."""
    text, chosen = re.subn(r"# (SecurityGroupIds:)", r"\1", CLOUDS["aws"].read_text())
    assert chosen == 3
    prepared = check(yaml.safe_load(text))
    # Ray would ask AWS if there were anything left to make.
    types = _configure_security_group(prepared)["available_node_types"].values()
    assert {tuple(node_type["node_config"]["SecurityGroupIds"]) for node_type in types} == {("sg-00000000000000000",)}


def programs(folder: Path, scripts: dict[str, str]) -> dict[str, str]:
    """An environment in which these programs are found before all others; each notes how it was called."""
    folder.mkdir()
    for name, script in scripts.items():
        path = folder / name
        path.write_text(f'#!/bin/bash\necho "{name} $*" >> {folder}/calls\n{script}\n')
        path.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


@cloud
@pytest.mark.parametrize("code", [0, 100])
def test_a_machine_that_is_updating_itself_is_waited_for(cloud: str, code: int, tmp_path: Path) -> None:
    (command,) = [line for line in config(cloud)["setup_commands"] if "apt-get" in line]
    busy = f'if [ "$2" = update ]; then [ $(grep -c "^apt-get -qq update" {tmp_path}/bin/calls) -gt 2 ] || exit 100; '
    scripts = {"sudo": 'exec env "$@"', "apt-get": f"{busy}else exit {code}; fi", "sleep": "true"}
    environment = programs(tmp_path / "bin", scripts)
    done = subprocess.run(["bash", "-c", f"({command})"], env=environment, check=False)
    assert done.returncode == code
    called = (tmp_path / "bin" / "calls").read_text().splitlines()
    aptly = [line for line in called if line.startswith("apt-get ")]
    assert [line.split()[2] for line in aptly[:3]] == ["update"] * 3 and "install python3-venv" in aptly[3]
    assert len(aptly) == 4
    assert called.count("sleep 10") == 2
