"""Validates rendered manifests strictly, and what Kubernetes cannot know: numbers that belong together."""

import sys

import kubernetes_validate
import yaml

# Kinds whose schemas are not Kubernetes' own. They are named here, so that no other is passed over.
FOREIGN = {"ScaledObject", "TriggerAuthentication"}


def main(path: str) -> None:
    with open(path, encoding="utf-8") as file:
        manifests = [manifest for manifest in yaml.safe_load_all(file) if manifest]
    assert manifests, f"{path} is empty"
    versions = [f"1.{minor}" for minor in newest_minors(3)]
    own = [manifest for manifest in manifests if manifest["kind"] not in FOREIGN]
    for version in versions:
        for manifest in own:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except Exception as error:
                sys.exit(f"{path}: {manifest['kind']} {manifest['metadata']['name']} in {version}: {error}")
    agree(path, manifests)
    foreign = len(manifests) - len(own)
    print(f"{path.rsplit('/', 1)[-1]}: {len(own)} manifests valid in {', '.join(versions)}; {foreign} of KEDA not validated")


def newest_minors(count: int) -> list[int]:
    latest = kubernetes_validate.latest_version()
    minor = int(latest.split(".")[1])
    return list(range(minor - count + 1, minor + 1))


def agree(path: str, manifests: list[dict]) -> None:
    """The grace period, the number of lanes and the selectors are said in several places; they must say the same."""
    by_kind: dict[str, list[dict]] = {}
    for manifest in manifests:
        by_kind.setdefault(manifest["kind"], []).append(manifest)
    deployments = by_kind["Deployment"]
    for kind, selector in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        chosen = [manifest["spec"][selector]["matchLabels"] for manifest in by_kind[kind]]
        for deployment in deployments:
            labels = deployment["spec"]["template"]["metadata"]["labels"]
            matching = [one for one in chosen if one.items() <= labels.items()]
            assert len(matching) == 1, f"{path}: {len(matching)} of kind {kind} for {deployment['metadata']['name']}"
    for deployment in deployments:
        reached(path, deployment, by_kind)
    for configuration in by_kind.get("ConfigMap", []):
        fides = yaml.safe_load(configuration["data"]["fides.yaml"])
        for deployment in deployments:
            pod = deployment["spec"]["template"]["spec"]
            mounted = [volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume]
            assert mounted == [configuration["metadata"]["name"]], f"{path}: mounts {mounted}"
            assert pod["terminationGracePeriodSeconds"] > fides["service"]["grace_seconds"], f"{path}: killed within the grace"
        for scaled in by_kind.get("ScaledObject", []):
            lanes, most = fides["limits"]["lanes"], scaled["spec"]["maxReplicaCount"]
            assert most == lanes, f"{path}: at most {most} consumers for {lanes} lanes"
            assert scaled["spec"]["scaleTargetRef"]["name"] in [one["metadata"]["name"] for one in deployments]


def reached(path: str, deployment: dict, by_kind: dict[str, list[dict]]) -> None:
    """Ports have one name wherever they are named, and a token comes from a Secret."""
    template = deployment["spec"]["template"]
    container = template["spec"]["containers"][0]
    named = {port["name"] for port in container["ports"]}
    asked = {container[probe]["httpGet"]["port"] for probe in ("livenessProbe", "readinessProbe")}
    labels = template["metadata"]["labels"].items()
    for policy in by_kind["NetworkPolicy"]:
        if policy["spec"]["podSelector"]["matchLabels"].items() <= labels:
            asked |= {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
    for service in by_kind.get("Service", []):
        if service["spec"]["selector"].items() <= labels:
            asked |= {port["targetPort"] for port in service["spec"]["ports"]}
    assert asked <= named, f"{path}: {deployment['metadata']['name']} has the ports {named}, asked for are {asked}"
    bare = [one["name"] for one in container["env"] if "TOKEN" in one["name"] and "valueFrom" not in one]
    assert not bare, f"{path}: {bare} of {deployment['metadata']['name']} are written out"


main(sys.argv[1])
