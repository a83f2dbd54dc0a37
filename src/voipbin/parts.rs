//! What both record formats have in common: ids, addresses and everything we add to VoIPBIN's records.
//!
//! Additions come after VoIPBIN's own keys, and an absent or empty one is left out.

use crate::domain::address::Address;
use crate::domain::message;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use uuid::Uuid;

/// A UUID as lower-case text with hyphens.
pub(super) struct Id(pub(super) Uuid);

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()))
    }
}

/// An address with all five keys.
#[derive(Serialize)]
pub(super) struct FullAddress<'a> {
    r#type: &'static str,
    target: &'a str,
    target_name: &'a str,
    name: &'static str,
    detail: &'static str,
}

impl<'a> From<&'a Address> for FullAddress<'a> {
    fn from(address: &'a Address) -> Self {
        let Address { kind, target, target_name } = address;
        Self { r#type: kind.as_str(), target, target_name, name: "", detail: "" }
    }
}

/// An address without its empty keys.
#[derive(Serialize)]
pub(super) struct ShortAddress<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    target: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    target_name: &'a str,
}

impl<'a> From<&'a Address> for ShortAddress<'a> {
    fn from(address: &'a Address) -> Self {
        Self { r#type: address.kind.as_str(), target: &address.target, target_name: &address.target_name }
    }
}

/// A text that is left out when it is absent or empty.
#[derive(Clone, Copy, Serialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(Option<&'a str>);

impl Text<'_> {
    fn is_blank(&self) -> bool {
        self.0.is_none_or(str::is_empty)
    }
}

impl<'a> From<&'a Option<String>> for Text<'a> {
    fn from(text: &'a Option<String>) -> Self {
        Self(text.as_deref())
    }
}

/// The keys that we add to a medium.
#[derive(Serialize)]
pub(super) struct MediaExtras<'a> {
    #[serde(skip_serializing_if = "Text::is_blank")]
    url: Text<'a>,
    #[serde(skip_serializing_if = "Text::is_blank")]
    content_type: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    #[serde(skip_serializing_if = "Text::is_blank")]
    preview_url: Text<'a>,
    #[serde(skip_serializing_if = "Text::is_blank")]
    provider_id: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<Location<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sticker: Option<Sticker<'a>>,
}

impl<'a> From<&'a message::Media> for MediaExtras<'a> {
    fn from(media: &'a message::Media) -> Self {
        Self {
            url: Text::from(&media.url),
            content_type: Text::from(&media.content_type),
            size: media.size,
            duration_ms: media.duration_ms,
            preview_url: Text::from(&media.preview_url),
            provider_id: Text::from(&media.provider_id),
            location: media.location.as_ref().map(Location::from),
            sticker: media.sticker.as_ref().map(Sticker::from),
        }
    }
}

#[derive(Serialize)]
struct Location<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    latitude: Option<Verbatim<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    longitude: Option<Verbatim<'a>>,
    #[serde(skip_serializing_if = "Text::is_blank")]
    title: Text<'a>,
    #[serde(skip_serializing_if = "Text::is_blank")]
    address: Text<'a>,
}

impl<'a> From<&'a message::Location> for Location<'a> {
    fn from(location: &'a message::Location) -> Self {
        Self {
            latitude: location.latitude.as_ref().map(|degrees| Verbatim(degrees.as_str())),
            longitude: location.longitude.as_ref().map(|degrees| Verbatim(degrees.as_str())),
            title: Text::from(&location.title),
            address: Text::from(&location.address),
        }
    }
}

/// JSON as it was received: a number with its digits, an event with its own keys. What is none becomes null.
pub(super) struct Verbatim<'a>(pub(super) &'a str);

impl Serialize for Verbatim<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str(self.0).unwrap_or(RawValue::NULL).serialize(serializer)
    }
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the keys are what subscribers see")]
struct Sticker<'a> {
    #[serde(skip_serializing_if = "Text::is_blank")]
    package_id: Text<'a>,
    #[serde(skip_serializing_if = "Text::is_blank")]
    sticker_id: Text<'a>,
    #[serde(skip_serializing_if = "Text::is_blank")]
    resource_type: Text<'a>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    keywords: &'a [String],
}

impl<'a> From<&'a message::Sticker> for Sticker<'a> {
    fn from(sticker: &'a message::Sticker) -> Self {
        Self {
            package_id: Text::from(&sticker.package_id),
            sticker_id: Text::from(&sticker.sticker_id),
            resource_type: Text::from(&sticker.resource_type),
            keywords: &sticker.keywords,
        }
    }
}

/// The `metadata` of a message; `A` is how the format writes addresses.
#[derive(Serialize)]
pub(super) struct Metadata<'a, A> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    emojis: Vec<Emoji<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mentions: Vec<Mention<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    postback: Option<Postback<'a>>,
    #[serde(skip_serializing_if = "Text::is_blank")]
    reply_to: Text<'a>,
    #[serde(skip_serializing_if = "Text::is_blank")]
    quoted_message_id: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_set: Option<ImageSet<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<A>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    standby: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<ProviderStatus<'a>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    unmapped: &'a [String],
}

impl<'a, A: From<&'a Address>> Metadata<'a, A> {
    /// `None` when there is nothing in it, so that a plain message has exactly VoIPBIN's keys.
    pub(super) fn of(metadata: &'a message::Metadata) -> Option<Self> {
        if *metadata == message::Metadata::default() {
            return None;
        }
        Some(Self {
            emojis: metadata.emojis.iter().map(Emoji::from).collect(),
            mentions: metadata.mentions.iter().map(Mention::from).collect(),
            postback: metadata.postback.as_ref().map(Postback::from),
            reply_to: Text::from(&metadata.reply_to),
            quoted_message_id: Text::from(&metadata.quoted_message_id),
            image_set: metadata.image_set.as_ref().map(ImageSet::from),
            sender: metadata.sender.as_ref().map(A::from),
            standby: metadata.standby,
            provider: metadata.provider.as_ref().map(ProviderStatus::from),
            unmapped: &metadata.unmapped,
        })
    }
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the keys are what subscribers see")]
struct Emoji<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<i64>,
    #[serde(skip_serializing_if = "Text::is_blank")]
    product_id: Text<'a>,
    #[serde(skip_serializing_if = "Text::is_blank")]
    emoji_id: Text<'a>,
    /// Always there: null says that the span is none.
    alt: Text<'a>,
}

impl<'a> From<&'a message::Emoji> for Emoji<'a> {
    fn from(emoji: &'a message::Emoji) -> Self {
        Self {
            index: emoji.index,
            length: emoji.length,
            product_id: Text::from(&emoji.product_id),
            emoji_id: Text::from(&emoji.emoji_id),
            alt: Text::from(&emoji.alt),
        }
    }
}

#[derive(Serialize)]
struct Mention<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<i64>,
    #[serde(skip_serializing_if = "Text::is_blank")]
    r#type: Text<'a>,
    #[serde(skip_serializing_if = "Text::is_blank")]
    user_id: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_self: Option<bool>,
}

impl<'a> From<&'a message::Mention> for Mention<'a> {
    fn from(mention: &'a message::Mention) -> Self {
        Self {
            index: mention.index,
            length: mention.length,
            r#type: Text::from(&mention.kind),
            user_id: Text::from(&mention.user_id),
            is_self: mention.is_self,
        }
    }
}

#[derive(Serialize)]
struct Postback<'a> {
    #[serde(skip_serializing_if = "Text::is_blank")]
    payload: Text<'a>,
    #[serde(skip_serializing_if = "Text::is_blank")]
    text: Text<'a>,
    #[serde(skip_serializing_if = "Params::is_empty")]
    params: Params<'a>,
}

impl<'a> From<&'a message::Postback> for Postback<'a> {
    fn from(postback: &'a message::Postback) -> Self {
        Self {
            payload: Text::from(&postback.payload),
            text: Text::from(&postback.text),
            params: Params(&postback.params),
        }
    }
}

struct Params<'a>(&'a [(String, String)]);

impl Params<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Params<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct ImageSet<'a> {
    #[serde(skip_serializing_if = "Text::is_blank")]
    id: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<i64>,
}

impl<'a> From<&'a message::ImageSet> for ImageSet<'a> {
    fn from(set: &'a message::ImageSet) -> Self {
        Self { id: Text::from(&set.id), index: set.index, total: set.total }
    }
}

#[derive(Serialize)]
struct ProviderStatus<'a> {
    #[serde(skip_serializing_if = "Text::is_blank")]
    status: Text<'a>,
    #[serde(skip_serializing_if = "Text::is_blank")]
    reason: Text<'a>,
    #[serde(skip_serializing_if = "Text::is_blank")]
    failure: Text<'a>,
}

impl<'a> From<&'a message::ProviderStatus> for ProviderStatus<'a> {
    fn from(status: &'a message::ProviderStatus) -> Self {
        Self {
            status: Text::from(&status.status),
            reason: Text::from(&status.reason),
            failure: Text::from(&status.failure),
        }
    }
}
