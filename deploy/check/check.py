"""Checks what is in deploy/, compose.yaml and the Containerfile, as far as that goes without a cluster and an engine.

    deploy/check/check.py APP       APP is the built program, which is asked for its settings

Every overlay is rendered by kubectl kustomize. Every object must satisfy the schemas of Kubernetes (the oldest and the
newest supported version) or the models of KEDA's and the Prometheus operator's custom resources, unknown keys included,
and the rules in rules.py. compose.yaml is read by docker compose itself, the Containerfile by hadolint. At the end the
rules are checked themselves: defects are put in, and each must be objected to.
"""

import copy
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import kubernetes_validate
import yaml
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as prometheus_operator

import rules

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = pathlib.Path(sys.executable).parent
# preStop's sleep is on by default since 1.30.
VERSIONS = ["1.30", "1.37"]
CUSTOM = {
    "ScaledObject": keda.ScaledObject,
    "TriggerAuthentication": keda.TriggerAuthentication,
    "ServiceMonitor": prometheus_operator.ServiceMonitor,
    "PodMonitor": prometheus_operator.PodMonitor,
    "PrometheusRule": prometheus_operator.PrometheusRule,
}


def run(*command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def render(folder):
    text = run(TOOLS / "kubectl", "kustomize", folder)
    return [document for document in yaml.safe_load_all(text) if document]


def schema_objections(thing):
    kind, name = thing["kind"], thing["metadata"]["name"]
    if kind in CUSTOM:
        try:
            known = CUSTOM[kind].model_validate(thing).model_dump(by_alias=True, exclude_unset=True, mode="json")
        except ValueError as error:
            return [f"{kind}/{name}: {error}"]
        # The models leave out what they do not know.
        return [f"{kind}/{name}: unknown key {path}" for path in lost(thing, known)]
    objections = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            objections.append(f"{kind}/{name} in {version}: {error.message} at {list(error.path)}")
        except kubernetes_validate.SchemaNotFoundError:
            objections.append(f"{kind}/{name}: no schema of this kind")
    return objections


def lost(thing, known, path=""):
    if isinstance(thing, dict):
        for key, value in thing.items():
            if not isinstance(known, dict) or key not in known:
                yield f"{path}.{key}"
            else:
                yield from lost(value, known[key], f"{path}.{key}")
    elif isinstance(thing, list):
        for number, (one, other) in enumerate(zip(thing, known)):
            yield from lost(one, other, f"{path}[{number}]")


def image_objections(overlay):
    """Whoever copies an overlay and names an image of their own gets it in every container."""
    with tempfile.TemporaryDirectory() as folder:
        copied = pathlib.Path(folder) / "kubernetes"
        shutil.copytree(ROOT / "deploy/kubernetes", copied)
        file = copied / "overlays" / overlay.name / "kustomization.yaml"
        kustomization = yaml.safe_load(file.read_text())
        kustomization["images"] = [{"name": "longrun", "newName": "own.example.com/tasks", "newTag": "7.0.0"}]
        file.write_text(yaml.safe_dump(kustomization))
        for thing in render(file.parent):
            pod = thing.get("spec", {}).get("template", {}).get("spec", {})
            for container in pod.get("containers", []) + pod.get("initContainers", []):
                if container["image"] != "own.example.com/tasks:7.0.0":
                    yield f"{thing['kind']}/{thing['metadata']['name']}: keeps the image {container['image']}"


def settings_of(app):
    """The environment variables of each role, as --help lists them."""
    found = {}
    for role in ["serve", "work", "migrate"]:
        text = run(app, role, "--help")
        found[role] = {part.split("=")[0].split("]")[0] for part in text.split("[env: ")[1:]}
    return found


def check_compose(settings):
    compose = TOOLS / "docker-compose"
    profiles = ["--profile", "*"]
    everything = yaml.safe_load(run(compose, *profiles, "-f", "compose.yaml", "config"))
    # This docker-compose exits with 0 also where it cannot read the file.
    if not everything:
        return ["compose.yaml cannot be read: docker compose config says why"]
    plain = yaml.safe_load(run(compose, "-f", "compose.yaml", "config"))
    return rules.compose_objections(everything, plain, settings)


def defects(things):
    """Each defect with the name of the rule that must object to it."""

    def container(things, kind, name):
        return one(things, kind, name)["spec"]["template"]["spec"]["containers"][0]

    def one(things, kind, name):
        return next(thing for thing in things if (thing["kind"], thing["metadata"]["name"]) == (kind, name))

    def change(function):
        changed = copy.deepcopy(things)
        function(changed)
        return changed

    def misspell(things):
        container(things, "Deployment", "work-default")["env"].append({"name": "APP_GRAZE", "value": "1s"})

    yield "no setting of", change(misspell)
    yield "livenessProbe", change(lambda t: container(t, "Deployment", "serve").pop("livenessProbe"))
    yield "terminationGracePeriodSeconds", change(
        lambda t: one(t, "Deployment", "work-default")["spec"]["template"]["spec"].update(terminationGracePeriodSeconds=70)
    )
    yield "readOnlyRootFilesystem", change(
        lambda t: container(t, "Deployment", "serve")["securityContext"].pop("readOnlyRootFilesystem")
    )
    yield "selects no pod", change(
        lambda t: one(t, "Service", "serve")["spec"]["selector"].update({"app.kubernetes.io/component": "server"})
    )
    yield "scales nothing", change(
        lambda t: one(t, "ScaledObject", "work-default")["spec"]["scaleTargetRef"].update(name="work")
    )
    yield "two Deployments", change(
        lambda t: one(t, "Deployment", "work-heavy")["spec"]["selector"]["matchLabels"].pop("longrun.io/queue")
    )
    yield "no port", change(
        lambda t: container(t, "Deployment", "serve")["readinessProbe"]["httpGet"].update(port="htpp")
    )
    yield "does not wait for the migration", change(
        lambda t: one(t, "Deployment", "serve")["spec"]["template"]["spec"].pop("initContainers")
    )
    yield "has 0 disruption budgets", change(lambda t: t.remove(one(t, "PodDisruptionBudget", "work-heavy")))
    yield "holds up the draining", change(
        lambda t: one(t, "PodDisruptionBudget", "serve")["spec"].pop("unhealthyPodEvictionPolicy")
    )
    yield "refuses what is not named", change(
        lambda t: one(t, "NetworkPolicy", "everybody")["spec"].update(podSelector={"matchLabels": {"a": "b"}})
    )
    yield "which it does not serve", change(
        lambda t: one(t, "ScaledObject", "work-default")["spec"]["triggers"][0]["metadata"].update(
            url="http://serve.longrun.svc/autoscale/heavy"
        )
    )
    yield "do not find its job", change(lambda t: one(t, "ServiceMonitor", "serve")["spec"].pop("jobLabel"))
    yield "is not deploy/prometheus", change(
        lambda t: one(t, "PrometheusRule", "longrun")["spec"]["groups"][0]["rules"].pop()
    )
    yield "unknown key", change(lambda t: one(t, "ScaledObject", "work-default")["spec"].update(pollInterval=3))
    yield "Additional properties", change(lambda t: one(t, "Deployment", "serve")["spec"].update(replica=3))


def objections_to(things, settings):
    alerts = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())
    of_schemas = [objection for thing in things for objection in schema_objections(thing)]
    return of_schemas + rules.objections(things, settings) + list(rules.monitoring_objections(things, alerts))


def main(app):
    settings = settings_of(app)
    objections, count = [], 0
    overlays = sorted((ROOT / "deploy/kubernetes/overlays").iterdir())
    for overlay in overlays:
        things = render(overlay)
        count += len(things)
        found = objections_to(things, settings) + list(image_objections(overlay))
        objections += [f"{overlay.name}: {objection}" for objection in found]
    objections += check_compose(settings)
    run(TOOLS / "hadolint", "--failure-threshold", "info", "Containerfile")
    if objections:
        sys.exit("\n".join(objections))
    print(f"{count} objects of {len(overlays)} overlays, compose.yaml and the Containerfile are in order")

    full, number = render(ROOT / "deploy/kubernetes/overlays/full"), 0
    for words, things in defects(full):
        found = objections_to(things, settings)
        number += 1
        if not any(words in objection for objection in found):
            sys.exit(f"a defect went unnoticed: nothing says {words!r}, only {found}")
    print(f"{number} defects that were put in are objected to")


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]))
