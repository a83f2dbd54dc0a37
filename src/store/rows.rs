//! Domain values as text columns: our own JSON, the same on every engine, independent of any record format.
//!
//! Domain types do not derive serialization, so that a change of theirs cannot silently change what is stored;
//! every field is named here on both ways, so that a new one cannot be forgotten.

use crate::domain::account::Channel;
use crate::domain::address::{Address, AddressKind};
use crate::domain::ids::MediaId;
use crate::domain::message::{
    Decimal, Direction, Emoji, ImageSet, Location, Media, MediaKind, Mention, Message, Metadata, Postback,
    ProviderStatus, Status, Sticker,
};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use uuid::Uuid;

/// An address as a column.
pub(super) fn address(address: &Address) -> String {
    json(&AddressRow::from(address))
}

/// A column as an address; `None` when it is none.
pub(super) fn parse_address(text: &str) -> Option<Address> {
    serde_json::from_str::<AddressRow<'_>>(text).ok()?.into_domain()
}

/// A status as a column.
pub(super) fn status(status: Status) -> &'static str {
    match status {
        Status::Received => "received",
        Status::Sending => "sending",
        Status::Sent => "sent",
        Status::Delivered => "delivered",
        Status::Failed => "failed",
    }
}

/// A column as a status.
pub(super) fn parse_status(text: &str) -> Status {
    [Status::Sending, Status::Sent, Status::Delivered, Status::Failed]
        .into_iter()
        .find(|s| status(*s) == text)
        .unwrap_or(Status::Received)
}

/// A column as a direction.
pub(super) fn parse_direction(text: &str) -> Direction {
    if text == Direction::Outgoing.as_str() { Direction::Outgoing } else { Direction::Incoming }
}

/// What a message has besides its columns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Content {
    pub(super) reference_type: &'static str,
    pub(super) source: Address,
    pub(super) destination: Address,
    pub(super) medias: Vec<Media>,
    pub(super) metadata: Metadata,
    pub(super) parts: Option<u32>,
}

/// What a message has besides its columns, as a column.
pub(super) fn content(message: &Message) -> String {
    let Message { reference_type, source, destination, medias, metadata, parts, .. } = message;
    written(reference_type, (source, destination), medias, metadata, *parts)
}

impl Content {
    /// As a column.
    pub(super) fn written(&self) -> String {
        let Self { reference_type, source, destination, medias, metadata, parts } = self;
        written(reference_type, (source, destination), medias, metadata, *parts)
    }
}

fn written(
    reference_type: &str,
    (source, destination): (&Address, &Address),
    medias: &[Media],
    metadata: &Metadata,
    parts: Option<u32>,
) -> String {
    json(&ContentRow {
        reference_type: reference_type.into(),
        source: source.into(),
        destination: destination.into(),
        medias: medias.iter().map(MediaRow::from).collect(),
        metadata: Some(metadata).filter(|m| **m != Metadata::default()).map(MetadataRow::from),
        parts,
    })
}

/// The same, as short as can be: most messages are from and to those whom their conversation names, and have nothing
/// else to say. Of those only the name is written, because the conversation's may change.
pub(super) fn short_content(message: &Message, own: &Address, peer: &Address) -> String {
    let (theirs, ours) = sides(message.direction, &message.source, &message.destination);
    let is_plain = message.medias.is_empty() && message.parts.is_none() && message.metadata == Metadata::default();
    if is_plain && ours == own && theirs.kind == peer.kind && theirs.target == peer.target {
        let mut text = String::with_capacity(1 + theirs.target_name.len());
        text.push(SHORT);
        text.push_str(&theirs.target_name);
        return text;
    }
    content(message)
}

/// What short content begins with; JSON does not.
const SHORT: char = '=';

/// Short content as what a message has besides its columns; `None` when it is not short.
pub(super) fn parse_short_content(
    text: &str,
    direction: Direction,
    channel: Channel,
    own: Address,
    peer: Address,
) -> Option<Content> {
    let name = text.strip_prefix(SHORT)?;
    let theirs = Address { target_name: name.to_owned(), ..peer };
    let (source, destination) = sides(direction, theirs, own);
    Some(Content {
        reference_type: channel.reference_type(),
        source,
        destination,
        medias: Vec::new(),
        metadata: Metadata::default(),
        parts: None,
    })
}

/// Of a message's source and destination theirs and ours, or the other way about.
fn sides<T>(direction: Direction, source: T, destination: T) -> (T, T) {
    match direction {
        Direction::Incoming => (source, destination),
        Direction::Outgoing => (destination, source),
    }
}

/// A column as what a message has besides its columns; `None` when it is none.
pub(super) fn parse_content(text: &str) -> Option<Content> {
    let row: ContentRow<'_> = serde_json::from_str(text).ok()?;
    Some(Content {
        reference_type: Channel::ALL.map(Channel::reference_type).into_iter().find(|t| *t == row.reference_type)?,
        source: row.source.into_domain()?,
        destination: row.destination.into_domain()?,
        medias: row.medias.into_iter().map(MediaRow::into_domain).collect::<Option<_>>()?,
        metadata: match row.metadata {
            Some(metadata) => metadata.into_domain()?,
            None => Metadata::default(),
        },
        parts: row.parts,
    })
}

fn json(value: &impl Serialize) -> String {
    let mut out = Vec::with_capacity(256);
    // Strings, numbers and lists into memory: there is nothing that could fail.
    let written = serde_json::to_writer(&mut out, value).is_ok();
    String::from_utf8(out).ok().filter(|_| written).unwrap_or_default()
}

type Text<'a> = Cow<'a, str>;

fn text(value: Option<&String>) -> Option<Text<'_>> {
    value.map(|text| Cow::Borrowed(text.as_str()))
}

fn owned(value: Option<Text<'_>>) -> Option<String> {
    value.map(Cow::into_owned)
}

#[derive(Serialize, Deserialize)]
struct AddressRow<'a> {
    kind: Text<'a>,
    target: Text<'a>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    name: Text<'a>,
}

impl<'a> From<&'a Address> for AddressRow<'a> {
    fn from(Address { kind, target, target_name }: &'a Address) -> Self {
        Self { kind: kind.as_str().into(), target: target.into(), name: target_name.into() }
    }
}

impl AddressRow<'_> {
    fn into_domain(self) -> Option<Address> {
        let kind = [AddressKind::Line, AddressKind::Tel].into_iter().find(|k| k.as_str() == self.kind)?;
        Some(Address::new(kind, self.target, self.name))
    }
}

#[derive(Serialize, Deserialize)]
struct ContentRow<'a> {
    reference_type: Text<'a>,
    source: AddressRow<'a>,
    destination: AddressRow<'a>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    medias: Vec<MediaRow<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<MetadataRow<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parts: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct MediaRow<'a> {
    id: Text<'a>,
    kind: Text<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filename: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preview_url: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provider_id: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    location: Option<LocationRow<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sticker: Option<StickerRow<'a>>,
}

impl<'a> From<&'a Media> for MediaRow<'a> {
    fn from(media: &'a Media) -> Self {
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
        } = media;
        Self {
            id: id.to_string().into(),
            kind: kind.as_str().into(),
            filename: text(filename.as_ref()),
            url: text(url.as_ref()),
            content_type: text(content_type.as_ref()),
            size: *size,
            duration_ms: *duration_ms,
            preview_url: text(preview_url.as_ref()),
            provider_id: text(provider_id.as_ref()),
            location: location.as_ref().map(LocationRow::from),
            sticker: sticker.as_ref().map(StickerRow::from),
        }
    }
}

impl MediaRow<'_> {
    fn into_domain(self) -> Option<Media> {
        Some(Media {
            id: MediaId(Uuid::try_parse(&self.id).ok()?),
            kind: MediaKind::ALL.into_iter().find(|k| k.as_str() == self.kind)?,
            filename: owned(self.filename),
            url: owned(self.url),
            content_type: owned(self.content_type),
            size: self.size,
            duration_ms: self.duration_ms,
            preview_url: owned(self.preview_url),
            provider_id: owned(self.provider_id),
            location: self.location.map(LocationRow::into_domain),
            sticker: self.sticker.map(StickerRow::into_domain),
        })
    }
}

/// Coordinates stay text: they must come back digit for digit.
#[derive(Serialize, Deserialize)]
struct LocationRow<'a> {
    latitude: Option<Text<'a>>,
    longitude: Option<Text<'a>>,
    title: Option<Text<'a>>,
    address: Option<Text<'a>>,
}

impl<'a> From<&'a Location> for LocationRow<'a> {
    fn from(Location { latitude, longitude, title, address }: &'a Location) -> Self {
        Self {
            latitude: latitude.as_ref().map(|d| d.as_str().into()),
            longitude: longitude.as_ref().map(|d| d.as_str().into()),
            title: text(title.as_ref()),
            address: text(address.as_ref()),
        }
    }
}

impl LocationRow<'_> {
    fn into_domain(self) -> Location {
        let decimal = |text: Option<Text<'_>>| text.and_then(|text| Decimal::parse(&text));
        Location {
            latitude: decimal(self.latitude),
            longitude: decimal(self.longitude),
            title: owned(self.title),
            address: owned(self.address),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct StickerRow<'a> {
    package_id: Option<Text<'a>>,
    sticker_id: Option<Text<'a>>,
    resource_type: Option<Text<'a>>,
    keywords: Cow<'a, [String]>,
}

impl<'a> From<&'a Sticker> for StickerRow<'a> {
    fn from(Sticker { package_id, sticker_id, resource_type, keywords }: &'a Sticker) -> Self {
        Self {
            package_id: text(package_id.as_ref()),
            sticker_id: text(sticker_id.as_ref()),
            resource_type: text(resource_type.as_ref()),
            keywords: keywords.into(),
        }
    }
}

impl StickerRow<'_> {
    fn into_domain(self) -> Sticker {
        Sticker {
            package_id: owned(self.package_id),
            sticker_id: owned(self.sticker_id),
            resource_type: owned(self.resource_type),
            keywords: self.keywords.into_owned(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct MetadataRow<'a> {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    emojis: Vec<EmojiRow<'a>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mentions: Vec<MentionRow<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    postback: Option<PostbackRow<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply_to: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quoted_message_id: Option<Text<'a>>,
    /// id, index, total
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image_set: Option<(Option<Text<'a>>, Option<i64>, Option<i64>)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sender: Option<AddressRow<'a>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    standby: bool,
    /// status, reason, failure
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provider: Option<(Option<Text<'a>>, Option<Text<'a>>, Option<Text<'a>>)>,
    #[serde(default, skip_serializing_if = "<[String]>::is_empty")]
    unmapped: Cow<'a, [String]>,
}

impl<'a> From<&'a Metadata> for MetadataRow<'a> {
    fn from(metadata: &'a Metadata) -> Self {
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
        } = metadata;
        Self {
            emojis: emojis.iter().map(EmojiRow::from).collect(),
            mentions: mentions.iter().map(MentionRow::from).collect(),
            postback: postback.as_ref().map(PostbackRow::from),
            reply_to: text(reply_to.as_ref()),
            quoted_message_id: text(quoted_message_id.as_ref()),
            image_set: image_set.as_ref().map(|ImageSet { id, index, total }| (text(id.as_ref()), *index, *total)),
            sender: sender.as_ref().map(AddressRow::from),
            standby: *standby,
            provider: provider.as_ref().map(|ProviderStatus { status, reason, failure }| {
                (text(status.as_ref()), text(reason.as_ref()), text(failure.as_ref()))
            }),
            unmapped: unmapped.into(),
        }
    }
}

impl MetadataRow<'_> {
    fn into_domain(self) -> Option<Metadata> {
        Some(Metadata {
            emojis: self.emojis.into_iter().map(EmojiRow::into_domain).collect(),
            mentions: self.mentions.into_iter().map(MentionRow::into_domain).collect(),
            postback: self.postback.map(PostbackRow::into_domain),
            reply_to: owned(self.reply_to),
            quoted_message_id: owned(self.quoted_message_id),
            image_set: self.image_set.map(|(id, index, total)| ImageSet { id: owned(id), index, total }),
            sender: match self.sender {
                Some(sender) => Some(sender.into_domain()?),
                None => None,
            },
            standby: self.standby,
            provider: self.provider.map(|(status, reason, failure)| ProviderStatus {
                status: owned(status),
                reason: owned(reason),
                failure: owned(failure),
            }),
            unmapped: self.unmapped.into_owned(),
        })
    }
}

#[derive(Serialize, Deserialize)]
struct EmojiRow<'a> {
    index: Option<i64>,
    length: Option<i64>,
    product_id: Option<Text<'a>>,
    emoji_id: Option<Text<'a>>,
    alt: Option<Text<'a>>,
}

impl<'a> From<&'a Emoji> for EmojiRow<'a> {
    fn from(Emoji { index, length, product_id, emoji_id, alt }: &'a Emoji) -> Self {
        Self {
            index: *index,
            length: *length,
            product_id: text(product_id.as_ref()),
            emoji_id: text(emoji_id.as_ref()),
            alt: text(alt.as_ref()),
        }
    }
}

impl EmojiRow<'_> {
    fn into_domain(self) -> Emoji {
        Emoji {
            index: self.index,
            length: self.length,
            product_id: owned(self.product_id),
            emoji_id: owned(self.emoji_id),
            alt: owned(self.alt),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct MentionRow<'a> {
    index: Option<i64>,
    length: Option<i64>,
    kind: Option<Text<'a>>,
    user_id: Option<Text<'a>>,
    is_self: Option<bool>,
}

impl<'a> From<&'a Mention> for MentionRow<'a> {
    fn from(Mention { index, length, kind, user_id, is_self }: &'a Mention) -> Self {
        Self {
            index: *index,
            length: *length,
            kind: text(kind.as_ref()),
            user_id: text(user_id.as_ref()),
            is_self: *is_self,
        }
    }
}

impl MentionRow<'_> {
    fn into_domain(self) -> Mention {
        Mention {
            index: self.index,
            length: self.length,
            kind: owned(self.kind),
            user_id: owned(self.user_id),
            is_self: self.is_self,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct PostbackRow<'a> {
    payload: Option<Text<'a>>,
    text: Option<Text<'a>>,
    params: Cow<'a, [(String, String)]>,
}

impl<'a> From<&'a Postback> for PostbackRow<'a> {
    fn from(Postback { payload, text: label, params }: &'a Postback) -> Self {
        Self { payload: text(payload.as_ref()), text: text(label.as_ref()), params: params.into() }
    }
}

impl PostbackRow<'_> {
    fn into_domain(self) -> Postback {
        Postback { payload: owned(self.payload), text: owned(self.text), params: self.params.into_owned() }
    }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
