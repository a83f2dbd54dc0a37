//! Doing to JSON what strangers and versions do to it.

pub(crate) use crate::mutants::{mutate, places};
use proptest::prelude::*;
use serde_json::{Value, json};

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
