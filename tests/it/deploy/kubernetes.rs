//! deploy/kubernetes: every manifest on its own, and all of them together.

use super::{changed, complaints, configured, image, list, place, read, text, yaml};
use birdwire::config::Config;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Where the pods and what they consist of are in the Deployment.
const POD: &str = "/spec/template/spec";
const CONTAINER: &str = "/spec/template/spec/containers/0";

/// Every manifest, by its file.
type Manifests = BTreeMap<String, Value>;

fn manifests() -> Manifests {
    let mut found = Manifests::new();
    for entry in std::fs::read_dir(place("kubernetes")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        found.insert(name.clone(), yaml(&read(&format!("kubernetes/{name}"))));
    }
    found
}

fn schema(of: &Value) -> Value {
    let mut schema: Value = serde_json::from_str(&read("schemas/kubernetes.json")).unwrap();
    let kind = format!("{}/{}", text(of, "/apiVersion"), text(of, "/kind"));
    assert!(schema["$defs"].get(&kind).is_some(), "deploy/schemas/update does not know the kind {kind}");
    schema["$ref"] = json!(format!("#/$defs/{}", kind.replace('/', "~1")));
    schema
}

/// The only one of its kind.
fn the<'m>(all: &'m Manifests, kind: &str) -> &'m Value {
    let mut found = all.values().filter(|manifest| manifest["kind"] == kind);
    let first = found.next().unwrap_or_else(|| panic!("there is no {kind}"));
    assert!(found.next().is_none(), "there are two of {kind}");
    first
}

/// Everything that is wrong.
fn wrong(all: &Manifests) -> Vec<String> {
    let mut wrong = Vec::new();
    for (file, manifest) in all.iter().filter(|(_, manifest)| manifest["kind"] != "Kustomization") {
        let found = complaints(&schema(manifest), manifest);
        wrong.extend(found.into_iter().map(|what| format!("{file}: {what}")));
    }
    let deployment = the(all, "Deployment");
    match configuration(all) {
        Ok(config) => wrong.extend(unlike(deployment, &config)),
        Err(what) => wrong.push(what),
    }
    wrong.extend(unsafe_pod(deployment));
    wrong.extend(unselected(all));
    let listed: BTreeSet<&str> =
        list(&all["kustomization.yaml"], "/resources").iter().filter_map(Value::as_str).collect();
    let there: BTreeSet<&str> = all.keys().map(String::as_str).filter(|file| *file != "kustomization.yaml").collect();
    if listed != there {
        wrong.push(format!("kustomization.yaml lists {listed:?}, there are {there:?}"));
    }
    if !list(&all["kustomization.yaml"], "/images")
        .iter()
        .any(|i| i["name"] == deployment.pointer(CONTAINER).unwrap()["image"])
    {
        wrong.push("kustomization.yaml: the image is not the Deployment's".to_owned());
    }
    wrong
}

/// The pods' configuration, from the ConfigMap that they mount and the Secret that they get as environment.
fn configuration(all: &Manifests) -> Result<Config, String> {
    let (deployment, map, secret) = (the(all, "Deployment"), the(all, "ConfigMap"), the(all, "Secret"));
    let mount = deployment.pointer(&format!("{CONTAINER}/volumeMounts/0")).ok_or("nothing is mounted")?;
    let volume = list(deployment, &format!("{POD}/volumes")).iter().find(|v| v["name"] == mount["name"]);
    if volume.map(|volume| text(volume, "/configMap/name")) != Some(text(map, "/metadata/name")) {
        return Err("what is mounted is not the ConfigMap".to_owned());
    }
    if text(mount, "/mountPath") != image().1 {
        return Err("the configuration is not mounted where the program looks for it".to_owned());
    }
    if text(deployment, &format!("{CONTAINER}/envFrom/0/secretRef/name")) != text(secret, "/metadata/name") {
        return Err("the environment is not the Secret's".to_owned());
    }
    let values = secret["stringData"].as_object().ok_or("the Secret has no stringData")?;
    let env = values.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()));
    configured(text(map, "/data/birdwire.toml"), env.collect())
}

/// Where the Deployment does not fit what the program is configured to do.
fn unlike(deployment: &Value, config: &Config) -> Vec<String> {
    let mut wrong = Vec::new();
    let container = deployment.pointer(CONTAINER).unwrap();
    let port = &container["ports"][0];
    if port["containerPort"] != config.server.listen.port() || config.server.listen.ip().is_loopback() {
        wrong.push("the container's port is not where the program listens".to_owned());
    }
    for (probe, path) in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        let get = &container[probe]["httpGet"];
        if get["path"] != path {
            wrong.push(format!("{probe} does not ask {path}"));
        }
        if get["port"] != port["name"] && get["port"] != port["containerPort"] {
            wrong.push(format!("{probe} asks another port"));
        }
    }
    let rests = text(container, "/lifecycle/preStop/exec/command/1").parse::<u64>().unwrap_or(0);
    let grace = deployment.pointer(&format!("{POD}/terminationGracePeriodSeconds")).and_then(Value::as_u64);
    if grace.unwrap_or(30) <= rests + (config.server.drain_delay + config.server.drain_timeout).as_secs() {
        wrong.push("the grace period is over before the drain".to_owned());
    }
    wrong
}

/// What Kubernetes' restricted profile asks for, and that a rollout takes no node away before there is another.
fn unsafe_pod(deployment: &Value) -> Vec<String> {
    let expected = [
        ("/spec/strategy/rollingUpdate/maxUnavailable", json!(0)),
        ("/spec/template/spec/enableServiceLinks", json!(false)),
        ("/spec/template/spec/securityContext/runAsNonRoot", json!(true)),
        ("/spec/template/spec/securityContext/runAsUser", json!(image().0)),
        ("/spec/template/spec/securityContext/seccompProfile/type", json!("RuntimeDefault")),
        ("/spec/template/spec/containers/0/securityContext/allowPrivilegeEscalation", json!(false)),
        ("/spec/template/spec/containers/0/securityContext/readOnlyRootFilesystem", json!(true)),
        ("/spec/template/spec/containers/0/securityContext/capabilities/drop", json!(["ALL"])),
    ];
    let differs = |(pointer, value): &(&str, Value)| deployment.pointer(pointer) != Some(value);
    expected.iter().filter(|one| differs(one)).map(|(pointer, value)| format!("{pointer} is not {value}")).collect()
}

/// Selectors that do not select the pods, and ports of the Service that the pods do not have.
fn unselected(all: &Manifests) -> Vec<String> {
    let deployment = the(all, "Deployment");
    let labels = deployment.pointer("/spec/template/metadata/labels").and_then(Value::as_object).unwrap();
    let selects = |selector: Option<&Value>| {
        let selector = selector.and_then(Value::as_object);
        selector.is_some_and(|s| !s.is_empty() && s.iter().all(|(name, value)| labels.get(name) == Some(value)))
    };
    let mut wrong = Vec::new();
    for (kind, pointer) in [
        ("Deployment", "/spec/selector/matchLabels"),
        ("PodDisruptionBudget", "/spec/selector/matchLabels"),
        ("Service", "/spec/selector"),
    ] {
        if !selects(the(all, kind).pointer(pointer)) {
            wrong.push(format!("the {kind} does not select the pods"));
        }
    }
    for spread in list(deployment, &format!("{POD}/topologySpreadConstraints")) {
        if !selects(spread.pointer("/labelSelector/matchLabels")) {
            wrong.push("a spread constraint does not select the pods".to_owned());
        }
    }
    let port = &deployment.pointer(CONTAINER).unwrap()["ports"][0];
    for service in list(the(all, "Service"), "/spec/ports") {
        if service["targetPort"] != port["name"] && service["targetPort"] != port["containerPort"] {
            wrong.push("the Service's port is not the pods'".to_owned());
        }
    }
    wrong
}

#[test]
fn the_manifests_are_right() {
    let found = wrong(&manifests());
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// A check that cannot see is worse than none.
#[test]
fn broken_manifests_are_seen() {
    let container = |rest: &str| format!("{CONTAINER}/{rest}");
    let broken: Vec<(&str, String, Option<Value>, &str)> = vec![
        ("deployment.yaml", "/spec/replicas".into(), Some(json!("three")), "/spec/replicas"),
        ("deployment.yaml", "/spec/replica".into(), Some(json!(3)), "'replica' was unexpected"),
        ("deployment.yaml", "/spec/selector".into(), None, "\"selector\" is a required property"),
        ("deployment.yaml", container("name"), None, "\"name\" is a required property"),
        ("deployment.yaml", container("readinessProbe/httpGet/path"), Some(json!("/livez")), "readinessProbe"),
        ("deployment.yaml", container("livenessProbe/httpGet/port"), Some(json!(8081)), "livenessProbe asks another"),
        ("deployment.yaml", container("startupProbe/htpGet"), Some(json!({})), "'htpGet' was unexpected"),
        ("deployment.yaml", container("ports/0/containerPort"), Some(json!(8081)), "not where the program listens"),
        ("deployment.yaml", container("securityContext/readOnlyRootFilesystem"), None, "readOnlyRootFilesystem"),
        ("deployment.yaml", container("volumeMounts/0/mountPath"), Some(json!("/etc")), "not mounted where"),
        ("deployment.yaml", container("envFrom/0/secretRef/name"), Some(json!("other")), "not the Secret's"),
        ("deployment.yaml", container("image"), Some(json!("bird")), "not the Deployment's"),
        ("deployment.yaml", format!("{POD}/terminationGracePeriodSeconds"), Some(json!(25)), "before the drain"),
        ("deployment.yaml", "/spec/strategy/rollingUpdate/maxUnavailable".into(), Some(json!(1)), "maxUnavailable"),
        ("deployment.yaml", "/spec/template/metadata/labels".into(), Some(json!({"app": "b"})), "not select the pods"),
        ("service.yaml", "/spec/selector".into(), Some(json!({"app": "b"})), "the Service does not select"),
        ("service.yaml", "/spec/ports/0/targetPort".into(), Some(json!("web")), "the Service's port"),
        ("service.yaml", "/spec/ports/0/port".into(), Some(json!("eighty")), "service.yaml: /spec/ports/0/port"),
        ("poddisruptionbudget.yaml", "/spec/selector/matchLabels".into(), Some(json!({})), "does not select"),
        ("configmap.yaml", "/data/birdwire.toml".into(), Some(json!("[server]\nlisen = 1")), "lisen"),
        ("secret.yaml", "/stringData/CRM_SECRET".into(), None, "CRM_SECRET"),
        ("secret.yaml", "/stringData/BIRDWIRE_STORE__URL".into(), Some(json!("sqlite:x.db")), "need PostgreSQL"),
        ("kustomization.yaml", "/resources/0".into(), Some(json!("other.yaml")), "kustomization.yaml lists"),
    ];
    let good = manifests();
    for (file, pointer, value, expected) in broken {
        let mut all = good.clone();
        all.insert(file.to_owned(), changed(&good[file], &pointer, value));
        let found = wrong(&all);
        assert!(found.iter().any(|what| what.contains(expected)), "{file} {pointer}: {found:?}");
    }
}
