//! What a LINE message or postback says: its text, its media and what VoIPBIN's record has no key for.

use super::wire::{
    ContentProvider, Emoji as WireEmoji, ImageSet as WireImageSet, Mentionee, Mentions, Message,
    Postback as WirePostback,
};
use crate::adapter::lenient::{Elements, Entries, Field};
use crate::domain::event::{Oddity, Quarantine};
use crate::domain::ids::MessageId;
use crate::domain::message::{
    Decimal, Emoji, ImageSet, Location, Media, MediaKind, Mention, Metadata, Postback, Sticker, span_texts,
};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Display;

/// A type name comes from outside and ends up in texts.
const MAX_TYPE_CHARS: usize = 64;

/// What was said. Never both without text and without media.
pub(crate) struct Body {
    /// What to show as text.
    pub(crate) text: String,
    /// Everything else to show.
    pub(crate) medias: Vec<Media>,
    /// What there is no key for.
    pub(crate) metadata: Metadata,
    /// Oddities that were passed over.
    pub(crate) oddities: Vec<Oddity>,
}

/// Reads the message `field`, which becomes the record `id`.
pub(crate) fn message(field: Field<'_>, id: MessageId) -> Result<Body, Quarantine> {
    let mut reader = Reader::new(id);
    match field.object::<Message>().filter(|_| !field.is_blank()) {
        Some(message) => reader.message(&message)?,
        None => reader.placeholder("no content", "message"),
    }
    Ok(reader.body)
}

/// Reads the postback `field`, which becomes the record `id`.
pub(crate) fn postback(field: Field<'_>, id: MessageId) -> Result<Body, Quarantine> {
    let mut reader = Reader::new(id);
    reader.postback(&field.object().unwrap_or_default())?;
    if reader.body.text.is_empty() {
        reader.placeholder("postback", "postback");
    }
    Ok(reader.body)
}

struct Reader {
    id: MessageId,
    body: Body,
}

impl Reader {
    fn new(id: MessageId) -> Self {
        let metadata = Metadata::default();
        Self { id, body: Body { text: String::new(), medias: Vec::new(), metadata, oddities: Vec::new() } }
    }

    fn message(&mut self, message: &Message<'_>) -> Result<(), Quarantine> {
        let kind = message.kind.filled("message.type")?.unwrap_or_default();
        self.body.metadata.quoted_message_id = self.extra(message.quoted_message_id, "message.quotedMessageId")?;
        let understood = match &*kind {
            "text" => {
                self.body.text = self.extra(message.text, "message.text")?.unwrap_or_default();
                self.emojis(message.emojis)?;
                self.mentions(message.mention)?;
                true
            }
            "image" => {
                self.content(MediaKind::Image, message)?;
                self.image_set(message.image_set)?;
                true
            }
            "video" => {
                self.content(MediaKind::Video, message)?;
                true
            }
            "audio" => {
                self.content(MediaKind::Audio, message)?;
                true
            }
            "file" => {
                self.file(message)?;
                true
            }
            "location" => {
                self.location(message)?;
                true
            }
            "sticker" => {
                self.sticker(message)?;
                true
            }
            _ => {
                // Of a type that we do not know, a text is still what was written.
                self.body.text = message.text.filled("message.text")?.map(Cow::into_owned).unwrap_or_default();
                false
            }
        };
        if self.body.text.is_empty() && self.body.medias.is_empty() {
            let kind: String = kind.chars().take(MAX_TYPE_CHARS).collect();
            self.placeholder(if kind.is_empty() { "unknown" } else { &kind }, "message");
        } else if !understood {
            self.unmapped("message".to_owned());
        }
        Ok(())
    }

    fn postback(&mut self, postback: &WirePostback<'_>) -> Result<(), Quarantine> {
        let payload = self.extra(postback.data, "postback.data")?;
        self.body.text = payload.clone().unwrap_or_default();
        let mut params = Vec::new();
        if let Some(Entries(entries)) = postback.params.object::<Entries>() {
            // Of a repeated key the last one counts.
            let last: HashMap<&[u8], usize> = entries.iter().enumerate().map(|(i, (key, _))| (&**key, i)).collect();
            for (i, (key, value)) in entries.iter().enumerate() {
                if last.get(&**key) != Some(&i) {
                    continue;
                }
                let Ok(key) = std::str::from_utf8(key) else {
                    self.unmapped("postback.params".to_owned()); // half of a surrogate pair
                    continue;
                };
                if let Some(value) = self.extra(*value, format_args!("postback.params.{key}"))? {
                    params.push((key.to_owned(), value));
                }
            }
        } else if !postback.params.is_blank() {
            self.unmapped("postback.params".to_owned());
        }
        if payload.is_some() || !params.is_empty() {
            self.body.metadata.postback = Some(Postback { payload, text: None, params });
        }
        Ok(())
    }

    /// An image, video or audio, whose bytes are at LINE, under the message's id, or at somebody else's.
    fn content(&mut self, kind: MediaKind, message: &Message<'_>) -> Result<(), Quarantine> {
        let provider: ContentProvider = message.content_provider.object().unwrap_or_default();
        let is_elsewhere = provider.kind.text("message.contentProvider.type")?.as_deref() == Some("external");
        let (mut url, mut preview_url) = (None, None);
        if is_elsewhere {
            let path = "message.contentProvider";
            url = self.extra(provider.original_content_url, format_args!("{path}.originalContentUrl"))?;
            preview_url = self.extra(provider.preview_image_url, format_args!("{path}.previewImageUrl"))?;
        }
        let duration_ms = self.count(message.duration, "message.duration");
        let provider_id = provider_id(message)?;
        self.push(kind, |media| {
            media.url = url;
            media.preview_url = preview_url;
            media.duration_ms = duration_ms;
            media.provider_id = provider_id;
        });
        Ok(())
    }

    fn image_set(&mut self, field: Field<'_>) -> Result<(), Quarantine> {
        let Some(set) = field.object::<WireImageSet>() else {
            if !field.is_blank() {
                self.unmapped("message.imageSet".to_owned());
            }
            return Ok(());
        };
        let set = ImageSet {
            id: self.extra(set.id, "message.imageSet.id")?,
            index: self.integer(set.index, "message.imageSet.index"),
            total: self.integer(set.total, "message.imageSet.total"),
        };
        self.body.metadata.image_set = Some(set).filter(|set| *set != ImageSet::default());
        Ok(())
    }

    /// A `file` whatever its name says: LINE tells how something was sent, not what it is.
    fn file(&mut self, message: &Message<'_>) -> Result<(), Quarantine> {
        let filename = self.extra(message.file_name, "message.fileName")?;
        let size = self.count(message.file_size, "message.fileSize");
        let provider_id = provider_id(message)?;
        self.push(MediaKind::File, |media| {
            media.filename = filename;
            media.size = size;
            media.provider_id = provider_id;
        });
        Ok(())
    }

    fn location(&mut self, message: &Message<'_>) -> Result<(), Quarantine> {
        let location = Location {
            latitude: self.degrees(message.latitude, "message.latitude"),
            longitude: self.degrees(message.longitude, "message.longitude"),
            title: self.extra(message.title, "message.title")?,
            address: self.extra(message.address, "message.address")?,
        };
        if location != Location::default() {
            self.push(MediaKind::Location, |media| media.location = Some(location));
        }
        Ok(())
    }

    /// LINE hands out no picture of a sticker, so there is a text in its place.
    fn sticker(&mut self, message: &Message<'_>) -> Result<(), Quarantine> {
        let text = self.extra(message.text, "message.text")?;
        let mut keywords = Vec::new();
        for (i, keyword) in self.list(message.keywords, "message.keywords").enumerate() {
            keywords.extend(self.extra(keyword, format_args!("message.keywords.{i}"))?);
        }
        self.body.text = text.unwrap_or_else(|| format!("[{}]", keywords.first().map_or("sticker", String::as_str)));
        let sticker = Sticker {
            package_id: self.extra(message.package_id, "message.packageId")?,
            sticker_id: self.extra(message.sticker_id, "message.stickerId")?,
            resource_type: self.extra(message.sticker_resource_type, "message.stickerResourceType")?,
            keywords,
        };
        self.push(MediaKind::Sticker, |media| {
            media.sticker = Some(sticker).filter(|sticker| *sticker != Sticker::default());
        });
        Ok(())
    }

    fn emojis(&mut self, field: Field<'_>) -> Result<(), Quarantine> {
        let mut spans = Vec::new();
        for (i, item) in self.list(field, "message.emojis").enumerate() {
            if item.is_hollow() {
                continue;
            }
            let path = format!("message.emojis.{i}");
            let Some(emoji) = item.object::<WireEmoji>() else {
                self.unmapped(path);
                continue;
            };
            let emoji = Emoji {
                index: emoji.index.integer(),
                length: emoji.length.integer(),
                product_id: self.extra(emoji.product_id, format_args!("{path}.productId"))?,
                emoji_id: self.extra(emoji.emoji_id, format_args!("{path}.emojiId"))?,
                alt: None,
            };
            spans.push((emoji.index, emoji.length));
            self.body.metadata.emojis.push(emoji);
        }
        for (i, alt) in self.spans(&spans).into_iter().enumerate() {
            self.body.metadata.emojis[i].alt = alt;
        }
        Ok(())
    }

    fn mentions(&mut self, field: Field<'_>) -> Result<(), Quarantine> {
        let mentions: Option<Mentions> = field.object();
        if mentions.is_none() && !field.is_blank() {
            self.unmapped("message.mention".to_owned());
        }
        let path = "message.mention.mentionees";
        let mut spans = Vec::new();
        for (i, item) in self.list(mentions.unwrap_or_default().mentionees, path).enumerate() {
            if item.is_hollow() {
                continue;
            }
            let path = format!("{path}.{i}");
            let Some(mention) = item.object::<Mentionee>() else {
                self.unmapped(path);
                continue;
            };
            let mention = Mention {
                index: mention.index.integer(),
                length: mention.length.integer(),
                kind: self.extra(mention.kind, format_args!("{path}.type"))?,
                user_id: self.extra(mention.user_id, format_args!("{path}.userId"))?,
                is_self: mention.is_self.boolean(),
            };
            spans.push((mention.index, mention.length));
            self.body.metadata.mentions.push(mention);
        }
        self.spans(&spans);
        Ok(())
    }

    /// The texts of spans of the text; what is no span is counted.
    fn spans(&mut self, spans: &[(Option<i64>, Option<i64>)]) -> Vec<Option<String>> {
        let texts = span_texts(&self.body.text, spans);
        let odd = texts.iter().filter(|text| text.is_none()).count();
        self.body.oddities.extend(std::iter::repeat_n(Oddity::Span, odd));
        texts
    }

    /// A non-empty text; content of another form has no home.
    fn extra(&mut self, field: Field<'_>, path: impl Display) -> Result<Option<String>, Quarantine> {
        let text = field.filled(&path)?.map(Cow::into_owned);
        if text.is_none() && !field.is_blank() {
            self.unmapped(path.to_string());
        }
        Ok(text)
    }

    /// The elements of a list; content of another form has no home.
    fn list<'a>(&mut self, field: Field<'a>, path: &str) -> Elements<'a> {
        let list = field.list();
        if list.is_none() && !field.is_blank() {
            self.unmapped(path.to_owned());
        }
        list.unwrap_or_default()
    }

    fn integer(&mut self, field: Field<'_>, path: &str) -> Option<i64> {
        let integer = field.integer();
        if integer.is_none() && !field.is_blank() {
            self.unmapped(path.to_owned());
        }
        integer
    }

    fn count(&mut self, field: Field<'_>, path: &str) -> Option<u64> {
        let count = field.integer().and_then(|integer| u64::try_from(integer).ok());
        if count.is_none() && !field.is_blank() {
            self.unmapped(path.to_owned());
        }
        count
    }

    fn degrees(&mut self, field: Field<'_>, path: &str) -> Option<Decimal> {
        let degrees = field.decimal();
        if degrees.is_none() && !field.is_blank() {
            self.unmapped(path.to_owned());
        }
        degrees
    }

    fn push(&mut self, kind: MediaKind, fill: impl FnOnce(&mut Media)) {
        let mut media = Media::new(self.id, self.body.medias.len(), kind);
        fill(&mut media);
        self.body.medias.push(media);
    }

    /// Something to show where there is nothing: a blank bubble tells nobody why.
    fn placeholder(&mut self, what: &str, path: &str) {
        self.body.text = format!("[{what}]");
        self.unmapped(path.to_owned());
    }

    fn unmapped(&mut self, path: String) {
        self.body.oddities.push(Oddity::Unmapped);
        self.body.metadata.unmapped.push(path);
    }
}

/// LINE's id of the content is that of the message.
fn provider_id(message: &Message<'_>) -> Result<Option<String>, Quarantine> {
    Ok(message.id.filled("message.id")?.map(Cow::into_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::lenient::root_of;
    use uuid::Uuid;

    const ID: MessageId = MessageId(Uuid::from_u128(1));

    #[test]
    fn of_a_repeated_parameter_the_last_counts() {
        let json = r#"{"data":"d","params":{"a":"1","b":"2","\u0061":"3","\ud83d":"4","c":""}}"#;
        let body = postback(root_of(json), ID).unwrap();
        let params = body.metadata.postback.unwrap().params;
        assert_eq!(params, [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "3".to_owned())]);
        assert_eq!(body.metadata.unmapped, ["postback.params"]);
    }

    #[test]
    fn only_what_is_elsewhere_has_a_url() {
        for (provider, url) in [
            (r#"{"type":"external","originalContentUrl":"https://a/b"}"#, Some("https://a/b")),
            (r#"{"type":"line","originalContentUrl":"https://a/b"}"#, None),
            (r#"{"type":"other","originalContentUrl":"https://a/b"}"#, None),
            (r#"{"originalContentUrl":"https://a/b"}"#, None),
        ] {
            let json = format!(r#"{{"id":"7","type":"image","contentProvider":{provider}}}"#);
            let media = message(root_of(&json), ID).unwrap().medias.remove(0);
            assert_eq!((media.url.as_deref(), media.provider_id.as_deref()), (url, Some("7")), "{provider}");
        }
    }

    #[test]
    fn a_hostile_number_of_parts_takes_no_time() {
        let list = |item: &str, count: usize| vec![item; count].join(",");
        let params: Vec<String> = (0..60_000).map(|i| format!("\"{i}\":\"x\"")).collect();
        let json = format!(r#"{{"data":"d","params":{{{}}}}}"#, params.join(","));
        let body = postback(root_of(&json), ID).unwrap();
        assert_eq!(body.metadata.postback.unwrap().params.len(), 60_000);
        let json = format!(
            r#"{{"type":"text","text":"{}","emojis":[{}],"mention":{{"mentionees":[{}]}}}}"#,
            "😀".repeat(60_000),
            list(r#"{"index":0,"length":2}"#, 20_000),
            list(r#"{"index":119998,"length":2}"#, 20_000)
        );
        let body = message(root_of(&json), ID).unwrap();
        assert_eq!((body.metadata.emojis.len(), body.oddities.len()), (20_000, 2 * 19_999));
    }
}
