//! Reading providers' JSON when it is not what the documentation says.
//!
//! Real payloads carry nulls, numbers for strings, extra keys and repeated ones, and a message must not be lost
//! over a field that nobody needs. So values stay raw JSON text ([`Field`]) until something asks for them as
//! text, number, list or object; whatever has the wrong form is then simply absent. Only a string that is
//! *used* and is no Unicode text (half of a surrogate pair) makes its event unreadable.
//!
//! serde_json says whether a document is JSON. It cannot say where in it the values are without reading each of them
//! anew for every level that it is nested in, so that is noted in one pass of our own ([`index`]), which may take for
//! granted that all is as it should be.

use crate::domain::event::{Quarantine, QuarantineReason};
use crate::domain::message::Decimal;
use serde::Deserializer as _;
use serde::de::Visitor;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// A whole document.
///
/// Deliberately without `Debug`, as everything here: its text is somebody's message.
pub(crate) struct Document<'t>(Vec<Node<'t>>);

/// A value of a document or the key of one. Before its value stands a member's key; behind an object or a list stand
/// all that is in it.
#[derive(Clone, Copy)]
struct Node<'t> {
    /// As its sender wrote it.
    raw: &'t str,
    /// How many nodes it is, itself and all that is in it.
    size: u32,
    /// Whether it is a string in which something is escaped.
    is_escaped: bool,
}

impl<'t> Document<'t> {
    /// `None` when the bytes are not one JSON value in UTF-8.
    pub(crate) fn parse(bytes: &'t [u8]) -> Option<Self> {
        let raw: &RawValue = serde_json::from_str(std::str::from_utf8(bytes).ok()?).ok()?;
        u32::try_from(bytes.len()).ok()?; // nobody sends 4 GiB; nodes are counted in 32 bits
        Some(Self(index(raw.get())))
    }

    /// The value that it is.
    pub(crate) fn root(&self) -> Field<'_> {
        Field(&self.0)
    }
}

/// Values in one another that are passed on as they are. serde_json stops at 128, and they come in a record.
const DEEPEST: usize = 100;

/// Room for that many nodes is made at once.
const MANY: usize = 1024;

/// Every value in `json`, which is one, in the order of their beginnings. Not recursive: depth is the sender's choice.
fn index(json: &str) -> Vec<Node<'_>> {
    let bytes = json.as_bytes();
    let mut nodes = Vec::with_capacity((json.len() / 8 + 1).min(MANY));
    let mut open = Vec::with_capacity(16);
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let (end, is_escaped) = end_of_string(bytes, at + 1);
                nodes.push(Node { raw: &json[at..end], size: 1, is_escaped });
                at = end;
            }
            b'{' | b'[' => {
                open.push((nodes.len(), at));
                nodes.push(Node { raw: "", size: 1, is_escaped: false });
                at += 1;
            }
            b'}' | b']' => {
                at += 1;
                if let Some((begun, from)) = open.pop() {
                    let size = u32::try_from(nodes.len() - begun).unwrap_or(u32::MAX); // never more than bytes
                    nodes[begun] = Node { raw: &json[from..at], size, is_escaped: false };
                }
            }
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => at += 1,
            _ => {
                let rest = &bytes[at..];
                let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
                let end = at + rest.iter().position(is_end).unwrap_or(rest.len());
                nodes.push(Node { raw: &json[at..end], size: 1, is_escaped: false });
                at = end;
            }
        }
    }
    nodes
}

/// Where the string ends whose content is at `at`, behind its quotation mark, and whether anything in it is escaped.
fn end_of_string(bytes: &[u8], mut at: usize) -> (usize, bool) {
    let mut is_escaped = false;
    loop {
        // Eight bytes at a time, because most of a document is inside of strings.
        while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
            let eight = u64::from_le_bytes(*eight);
            let found = places_of(b'"', eight) | places_of(b'\\', eight);
            at += (found.trailing_zeros() / 8) as usize; // eight when there is none
            if found != 0 {
                break;
            }
        }
        match bytes.get(at) {
            Some(b'"') => return (at + 1, is_escaped),
            Some(b'\\') => {
                is_escaped = true;
                at += 2;
            }
            Some(_) => at += 1,
            None => return (bytes.len(), is_escaped),
        }
    }
}

/// The highest bit of each of `eight` bytes that is `byte`, of which only the lowest can be relied on.
const fn places_of(byte: u8, eight: u64) -> u64 {
    const LOWEST: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHEST: u64 = u64::from_ne_bytes([0x80; 8]);
    let zero_where_it_is = eight ^ u64::from_ne_bytes([byte; 8]);
    zero_where_it_is.wrapping_sub(LOWEST) & !zero_where_it_is & HIGHEST
}

/// A JSON value in a [`Document`], or the absence of one.
#[derive(Clone, Copy, Default)]
pub(crate) struct Field<'a>(&'a [Node<'a>]);

impl<'a> Field<'a> {
    /// The JSON as written, when there is a value.
    pub(crate) fn raw(self) -> Option<&'a str> {
        self.0.first().map(|node| node.raw)
    }

    /// Whether the key was there at all, even with null.
    pub(crate) fn is_given(self) -> bool {
        !self.0.is_empty()
    }

    /// The field, if everybody who reads JSON can be given it: many stop at values in values in values. `place` names
    /// the field in the error.
    pub(crate) fn shallow(self, place: impl fmt::Display) -> Result<Self, Quarantine> {
        let mut ends = Vec::new();
        for (at, node) in self.0.iter().enumerate().filter(|(_, node)| node.raw.starts_with(['{', '['])) {
            while ends.last().is_some_and(|end| *end <= at) {
                ends.pop();
            }
            ends.push(at + node.size as usize);
            if ends.len() > DEEPEST {
                return Err(unreadable(format_args!("{place}: more than {DEEPEST} values in one another")));
            }
        }
        Ok(self)
    }

    /// Whether there is nothing in it: absent, null, or an empty string, list or object.
    pub(crate) fn is_blank(self) -> bool {
        match self.raw() {
            None | Some("null" | "\"\"") => true,
            Some(json) => json.starts_with(['{', '[']) && self.0.len() == 1,
        }
    }

    /// Whether there is nothing in it, or nothing in any of its members.
    pub(crate) fn is_hollow(self) -> bool {
        self.is_blank() || self.members().is_some_and(|mut members| members.all(|(_, value)| value.is_blank()))
    }

    /// Whether it is a string, and not an empty one.
    pub(crate) fn is_filled_string(self) -> bool {
        self.raw().is_some_and(|text| text.len() > 2 && text.starts_with('"'))
    }

    /// A string, or a number as it is written; anything else is absent. `place` names the field in the error.
    pub(crate) fn text(self, place: impl fmt::Display) -> Result<Option<Cow<'a, str>>, Quarantine> {
        let Some(Node { raw: json, is_escaped, .. }) = self.0.first() else { return Ok(None) };
        match json.as_bytes() {
            [b'"', .., b'"'] => {
                if !is_escaped {
                    return Ok(Some(Cow::Borrowed(&json[1..json.len() - 1])));
                }
                match serde_json::from_str::<String>(json) {
                    Ok(text) => Ok(Some(Cow::Owned(text))),
                    Err(_) => Err(unreadable(format_args!("{place}: half of a surrogate pair"))),
                }
            }
            [b'-' | b'0'..=b'9', ..] => Ok(Some(Cow::Borrowed(json))),
            _ => Ok(None),
        }
    }

    /// As [`text`](Self::text), with the empty string as absent.
    pub(crate) fn filled(self, place: impl fmt::Display) -> Result<Option<Cow<'a, str>>, Quarantine> {
        Ok(self.text(place)?.filter(|text| !text.is_empty()))
    }

    /// A number, or a string that holds one, with every digit.
    pub(crate) fn decimal(self) -> Option<Decimal> {
        Decimal::parse(self.unquoted()?)
    }

    /// A whole number, or a string that holds one.
    pub(crate) fn integer(self) -> Option<i64> {
        let text = self.unquoted()?;
        // `parse` alone would also take what is no number in JSON, such as a sign before it.
        text.parse().ok().filter(|_| Decimal::is_one(text))
    }

    fn unquoted(self) -> Option<&'a str> {
        let json = self.raw()?;
        Some(json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(json))
    }

    /// True or false; anything else is absent.
    pub(crate) fn boolean(self) -> Option<bool> {
        match self.raw()? {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// An object's fields; `None` for anything that is not an object. Of a repeated key the last one counts.
    pub(crate) fn object<T: Object<'a>>(self) -> Option<T> {
        let mut found = T::default();
        for (key, value) in self.members()? {
            if let Some(slot) = found.slot(unescaped(key)) {
                *slot = value;
            }
        }
        Some(found)
    }

    /// A list's elements; `None` for anything that is not a list.
    pub(crate) fn list(self) -> Option<Elements<'a>> {
        self.inside('[').map(Elements)
    }

    /// Keys, as they are written, and values of an object; `None` for anything that is not an object.
    fn members(self) -> Option<impl Iterator<Item = (&'a Node<'a>, Field<'a>)>> {
        let mut rest = Elements(self.inside('{')?);
        Some(std::iter::from_fn(move || Some((rest.next()?.0.first()?, rest.next()?))))
    }

    fn inside(self, bracket: char) -> Option<&'a [Node<'a>]> {
        let (node, inside) = self.0.split_first()?;
        node.raw.starts_with(bracket).then_some(inside)
    }
}

/// The elements of a list.
#[derive(Clone, Default)]
pub(crate) struct Elements<'a>(&'a [Node<'a>]);

impl<'a> Iterator for Elements<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let (next, rest) = self.0.split_at_checked(self.0.first()?.size as usize)?;
        self.0 = rest;
        Some(Field(next))
    }
}

/// The key that is written so.
fn unescaped<'a>(key: &Node<'a>) -> Cow<'a, [u8]> {
    let json = key.raw;
    let inner = json.as_bytes().get(1..json.len() - 1).unwrap_or_default();
    if !key.is_escaped {
        return Cow::Borrowed(inner);
    }
    // As bytes, because half of a surrogate pair is no text. It is a string, so that there is no way to fail.
    serde_json::Deserializer::from_str(json).deserialize_bytes(Key).unwrap_or(Cow::Borrowed(inner))
}

/// The beginning of `text`, at most `most` characters.
pub(crate) fn beginning(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text; // no character has less than a byte
    }
    text.char_indices().nth(most).map_or(text, |(end, _)| &text[..end])
}

/// Kept aside because `place` cannot be read.
pub(crate) fn unreadable(place: impl fmt::Display) -> Quarantine {
    Quarantine::new(QuarantineReason::Unreadable, place.to_string())
}

/// Something that the members of a JSON object can be put into.
pub(crate) trait Object<'a>: Default {
    /// Takes the member when its key is known. Keys are bytes because an ignored one may be no Unicode text.
    fn slot(&mut self, key: Cow<'a, [u8]>) -> Option<&mut Field<'a>>;
}

/// Every member of an object, for objects whose keys are not known beforehand.
#[derive(Default)]
pub(crate) struct Entries<'a>(pub(crate) Vec<(Cow<'a, [u8]>, Field<'a>)>);

impl<'a> Entries<'a> {
    /// The value of `key`; of a repeated one the last.
    pub(crate) fn get(&self, key: &str) -> Field<'a> {
        let found = self.0.iter().rev().find(|(k, _)| **k == *key.as_bytes());
        found.map_or_else(Field::default, |(_, value)| *value)
    }
}

impl<'a> Object<'a> for Entries<'a> {
    fn slot(&mut self, key: Cow<'a, [u8]>) -> Option<&mut Field<'a>> {
        self.0.push((key, Field::default()));
        self.0.last_mut().map(|(_, value)| value)
    }
}

/// Declares a struct of [`Field`]s with the JSON key of each (as a byte string), and makes it an [`Object`].
macro_rules! object {
    ($($(#[$doc:meta])* struct $name:ident { $($(#[$field_doc:meta])* $field:ident = $key:literal,)* })*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Default)]
        #[allow(clippy::struct_field_names, reason = "the keys are the provider's")]
        pub(crate) struct $name<'a> {
            $($(#[$field_doc])* pub(crate) $field: $crate::adapter::lenient::Field<'a>,)*
        }

        impl<'a> $crate::adapter::lenient::Object<'a> for $name<'a> {
            fn slot(
                &mut self,
                key: ::std::borrow::Cow<'a, [u8]>,
            ) -> Option<&mut $crate::adapter::lenient::Field<'a>> {
                match &*key {
                    $($key => Some(&mut self.$field),)*
                    _ => None,
                }
            }
        }
    )* };
}
pub(crate) use object;

struct Key;

impl<'a> Visitor<'a> for Key {
    type Value = Cow<'a, [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'a [u8]) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(bytes))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(bytes.to_vec()))
    }
}

/// The value that is `json`, for tests: its index lives on.
#[cfg(test)]
pub(crate) fn root_of(json: &str) -> Field<'_> {
    let document = Document::parse(json.as_bytes());
    document.map_or_else(Field::default, |document| Field(document.0.leak()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    object! {
        struct Two { one = b"one", two = b"two", }
    }

    fn field(json: &str) -> Field<'_> {
        root_of(json)
    }

    fn text(json: &str) -> Option<Cow<'_, str>> {
        field(json).text("x").unwrap()
    }

    #[test]
    fn texts_are_strings_and_numbers_and_nothing_else() {
        assert!(matches!(text(r#""plain""#), Some(Cow::Borrowed("plain"))));
        assert_eq!(text(r#""\u3053\n\"""#).as_deref(), Some("こ\n\""));
        assert_eq!(text(" 1.50 ").as_deref(), Some("1.50"));
        assert_eq!(text("-12345678901234567890").as_deref(), Some("-12345678901234567890"));
        for other in ["null", "true", "{}", "[\"x\"]"] {
            assert_eq!(text(other), None, "{other}");
        }
        assert_eq!(Field::default().text("x"), Ok(None));
    }

    #[test]
    fn strings_of_every_length_end_where_they_end() {
        for length in 0..40 {
            for (content, is_escaped) in [
                ("x".repeat(length), false),
                ("한".repeat(length), false),
                (format!("{}\\\"", "x".repeat(length)), true),
                (format!("{}\\\\", "#".repeat(length)), true),
                (format!("\\\"{}", "]".repeat(length)), true),
            ] {
                let string = format!("\"{content}\"");
                for after in ["", ",\"x\"", "                "] {
                    let (end, found) = end_of_string(format!("{string}{after}").as_bytes(), 1);
                    assert_eq!((end, found), (string.len(), is_escaped), "{string}{after}");
                }
            }
        }
    }

    #[test]
    fn beginnings_are_counted_in_characters() {
        for (text, most, want) in
            [("", 2, ""), ("ab", 2, "ab"), ("abc", 2, "ab"), ("한국", 2, "한국"), ("한국어", 2, "한국")]
        {
            assert_eq!(beginning(text, most), want);
        }
    }

    #[test]
    fn half_a_surrogate_pair_spoils_only_who_uses_it() {
        let two: Two = field(r#"{"one":"\ud83d","two":"fine","\udc00":"\udc00"}"#).object().unwrap();
        assert_eq!(two.two.text("two").unwrap().as_deref(), Some("fine"));
        assert_eq!(two.one.text("one").unwrap_err().to_string(), "unreadable: one: half of a surrogate pair");
        assert_eq!(text(r#""\ud83d\ude00""#).as_deref(), Some("😀"));
    }

    #[test]
    fn of_a_repeated_key_the_last_counts() {
        let two: Two = field(r#"{"one":1,"one":{},"one":"3"}"#).object().unwrap();
        assert_eq!(two.one.raw(), Some("\"3\""));
        assert!(!two.two.is_given());
        let entries: Entries = field(r#"{"a":1,"\u0061":2}"#).object().unwrap();
        assert_eq!(entries.get("a").raw(), Some("2"));
    }

    #[test]
    fn wrong_forms_are_absent() {
        assert!(field("[]").object::<Two>().is_none());
        assert!(field("null").object::<Two>().is_none());
        assert!(field("{}").list().is_none());
        assert_eq!(field(r#"[1, null ,{"a":[2]}]"#).list().unwrap().count(), 3);
        for blank in ["null", "\"\"", "{ }", "[\n]"] {
            assert!(field(blank).is_blank(), "{blank}");
        }
        for filled in ["0", "false", "\" \"", "[null]", "{\"a\":null}"] {
            assert!(!field(filled).is_blank(), "{filled}");
        }
        assert!(field("{\"a\":null,\"b\":[]}").is_hollow());
        assert!(!field("{\"a\":{\"b\":null}}").is_hollow());
    }

    #[test]
    fn values_are_counted_in_one_another_and_not_beside() {
        let in_one_another = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(field(&in_one_another(DEEPEST)).shallow("x").is_ok());
        let error = field(&in_one_another(DEEPEST + 1)).shallow("x").err().unwrap();
        assert_eq!(error.to_string(), "unreadable: x: more than 100 values in one another");
        let beside = vec![r#"{"a":[[],{}],"b":"[[["}"#; 10 * DEEPEST].join(",");
        assert!(field(&format!("[{beside}]")).shallow("x").is_ok());
        assert!(Field::default().shallow("x").is_ok());
    }

    #[test]
    fn numbers_keep_every_digit() {
        assert_eq!(field("52.3786530000000000001").decimal().unwrap().as_str(), "52.3786530000000000001");
        assert_eq!(field("\"4.9\"").decimal().unwrap().as_str(), "4.9");
        assert_eq!(field("\"north\"").decimal(), None);
        assert_eq!(field("[1]").decimal(), None);
        assert_eq!(field("\"-3\"").integer(), Some(-3));
        assert_eq!(field("3.5").integer(), None);
        assert_eq!(field("99999999999999999999").integer(), None);
        assert_eq!(
            [" true ", "false", "\"true\"", "1"].map(|json| field(json).boolean()),
            [Some(true), Some(false), None, None]
        );
    }

    /// JSON of all forms with white space, escapes and repeated keys, as it may come.
    fn any_json() -> impl Strategy<Value = String> {
        let space = || prop::sample::select(vec!["", "", "", " ", "\n\t", "\r "]);
        let string = || {
            prop::sample::select(vec![
                r#""""#,
                r#""a""#,
                r#""\u0061""#,
                r#""\"\\""#,
                r#""]},:""#,
                r#""\ud83d""#,
                r#""안""#,
            ])
        };
        let scalar = prop::sample::select(vec!["null", "true", "false", "0", "-1.50e+3", "12345678901234567890"]);
        let leaf = prop_oneof![scalar.prop_map(str::to_owned), string().prop_map(str::to_owned)];
        let any = leaf.prop_recursive(5, 60, 6, move |inner| {
            let element = (space(), inner.clone(), space()).prop_map(|(a, json, b)| format!("{a}{json}{b}"));
            let member =
                (space(), string(), space(), element.clone()).prop_map(|(a, k, b, v)| format!("{a}{k}{b}:{v}"));
            prop_oneof![
                (space(), prop::collection::vec(element, 0..5)).prop_map(|(a, all)| format!("[{a}{}]", all.join(","))),
                (space(), prop::collection::vec(member, 0..5)).prop_map(|(a, all)| format!("{{{a}{}}}", all.join(","))),
            ]
        });
        (space(), any, space()).prop_map(|(a, json, b)| format!("{a}{json}{b}"))
    }

    /// Whether `field`, whose text is `json`, is what serde_json reads there, down to the last value.
    fn is_as_serde_json_reads(field: Field<'_>, json: &str) {
        assert_eq!(field.raw(), Some(json));
        let elements: Option<Vec<&RawValue>> = serde_json::from_str(json).ok();
        assert_eq!(field.list().is_some(), elements.is_some());
        let mut found = field.list().unwrap_or_default();
        for element in elements.unwrap_or_default() {
            is_as_serde_json_reads(found.next().unwrap(), element.get());
        }
        assert!(found.next().is_none());
        // Keys that are no text can be no `String`.
        let members: Option<HashMap<String, &RawValue>> = serde_json::from_str(json).ok();
        let entries = field.object::<Entries>();
        assert_eq!(entries.is_some(), json.starts_with('{'));
        for (key, value) in members.into_iter().flatten() {
            is_as_serde_json_reads(entries.as_ref().unwrap().get(&key), value.get());
        }
    }

    proptest! {
        #[test]
        fn values_are_where_serde_json_finds_them(json in any_json()) {
            is_as_serde_json_reads(field(&json), json.trim());
        }
    }

    #[test]
    fn only_one_whole_value_in_utf_8_is_a_document() {
        for bad in [&b""[..], b"{", b"{} {}", b"\xff", b"\"\xed\xa0\x80\"", b"{\"a\":01}", b"nul"] {
            assert!(Document::parse(bad).is_none());
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(field(&deep).list().is_some());
    }
}
