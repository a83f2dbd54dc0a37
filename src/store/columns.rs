//! What columns of numbers and short words hold: the same on every engine, so it is said once.

use crate::domain::delivery::State;
use crate::domain::event::{End, Quarantine, QuarantineReason};
use crate::domain::ids::MessageId;
use crate::domain::time::Timestamp;
use crate::domain::webhook::RawWebhook;
use sha2::{Digest, Sha256};

/// The first half of SHA-256: keys are strangers' texts of any length, an index must stay narrow.
pub(super) fn key_hash(provider_key: &str) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&Sha256::digest(provider_key.as_bytes())[..16]);
    half
}

/// An end as columns.
pub(super) struct EndColumns<'a> {
    pub(super) state: i16,
    pub(super) conflict: bool,
    pub(super) reason: Option<&'static str>,
    pub(super) detail: Option<&'a str>,
}

/// An end as columns.
pub(super) fn end(end: &End) -> EndColumns<'_> {
    let bare = |state| EndColumns { state, conflict: false, reason: None, detail: None };
    match end {
        End::Stored => bare(0),
        End::Duplicate { conflict } => EndColumns { conflict: *conflict, ..bare(1) },
        End::Quarantined(q) => EndColumns { reason: Some(q.reason.as_str()), detail: Some(&q.detail), ..bare(2) },
        End::Ignored => bare(3),
    }
}

/// What an event that is not understood is found by, in place of its provider's key: the message that it is about.
pub(super) fn about(end: &End) -> Option<String> {
    match end {
        End::Quarantined(quarantine) => quarantine.message.map(about_message),
        End::Stored | End::Duplicate { .. } | End::Ignored => None,
    }
}

/// What those are found by that are about this message.
pub(super) fn about_message(message: MessageId) -> String {
    message.0.to_string()
}

/// Columns as an end.
pub(super) fn parse_end(state: i16, conflict: bool, reason: Option<&str>, detail: Option<String>) -> End {
    match state {
        0 => End::Stored,
        1 => End::Duplicate { conflict },
        2 => {
            let known = QuarantineReason::ALL.into_iter().find(|r| Some(r.as_str()) == reason);
            End::Quarantined(Quarantine::new(known.unwrap_or(QuarantineReason::Unreadable), detail.unwrap_or_default()))
        }
        _ => End::Ignored,
    }
}

/// The number of an end's word; one that no row has when there is no such word.
pub(super) fn end_state(word: &str) -> i16 {
    let place = End::STATES.iter().position(|known| *known == word);
    place.and_then(|at| i16::try_from(at).ok()).unwrap_or(-1)
}

/// Where a delivery stands. Leased has a number of its own, or is a property of the lane that it is at the head of.
pub(super) fn delivery_state(number: i16, is_leased: bool) -> State {
    match number {
        1 => State::Leased,
        2 => State::Delivered,
        3 => State::Dead,
        4 => State::Cancelled,
        _ if is_leased => State::Leased,
        _ => State::Pending,
    }
}

/// Kept headers as a column.
pub(super) fn headers(headers: &[(&'static str, String)]) -> String {
    // Strings into memory: there is nothing that could fail.
    serde_json::to_string(headers).unwrap_or_default()
}

/// Columns as a kept webhook.
pub(super) fn webhook(headers: &str, body: Vec<u8>, received_at: i64) -> RawWebhook {
    RawWebhook {
        // Written by us; headers that cannot be read are headers that nobody needs to understand the body.
        headers: serde_json::from_str(headers).unwrap_or_default(),
        body,
        received_at: Timestamp::from_micros(received_at),
    }
}

/// A number that counts or numbers something.
pub(super) fn count(number: i64) -> usize {
    usize::try_from(number).unwrap_or_default()
}
