//! VoIPBIN's SMS record of a conversation message, and how many SMS a text takes.

use super::account::Channel;
use super::address::Address;
use super::ids::{CustomerId, MessageId};
use super::message::{Direction, Message, Status};
use super::time::Timestamp;

/// An SMS as VoIPBIN keeps it beside the conversation message, with the same id.
#[derive(Clone, Debug, PartialEq)]
pub struct SmsMessage {
    /// Its id, which is also that of the conversation message.
    pub id: MessageId,
    /// The customer it belongs to.
    pub customer_id: CustomerId,
    /// Who sent it.
    pub source: Address,
    /// Who it was sent to; every provider here sends to one number at a time.
    pub target: Target,
    /// What it says. Pictures sent along are in the conversation message only.
    pub text: String,
    /// Which way it went.
    pub direction: Direction,
    /// The provider's time of the event.
    pub tm_create: Timestamp,
    /// The provider's time of the last change.
    pub tm_update: Timestamp,
    /// When it was deleted, if it was.
    pub tm_delete: Option<Timestamp>,
}

/// One receiver of an SMS. Its time is the message's.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Who.
    pub destination: Address,
    /// Where it stands.
    pub status: Status,
    /// How many SMS it took.
    pub parts: u32,
}

impl SmsMessage {
    /// The SMS behind `message`; `None` when there is none, because the message came another way.
    pub fn of(message: &Message) -> Option<Self> {
        if message.reference_type != Channel::Sms.reference_type() {
            return None;
        }
        let parts = message.parts.filter(|parts| *parts >= 1).unwrap_or_else(|| parts(&message.text));
        Some(Self {
            id: message.id,
            customer_id: message.customer_id,
            source: message.source.clone(),
            target: Target { destination: message.destination.clone(), status: message.status, parts },
            text: message.text.clone(),
            direction: message.direction,
            tm_create: message.tm_create,
            tm_update: message.tm_update,
            tm_delete: message.tm_delete,
        })
    }

    /// VoIPBIN's word for the direction of an SMS.
    pub const fn direction_word(&self) -> &'static str {
        match self.direction {
            Direction::Incoming => "inbound",
            Direction::Outgoing => "outbound",
        }
    }

    /// VoIPBIN's word for where an SMS stands.
    pub const fn status_word(&self) -> &'static str {
        match (self.direction, self.target.status) {
            (Direction::Incoming, _) | (_, Status::Received) => "received",
            (_, Status::Sending) => "queued",
            (_, Status::Sent) => "sent",
            (_, Status::Delivered) => "delivered",
            (_, Status::Failed) => "failed",
        }
    }
}

/// How many SMS `text` takes: 160 characters of the GSM alphabet in one or 153 in each of several; for any other
/// text 70 UTF-16 units in one or 67 in each. Nothing takes one, for even an empty SMS is sent.
pub fn parts(text: &str) -> u32 {
    text.chars().map(septets).collect::<Option<Vec<_>>>().map_or_else(
        || split(text.chars().map(char::len_utf16), 70, 67),
        |septets| split(septets.into_iter(), 160, 153),
    )
}

/// How many parts `widths` take: one of `single`, else several of `each`. A character is never split, so a part
/// may stay one short of full.
fn split(widths: impl Iterator<Item = usize>, single: usize, each: usize) -> u32 {
    let (mut total, mut parts, mut used) = (0_usize, 1_u32, 0);
    for width in widths {
        total += width;
        if used + width > each {
            parts = parts.saturating_add(1);
            used = 0;
        }
        used += width;
    }
    if total <= single { 1 } else { parts }
}

/// The GSM alphabet in its order, without the letters and digits that ASCII shares, and without its escape.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./:;<=>?¡ÄÖÑÜ§¿äöñüà";
/// Written as the escape and another character.
const EXTENSION: &str = "\u{c}^{}\\[~]|€";

/// How many places of the GSM alphabet a character takes; `None` when it is not in it.
fn septets(c: char) -> Option<usize> {
    if c.is_ascii_alphanumeric() || BASIC.contains(c) {
        Some(1)
    } else if EXTENSION.contains(c) {
        Some(2)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_gsm_alphabet_and_nothing_else() {
        let of = |places| ('\0'..=char::MAX).filter(move |c| septets(*c) == Some(places));
        assert_eq!(of(1).count(), 127, "the 128th is the escape");
        assert_eq!(of(2).collect::<String>(), "\u{c}[\\]^{|}~€");
        // Look-alikes that are not in it.
        for c in "`çêáíóúÁÀÕõβαΑΒ’“–\t\u{a0}\u{1b}".chars() {
            assert_eq!(septets(c), None, "{c:?}");
        }
    }

    #[test]
    fn parts_at_every_edge() {
        for (text, want) in [
            (String::new(), 1),
            ("a".repeat(160), 1),
            ("a".repeat(161), 2),
            ("a".repeat(306), 2),
            ("a".repeat(307), 3),
            // Extension characters take two places.
            ("€".repeat(80), 1),
            (format!("{}a", "€".repeat(80)), 2),
            // 153 is odd: a part of them alone holds 76, and the place that is left over stays empty.
            ("€".repeat(152), 2),
            ("€".repeat(153), 3),
            (format!("{}{}", "a".repeat(152), "€".repeat(77)), 3),
            (format!("{}€{}", "a".repeat(151), "b".repeat(153)), 2),
            // One character outside of the alphabet makes all of it UTF-16.
            ("é".repeat(160), 1),
            ("ê".repeat(70), 1),
            ("ê".repeat(71), 2),
            (format!("{}ê", "a".repeat(69)), 1),
            (format!("{}ê", "a".repeat(70)), 2),
            ("안".repeat(134), 2),
            ("안".repeat(135), 3),
            // Beyond the basic plane two units, which stay together: 33 in a part of 67.
            ("😀".repeat(35), 1),
            ("😀".repeat(36), 2),
            ("😀".repeat(66), 2),
            ("😀".repeat(67), 3),
            (format!("{}😀{}", "ê".repeat(66), "ê".repeat(65)), 2),
            (format!("{}😀{}", "ê".repeat(66), "ê".repeat(66)), 3),
            (format!("{}😀{}", "ê".repeat(65), "ê".repeat(67)), 2),
        ] {
            assert_eq!(parts(&text), want, "{text}");
        }
    }
}
