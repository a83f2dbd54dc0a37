//! Identifiers as distinct types, and the rules by which they are derived.
//!
//! Every id of a record is a UUIDv5 of the account and the provider's own id (or the provider's id itself), so
//! the same provider event has the same ids on every redelivery, on every node and in every replay, and two
//! accounts can never share one.

use std::fmt;
use uuid::Uuid;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.as_hyphenated())
            }
        }
    };
}

id_type! {
    /// A configured provider channel; also the name space of every id derived below it.
    AccountId
}
id_type! {
    /// The VoIPBIN customer that owns an account.
    CustomerId
}
id_type! {
    /// One dialog between an account and a person, group or room.
    ConversationId
}
id_type! {
    /// One message, edits and status changes included.
    MessageId
}
id_type! {
    /// One medium of a message.
    MediaId
}
id_type! {
    /// One event downstream; its text is the `webhook-id` of every attempt, at every subscriber, in every replay.
    EventId
}

impl ConversationId {
    /// UUIDv5(account, `"<channel>:<dialog id>"`).
    pub fn derive(account: AccountId, channel: &str, dialog_id: &str) -> Self {
        Self(Uuid::new_v5(&account.0, format!("{channel}:{dialog_id}").as_bytes()))
    }
}

impl MessageId {
    /// UUIDv5(account, `name`), where the adapter's name says which provider id it stands for.
    pub fn derive(account: AccountId, name: &str) -> Self {
        Self(Uuid::new_v5(&account.0, name.as_bytes()))
    }
}

impl MediaId {
    /// UUIDv5(message, `"media:<ordinal>"`), ordinals from 0.
    pub fn derive(message: MessageId, ordinal: usize) -> Self {
        Self(Uuid::new_v5(&message.0, format!("media:{ordinal}").as_bytes()))
    }
}

impl EventId {
    /// UUIDv5(account, `"<event type>:<record id>:<cause>"`). `cause` is empty for `_created` events and the
    /// provider's event key for updates, deletes and channel events, so that each has an id of its own.
    pub fn derive(account: AccountId, event_type: &str, record: Uuid, cause: &str) -> Self {
        Self(Uuid::new_v5(&account.0, format!("{event_type}:{}:{cause}", record.as_hyphenated()).as_bytes()))
    }
}
