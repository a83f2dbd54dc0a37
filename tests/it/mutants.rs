//! Payloads as strangers and versions change them: for the tests, and for the scenarios that run against the program.

use serde_json::{Value, json};
use std::path::Path;

/// Every place in a JSON value, as pointers.
pub(crate) fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(key, inner)| places(inner, &format!("{at}/{key}"), found)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, inner)| places(inner, &format!("{at}/{i}"), found));
        }
        _ => {}
    }
}

/// Removes the value at `place`, or puts another one there.
pub(crate) fn mutate(document: &mut Value, place: &str, with: Option<&Value>) {
    if let (Some(with), Some(slot)) = (with, document.pointer_mut(place)) {
        *slot = with.clone();
    } else if let Some((parent, key)) = place.rsplit_once('/') {
        match document.pointer_mut(parent) {
            Some(Value::Object(map)) => drop(map.remove(key)),
            Some(Value::Array(list)) => list.clear(),
            _ => {}
        }
    }
}

/// Every payload of a provider's fixtures.
pub(crate) fn seeds(provider: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(provider);
    let mut cases: Vec<_> = std::fs::read_dir(folder).unwrap().map(|case| case.unwrap().path()).collect();
    cases.sort();
    cases.iter().map(|case| std::fs::read(case.join("request.json")).unwrap()).collect()
}

/// One to three changes: bytes, or fields and types.
pub(crate) fn mutated(seed: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let others = [
        None,
        Some(Value::Null),
        Some(json!(true)),
        Some(json!(-1)),
        Some(json!(1e300)),
        Some(json!("")),
        Some(json!("\u{0}\u{202e}x")),
        Some(json!([])),
        Some(json!({})),
        Some(json!([null, {}, "x"])),
        Some(json!("unsend")),
        Some(json!("messageEdited")),
        Some(json!("image")),
    ];
    let changes = random.usize(1..4);
    let mut body = seed.to_vec();
    if let (true, Ok(mut document)) = (random.bool(), serde_json::from_slice::<Value>(seed)) {
        for _ in 0..changes {
            let mut found = Vec::new();
            places(&document, "", &mut found);
            let place = &found[random.usize(..found.len())];
            mutate(&mut document, place, others[random.usize(..others.len())].as_ref());
        }
        if random.bool() {
            name_anew(&mut document, random);
        }
        return document.to_string().into_bytes();
    }
    for _ in 0..changes {
        if !body.is_empty() {
            let place = random.usize(..body.len());
            // Mostly what is still text: what is none never gets past the first look.
            body[place] = if random.u8(..4) == 0 { random.u8(..) } else { random.u8(b' '..=b'~') };
        }
    }
    body
}

/// Gives everything that has an id another one, so that it is no repeat.
fn name_anew(document: &mut Value, random: &mut fastrand::Rng) {
    let mut found = Vec::new();
    places(document, "", &mut found);
    for place in found.iter().filter(|place| place.ends_with("/id") || place.ends_with("/webhookEventId")) {
        if let Some(id @ Value::String(_)) = document.pointer_mut(place) {
            *id = json!(format!("{:020}", random.u64(..)));
        }
    }
}
