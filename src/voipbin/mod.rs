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
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

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
        let created = event_type.is_creation();
        match self.format {
            RecordFormat::Documented => match record {
                Record::Conversation(conversation) => {
                    documented_json(name, &documented::Conversation::from(conversation))
                }
                Record::Message(message) => documented_json(name, &documented::Message::from(message)),
                Record::Sms(sms) => documented_json(name, &documented::Sms::from(sms)),
                Record::ChannelEvent(event) => documented_json(name, &documented::ChannelEvent::from(event)),
            },
            RecordFormat::Current => match record {
                Record::Conversation(conversation) => current_json(name, &current::Conversation::from(conversation)),
                Record::Message(message) => current_json(name, &current::Message::new(message, created)),
                Record::Sms(sms) => current_json(name, &current::Sms::new(sms, created)),
                Record::ChannelEvent(event) => current_json(name, &current::ChannelEvent::from(event)),
            },
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

fn documented_json<D: Serialize>(name: &str, data: &D) -> Vec<u8> {
    write(json::Plain, name, data)
}

fn current_json<D: Serialize>(name: &str, data: &D) -> Vec<u8> {
    write(json::Go, name, data)
}

fn write<F: Formatter, D: Serialize>(formatter: F, name: &str, data: &D) -> Vec<u8> {
    let mut out = Vec::with_capacity(USUAL_SIZE);
    let written = Envelope { r#type: name, data }.serialize(&mut Serializer::with_formatter(&mut out, formatter));
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
