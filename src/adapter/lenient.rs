//! Reading providers' JSON when it is not what the documentation says.
//!
//! Real payloads carry nulls, numbers for strings, extra keys and repeated ones, and a message must not be lost
//! over a field that nobody needs. So values stay raw JSON text ([`Field`]) until something asks for them as
//! text, number, list or object; whatever has the wrong form is then simply absent. Only a string that is
//! *used* and is no Unicode text (half of a surrogate pair) makes its event unreadable. No tree is built.

use crate::domain::event::{Quarantine, QuarantineReason};
use crate::domain::message::Decimal;
use serde::de::{DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// A JSON value as its sender wrote it, or the absence of one.
///
/// Deliberately without `Debug`: its text is somebody's message.
#[derive(Clone, Copy, Default)]
pub(crate) struct Field<'a>(Option<&'a str>);

impl<'a> Field<'a> {
    /// A whole document; `None` when the bytes are not one JSON value in UTF-8.
    pub(crate) fn document(bytes: &'a [u8]) -> Option<Self> {
        let raw: &RawValue = serde_json::from_str(std::str::from_utf8(bytes).ok()?).ok()?;
        Some(Self(Some(raw.get())))
    }

    /// The JSON as written, when there is a value.
    pub(crate) fn raw(self) -> Option<&'a str> {
        self.0
    }

    /// Whether the key was there at all, even with null.
    pub(crate) fn is_given(self) -> bool {
        self.0.is_some()
    }

    /// Whether there is nothing in it: absent, null, or an empty string, list or object.
    pub(crate) fn is_blank(self) -> bool {
        let Some(text) = self.0 else { return true };
        match text.as_bytes() {
            b"null" | b"\"\"" => true,
            [b'{', inner @ .., b'}'] | [b'[', inner @ .., b']'] => inner.iter().all(u8::is_ascii_whitespace),
            _ => false,
        }
    }

    /// Whether there is nothing in it, or nothing in any of its members.
    pub(crate) fn is_hollow(self) -> bool {
        self.is_blank() || self.object::<Entries>().is_some_and(|object| object.0.iter().all(|(_, v)| v.is_blank()))
    }

    /// Whether it is a string, and not an empty one.
    pub(crate) fn is_filled_string(self) -> bool {
        self.0.is_some_and(|text| text.len() > 2 && text.starts_with('"'))
    }

    /// A string, or a number as it is written; anything else is absent. `place` names the field in the error.
    pub(crate) fn text(self, place: impl fmt::Display) -> Result<Option<Cow<'a, str>>, Quarantine> {
        let Some(json) = self.0 else { return Ok(None) };
        match json.as_bytes() {
            [b'"', .., b'"'] => {
                let inner = &json[1..json.len() - 1];
                if !inner.contains('\\') {
                    return Ok(Some(Cow::Borrowed(inner)));
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
        let json = self.0?;
        Decimal::parse(json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(json))
    }

    /// A whole number, or a string that holds one.
    pub(crate) fn integer(self) -> Option<i64> {
        self.decimal()?.as_str().parse().ok()
    }

    /// True or false; anything else is absent.
    pub(crate) fn boolean(self) -> Option<bool> {
        match self.0? {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// An object's fields; `None` for anything that is not an object. Of a repeated key the last one counts.
    pub(crate) fn object<T: Object<'a>>(self) -> Option<T> {
        let json = self.0.filter(|text| text.starts_with('{'))?;
        let mut found = T::default();
        serde_json::Deserializer::from_str(json).deserialize_map(Members(&mut found)).ok()?;
        Some(found)
    }

    /// A list's elements; `None` for anything that is not a list.
    pub(crate) fn list(self) -> Option<Vec<Field<'a>>> {
        let json = self.0.filter(|text| text.starts_with('['))?;
        serde_json::Deserializer::from_str(json).deserialize_seq(Elements).ok()
    }
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

struct Members<'t, T>(&'t mut T);

impl<'a, T: Object<'a>> Visitor<'a> for Members<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Key)? {
            match self.0.slot(key) {
                Some(slot) => *slot = Field(Some(map.next_value::<&'a RawValue>()?.get())),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct Elements;

impl<'a> Visitor<'a> for Elements {
    type Value = Vec<Field<'a>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while let Some(raw) = seq.next_element::<&'a RawValue>()? {
            found.push(Field(Some(raw.get())));
        }
        Ok(found)
    }
}

struct Key;

impl<'a> DeserializeSeed<'a> for Key {
    type Value = Cow<'a, [u8]>;

    fn deserialize<D: serde::Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    object! {
        struct Two { one = b"one", two = b"two", }
    }

    fn field(json: &str) -> Field<'_> {
        Field::document(json.as_bytes()).unwrap()
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
        assert_eq!(field(r#"[1, null ,{"a":[2]}]"#).list().unwrap().len(), 3);
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

    #[test]
    fn only_one_whole_value_in_utf_8_is_a_document() {
        for bad in [&b""[..], b"{", b"{} {}", b"\xff", b"\"\xed\xa0\x80\"", b"{\"a\":01}", b"nul"] {
            assert!(Field::document(bad).is_none());
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(field(&deep).list().is_some());
    }
}
