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
        Self(v5(account.0, &[channel, ":", dialog_id]))
    }
}

impl MessageId {
    /// UUIDv5(account, `name`), where the adapter's name says which provider id it stands for.
    pub fn derive(account: AccountId, name: &str) -> Self {
        Self(v5(account.0, &[name]))
    }

    /// The same, of the name `"<kind>:<provider id>"`.
    pub fn derive_of(account: AccountId, kind: &str, provider_id: &str) -> Self {
        Self(v5(account.0, &[kind, ":", provider_id]))
    }
}

impl MediaId {
    /// UUIDv5(message, `"media:<ordinal>"`), ordinals from 0.
    pub fn derive(message: MessageId, ordinal: usize) -> Self {
        Self(v5(message.0, &["media:", &ordinal.to_string()]))
    }
}

impl EventId {
    /// UUIDv5(account, `"<event type>:<record id>:<cause>"`). `cause` is empty for `_created` events and the
    /// provider's event key for updates, deletes and channel events, so that each has an id of its own.
    pub fn derive(account: AccountId, event_type: &str, record: Uuid, cause: &str) -> Self {
        let mut room = Uuid::encode_buffer();
        let record = record.as_hyphenated().encode_lower(&mut room);
        Self(v5(account.0, &[event_type, ":", record, ":", cause]))
    }
}

/// UUIDv5 of the concatenation of `parts`, which is put together without asking for memory as long as it has the
/// usual length: every webhook takes several.
pub(super) fn v5(namespace: Uuid, parts: &[&str]) -> Uuid {
    let mut room = [0; 160];
    let mut length = 0;
    for part in parts {
        let Some(place) = room.get_mut(length..length + part.len()) else {
            return Uuid::new_v5(&namespace, parts.concat().as_bytes());
        };
        place.copy_from_slice(part.as_bytes());
        length += part.len();
    }
    Uuid::new_v5(&namespace, &room[..length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_every_length_stand_for_their_concatenation() {
        let namespace = Uuid::from_u128(7);
        for length in [0, 1, 58, 158, 159, 160, 161, 1_000] {
            let name = "ü".repeat(length / 2) + &"x".repeat(length % 2);
            let want = Uuid::new_v5(&namespace, format!(":{name}").as_bytes());
            assert_eq!(v5(namespace, &[":", &name]), want, "{length}");
            assert_eq!(v5(namespace, &[":", "", &name, ""]), want, "{length}");
        }
        let (account, record) = (AccountId(namespace), Uuid::from_u128(0xABCD));
        let name = format!("message_created:{record}:k");
        assert_eq!(
            EventId::derive(account, "message_created", record, "k").0,
            Uuid::new_v5(&namespace, name.as_bytes())
        );
        assert_eq!(MediaId::derive(MessageId(namespace), 12).0, Uuid::new_v5(&namespace, b"media:12"));
    }
}
