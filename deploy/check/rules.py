"""Rules that no schema knows: what must hold between the objects, and what we promise of each pod."""

import itertools
import re

ALERTS = r'job=~"([^"]+)"'

# What docs/kubernetes.md asks the Secret to hold.
SECRET = {"DATABASE_URL", "REDIS_URL", "MONITOR_KEY"}
# After APP_GRACE: APP_STOP_TIMEOUT, handing back, and the end of the process.
AFTER_GRACE = 15
# serve gives requests in flight 20 s.
SERVE_LEAVES_WITHIN = 20
PER_SECOND = {"s": 1, "m": 60, "h": 3600}


def objections(things, settings):
    found = []
    deployments = [thing for thing in things if thing["kind"] == "Deployment"]
    for workload in deployments + [thing for thing in things if thing["kind"] == "Job"]:
        name = f"{workload['kind']}/{workload['metadata']['name']}"
        found += [f"{name}: {objection}" for objection in pod_objections(workload, settings)]
    for one, other in itertools.permutations(deployments, 2):
        if selects(one["spec"]["selector"]["matchLabels"], labels(other)):
            found.append(f"two Deployments select the same pods: {one['metadata']['name']}, {other['metadata']['name']}")
    for deployment in deployments:
        found += [f"Deployment/{deployment['metadata']['name']}: {o}" for o in eviction_objections(deployment, things)]
    for thing in things:
        found += [f"{thing['kind']}/{thing['metadata']['name']}: {o}" for o in reference_objections(thing, things)]
    policies = [thing["spec"] for thing in things if thing["kind"] == "NetworkPolicy"]
    if {"Ingress", "Egress"} not in [set(policy["policyTypes"]) for policy in policies if policy["podSelector"] == {}]:
        found.append("no NetworkPolicy refuses what is not named")
    return found


def eviction_objections(deployment, things):
    budgets = [
        thing["spec"]
        for thing in things
        if thing["kind"] == "PodDisruptionBudget" and selects(thing["spec"]["selector"]["matchLabels"], labels(deployment))
    ]
    if len(budgets) != 1:
        yield f"has {len(budgets)} disruption budgets: with more than one nothing can be evicted"
    elif budgets[0].get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
        yield "holds up the draining of a node while it is not ready"


def monitoring_objections(things, alerts):
    """The alerts are those of deploy/prometheus, and find the jobs that the monitors make."""
    for thing in things:
        name = f"{thing['kind']}/{thing['metadata']['name']}"
        if thing["kind"] == "PrometheusRule" and thing["spec"]["groups"] != alerts["groups"]:
            yield f"{name}: is not deploy/prometheus/alerts.yaml"
        if thing["kind"] in ("ServiceMonitor", "PodMonitor"):
            spec = thing["spec"]
            kinds = ["Service"] if thing["kind"] == "ServiceMonitor" else ["Deployment"]
            found = [labels(t) if "template" in t["spec"] else t["metadata"]["labels"] for t in things if t["kind"] in kinds]
            for target in [target for target in found if selects(spec["selector"]["matchLabels"], target)]:
                job = target.get(spec.get("jobLabel"), "")
                jobs = re.findall(ALERTS, str(alerts))
                if not jobs or not all(re.fullmatch(wanted, job) for wanted in jobs):
                    yield f"{name}: the alerts do not find its job {job!r}"


def pod_objections(workload, settings):
    pod = workload["spec"]["template"]["spec"]
    role = workload["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "runs as root or without seccomp"
    if pod.get("automountServiceAccountToken") is not False:
        yield "gets a token for the Kubernetes API"
    for container in pod["containers"] + pod.get("initContainers", []):
        yield from container_objections(container, settings)
    if role == "migrate":
        return
    waits = [init for init in pod.get("initContainers", []) if init["args"][:3] == ["migrate", "--check", "--wait"]]
    if not waits:
        yield "does not wait for the migration"
    main = pod["containers"][0]
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"]:
        get = main.get(probe, {}).get("httpGet")
        if get is None:
            yield f"has no {probe}"
        elif get["port"] not in [port["name"] for port in main["ports"]]:
            yield f"{probe} asks no port of the container"
    yield from grace_objections(role, pod, main)
    if len(pod.get("topologySpreadConstraints", [])) < 2:
        yield "is not spread over zones and hosts"


def grace_objections(role, pod, main):
    env = {entry["name"]: entry.get("value") for entry in main["env"]}
    if role == "work":
        needed = seconds(env["APP_GRACE"]) + max(AFTER_GRACE, seconds(env["APP_STOP_TIMEOUT"]) + 10)
    else:
        needed = main["lifecycle"]["preStop"]["sleep"]["seconds"] + SERVE_LEAVES_WITHIN + 5
    if pod["terminationGracePeriodSeconds"] < needed:
        yield f"terminationGracePeriodSeconds is less than {needed}"


def container_objections(container, settings):
    context = container.get("securityContext", {})
    if context.get("readOnlyRootFilesystem") is not True:
        yield "readOnlyRootFilesystem is not set"
    if context.get("allowPrivilegeEscalation") is not False or context.get("capabilities") != {"drop": ["ALL"]}:
        yield "may gain privileges"
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= resources.get("requests", {}).keys() or "memory" not in resources.get("limits", {}):
        yield "requests no CPU or memory, or has no limit of memory"
    if ":" not in container["image"] or container["image"].endswith(":latest"):
        yield f"the image {container['image']} has no version"
    role = container["args"][0]
    for entry in container.get("env", []):
        if entry["name"] not in settings[role]:
            yield f"{entry['name']} is no setting of {role}"
        source = entry.get("valueFrom", {}).get("secretKeyRef")
        if source is not None and (source["name"] != "longrun" or source["key"] not in SECRET):
            yield f"{source['name']}/{source['key']} is not in the Secret of docs/kubernetes.md"
        if source is None and ("URL" in entry["name"] and "@" in entry["value"]):
            yield f"{entry['name']} has a secret in the open"


def reference_objections(thing, things):
    spec = thing.get("spec", {})
    pods = [labels(other) for other in things if other["kind"] in ("Deployment", "Job")]
    if thing["kind"] == "Deployment" and not selects(spec["selector"]["matchLabels"], labels(thing)):
        yield "does not select its own pods"
    selector = {
        "Service": lambda: spec["selector"],
        "PodDisruptionBudget": lambda: spec["selector"]["matchLabels"],
        "PodMonitor": lambda: spec["selector"]["matchLabels"],
        "NetworkPolicy": lambda: spec["podSelector"].get("matchLabels", {}),
    }.get(thing["kind"])
    if selector is not None and not any(selects(selector(), pod) for pod in pods):
        yield "selects no pod"
    if thing["kind"] == "ServiceMonitor":
        services = [other["metadata"].get("labels", {}) for other in things if other["kind"] == "Service"]
        if not any(selects(spec["selector"]["matchLabels"], service) for service in services):
            yield "selects no Service"
    if thing["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
        names = [other["metadata"]["name"] for other in things if other["kind"] == "Deployment"]
        if spec["scaleTargetRef"]["name"] not in names:
            yield "scales nothing"
        for trigger in spec.get("triggers", []):
            queue = trigger["metadata"]["url"].rsplit("/", 1)[-1]
            scaled = [t for t in things if t["kind"] == "Deployment" and t["metadata"]["name"] == spec["scaleTargetRef"]["name"]]
            for deployment in scaled:
                env = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
                if {"name": "APP_QUEUES", "value": queue} not in env:
                    yield f"is scaled by the queue {queue}, which it does not serve"
        least = spec.get("minReplicas", spec.get("minReplicaCount"))
        if not 2 <= least <= spec.get("maxReplicas", spec.get("maxReplicaCount")):
            yield "its bounds are no bounds, or one pod may be all there is"


def compose_objections(everything, plain, settings):
    services = everything["services"]
    if "prometheus" in plain["services"] or "prometheus" not in services or "grafana" not in services:
        yield "compose.yaml: prometheus and grafana are not behind a profile"
    for role in ["serve", "work", "migrate"]:
        service = services[role]
        for name in service["environment"]:
            if name.startswith("APP_") and name not in settings[role]:
                yield f"compose.yaml: {name} is no setting of {role}"
        if not service.get("logging", {}).get("options", {}).get("max-size"):
            yield f"compose.yaml: the log of {role} grows without end"
        if not (service.get("read_only") and service.get("cap_drop") == ["ALL"]):
            yield f"compose.yaml: {role} has a writable root or capabilities"
    work = services["work"]
    needed = seconds(work["environment"]["APP_GRACE"]) + AFTER_GRACE
    if seconds(work["stop_grace_period"]) < needed:
        yield f"compose.yaml: work is killed before {needed} s"
    for name, service in services.items():
        for port in service.get("ports", []):
            if port.get("host_ip") != "127.0.0.1":
                yield f"compose.yaml: {name} is published to everybody"
    if "container_name" in work or work.get("ports"):
        yield "compose.yaml: work cannot be scaled"


def labels(workload):
    return workload["spec"]["template"]["metadata"]["labels"]


def selects(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


def seconds(text):
    """Reads 90s, 1m30s and 1h."""
    return sum(int(number) * PER_SECOND[unit] for number, unit in re.findall(r"(\d+)([smh])", text))
