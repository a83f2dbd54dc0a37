//! A dialog between an account and a person, group or room, and the rule by which events create and change it.

use super::account::{Account, Channel};
use super::address::Address;
use super::ids::{AccountId, ConversationId, CustomerId};
use super::time::Timestamp;

/// The dialog id of an event that names nobody.
pub const UNKNOWN_DIALOG: &str = "unknown";

/// One dialog.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// The account it runs on.
    pub account_id: AccountId,
    /// The customer it belongs to.
    pub customer_id: CustomerId,
    /// What it is carried by.
    pub channel: Channel,
    /// The provider's id of the other side.
    pub dialog_id: String,
    /// Our side.
    pub own: Address,
    /// The other side.
    pub peer: Address,
    /// Time of the event that created it.
    pub tm_create: Timestamp,
    /// Time of the event that changed it last, if one did.
    pub tm_update: Option<Timestamp>,
    /// When it was deleted, if it was.
    pub tm_delete: Option<Timestamp>,
    /// Time of the event that the display name comes from, or of the first one while it has none.
    pub named_at: Timestamp,
}

impl Conversation {
    /// `LINE · Test user`: the channel's label and the display name, else the dialog id.
    pub fn name(&self) -> String {
        let who = if self.peer.target_name.is_empty() { &self.dialog_id } else { &self.peer.target_name };
        format!("{} · {who}", self.channel.label())
    }

    /// `LINE conversation`.
    pub fn detail(&self) -> String {
        format!("{} conversation", self.channel.label())
    }
}

/// What one event says about its dialog.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    /// The provider's id of the other side, or [`UNKNOWN_DIALOG`].
    pub dialog_id: String,
    /// Our side.
    pub own: Address,
    /// The other side, with its display name if the event has one.
    pub peer: Address,
    /// The event's time.
    pub at: Timestamp,
}

impl Sighting {
    /// The id of the dialog that was seen.
    pub fn conversation_id(&self, account: &Account) -> ConversationId {
        ConversationId::derive(account.id, account.channel.as_str(), &self.dialog_id)
    }
}

/// What a sighting does to the conversation.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It did not exist before.
    Created(Conversation),
    /// Its display name is another one now.
    Updated(Conversation),
    /// Nothing.
    None,
}

/// Applies `sighting` to what is known.
///
/// A display name changes only to a non-empty one from a newer event: redelivered and reordered events must not
/// bring an old name back. Any event may give one to a conversation that has none.
pub fn observe(known: Option<&Conversation>, sighting: &Sighting, account: &Account) -> Change {
    let Some(known) = known else {
        return Change::Created(Conversation {
            id: sighting.conversation_id(account),
            account_id: account.id,
            customer_id: account.customer_id,
            channel: account.channel,
            dialog_id: sighting.dialog_id.clone(),
            own: sighting.own.clone(),
            peer: sighting.peer.clone(),
            tm_create: sighting.at,
            tm_update: None,
            tm_delete: None,
            named_at: sighting.at,
        });
    };
    let name = &sighting.peer.target_name;
    let has_one = !known.peer.target_name.is_empty();
    if name.is_empty() || *name == known.peer.target_name || (has_one && sighting.at <= known.named_at) {
        return Change::None;
    }
    let mut updated = known.clone();
    updated.peer.target_name.clone_from(name);
    updated.tm_update = Some(sighting.at.max(known.named_at));
    updated.named_at = sighting.at;
    Change::Updated(updated)
}

#[cfg(test)]
mod tests {
    use super::super::address::AddressKind;
    use super::super::ids::{AccountId, CustomerId};
    use super::*;
    use uuid::Uuid;

    fn account() -> Account {
        Account {
            id: AccountId(Uuid::from_u128(1)),
            customer_id: CustomerId(Uuid::from_u128(2)),
            name: "Shop".into(),
            channel: Channel::Line,
            address: None,
        }
    }

    fn sighting(name: &str, at: i64) -> Sighting {
        Sighting {
            dialog_id: "U1".into(),
            own: Address::new(AddressKind::Line, "2005", "Shop"),
            peer: Address::new(AddressKind::Line, "U1", name),
            at: Timestamp::from_micros(at),
        }
    }

    #[test]
    fn the_first_sighting_creates_and_names() {
        let Change::Created(made) = observe(None, &sighting("Mei", 10), &account()) else { panic!("not created") };
        assert_eq!(made.name(), "LINE · Mei");
        assert_eq!(made.detail(), "LINE conversation");
        let Change::Created(nameless) = observe(None, &sighting("", 10), &account()) else { panic!("not created") };
        assert_eq!(nameless.name(), "LINE · U1");
    }

    #[test]
    fn a_name_is_taken_from_any_event_while_there_is_none() {
        let Change::Created(nameless) = observe(None, &sighting("", 10), &account()) else { panic!("not created") };
        for at in [5, 10, 15] {
            let Change::Updated(named) = observe(Some(&nameless), &sighting("Mei", at), &account()) else {
                panic!("not named")
            };
            let times = (named.tm_update, named.named_at);
            assert_eq!(times, (Some(Timestamp::from_micros(at.max(10))), Timestamp::from_micros(at)));
            // Which it came from decides about the next one.
            assert_eq!(observe(Some(&named), &sighting("Old", at), &account()), Change::None);
            assert!(matches!(observe(Some(&named), &sighting("May", at + 1), &account()), Change::Updated(_)));
        }
    }

    #[test]
    fn a_name_changes_only_to_a_non_empty_one_from_a_newer_event() {
        let Change::Created(known) = observe(None, &sighting("Mei", 10), &account()) else { panic!("not created") };
        for same in [sighting("Mei", 20), sighting("", 20), sighting("Old", 5), sighting("Tie", 10)] {
            assert_eq!(observe(Some(&known), &same, &account()), Change::None);
        }
        let Change::Updated(renamed) = observe(Some(&known), &sighting("May", 20), &account()) else {
            panic!("not updated")
        };
        assert_eq!(renamed.peer.target_name, "May");
        assert_eq!(renamed.tm_update, Some(Timestamp::from_micros(20)));
        assert_eq!(renamed.tm_create, known.tm_create);
    }
}
