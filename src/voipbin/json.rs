//! The two ways in which JSON is written: compact, and compact as Go's encoder does it.
//!
//! JSON that is passed on as it was received loses the white space between its parts: subscribers and logs get one
//! line, and nothing that it says changes.
//!
//! Records are written member by member rather than derived, because most of what a record is made of is known
//! beforehand: keys, words, ids and times need no look for characters to escape. What a text needs is serde_json's to
//! know; here is only decided whether it needs anything.

use super::time::Text;
use crate::domain::time::Timestamp;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;
use serde_json::value::RawValue;
use std::io::{self, Write};
use uuid::Uuid;

/// A member's key as it is written.
macro_rules! key {
    ($name:literal) => {
        concat!("\"", $name, "\":")
    };
}
pub(super) use key;

/// The key of what has none: an element of a list.
pub(super) const ELEMENT: &str = "";

/// Room for a text message with names in it.
const USUAL_SIZE: usize = 768;

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Compact.
    Plain,
    /// As Go does it.
    Go,
}

/// A document that is being written. Every `key` is one of [`key!`], or [`ELEMENT`].
pub(super) struct Json {
    out: Vec<u8>,
    style: Style,
}

impl Json {
    /// An object with what `members` writes.
    pub(super) fn document(style: Style, members: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut json = Self { out: Vec::with_capacity(USUAL_SIZE), style };
        json.object(ELEMENT, members);
        json.out.pop(); // the comma
        json.out
    }

    /// An object with what `members` writes.
    pub(super) fn object(&mut self, key: &'static str, members: impl FnOnce(&mut Self)) {
        self.put(key);
        self.out.push(b'{');
        members(self);
        self.close(b'}');
    }

    /// A list of what `write` writes for each of `elements`, as [`ELEMENT`].
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        elements: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        self.put(key);
        self.out.push(b'[');
        for element in elements {
            write(self, element);
        }
        self.close(b']');
    }

    /// Ends an object or a list, over the comma of the last thing in it if there is one.
    fn close(&mut self, bracket: u8) {
        match self.out.last_mut() {
            Some(last) if *last == b',' => *last = bracket,
            _ => self.out.push(bracket),
        }
        self.out.push(b',');
    }

    /// Any text.
    pub(super) fn text(&mut self, key: &'static str, text: &str) {
        self.put(key);
        self.string(text);
        self.out.push(b',');
    }

    /// A text under a key that is not known beforehand.
    pub(super) fn entry(&mut self, key: &str, text: &str) {
        self.string(key);
        self.out.push(b':');
        self.string(text);
        self.out.push(b',');
    }

    /// A text, left out when it is absent or empty.
    pub(super) fn filled(&mut self, key: &'static str, text: Option<&str>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.text(key, text);
        }
    }

    /// A word of ours, in which nothing is to be escaped.
    pub(super) fn word(&mut self, key: &'static str, word: &str) {
        debug_assert!(is_plain(word, self.style), "{word}");
        self.put(key);
        self.out.push(b'"');
        self.put(word);
        self.put("\",");
    }

    /// An id as lower-case text with hyphens.
    pub(super) fn id(&mut self, key: &'static str, id: Uuid) {
        self.word(key, id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()));
    }

    /// A moment as the documented format has it; one that has not come is far away.
    pub(super) fn documented(&mut self, key: &'static str, moment: Option<Timestamp>) {
        match moment {
            Some(moment) => self.word(key, Text::documented(moment).as_str()),
            None => self.word(key, Text::NEVER),
        }
    }

    /// A moment as the current format has it; one that has not come is null.
    pub(super) fn current(&mut self, key: &'static str, moment: Option<Timestamp>) {
        match moment {
            Some(moment) => self.word(key, Text::current(moment).as_str()),
            None => self.null(key),
        }
    }

    /// Nothing.
    pub(super) fn null(&mut self, key: &'static str) {
        self.put(key);
        self.put("null,");
    }

    /// True or false, or a whole number.
    pub(super) fn value(&mut self, key: &'static str, value: impl Serialize) {
        self.put(key);
        self.write(&value);
        self.out.push(b',');
    }

    /// The same, left out when it is absent.
    pub(super) fn given(&mut self, key: &'static str, value: Option<impl Serialize>) {
        if let Some(value) = value {
            self.value(key, value);
        }
    }

    /// JSON as it was received: a number with its digits, an event with its own keys. What is none becomes null.
    pub(super) fn verbatim(&mut self, key: &'static str, json: &str) {
        let raw: &RawValue = serde_json::from_str(json).unwrap_or(RawValue::NULL);
        self.value(key, raw);
    }

    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn string(&mut self, text: &str) {
        if is_plain(text, self.style) {
            self.out.push(b'"');
            self.put(text);
            self.out.push(b'"');
        } else {
            self.write(text);
        }
    }

    fn write(&mut self, value: &(impl Serialize + ?Sized)) {
        let written = match self.style {
            Style::Plain => value.serialize(&mut Serializer::with_formatter(&mut self.out, Plain)),
            Style::Go => value.serialize(&mut Serializer::with_formatter(&mut self.out, Go)),
        };
        // Memory refuses no write, and texts and numbers are always JSON.
        debug_assert!(written.is_ok(), "a value could not be written");
    }
}

/// Whether `text` is the same in JSON, in quotation marks.
fn is_plain(text: &str, style: Style) -> bool {
    let signs = match style {
        Style::Plain => &PLAIN,
        Style::Go => &GO,
    };
    text.bytes().all(|byte| signs[usize::from(byte)])
}

/// The bytes that [`Plain`] never escapes.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        plain[byte] = false;
        byte += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain
};

/// The bytes that [`Go`] never escapes.
const GO: [bool; 256] = {
    let mut plain = PLAIN;
    plain[b'<' as usize] = false;
    plain[b'>' as usize] = false;
    plain[b'&' as usize] = false;
    plain[0xe2] = false; // begins the line separators, among others
    plain
};

/// Compact.
struct Plain;

impl Formatter for Plain {
    fn write_raw_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        compact(fragment, |piece| writer.write_all(piece.as_bytes()))
    }
}

/// Compact, and with the characters escaped that mean something in HTML: `<`, `>`, `&` and the line separators
/// U+2028 and U+2029, as Go does unless told otherwise, in what is passed on too.
struct Go;

impl Formatter for Go {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        escape(writer, fragment)
    }

    fn write_raw_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        // Outside of strings JSON has none of the characters that are escaped.
        compact(fragment, |piece| escape(writer, piece))
    }
}

/// Hands on `json` piece by piece, without the white space outside of strings.
fn compact(json: &str, mut write: impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
    let (mut from, mut in_string, mut escaped) = (0, false, false);
    for (at, byte) in json.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b' ' | b'\t' | b'\n' | b'\r' if !in_string => {
                write(&json[from..at])?;
                from = at + 1;
            }
            _ => {}
        }
    }
    write(&json[from..])
}

fn escape<W: ?Sized + Write>(writer: &mut W, fragment: &str) -> io::Result<()> {
    let mut rest = fragment;
    while let Some((at, escape, length)) = next_escape(rest) {
        writer.write_all(&rest.as_bytes()[..at])?;
        writer.write_all(escape)?;
        rest = &rest[at + length..];
    }
    writer.write_all(rest.as_bytes())
}

/// Where the next character to escape is, its escape, and how many bytes it has.
fn next_escape(text: &str) -> Option<(usize, &'static [u8], usize)> {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().find_map(|(at, byte)| {
        let escape: (&[u8], usize) = match byte {
            b'<' => (b"\\u003c", 1),
            b'>' => (b"\\u003e", 1),
            b'&' => (b"\\u0026", 1),
            0xe2 if bytes[at..].starts_with("\u{2028}".as_bytes()) => (b"\\u2028", 3),
            0xe2 if bytes[at..].starts_with("\u{2029}".as_bytes()) => (b"\\u2029", 3),
            _ => return None,
        };
        Some((at, escape.0, escape.1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(formatter: impl Formatter, value: &(impl Serialize + ?Sized)) -> String {
        let mut out = Vec::new();
        value.serialize(&mut Serializer::with_formatter(&mut out, formatter)).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn document(style: Style, members: impl FnOnce(&mut Json)) -> String {
        String::from_utf8(Json::document(style, members)).unwrap()
    }

    proptest! {
        #[test]
        fn texts_are_escaped_or_not_as_serde_json_says(text in r#"([a-z]|["\\<>&/안–…“😀\x00-\x1f\x7f\u{2027}-\u{202a}]){0,6}"#) {
            let plain = format!("{{\"k\":{}}}", written(Plain, &text));
            prop_assert_eq!(document(Style::Plain, |json| json.text(key!("k"), &text)), plain);
            let go = format!("{{{0}:{0}}}", written(Go, &text));
            prop_assert_eq!(document(Style::Go, |json| json.entry(&text, &text)), go);
        }
    }

    #[test]
    fn only_a_byte_that_is_never_escaped_is_plain() {
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            let text = c.to_string();
            if is_plain(&text, Style::Plain) {
                assert_eq!(written(Plain, &text), format!("\"{c}\""));
            }
            if is_plain(&text, Style::Go) {
                assert_eq!(written(Go, &text), format!("\"{c}\""));
            }
        }
    }

    #[test]
    fn documents_are_compact_and_nothing_is_left_of_what_is_empty() {
        let made = document(Style::Plain, |json| {
            json.object(key!("none"), |_| {});
            json.list(key!("nobody"), [0; 0], |json, n| json.value(ELEMENT, n));
            json.list(key!("two"), [1, 2], |json, n| json.object(ELEMENT, |json| json.value(key!("n"), n)));
            json.filled(key!("absent"), None);
            json.filled(key!("empty"), Some(""));
            json.given(key!("absent"), None::<u64>);
            json.text(key!("comma"), ",");
            json.verbatim(key!("number"), " 1.500 ");
            json.verbatim(key!("broken"), "{");
            json.value(key!("last"), true);
        });
        let want =
            r#"{"none":{},"nobody":[],"two":[{"n":1},{"n":2}],"comma":",","number":1.500,"broken":null,"last":true}"#;
        assert_eq!(made, want);
        assert_eq!(document(Style::Go, |_| {}), "{}");
    }

    #[test]
    fn go_escapes_what_it_escapes_and_nothing_else() {
        assert_eq!(written(Go, "<b>&\u{2028}\u{2029}"), r#""\u003cb\u003e\u0026\u2028\u2029""#);
        assert_eq!(written(Go, "a/é안–…“\u{2027}\u{202a}😀"), "\"a/é안–…“\u{2027}\u{202a}😀\"");
        assert_eq!(written(Go, "\"\\\n\t\u{1}<"), r#""\"\\\n\t\u0001\u003c""#);
        assert_eq!(written(Go, ""), "\"\"");
    }

    #[test]
    fn what_is_passed_on_keeps_every_byte_but_white_space() {
        let json = "{ \"a\\\" \" :\r\n[ 1.50,\t\"\\\\\" , \" x  \",\"\\ud83d\"],\"<\u{2028}\":null }";
        let raw: &RawValue = serde_json::from_str(json).unwrap();
        assert_eq!(written(Plain, raw), "{\"a\\\" \":[1.50,\"\\\\\",\" x  \",\"\\ud83d\"],\"<\u{2028}\":null}");
        assert_eq!(written(Go, raw), r#"{"a\" ":[1.50,"\\"," x  ","\ud83d"],"\u003c\u2028":null}"#);
    }
}
