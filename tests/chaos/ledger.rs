//! What both ends write down while a scenario runs: the provider every request and its answer, each subscriber
//! every delivery. The verdict is made from these pages alone, after the fact.

use std::time::Duration;

/// One request of the provider. A webhook that is sent again has one entry per request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The provider's id of the message; the gateway keeps it as the message's id.
    pub(crate) payload: String,
    /// The provider's id of the dialog.
    pub(crate) dialog: String,
    /// The message's place in its dialog, from 1.
    pub(crate) counter: u64,
    /// When it was answered, from the beginning of the scenario.
    pub(crate) at: Duration,
    /// How long that took.
    pub(crate) took: Duration,
    /// How it ended.
    pub(crate) answer: Answer,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// With a status and maybe `Retry-After`.
    Status(u16, Option<String>),
    /// Without an answer.
    Broken(String),
}

impl Answer {
    /// Whether the gateway has taken the webhook.
    pub(crate) fn is_taken(&self) -> bool {
        matches!(self, Self::Status(200, _))
    }
}

/// One delivery as a subscriber saw it.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// Whose.
    pub(crate) subscriber: String,
    /// When it came, from the beginning of the scenario.
    pub(crate) at: Duration,
    /// `webhook-id`
    pub(crate) id: String,
    /// `x-birdwire-lane`
    pub(crate) lane: String,
    /// `x-birdwire-sequence`
    pub(crate) sequence: u64,
    /// `x-birdwire-replay`
    pub(crate) replay: bool,
    /// Whether both signatures were genuine when it came.
    pub(crate) signed: Result<(), String>,
    /// The body, byte for byte.
    pub(crate) body: Vec<u8>,
    /// What was answered.
    pub(crate) reply: Reply,
}

/// What a subscriber did with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Nothing yet: its sender went away before.
    Cut,
    /// Never answered, on purpose.
    Hung,
    /// This status was answered; whether the sender lived to read it is another matter.
    Status(u16),
}

impl Reply {
    /// Whether the subscriber has taken the delivery.
    pub(crate) fn is_taken(self) -> bool {
        matches!(self, Self::Status(200..=299))
    }
}

/// The text of a dialog's message; the verdict reads the order from it.
pub(crate) fn text(dialog: &str, counter: u64) -> String {
    format!("{dialog} #{counter}")
}
