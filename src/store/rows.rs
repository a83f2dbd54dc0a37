//! Domain values as text columns: our own JSON, the same on every engine, independent of any record format.
//!
//! Domain types do not derive serialization, so that a change of theirs cannot silently change what is stored.

use crate::domain::address::{Address, AddressKind};
use crate::domain::message::{Location, Media, Message, Metadata, Sticker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct AddressRow<'a> {
    kind: std::borrow::Cow<'a, str>,
    target: std::borrow::Cow<'a, str>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    name: std::borrow::Cow<'a, str>,
}

impl<'a> From<&'a Address> for AddressRow<'a> {
    fn from(a: &'a Address) -> Self {
        Self { kind: a.kind.as_str().into(), target: (&a.target).into(), name: (&a.target_name).into() }
    }
}

/// An address as a column.
pub(super) fn address(address: &Address) -> String {
    json(&AddressRow::from(address))
}

/// A column as an address; `None` when it is none.
pub(super) fn parse_address(text: &str) -> Option<Address> {
    let row: AddressRow<'_> = serde_json::from_str(text).ok()?;
    let kind = [AddressKind::Line, AddressKind::Tel].into_iter().find(|k| k.as_str() == row.kind)?;
    Some(Address::new(kind, row.target, row.name))
}

/// What a message has besides its columns.
pub(super) fn content(message: &Message) -> String {
    json(&ContentRow {
        reference_type: message.reference_type,
        source: (&message.source).into(),
        destination: (&message.destination).into(),
        medias: message.medias.iter().map(MediaRow::from).collect(),
        metadata: (&message.metadata).into(),
    })
}

fn json(value: &impl Serialize) -> String {
    // Strings, numbers and lists into memory: there is nothing that could fail.
    serde_json::to_string(value).unwrap_or_default()
}

#[derive(Serialize)]
struct ContentRow<'a> {
    reference_type: &'a str,
    source: AddressRow<'a>,
    destination: AddressRow<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    medias: Vec<MediaRow<'a>>,
    #[serde(skip_serializing_if = "MetadataRow::is_empty")]
    metadata: MetadataRow<'a>,
}

#[derive(Serialize)]
struct MediaRow<'a> {
    id: String,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preview_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<LocationRow<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sticker: Option<StickerRow<'a>>,
}

impl<'a> From<&'a Media> for MediaRow<'a> {
    fn from(m: &'a Media) -> Self {
        let Media {
            id,
            kind,
            filename,
            url,
            content_type,
            size,
            duration_ms,
            preview_url,
            provider_id,
            location,
            sticker,
        } = m;
        Self {
            id: id.to_string(),
            kind: kind.as_str(),
            filename: filename.as_deref(),
            url: url.as_deref(),
            content_type: content_type.as_deref(),
            size: *size,
            duration_ms: *duration_ms,
            preview_url: preview_url.as_deref(),
            provider_id: provider_id.as_deref(),
            location: location.as_ref().map(LocationRow::from),
            sticker: sticker.as_ref().map(StickerRow::from),
        }
    }
}

/// Coordinates stay text: they must come back digit for digit.
#[derive(Serialize)]
struct LocationRow<'a> {
    latitude: Option<&'a str>,
    longitude: Option<&'a str>,
    title: Option<&'a str>,
    address: Option<&'a str>,
}

impl<'a> From<&'a Location> for LocationRow<'a> {
    fn from(l: &'a Location) -> Self {
        let Location { latitude, longitude, title, address } = l;
        Self {
            latitude: latitude.as_ref().map(super::super::domain::message::Decimal::as_str),
            longitude: longitude.as_ref().map(super::super::domain::message::Decimal::as_str),
            title: title.as_deref(),
            address: address.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct StickerRow<'a> {
    package_id: Option<&'a str>,
    sticker_id: Option<&'a str>,
    resource_type: Option<&'a str>,
    keywords: &'a [String],
}

impl<'a> From<&'a Sticker> for StickerRow<'a> {
    fn from(s: &'a Sticker) -> Self {
        let Sticker { package_id, sticker_id, resource_type, keywords } = s;
        Self {
            package_id: package_id.as_deref(),
            sticker_id: sticker_id.as_deref(),
            resource_type: resource_type.as_deref(),
            keywords,
        }
    }
}

#[derive(Serialize)]
struct MetadataRow<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    emojis: Vec<EmojiRow<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mentions: Vec<MentionRow<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    postback: Option<PostbackRow<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quoted_message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_set: Option<(Option<&'a str>, Option<i64>, Option<i64>)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<AddressRow<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    standby: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<(Option<&'a str>, Option<&'a str>, Option<&'a str>)>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    unmapped: &'a [String],
    #[serde(skip)]
    empty: bool,
}

impl MetadataRow<'_> {
    fn is_empty(&self) -> bool {
        self.empty
    }
}

impl<'a> From<&'a Metadata> for MetadataRow<'a> {
    fn from(m: &'a Metadata) -> Self {
        let Metadata {
            emojis,
            mentions,
            postback,
            reply_to,
            quoted_message_id,
            image_set,
            sender,
            standby,
            provider,
            unmapped,
        } = m;
        Self {
            emojis: emojis
                .iter()
                .map(|e| EmojiRow {
                    index: e.index,
                    length: e.length,
                    product_id: e.product_id.as_deref(),
                    emoji_id: e.emoji_id.as_deref(),
                    alt: e.alt.as_deref(),
                })
                .collect(),
            mentions: mentions
                .iter()
                .map(|m| MentionRow {
                    index: m.index,
                    length: m.length,
                    kind: m.kind.as_deref(),
                    user_id: m.user_id.as_deref(),
                    is_self: m.is_self,
                })
                .collect(),
            postback: postback.as_ref().map(|p| PostbackRow {
                payload: p.payload.as_deref(),
                text: p.text.as_deref(),
                params: &p.params,
            }),
            reply_to: reply_to.as_deref(),
            quoted_message_id: quoted_message_id.as_deref(),
            image_set: image_set.as_ref().map(|s| (s.id.as_deref(), s.index, s.total)),
            sender: sender.as_ref().map(AddressRow::from),
            standby: *standby,
            provider: provider.as_ref().map(|p| (p.status.as_deref(), p.reason.as_deref(), p.failure.as_deref())),
            unmapped,
            empty: *m == Metadata::default(),
        }
    }
}

#[derive(Serialize)]
struct EmojiRow<'a> {
    index: Option<i64>,
    length: Option<i64>,
    product_id: Option<&'a str>,
    emoji_id: Option<&'a str>,
    alt: Option<&'a str>,
}

#[derive(Serialize)]
struct MentionRow<'a> {
    index: Option<i64>,
    length: Option<i64>,
    kind: Option<&'a str>,
    user_id: Option<&'a str>,
    is_self: Option<bool>,
}

#[derive(Serialize)]
struct PostbackRow<'a> {
    payload: Option<&'a str>,
    text: Option<&'a str>,
    params: &'a [(String, String)],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back() {
        for a in [
            Address::new(AddressKind::Line, "U1", "Mei \"x\""),
            Address::new(AddressKind::Tel, "+31612345678", ""),
            Address::new(AddressKind::Line, "", ""),
        ] {
            assert_eq!(parse_address(&address(&a)), Some(a));
        }
        assert_eq!(parse_address("{}"), None);
        assert_eq!(parse_address(r#"{"kind":"fax","target":"1"}"#), None);
    }
}
