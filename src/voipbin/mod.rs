//! VoIPBIN's records as VoIPBIN writes them, and the signatures under them.
//!
//! Knows no provider, no store and no HTTP: domain types in, bytes out.

mod current;
mod documented;
mod go_json;
mod parts;
pub mod sign;
mod time;

use crate::domain::event::{EventType, Record, Render};
use crate::domain::format::RecordFormat;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::CompactFormatter;

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
        let name = event_type.as_str();
        match (self.format, record) {
            (RecordFormat::Documented, Record::Message(message)) => {
                write(self.format, name, &documented::Message::from(message))
            }
            (RecordFormat::Documented, Record::Conversation(conversation)) => {
                write(self.format, name, &documented::Conversation::from(conversation))
            }
            (RecordFormat::Current, Record::Message(message)) => {
                let created = event_type == EventType::ConversationMessageCreated;
                write(self.format, name, &current::Message::new(message, created))
            }
            (RecordFormat::Current, Record::Conversation(conversation)) => {
                write(self.format, name, &current::Conversation::from(conversation))
            }
        }
    }
}

#[derive(Serialize)]
struct Envelope<'a, D> {
    r#type: &'a str,
    data: &'a D,
}

/// Room for a text message with names in it.
const USUAL_SIZE: usize = 768;

fn write<D: Serialize>(format: RecordFormat, name: &str, data: &D) -> Vec<u8> {
    let envelope = Envelope { r#type: name, data };
    let mut out = Vec::with_capacity(USUAL_SIZE);
    let written = match format {
        RecordFormat::Documented => envelope.serialize(&mut Serializer::with_formatter(&mut out, CompactFormatter)),
        RecordFormat::Current => envelope.serialize(&mut Serializer::with_formatter(&mut out, go_json::GoEscapes)),
    };
    // Memory cannot refuse a write and every key is a string, so there is no way to fail; should somebody find
    // one, half a document must not go out as if it were whole.
    if written.is_err() {
        debug_assert!(false, "a record could not be written");
        out = format!("{{\"type\":\"{name}\",\"data\":null}}").into_bytes();
    }
    out
}

#[cfg(test)]
mod tests;
