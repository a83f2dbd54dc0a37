//! Finding something to show in content whose type we do not know.

use super::wire::Item;
use crate::adapter::lenient::{Entries, Field};
use std::collections::VecDeque;

/// No content is that deep; the depth of a document is its sender's choice.
const MAX_DEPTH: usize = 16;
/// Looking at more would help nobody.
const MAX_VALUES: usize = 10_000;
/// Below these are buttons and switches, which are no content to show.
const SKIPPED: [&[u8]; 3] = [b"actions", b"metadata", b"configurations"];

/// What a content of unknown type holds.
#[derive(Default)]
pub(crate) struct Found<'a> {
    /// The nearest `text`, else the nearest `title`: a non-empty string, or absent.
    pub(crate) text: Field<'a>,
    /// Everything with a media URL, nearest first.
    pub(crate) items: Vec<FoundItem<'a>>,
}

/// Something with a media URL.
pub(crate) struct FoundItem<'a> {
    /// The object that the URL is in.
    pub(crate) item: Item<'a>,
    /// Whether it is an element of a list called `images`.
    pub(crate) image: bool,
}

/// Looks through `root` level by level.
pub(crate) fn search(root: Field<'_>) -> Found<'_> {
    let mut found = Found::default();
    let mut title = Field::default();
    let mut queue = VecDeque::from([(root, 0, false)]);
    let mut left = MAX_VALUES;
    while let Some((value, depth, image)) = queue.pop_front() {
        if left == 0 {
            break;
        }
        left -= 1;
        if let Some(item) = value.object::<Item>().filter(|item| item.media_url.is_filled_string()) {
            found.items.push(FoundItem { item, image });
        }
        let object: Entries = value.object().unwrap_or_default();
        keep_first(&mut found.text, object.get("text"));
        keep_first(&mut title, object.get("title"));
        if depth == MAX_DEPTH {
            continue;
        }
        for (key, inner) in object.0.into_iter().filter(|(key, _)| !SKIPPED.contains(&&**key)) {
            if is_nested(inner) {
                queue.push_back((inner, depth + 1, *key == *b"images"));
            }
        }
        let list = value.list().unwrap_or_default();
        queue.extend(list.filter(|inner| is_nested(*inner)).map(|inner| (inner, depth + 1, image)));
    }
    keep_first(&mut found.text, title);
    found
}

fn keep_first<'a>(kept: &mut Field<'a>, candidate: Field<'a>) {
    if !kept.is_given() && candidate.is_filled_string() {
        *kept = candidate;
    }
}

fn is_nested(value: Field<'_>) -> bool {
    value.raw().is_some_and(|json| json.starts_with(['{', '[']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::lenient::root_of;

    fn text(json: &str) -> Option<&str> {
        search(root_of(json)).text.raw()
    }

    #[test]
    fn the_nearest_text_is_better_than_any_title() {
        assert_eq!(text(r#"{"a":{"b":{"text":"far"}},"c":{"text":"near"}}"#), Some("\"near\""));
        assert_eq!(text(r#"{"title":"t","items":[{"text":"x"}]}"#), Some("\"x\""));
        assert_eq!(text(r#"{"text":"","title":"t","items":[{"title":"u"}]}"#), Some("\"t\""));
        assert_eq!(text(r#"{"text":{"text":"inner"}}"#), Some("\"inner\""));
    }

    #[test]
    fn buttons_are_no_content() {
        let json = r#"{"actions":[{"text":"a"}],"metadata":{"text":"m"},"configurations":{"text":"c"},"n":[1,null]}"#;
        assert_eq!(text(json), None);
    }

    #[test]
    fn media_are_found_with_what_is_known_of_them() {
        let json =
            r#"{"images":[{"mediaUrl":"1"}],"files":[{"mediaUrl":"2","contentType":"audio/ogg"},{"mediaUrl":""}]}"#;
        let found = search(root_of(json));
        let found: Vec<_> = found.items.iter().map(|f| (f.item.media_url.raw(), f.image)).collect();
        assert_eq!(found, [(Some("\"1\""), true), (Some("\"2\""), false)]);
    }

    #[test]
    fn hostile_depth_and_breadth_are_cut_off() {
        let deep = format!("{}{{\"text\":\"x\"}}{}", "[".repeat(50_000), "]".repeat(50_000));
        assert_eq!(text(&deep), None);
        let broad = format!("[{}{{\"text\":\"x\"}}]", "[],".repeat(20_000));
        assert_eq!(text(&broad), None);
    }
}
