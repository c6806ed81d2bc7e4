"""Renders the Helm chart as Helm does, and checks every object against the schemas of Kubernetes."""

import copy
import pathlib
import sys

import helm_python as helm
import kubernetes_validate
import yaml

CHART = pathlib.Path(__file__).parent / "helm" / "postrider"
# The oldest that the chart allows, and the newest there is a schema for.
VERSIONS = ["1.27", "1.37"]

# Values to render with, by what they show.
SCALED = {"processes": {name: {"autoscale": {"enabled": True}} for name in ("front", "dispatch")}}
CASES = {
    "defaults": {},
    "TLS": {"grpc": {"tlsSecretName": "certificate"}},
    "autoscaling": SCALED,
    "callbacks from outside": {
        "receive": {
            "publicUrl": "https://callbacks.example.com",
            "ingress": {"enabled": True, "className": "nginx", "tlsSecretName": "callbacks"},
        }
    },
    "one process of everything": {
        "processes": {
            "front": {"replicas": 1},
            "dispatch": {"replicas": 1},
            "feed": {"replicas": 1},
            "record": {"replicas": 1},
        },
        "extraEnv": [{"name": "CARRIER_A", "value": "x"}],
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "priorityClassName": "high",
        "imagePullSecrets": [{"name": "registry"}],
        "podAnnotations": {"a": "b"},
    },
}
# Values that must be refused.
REFUSED = {
    "an unknown role": {"processes": {"front": {"roles": "frond"}}},
    "a stop shorter than the grace time": {"terminationGracePeriodSeconds": 20},
    "an unknown value": {"replicaCount": 3},
    "callbacks without TLS": {"receive": {"publicUrl": "http://callbacks.example.com"}},
    "an ingress without a certificate": {"receive": {"ingress": {"enabled": True}}},
}


def objects(chart, values):
    rendered = chart.render(values, name="postrider", namespace="messages")
    texts = [text for name, text in sorted(rendered.items()) if name.endswith(".yaml")]
    return [each for text in texts for each in yaml.safe_load_all(text) if each]


def check_schema(case, each, wrong):
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(copy.deepcopy(each), version, strict=True)
        except kubernetes_validate.ValidationError as error:
            wrong.append(f"{case}: {each['kind']} {each['metadata']['name']} on {version}: {error.message}")


def check_meaning(case, found, wrong):
    """What no schema knows: labels that select, volumes that are mounted, objects that are there."""

    def named(kind):
        return {each["metadata"]["name"]: each for each in found if each["kind"] == kind}

    deployments = named("Deployment")
    if sorted(deployments) != [f"postrider-{name}" for name in ("dispatch", "feed", "front", "record")]:
        wrong.append(f"{case}: deployments are {sorted(deployments)}")
    for name, each in deployments.items():
        pod = each["spec"]["template"]["spec"]
        labels = each["spec"]["template"]["metadata"]["labels"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        mounts = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        if volumes != mounts:
            wrong.append(f"{case}: {name}: volumes {volumes} and mounts {mounts} differ")
        if not each["spec"]["selector"]["matchLabels"].items() <= labels.items():
            wrong.append(f"{case}: {name} does not select its own pods")
        env = {variable["name"] for variable in pod["containers"][0]["env"]}
        if ("POSTRIDER_GRPC_LISTEN" in env) != (name == "postrider-front"):
            wrong.append(f"{case}: {name}: only a front listens")
        if ("POSTRIDER_RECEIVE_LISTEN" in env) != (name == "postrider-dispatch"):
            wrong.append(f"{case}: {name}: callbacks come to dispatch")
    for service, port, wanted in (("postrider", "grpc", "front"), ("postrider-callbacks", "callbacks", "dispatch")):
        spec = named("Service")[service]["spec"]
        selected = [
            name
            for name, each in deployments.items()
            if spec["selector"].items() <= each["spec"]["template"]["metadata"]["labels"].items()
        ]
        if selected != [f"postrider-{wanted}"]:
            wrong.append(f"{case}: the service {service} selects {selected}")
        containers = deployments[f"postrider-{wanted}"]["spec"]["template"]["spec"]["containers"]
        ports = {each["name"] for each in containers[0]["ports"]}
        if spec["ports"][0]["targetPort"] != port or port not in ports:
            wrong.append(f"{case}: the service {service} leads to {spec['ports']}, its pods have {ports}")
    for ingress in named("Ingress").values():
        rule = ingress["spec"]["rules"][0]
        if (rule["host"], rule["http"]["paths"][0]["path"]) != ("callbacks.example.com", "/callback/"):
            wrong.append(f"{case}: the ingress leads {rule}")
    several = sorted(name for name, each in deployments.items() if each["spec"].get("replicas", 2) > 1)
    if sorted(named("PodDisruptionBudget")) != several:
        wrong.append(f"{case}: budgets are {sorted(named('PodDisruptionBudget'))}, wanted {several}")
    scaled = sorted(named("HorizontalPodAutoscaler"))
    if scaled != (["postrider-dispatch", "postrider-front"] if case == "autoscaling" else []):
        wrong.append(f"{case}: scalers are {scaled}")


def main():
    findings = helm.lint(str(CHART))["messages"]
    # A chart that nobody shows in a shop needs no icon.
    wrong = [f"{each['path']}: {each['error']}" for each in findings if each["error"] != "icon is recommended"]
    with helm.Chart.load(str(CHART)) as chart:
        for case, values in CASES.items():
            found = objects(chart, values)
            for each in found:
                check_schema(case, each, wrong)
            check_meaning(case, found, wrong)
            print(f"{case}: {len(found)} objects")
        for case, values in REFUSED.items():
            try:
                chart.validate_schema(chart.merge_values(values))
                wrong.append(f"{case} is not refused")
            except helm.HelmError:
                pass
    print("\n".join(wrong), file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
