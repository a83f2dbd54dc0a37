//! Which subscriber is owed which event.

use super::event::EventType;
use super::ids::AccountId;

/// The name of a subscriber, as configured: `[a-z0-9_-]`, never a person's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberId(pub String);

impl std::fmt::Display for SubscriberId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What one subscriber wants.
#[derive(Clone, Debug)]
pub struct Interest {
    /// Who.
    pub subscriber: SubscriberId,
    /// Event name patterns with `*` for any run of characters; empty means every VoIPBIN event, so
    /// all but `channel_event`.
    pub events: Vec<String>,
    /// Accounts; empty means all.
    pub accounts: Vec<AccountId>,
}

impl Interest {
    /// Whether an event of this type and account is wanted.
    pub fn wants(&self, event_type: EventType, account: AccountId) -> bool {
        (self.accounts.is_empty() || self.accounts.contains(&account))
            && match self.events.as_slice() {
                [] => event_type != EventType::ChannelEvent,
                patterns => patterns.iter().any(|pattern| matches(pattern, event_type.as_str())),
            }
    }
}

/// Every subscriber's interest.
#[derive(Clone, Debug, Default)]
pub struct Routes(Vec<Interest>);

impl Routes {
    /// The routes of these subscribers.
    pub fn new(interests: Vec<Interest>) -> Self {
        Self(interests)
    }

    /// Everybody, in configured order.
    pub fn subscribers(&self) -> impl Iterator<Item = &SubscriberId> {
        self.0.iter().map(|i| &i.subscriber)
    }

    /// Who is owed an event of this type and account, in configured order.
    pub fn owed(&self, event_type: EventType, account: AccountId) -> impl Iterator<Item = &SubscriberId> {
        self.0.iter().filter(move |i| i.wants(event_type, account)).map(|i| &i.subscriber)
    }
}

/// Whether `pattern` covers `name`; `*` stands for any run of characters, the empty one included.
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn stars_stand_for_any_run() {
        for (pattern, name, want) in [
            ("conversation_*", "conversation_created", true),
            ("conversation_*", "message_created", false),
            ("*", "channel_event", true),
            ("*_created", "conversation_message_created", true),
            ("*_created", "conversation_updated", false),
            ("conversation*created", "conversation_message_created", true),
            ("conversation*created", "conversation_created", true),
            ("*message*", "conversation_message_created", true),
            ("conversation_created", "conversation_created", true),
            ("conversation_create", "conversation_created", false),
            ("ab*ba", "aba", false),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} on {name}");
        }
    }

    #[test]
    fn accounts_and_events_both_filter() {
        let (one, two) = (AccountId(Uuid::from_u128(1)), AccountId(Uuid::from_u128(2)));
        let interest = |events: &[&str], accounts: &[AccountId]| Interest {
            subscriber: SubscriberId("crm".into()),
            events: events.iter().map(|&e| e.to_owned()).collect(),
            accounts: accounts.to_vec(),
        };
        assert!(interest(&[], &[]).wants(EventType::ConversationCreated, one));
        assert!(interest(&["*_created"], &[one]).wants(EventType::ConversationCreated, one));
        assert!(!interest(&["*_created"], &[one]).wants(EventType::ConversationCreated, two));
        assert!(!interest(&["*_updated"], &[one]).wants(EventType::ConversationCreated, one));
    }

    #[test]
    fn what_is_not_voipbin_s_must_be_asked_for() {
        let account = AccountId(Uuid::from_u128(1));
        let wanted = |events: &[&str]| -> Vec<EventType> {
            let events = events.iter().map(|&e| e.to_owned()).collect();
            let interest = Interest { subscriber: SubscriberId("crm".into()), events, accounts: Vec::new() };
            EventType::ALL.into_iter().filter(|t| interest.wants(*t, account)).collect()
        };
        assert_eq!(wanted(&["*"]), EventType::ALL);
        assert_eq!(wanted(&[]), EventType::ALL[..7]);
        assert_eq!(wanted(&["channel_event"]), [EventType::ChannelEvent]);
        assert_eq!(wanted(&["message_*"]), [EventType::MessageCreated, EventType::MessageUpdated]);
    }
}
