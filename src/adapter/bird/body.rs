//! What a Bird body says: its text, its media and what VoIPBIN's record has no key for.

use super::search::search;
use super::wire::{
    Action, Content, Coordinates, Emoji as WireEmoji, EmojiItems, Item, Line, Place, Postback as WirePostback,
    Specifics,
};
use crate::adapter::lenient::{Elements, Entries, Field, beginning};
use crate::domain::event::{Oddity, Quarantine};
use crate::domain::ids::MessageId;
use crate::domain::message::{Decimal, Direction, Emoji, Location, Media, MediaKind, Metadata, Postback, span_texts};
use std::fmt::Arguments;

/// Bird's documented body types; the content sits under a key of the same name.
const KNOWN: [&str; 12] = [
    "text",
    "html",
    "image",
    "file",
    "gif",
    "location",
    "carousel",
    "list",
    "section",
    "authentication",
    "template",
    "action",
];
/// A type name comes from outside and ends up in texts and paths.
const MAX_TYPE_CHARS: usize = 64;

/// What a body says. A body that is there is never both without text and without media.
#[derive(Default)]
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

/// Reads the body of an incoming message. `reference` is the platform's id of the message, which is also that of
/// its file.
pub(crate) fn read(body: Field<'_>, message: MessageId, reference: Option<&str>) -> Result<Body, Quarantine> {
    read_as(Direction::Incoming, body, message, reference)
}

/// Reads the body of an outgoing message, which may not be told (yet), or not other than as a template.
pub(crate) fn read_sent(
    body: Field<'_>,
    template: Field<'_>,
    message: MessageId,
    reference: Option<&str>,
) -> Result<Body, Quarantine> {
    if !body.is_blank() {
        return read_as(Direction::Outgoing, body, message, reference);
    }
    let mut reader = Reader { direction: Direction::Outgoing, message, reference, body: Body::default() };
    if !template.is_blank() {
        reader.push(MediaKind::Template, |_| {});
        reader.body.text.push_str("[template]");
        reader.unmapped("template".to_owned());
    }
    Ok(reader.body)
}

fn read_as(
    direction: Direction,
    body: Field<'_>,
    message: MessageId,
    reference: Option<&str>,
) -> Result<Body, Quarantine> {
    let mut reader = Reader { direction, message, reference, body: Body::default() };
    if let Some(entries) = body.object::<Entries>().filter(|entries| !entries.0.is_empty()) {
        reader.body(body, &entries)?;
    } else {
        reader.body.text.push_str("[no content]");
        reader.unmapped("body".to_owned());
    }
    Ok(reader.body)
}

struct Reader<'r> {
    direction: Direction,
    message: MessageId,
    reference: Option<&'r str>,
    body: Body,
}

impl Reader<'_> {
    fn body(&mut self, body: Field<'_>, entries: &Entries<'_>) -> Result<(), Quarantine> {
        let named = entries.get("type").filled("body.type")?;
        let name = match &named {
            Some(name) => beginning(name, MAX_TYPE_CHARS),
            None => sole_content(entries).unwrap_or_default(),
        };
        let raw = if name.is_empty() { Field::default() } else { entries.get(named.as_deref().unwrap_or(name)) };
        let content: Content = raw.object().unwrap_or_default();
        let understood = match name {
            "text" => {
                // A bare string where an object should be is still what was written.
                let text = if raw.is_filled_string() { raw } else { content.text };
                self.text(text, "body.text.text")?;
                self.specifics("body.text", &content)?;
                self.attachments("body.text", content.attachments)?;
                self.actions("body.text", content.actions)?;
                true
            }
            "image" => {
                self.caption("body.image", &content)?;
                self.items(format_args!("body.image.images"), content.images, Some(MediaKind::Image))?;
                self.attachments("body.image", content.attachments)?;
                true
            }
            "file" => {
                self.caption("body.file", &content)?;
                self.items(format_args!("body.file.files"), content.files, None)?;
                self.attachments("body.file", content.attachments)?;
                true
            }
            "gif" => {
                self.caption("body.gif", &content)?;
                self.gif(raw)?;
                self.attachments("body.gif", content.attachments)?;
                true
            }
            "location" => {
                self.location(&content)?;
                true
            }
            _ => false,
        };
        if understood && !self.is_empty() {
            return Ok(());
        }
        if matches!(name, "carousel" | "list" | "section" | "template") {
            self.push(MediaKind::Template, |_| {});
        }
        let content_given = raw.raw().is_some_and(|json| json.starts_with(['{', '[']));
        self.best_of(if content_given && !understood { raw } else { body })?;
        if self.body.text.is_empty() && (!understood || self.body.medias.is_empty()) {
            self.body.text = format!("[{}]", if name.is_empty() { "unknown" } else { name });
        }
        self.unmapped(if name.is_empty() { "body".to_owned() } else { format!("body.{name}") });
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.body.text.is_empty() && self.body.medias.is_empty()
    }

    /// The best text and every medium of a content that we cannot read properly.
    fn best_of(&mut self, root: Field<'_>) -> Result<(), Quarantine> {
        let found = search(root);
        self.text(found.text, "body")?;
        for found in found.items {
            let url = optional(found.item.media_url, "body")?;
            let content_type = optional(found.item.content_type, "body")?;
            let filename = optional(found.item.filename, "body")?;
            let kind = if found.image { MediaKind::Image } else { kind_of(content_type.as_deref()) };
            self.push(kind, |media| {
                media.url = url;
                media.content_type = content_type;
                media.filename = filename;
            });
        }
        Ok(())
    }

    /// What image, file and gif have in common.
    fn caption(&mut self, path: &str, content: &Content<'_>) -> Result<(), Quarantine> {
        if let Some(text) = self.extra(content.text, format_args!("{path}.text"))? {
            self.body.text = text;
        }
        self.specifics(path, content)?;
        self.actions(path, content.actions)
    }

    fn text(&mut self, text: Field<'_>, place: &str) -> Result<(), Quarantine> {
        if let Some(text) = text.text(place)? {
            self.body.text = text.into_owned();
        }
        Ok(())
    }

    /// LINE emoji and what e-mail and MMS say beside the text.
    fn specifics(&mut self, path: &str, content: &Content<'_>) -> Result<(), Quarantine> {
        let Some(specifics) = content.metadata.object::<Specifics>() else { return Ok(()) };
        if !specifics.subject.is_blank() {
            self.unmapped(format!("{path}.metadata.subject"));
        }
        if !specifics.fallback_text.is_blank() {
            self.unmapped(format!("{path}.metadata.fallbackText"));
        }
        let items = specifics.line.object::<Line>().and_then(|line| line.emoji.object::<EmojiItems>());
        let Some(items) = items else { return Ok(()) };
        let path = format_args!("{path}.metadata.line.emoji.items");
        let mut spans = Vec::new();
        for (i, item) in self.list(items.items, path).enumerate() {
            if item.is_hollow() {
                continue;
            }
            let Some(emoji) = item.object::<WireEmoji>() else {
                self.unmapped(format!("{path}.{i}"));
                continue;
            };
            let emoji = Emoji {
                index: emoji.index.integer(),
                length: emoji.length.integer(),
                product_id: self.extra(emoji.product_id, format_args!("{path}.{i}.productId"))?,
                emoji_id: self.extra(emoji.emoji_id, format_args!("{path}.{i}.emojiId"))?,
                alt: None,
            };
            spans.push((emoji.index, emoji.length));
            self.body.metadata.emojis.push(emoji);
        }
        for (emoji, alt) in self.body.metadata.emojis.iter_mut().zip(span_texts(&self.body.text, &spans)) {
            if alt.is_none() {
                self.body.oddities.push(Oddity::Span);
            }
            emoji.alt = alt;
        }
        Ok(())
    }

    /// The tapped button, if there is one; other buttons, and those that we offer, have no home.
    fn actions(&mut self, path: &str, actions: Field<'_>) -> Result<(), Quarantine> {
        let path = format_args!("{path}.actions");
        for (i, field) in self.list(actions, path).enumerate() {
            if field.is_hollow() {
                continue;
            }
            let action: Action = field.object().unwrap_or_default();
            let is_tapped = self.direction == Direction::Incoming
                && action.kind.text(format_args!("{path}.{i}.type"))?.as_deref() == Some("postback");
            if !is_tapped || self.body.metadata.postback.is_some() {
                self.unmapped(format!("{path}.{i}"));
                continue;
            }
            let tapped: WirePostback = action.postback.object().unwrap_or_default();
            let payload = self.extra(tapped.payload, format_args!("{path}.{i}.postback.payload"))?;
            let text = self.extra(tapped.text, format_args!("{path}.{i}.postback.text"))?;
            if payload.is_some() || text.is_some() {
                self.body.metadata.postback = Some(Postback { payload, text, params: Vec::new() });
            }
        }
        Ok(())
    }

    fn attachments(&mut self, path: &str, attachments: Field<'_>) -> Result<(), Quarantine> {
        let reference = self.reference.take(); // the reference is that of the text, not of what came along
        let done = self.items(format_args!("{path}.attachments"), attachments, None);
        self.reference = reference;
        done
    }

    /// One medium for every element with a URL, of `kind` or of what its MIME type says.
    fn items(&mut self, path: Arguments<'_>, items: Field<'_>, kind: Option<MediaKind>) -> Result<(), Quarantine> {
        for (i, field) in self.list(items, path).enumerate() {
            self.item(&format!("{path}.{i}"), field, kind, None)?;
        }
        Ok(())
    }

    fn gif(&mut self, raw: Field<'_>) -> Result<(), Quarantine> {
        let given = raw.object::<Item>().is_some_and(|item| !item.media_url.is_blank());
        if given {
            self.item("body.gif", raw, Some(MediaKind::Image), Some("image/gif"))?;
        }
        Ok(())
    }

    fn item(
        &mut self,
        path: &str,
        field: Field<'_>,
        kind: Option<MediaKind>,
        else_type: Option<&str>,
    ) -> Result<(), Quarantine> {
        let item: Item = field.object().unwrap_or_default();
        let Some(url) = optional(item.media_url, format_args!("{path}.mediaUrl"))? else {
            if !field.is_hollow() {
                self.unmapped(path.to_owned());
            }
            return Ok(());
        };
        let content_type = self.extra(item.content_type, format_args!("{path}.contentType"))?;
        let filename = self.extra(item.filename, format_args!("{path}.filename"))?;
        if !item.alt_text.is_blank() {
            self.unmapped(format!("{path}.altText"));
        }
        let kind = kind.unwrap_or_else(|| kind_of(content_type.as_deref()));
        let provider_id = self.reference.map(str::to_owned);
        self.push(kind, |media| {
            media.url = Some(url);
            media.content_type = content_type.or_else(|| else_type.map(str::to_owned));
            media.filename = filename;
            media.provider_id = provider_id;
        });
        Ok(())
    }

    fn location(&mut self, content: &Content<'_>) -> Result<(), Quarantine> {
        let coordinates: Coordinates = content.coordinates.object().unwrap_or_default();
        let place: Place = content.location.object().unwrap_or_default();
        let location = Location {
            latitude: self.degrees(coordinates.latitude, "latitude"),
            longitude: self.degrees(coordinates.longitude, "longitude"),
            title: self.extra(place.label, format_args!("body.location.location.label"))?,
            address: self.extra(place.address, format_args!("body.location.location.address"))?,
        };
        if location != Location::default() {
            self.push(MediaKind::Location, |media| media.location = Some(location));
        }
        Ok(())
    }

    fn degrees(&mut self, field: Field<'_>, name: &str) -> Option<Decimal> {
        let degrees = field.decimal();
        if degrees.is_none() && !field.is_blank() {
            self.unmapped(format!("body.location.coordinates.{name}"));
        }
        degrees
    }

    /// A non-empty text; content of another form has no home.
    fn extra(&mut self, field: Field<'_>, path: Arguments<'_>) -> Result<Option<String>, Quarantine> {
        let text = optional(field, path)?;
        if text.is_none() && !field.is_blank() {
            self.unmapped(path.to_string());
        }
        Ok(text)
    }

    /// The elements of a list; content of another form has no home.
    fn list<'a>(&mut self, field: Field<'a>, path: Arguments<'_>) -> Elements<'a> {
        let list = field.list();
        if list.is_none() && !field.is_blank() {
            self.unmapped(path.to_string());
        }
        list.unwrap_or_default()
    }

    fn push(&mut self, kind: MediaKind, fill: impl FnOnce(&mut Media)) {
        let mut media = Media::new(self.message, self.body.medias.len(), kind);
        fill(&mut media);
        self.body.medias.push(media);
    }

    fn unmapped(&mut self, path: String) {
        self.body.oddities.push(Oddity::Unmapped);
        self.body.metadata.unmapped.push(path);
    }
}

/// The content of a body that does not name its type, when there is no choice.
fn sole_content(entries: &Entries<'_>) -> Option<&'static str> {
    let mut given = KNOWN.into_iter().filter(|name| !entries.get(name).is_blank());
    let first = given.next()?;
    given.next().is_none().then_some(first)
}

fn kind_of(content_type: Option<&str>) -> MediaKind {
    content_type.map_or(MediaKind::File, MediaKind::of_mime)
}

fn optional(field: Field<'_>, place: impl std::fmt::Display) -> Result<Option<String>, Quarantine> {
    Ok(field.filled(place)?.map(std::borrow::Cow::into_owned))
}
