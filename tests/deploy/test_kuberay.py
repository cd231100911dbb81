"""The files for Kubernetes: what KubeRay's reference and Ray's autoscaler say to them, and what this project asks."""

import shlex
from copy import deepcopy
from importlib.metadata import version
from typing import Any

import jsonschema
import pytest
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.scripts.scripts import start

from tests.deploy.dockerfile import copies
from tests.deploy.files import DEPLOY, MARKET, POOL, documents, mappings, with_key
from tests.deploy.kuberay_schema import SCHEMAS

FILES = sorted((DEPLOY / "kuberay").glob("*.yaml"))

OURS = {"app.kubernetes.io/part-of": "nascluster"}
"""The label of our pods. KubeRay has its own use for `app.kubernetes.io/name`, by which its services find the head."""

FREE = ("labels", "matchLabels", "annotations", "nodeSelector", "requests", "limits", "rayStartParams", "resources")
"""Mappings whose keys are the user's (and one in which there are such mappings)."""


def everything() -> list[dict[str, Any]]:
    return [document for file in FILES for document in documents(file)]


def the(kind: str) -> dict[str, Any]:
    (found,) = (document for document in everything() if document["kind"] == kind)
    return found


def clusters() -> dict[str, dict[str, Any]]:
    """The specification of a cluster that stands in each of the two resources."""
    return {"RayCluster": the("RayCluster")["spec"], "RayJob": the("RayJob")["spec"]["rayClusterSpec"]}


def groups(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {"head": spec["headGroupSpec"], **{group["groupName"]: group for group in spec["workerGroupSpecs"]}}


def check(document: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(SCHEMAS[document["kind"]]).validate(document)


cluster = pytest.mark.parametrize("cluster", ["RayCluster", "RayJob"])


def test_every_resource_has_the_fields_of_its_kind_and_no_others() -> None:
    found = everything()
    assert {document["kind"] for document in found} == SCHEMAS.keys()
    for document in found:
        check(document)
        assert document["metadata"]["name"] == ("nascluster-run" if document["kind"] == "RayJob" else "nascluster")


def test_no_two_resources_have_kuberay_make_the_same_service() -> None:
    """It makes NAME-head-svc for a RayCluster and, since it looks after jobs, for a RayJob."""
    assert the("RayCluster")["metadata"]["name"] != the("RayJob")["metadata"]["name"]


def test_an_unknown_key_is_refused_wherever_it_stands() -> None:
    tried = 0
    for document in everything():
        for path in mappings(document):
            if not (path and path[-1] in FREE):
                with pytest.raises(jsonschema.ValidationError):
                    check(with_key(document, path, "idelTimeout", "5"))
                tried += 1
    assert tried > 100


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("spec",), "submissionMode", "HttpMode"),
        (("spec",), "backoffLimit", "5"),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams"), "num-cpus", 0),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0), "minReplicas", -1),
        (("spec", "rayClusterSpec", "autoscalerOptions"), "version", 2),
    ],
)
def test_a_wrong_value_is_refused(path: tuple[str | int, ...], key: str, value: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check(with_key(the("RayJob"), path, key, value))


@pytest.mark.parametrize("key", ["entrypoint", "rayClusterSpec"])
def test_what_is_required_may_not_be_missing(key: str) -> None:
    job = deepcopy(the("RayJob"))
    if key == "entrypoint":
        del job["spec"][key]
    else:
        del job["spec"][key]["headGroupSpec"]
    with pytest.raises(jsonschema.ValidationError):
        check(job)


@cluster
def test_rays_autoscaler_understands_the_groups(cluster: str) -> None:
    """By the code with which it reads the resource, which ends in Ray's own `validate_config`."""
    resource = {"metadata": {"name": "nascluster", "namespace": "default"}, "spec": clusters()[cluster]}
    config = _derive_autoscaling_config_from_ray_cr(resource)
    types = config["available_node_types"]
    stable = {POOL: "stable", MARKET: "on-demand"}
    children = {POOL: "children", MARKET: "spot"}
    assert {name: node_type["labels"] for name, node_type in types.items()} == {
        "headgroup": stable, "stable": stable, "children": children,
    }  # fmt: skip
    assert {name: node_type["resources"].get("GPU", 0) for name, node_type in types.items()} == {
        "headgroup": 0, "stable": 0, "children": 1,
    }  # fmt: skip
    assert (types["children"]["min_workers"], types["children"]["max_workers"]) == (0, 12)
    assert config["idle_timeout_minutes"] <= 10


@cluster
def test_the_operator_asks_for_the_token_and_the_ray_that_is_in_the_image(cluster: str) -> None:
    spec = clusters()[cluster]
    assert spec["authOptions"] == {"mode": "token", "secretName": "nascluster-token"}
    assert spec["rayVersion"] == version("ray")
    assert spec["enableInTreeAutoscaling"] and spec["autoscalerOptions"]["version"] == "v2"


@cluster
def test_ray_knows_the_parameters_that_it_is_started_with(cluster: str) -> None:
    for group in groups(clusters()[cluster]).values():
        words = [f"--{name}={value}" for name, value in group["rayStartParams"].items()]
        assert start.make_context("ray start", words)


def test_the_dashboard_is_for_nobody_but_who_must_reach_it() -> None:
    hosts = {kind: spec["headGroupSpec"]["rayStartParams"]["dashboard-host"] for kind, spec in clusters().items()}
    assert hosts["RayCluster"] == "127.0.0.1"
    # KubeRay's operator submits a RayJob over the pods' network; so there is a policy that lets it alone come near.
    policy = the("NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == OURS and policy["policyTypes"] == ["Ingress"]
    own, operator = policy["ingress"]
    assert own == {"from": [{"podSelector": {"matchLabels": OURS}}]}
    assert operator["ports"] == [{"protocol": "TCP", "port": 8265}]
    assert operator["from"][0]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "kuberay-operator"}


@cluster
def test_every_pod_is_covered_by_the_policy_and_is_not_root(cluster: str) -> None:
    spec = clusters()[cluster]
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    for group in groups(spec).values():
        template = group["template"]
        assert template["metadata"]["labels"] == OURS
        assert template["spec"]["serviceAccountName"] == the("ServiceAccount")["metadata"]["name"]
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        (container,) = template["spec"]["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["resources"]["requests"] == container["resources"]["limits"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in template["spec"]["volumes"]}


@cluster
def test_the_autoscaler_writes_where_the_head_reads(cluster: str) -> None:
    """KubeRay mounts the volume of this name into its own container, and makes another where there is none."""
    pod = clusters()[cluster]["headGroupSpec"]["template"]["spec"]
    mounted = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounted["/tmp/ray"] == "ray-logs"
    assert {"name": "ray-logs", "emptyDir": {}} in pod["volumes"]


def test_the_two_clusters_are_one_but_for_what_they_are_for() -> None:
    standing, jobs = clusters().values()
    assert standing.pop("suspend") is True, "applying the folder brings up one cluster, not two"
    for spec in (standing, jobs):
        del spec["headGroupSpec"]["rayStartParams"]["dashboard-host"]
    assert standing == jobs


def test_a_retry_of_the_job_resumes_the_run() -> None:
    spec = the("RayJob")["spec"]
    script, name, storage, *_ = shlex.split(spec["entrypoint"])
    in_image = [source for names, _ in copies() for source in names if source.endswith(f"/{script}")]
    assert in_image == [f"deploy/kuberay/{script}"]
    assert (DEPLOY / "kuberay" / script).stat().st_mode & 0o111, "it can be run"
    assert name and "://" in storage, "what a retry goes on from is not on a pod's disk"
    assert spec["backoffLimit"] > 0
    # In the other modes KubeRay does not submit the job again to a head that was started again.
    assert spec["submissionMode"] == "HTTPMode"
    assert spec["shutdownAfterJobFinishes"] is True


def test_a_preempted_pod_drains_before_it_is_killed() -> None:
    for spec in clusters().values():
        pod = groups(spec)["children"]["template"]["spec"]
        (env,) = pod["containers"][0]["env"]
        assert env["name"] == "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
        assert 0 < float(env["value"]) < pod["terminationGracePeriodSeconds"]
