//! JSON as Go's encoder writes it: compact, and with the characters escaped that mean something in HTML.

use serde_json::ser::Formatter;
use std::io::{self, Write};

/// Escapes `<`, `>`, `&` and the line separators U+2028 and U+2029 in strings, as Go does unless told otherwise.
pub(super) struct GoEscapes;

impl Formatter for GoEscapes {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, escape, length)) = next_escape(rest) {
            writer.write_all(&rest.as_bytes()[..at])?;
            writer.write_all(escape)?;
            rest = &rest[at + length..];
        }
        writer.write_all(rest.as_bytes())
    }
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
    use serde::Serialize as _;

    fn go(text: &str) -> String {
        let mut out = Vec::new();
        text.serialize(&mut serde_json::Serializer::with_formatter(&mut out, GoEscapes)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_what_go_escapes_and_nothing_else() {
        assert_eq!(go("<b>&\u{2028}\u{2029}"), r#""\u003cb\u003e\u0026\u2028\u2029""#);
        assert_eq!(go("a/é안–…“\u{2027}\u{202a}😀"), "\"a/é안–…“\u{2027}\u{202a}😀\"");
        assert_eq!(go("\"\\\n\t\u{1}<"), r#""\"\\\n\t\u0001\u003c""#);
        assert_eq!(go(""), "\"\"");
    }
}
