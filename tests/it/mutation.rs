//! Doing to JSON what strangers and versions do to it.

use proptest::prelude::*;
use serde_json::{Value, json};

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

/// What a value becomes: nothing (it is removed), something of another form, or one of `words`.
pub(crate) fn replacement(words: &'static [&'static str]) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        3 => Just(None),
        1 => Just(Some(Value::Null)),
        1 => any::<bool>().prop_map(|b| Some(json!(b))),
        1 => any::<i64>().prop_map(|n| Some(json!(n))),
        1 => any::<f64>().prop_map(|n| Some(json!(n))),
        2 => any::<String>().prop_map(|s| Some(json!(s))),
        1 => Just(Some(json!(""))),
        1 => Just(Some(json!({}))),
        1 => Just(Some(json!([]))),
        1 => Just(Some(json!([null, {}, [], "x", {"mediaUrl": "u"}, {"text": "t"}]))),
        1 => Just(Some(json!({"type": "sticker", "text": {"text": "t"}, "images": [{"mediaUrl": "u"}]}))),
        1 => prop::sample::select(words.to_vec()).prop_map(|s| Some(json!(s))),
    ]
}
