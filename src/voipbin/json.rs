//! The two ways in which JSON is written: compact, and compact as Go's encoder does it.
//!
//! JSON that is passed on as it was received loses the white space between its parts: subscribers and logs get one
//! line, and nothing that it says changes.

use serde_json::ser::Formatter;
use std::io::{self, Write};

/// Compact.
pub(super) struct Plain;

impl Formatter for Plain {
    fn write_raw_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        compact(fragment, |piece| writer.write_all(piece.as_bytes()))
    }
}

/// Compact, and with the characters escaped that mean something in HTML: `<`, `>`, `&` and the line separators
/// U+2028 and U+2029, as Go does unless told otherwise, in what is passed on too.
pub(super) struct Go;

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
    use serde::Serialize;
    use serde_json::value::RawValue;

    fn written(formatter: impl Formatter, value: &(impl Serialize + ?Sized)) -> String {
        let mut out = Vec::new();
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter)).unwrap();
        String::from_utf8(out).unwrap()
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
