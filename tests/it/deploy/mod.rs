//! What is in deploy/ is right: it fits the published schemas, the program takes the configurations in it, and what one
//! file says of another is so. Nothing here starts a container; this is as far as one gets without.

mod compose;
mod kubernetes;

use birdwire::app;
use birdwire::config::{Config, Sources};
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The folder, or what is in it.
fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn read(name: &str) -> String {
    let path = place(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A YAML document as JSON, with its anchors and merges resolved.
fn yaml(text: &str) -> Value {
    let mut value = serde_yaml_ng::Value::deserialize(serde_yaml_ng::Deserializer::from_str(text)).unwrap();
    value.apply_merge().unwrap();
    serde_json::to_value(value).unwrap()
}

/// What a schema has against a document.
fn complaints(schema: &Value, document: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(schema).unwrap();
    validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The configuration as `birdwire check` would read it, with these variables.
fn configured(file: &str, env: Vec<(String, String)>) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("birdwire.toml");
    std::fs::write(&path, file).unwrap();
    let sources = Sources { file: Some(&path), env };
    let config = app::configure_from(&sources).map_err(|wrong| wrong.to_string())?;
    match config.accounts.is_empty() || config.subscribers.is_empty() {
        true => Err("nothing is received, or nobody gets it".to_owned()),
        false if !config.store.url.starts_with("postgres://") => Err("several nodes need PostgreSQL".to_owned()),
        false => Ok(config),
    }
}

/// What the image is made with: its user's number, its working folder, its port.
fn image() -> (u64, String, u16) {
    let dockerfile = std::fs::read_to_string(place("../Dockerfile")).unwrap();
    let after = |word: &str| {
        let at = dockerfile.rfind(word).unwrap_or_else(|| panic!("no {word} in the Dockerfile")) + word.len();
        dockerfile[at..].split_whitespace().next().unwrap()
    };
    (after("--uid ").parse().unwrap(), after("\nWORKDIR ").to_owned(), after("\nEXPOSE ").parse().unwrap())
}

/// `document` with another value at `pointer`, or without any; the place has to be there.
fn changed(document: &Value, pointer: &str, value: Option<Value>) -> Value {
    let mut document = document.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap_or_else(|| panic!("there is no {pointer}"));
    match (parent, value) {
        (Value::Object(map), Some(value)) => drop(map.insert(key.replace("~1", "/"), value)),
        (Value::Object(map), None) => assert!(map.remove(key).is_some(), "there is no {pointer}"),
        (Value::Array(list), Some(value)) => list[key.parse::<usize>().unwrap()] = value,
        (other, _) => panic!("{pointer} in {other}"),
    }
    document
}
