//! deploy/compose.yaml and what it mounts: the nodes, the balancer in front of them, and what Prometheus asks.

use super::{changed, complaints, configured, image, list, place, read, text, yaml};
use crate::app::{TestApp, payload, subscriber::FakeSubscriber};
use birdwire::config::Config;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The files together.
#[derive(Clone)]
struct Files {
    compose: Value,
    prometheus: Value,
    rules: Value,
    haproxy: String,
    /// The example of the secrets.
    env: Vec<(String, String)>,
}

fn files() -> Files {
    let lines = read("compose/example.env");
    let lines = lines.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    Files {
        compose: yaml(&read("compose.yaml")),
        prometheus: yaml(&read("compose/prometheus.yml")),
        rules: yaml(&read("compose/alerts.yml")),
        haproxy: read("compose/haproxy.cfg"),
        env: lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    }
}

/// The services that are built from our image, by name.
fn nodes(compose: &Value) -> Vec<(&str, &Value)> {
    let services = compose["services"].as_object().unwrap();
    services.iter().filter(|(_, service)| service.get("build").is_some()).map(|(name, s)| (&**name, s)).collect()
}

/// `text` with its variables replaced as compose does it.
fn interpolated(text: &str, env: &[(String, String)]) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, variable)) = rest.split_once("${") {
        let (variable, after) = variable.split_once('}').ok_or("a variable has no end")?;
        let (name, _) = variable.split_once(":?").ok_or_else(|| format!("{variable} may be missing"))?;
        let value = env.iter().find(|(known, _)| known == name).ok_or_else(|| format!("example.env has no {name}"))?;
        out.push_str(before);
        out.push_str(&value.1);
        rest = after;
    }
    Ok(out + rest)
}

/// A duration as compose writes it, in whole seconds.
fn seconds(text: &str) -> u64 {
    text.strip_suffix('s').and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{text} is no seconds"))
}

/// Everything that is wrong.
fn wrong(files: &Files) -> Vec<String> {
    let schema = serde_json::from_str(&read("schemas/compose-spec.json")).unwrap();
    let mut wrong = complaints(&schema, &files.compose);
    let services = files.compose["services"].as_object().unwrap();
    for (name, service) in services {
        wrong.extend(careless(service).into_iter().map(|what| format!("{name}: {what}")));
    }
    let nodes = nodes(&files.compose);
    if nodes.len() < 2 {
        wrong.push("there are not several nodes".to_owned());
    }
    for (name, node) in nodes {
        match configuration(node, files) {
            Ok(config) => wrong.extend(unlike(name, node, files, &config)),
            Err(what) => wrong.push(format!("{name}: {what}")),
        }
    }
    wrong.extend(unknown_jobs(&files.rules, &files.prometheus));
    wrong
}

/// What no service should do.
fn careless(service: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let tag = text(service, "/image").rsplit_once(':').map_or("", |(_, tag)| tag);
    if !tag.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit()) {
        wrong.push("the image has no version".to_owned());
    }
    for (key, value) in [
        ("read_only", json!(true)),
        ("cap_drop", json!(["ALL"])),
        ("security_opt", json!(["no-new-privileges:true"])),
        ("restart", json!("unless-stopped")),
    ] {
        if service.get(key) != Some(&value) {
            wrong.push(format!("{key} is not {value}"));
        }
    }
    if service.get("build").is_none() && service.get("user").is_none() {
        wrong.push("it may run as root".to_owned());
    }
    for (name, value) in service["environment"].as_object().into_iter().flatten() {
        let secret = ["PASSWORD", "SECRET", "KEY", "URL"].iter().any(|word| name.ends_with(word));
        if secret && !value.as_str().is_some_and(|value| value.contains("${")) {
            wrong.push(format!("{name} is written in the file"));
        }
    }
    for volume in list(service, "/volumes").iter().filter_map(Value::as_str) {
        let source = volume.split(':').next().unwrap_or_default();
        if source.starts_with('.') && !place(source).is_file() {
            wrong.push(format!("{source} is no file"));
        }
    }
    wrong
}

/// A node's configuration, from the file that it mounts and its environment.
fn configuration(node: &Value, files: &Files) -> Result<Config, String> {
    let inside = format!("{}/birdwire.toml", image().1);
    let mount = list(node, "/volumes").iter().filter_map(Value::as_str).find_map(|volume| {
        let (source, rest) = volume.split_once(':')?;
        rest.starts_with(&inside).then_some(source)
    });
    let file = read(mount.ok_or("no configuration is mounted where the program looks for it")?);
    let mut env = Vec::new();
    for (name, value) in node["environment"].as_object().ok_or("it has no environment")? {
        env.push((name.clone(), interpolated(value.as_str().unwrap_or_default(), &files.env)?));
    }
    configured(&file, env)
}

/// Where a node's surroundings do not fit what it is configured to do.
fn unlike(name: &str, node: &Value, files: &Files, config: &Config) -> Vec<String> {
    let mut wrong = Vec::new();
    let (user, folder, exposed) = image();
    assert!(user > 0 && folder.starts_with('/'), "the image runs as somebody, somewhere");
    let port = config.server.listen.port();
    if port != exposed || config.server.listen.ip().is_loopback() {
        wrong.push(format!("{name} does not listen where the image says"));
    }
    if seconds(text(node, "/stop_grace_period")) <= (config.server.drain_delay + config.server.drain_timeout).as_secs()
    {
        wrong.push(format!("{name}: the grace period is over before the drain"));
    }
    if node.pointer("/healthcheck/test") != Some(&json!(["CMD", "birdwire", "health"])) {
        wrong.push(format!("{name}: its health is not asked"));
    }
    if !files.haproxy.contains(&format!("\n    server {name} {name}:{port}\n")) {
        wrong.push(format!("the balancer does not know {name}"));
    }
    let targets = list(&files.prometheus, "/scrape_configs").iter().find(|job| job["job_name"] == "birdwire");
    let targets = targets.map_or(&[][..], |job| list(job, "/static_configs/0/targets"));
    if !targets.iter().any(|target| *target == format!("{name}:{port}")) {
        wrong.push(format!("Prometheus does not ask {name}"));
    }
    wrong
}

fn expressions(rules: &Value) -> impl Iterator<Item = &str> {
    list(rules, "/groups").iter().flat_map(|group| list(group, "/rules")).map(|rule| text(rule, "/expr"))
}

/// Jobs in the rules that Prometheus does not have.
fn unknown_jobs(rules: &Value, prometheus: &Value) -> Vec<String> {
    let jobs: BTreeSet<&str> = list(prometheus, "/scrape_configs").iter().map(|job| text(job, "/job_name")).collect();
    let named = expressions(rules).flat_map(|expr| expr.split("job=\"").skip(1)).filter_map(|r| r.split('"').next());
    named.filter(|job| !jobs.contains(job)).map(|job| format!("a rule names the job {job}")).collect()
}

/// The words of ours in all expressions: each a metric's name.
fn metrics(rules: &Value) -> BTreeSet<&str> {
    let words = expressions(rules).flat_map(|expr| expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    words.filter(|word| word.starts_with("birdwire_")).collect()
}

#[test]
fn the_compose_file_is_right() {
    let found = wrong(&files());
    assert!(found.is_empty(), "\n{}", found.join("\n"));
    assert!(place("../Dockerfile").is_file(), "what the nodes are built from");
}

/// A check that cannot see is worse than none.
#[test]
fn a_broken_compose_file_is_seen() {
    let node = |rest: &str| format!("/services/node-2/{rest}");
    let broken: Vec<(String, Option<Value>, &str)> = vec![
        ("/services/node-2/imag".into(), Some(json!("x")), "'imag' was unexpected"),
        ("/services/prometheus/ports".into(), Some(json!("9090")), "/services/prometheus/ports"),
        ("/services/prometheus/image".into(), Some(json!("prom/prometheus:latest")), "no version"),
        ("/services/postgres/user".into(), None, "may run as root"),
        ("/services/postgres/environment/POSTGRES_PASSWORD".into(), Some(json!("hunter2")), "written in the file"),
        ("/services/postgres/read_only".into(), None, "read_only is not"),
        ("/services/balancer/volumes/0".into(), Some(json!("./compose/other.cfg:/x:ro")), "is no file"),
        (node("stop_grace_period"), Some(json!("10s")), "before the drain"),
        (node("healthcheck/test"), Some(json!(["CMD", "true"])), "its health is not asked"),
        (node("volumes/0"), Some(json!("./compose/birdwire.toml:/etc/other.toml:ro")), "no configuration"),
        (node("environment/BIRDWIRE_STORE__URL"), Some(json!("sqlite:${CRM_SECRET:?}")), "need PostgreSQL"),
        (node("environment/CRM_SECRET"), Some(json!("${OTHER:?}")), "example.env has no OTHER"),
        (node("environment/BIRDWIRE_SERVER__LISTEN"), Some(json!("0.0.0.0:8081")), "not listen where the image"),
        ("/services/node-3".into(), Some(files().compose["services"]["node-2"].clone()), "does not know node-3"),
    ];
    let good = files();
    for (pointer, value, expected) in broken {
        let found = wrong(&Files { compose: changed(&good.compose, &pointer, value), ..good.clone() });
        assert!(found.iter().any(|what| what.contains(expected)), "{pointer}: {found:?}");
    }
    let prometheus = changed(&good.prometheus, "/scrape_configs/0/job_name", Some(json!("gateway")));
    let found = wrong(&Files { prometheus, ..good.clone() }).join("\n");
    assert!(found.contains("the job birdwire") && found.contains("does not ask node-1"), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_probes_and_rules_ask_for_is_there() {
    let mut subscriber = FakeSubscriber::start(&[]).await;
    let app = TestApp::with(&subscriber).await;
    app.accept(&payload("m1", "U1", "hello")).await;
    subscriber.next().await;
    subscriber.next().await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(app.get(path).await.status, 200, "{path}");
    }
    let files = files();
    assert!(files.haproxy.contains("uri /readyz\n"));
    app.until(|all| all.iter().all(|delivery| delivery.row.attempts > 0)).await;
    let there: BTreeSet<String> =
        app.metrics().await.keys().filter_map(|series| series.split('{').next()).map(str::to_owned).collect();
    let named = metrics(&files.rules);
    assert!(named.len() > 5, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|name| !there.contains(**name)).collect();
    assert!(missing.is_empty(), "rules name {missing:?}; there are {there:?}");
    let mutated = changed(&files.rules, "/groups/0/rules/0/expr", Some(json!("birdwire_wishes > 0")));
    assert!(metrics(&mutated).contains("birdwire_wishes") && !there.contains("birdwire_wishes"));
    app.finish().await;
}
