//! VoIPBIN's records as VoIPBIN writes them, and the signatures under them.
//!
//! Knows no provider, no store and no HTTP: domain types in, bytes out.

mod current;
mod documented;
mod json;
mod parts;
pub mod sign;
mod time;

use crate::domain::event::{EventType, Record, Render};
use crate::domain::format::RecordFormat;
use json::{Json, Style, key};

/// Writes events as the bodies that subscribers get.
#[derive(Clone, Copy, Debug)]
pub struct Renderer {
    format: RecordFormat,
}

impl Renderer {
    /// Writes records in `format`.
    pub const fn new(format: RecordFormat) -> Self {
        Self { format }
    }
}

impl Render for Renderer {
    fn body(&self, event_type: EventType, record: Record<'_>) -> Vec<u8> {
        let style = match self.format {
            RecordFormat::Documented => Style::Plain,
            RecordFormat::Current => Style::Go,
        };
        Json::document(style, |json| {
            json.word(key!("type"), event_type.as_str());
            json.object(key!("data"), |json| match self.format {
                RecordFormat::Documented => documented(json, record),
                RecordFormat::Current => current(json, record, event_type.is_creation()),
            });
        })
    }
}

fn documented(json: &mut Json, record: Record<'_>) {
    match record {
        Record::Conversation(conversation) => documented::conversation(json, conversation),
        Record::Message(message) => documented::message(json, message),
        Record::Sms(sms) => documented::sms(json, sms),
        Record::ChannelEvent(event) => documented::channel_event(json, event),
    }
}

fn current(json: &mut Json, record: Record<'_>, created: bool) {
    match record {
        Record::Conversation(conversation) => current::conversation(json, conversation),
        Record::Message(message) => current::message(json, message, created),
        Record::Sms(sms) => current::sms(json, sms, created),
        Record::ChannelEvent(event) => current::channel_event(json, event),
    }
}

#[cfg(test)]
mod tests;
