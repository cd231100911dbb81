"""The fields of KubeRay's resources and of the Kubernetes objects in them: JSON schemas that let nothing else pass.

Written from the published references: of KubeRay 1.6.2
(https://docs.ray.io/en/latest/cluster/kubernetes/references/api.html) every field of the types that are used here; of
Kubernetes (https://kubernetes.io/docs/reference/kubernetes-api/) of containers, pods and volumes those that such a file
may well have. A field that is missing here is to be looked up there and added.
"""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
YES: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
QUANTITIES: Schema = {
    "type": "object",
    "additionalProperties": {"type": "string", "pattern": "^[0-9]+(m|[EPTGMK]i?)?$"},
}


def record(*required: str, **fields: Schema) -> Schema:
    """A mapping that has these fields and no others."""
    return {"type": "object", "properties": fields, "required": [*required], "additionalProperties": False}


def many(items: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": items}


def one_of(*values: str) -> Schema:
    """One of these words."""
    return {"enum": [*values]}


METADATA = record(name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS)

_REQUIREMENTS = record(requests=QUANTITIES, limits=QUANTITIES)

_KEY = record("name", "key", name=TEXT, key=TEXT, optional=YES)

_VALUE_FROM = record(secretKeyRef=_KEY, configMapKeyRef=_KEY, fieldRef=record("fieldPath", fieldPath=TEXT))

_SECCOMP = record("type", type=one_of("RuntimeDefault", "Unconfined", "Localhost"), localhostProfile=TEXT)

_ENV = many(record("name", name=TEXT, value=TEXT, valueFrom=_VALUE_FROM))

_ENV_FROM = many(record(secretRef=record("name", name=TEXT), configMapRef=record("name", name=TEXT), prefix=TEXT))

_MOUNTS = many(record("name", "mountPath", name=TEXT, mountPath=TEXT, subPath=TEXT, readOnly=YES))

_CONTAINER_SECURITY = record(
    allowPrivilegeEscalation=YES,
    capabilities=record(add=many(TEXT), drop=many(TEXT)),
    privileged=YES,
    readOnlyRootFilesystem=YES,
    runAsGroup=COUNT,
    runAsNonRoot=YES,
    runAsUser=COUNT,
    seccompProfile=_SECCOMP,
)

_CONTAINER = record(
    "name",
    "image",
    name=TEXT,
    image=TEXT,
    imagePullPolicy=one_of("Always", "IfNotPresent", "Never"),
    command=many(TEXT),
    args=many(TEXT),
    workingDir=TEXT,
    env=_ENV,
    envFrom=_ENV_FROM,
    ports=many(record("containerPort", name=TEXT, containerPort=COUNT, protocol=one_of("TCP", "UDP"))),
    resources=_REQUIREMENTS,
    securityContext=_CONTAINER_SECURITY,
    volumeMounts=_MOUNTS,
)

_VOLUME = record(
    "name",
    name=TEXT,
    emptyDir=record(medium=one_of("", "Memory"), sizeLimit=TEXT),
    persistentVolumeClaim=record("claimName", claimName=TEXT, readOnly=YES),
    configMap=record("name", name=TEXT, defaultMode=COUNT),
    secret=record("secretName", secretName=TEXT, defaultMode=COUNT),
)

_TOLERATION = record(
    key=TEXT,
    operator=one_of("Exists", "Equal"),
    value=TEXT,
    effect=one_of("NoSchedule", "PreferNoSchedule", "NoExecute"),
    tolerationSeconds=COUNT,
)

_POD = record(
    "containers",
    containers=many(_CONTAINER),
    initContainers=many(_CONTAINER),
    volumes=many(_VOLUME),
    nodeSelector=TEXTS,
    tolerations=many(_TOLERATION),
    priorityClassName=TEXT,
    restartPolicy=one_of("Always", "OnFailure", "Never"),
    imagePullSecrets=many(record("name", name=TEXT)),
    securityContext=record(fsGroup=COUNT, runAsGroup=COUNT, runAsNonRoot=YES, runAsUser=COUNT, seccompProfile=_SECCOMP),
    serviceAccountName=TEXT,
    automountServiceAccountToken=YES,
    terminationGracePeriodSeconds=COUNT,
)

_TEMPLATE = record("spec", metadata=METADATA, spec=_POD)

_AUTOSCALER = record(
    resources=_REQUIREMENTS,
    image=TEXT,
    imagePullPolicy=one_of("Always", "IfNotPresent", "Never"),
    securityContext=_CONTAINER_SECURITY,
    idleTimeoutSeconds=COUNT,
    upscalingMode=one_of("Default", "Aggressive", "Conservative"),
    version=one_of("v1", "v2"),
    env=_ENV,
    envFrom=_ENV_FROM,
    volumeMounts=_MOUNTS,
)

_REDIS = record(value=TEXT, valueFrom=_VALUE_FROM)

_HEAD = record(
    "template",
    template=_TEMPLATE,
    headService={"type": "object"},
    enableIngress=YES,
    resources=TEXTS,
    labels=TEXTS,
    rayStartParams=TEXTS,
    serviceType=one_of("ClusterIP", "NodePort", "LoadBalancer"),
)

_WORKERS = record(
    # The custom resource wants no more than a name and a template; the autoscaler's version of it wants both limits.
    "groupName",
    "minReplicas",
    "maxReplicas",
    "template",
    suspend=YES,
    groupName=TEXT,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    idleTimeoutSeconds=COUNT,
    resources=TEXTS,
    labels=TEXTS,
    rayStartParams=TEXTS,
    template=_TEMPLATE,
    scaleStrategy=record(workersToDelete=many(TEXT)),
    numOfHosts=COUNT,
)

_CLUSTER = record(
    "headGroupSpec",
    upgradeStrategy=record(type=one_of("Recreate", "None")),
    authOptions=record(mode=one_of("disabled", "token"), secretName=TEXT, enableK8sTokenAuth=YES),
    suspend=YES,
    managedBy=TEXT,
    autoscalerOptions=_AUTOSCALER,
    headServiceAnnotations=TEXTS,
    enableInTreeAutoscaling=YES,
    gcsFaultToleranceOptions=record(
        redisUsername=_REDIS, redisPassword=_REDIS, externalStorageNamespace=TEXT, redisAddress=TEXT
    ),
    headGroupSpec=_HEAD,
    rayVersion=TEXT,
    workerGroupSpecs=many(_WORKERS),
)

_DELETION = record("policy", policy=one_of("DeleteCluster", "DeleteWorkers", "DeleteSelf", "DeleteNone"))

_JOB = record(
    "entrypoint",
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    backoffLimit=COUNT,
    rayClusterSpec=_CLUSTER,
    submitterPodTemplate=_TEMPLATE,
    metadata=TEXTS,
    clusterSelector=TEXTS,
    submitterConfig=record(backoffLimit=COUNT),
    managedBy=TEXT,
    deletionStrategy=record(onSuccess=_DELETION, onFailure=_DELETION, deletionRules=many({"type": "object"})),
    entrypoint=TEXT,
    runtimeEnvYAML=TEXT,
    jobId=TEXT,
    submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    entrypointResources=TEXT,
    entrypointNumCpus={"type": "number"},
    entrypointNumGpus={"type": "number"},
    ttlSecondsAfterFinished=COUNT,
    preRunningDeadlineSeconds={"type": "integer", "minimum": 1},
    shutdownAfterJobFinishes=YES,
    suspend=YES,
)

_SELECTOR = record(matchLabels=TEXTS)

_POLICY = record(
    "podSelector",
    podSelector=_SELECTOR,
    policyTypes=many(one_of("Ingress", "Egress")),
    ingress=many(
        record(
            **{"from": many(record(podSelector=_SELECTOR, namespaceSelector=_SELECTOR))},
            ports=many(record(protocol=one_of("TCP", "UDP"), port=COUNT)),
        )
    ),
)


def _resource(version: str, kind: str, **fields: Schema) -> Schema:
    head = {"apiVersion": one_of(version), "kind": one_of(kind), "metadata": METADATA}
    return record(*head, *fields, **head, **fields)


SCHEMAS: dict[str, Schema] = {
    "RayCluster": _resource("ray.io/v1", "RayCluster", spec=_CLUSTER),
    "RayJob": _resource("ray.io/v1", "RayJob", spec=_JOB),
    "ServiceAccount": _resource("v1", "ServiceAccount"),
    "NetworkPolicy": _resource("networking.k8s.io/v1", "NetworkPolicy", spec=_POLICY),
}
"""By kind; the metadata's name is required besides."""
