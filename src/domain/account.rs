//! A configured provider channel: VoIPBIN's conversation account.

use super::address::{Address, AddressKind};
use super::ids::{AccountId, CustomerId};

/// What an account speaks to people, whichever provider carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// LINE messages.
    Line,
    /// Text messages to a telephone number.
    Sms,
}

impl Channel {
    /// Every channel, in the order in which they are documented.
    pub const ALL: [Self; 2] = [Self::Line, Self::Sms];

    /// The account's `type` in configuration and in ids.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Sms => "sms",
        }
    }

    /// The channel of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.as_str() == text)
    }

    /// VoIPBIN's `reference_type` of its conversations and messages.
    pub const fn reference_type(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Sms => "message",
        }
    }

    /// The label that opens a conversation's name.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Line => "LINE",
            Self::Sms => "SMS",
        }
    }

    /// The kind of address people have on it.
    pub const fn address_kind(self) -> AddressKind {
        match self {
            Self::Line => AddressKind::Line,
            Self::Sms => AddressKind::Tel,
        }
    }
}

/// One configured provider channel of one customer.
#[derive(Clone, Debug)]
pub struct Account {
    /// Names the webhook URL and every id below the account.
    pub id: AccountId,
    /// The customer the records belong to.
    pub customer_id: CustomerId,
    /// What people call it; the display name of our own side of a conversation.
    pub name: String,
    /// What it speaks.
    pub channel: Channel,
    /// Our own id or number, when configured; otherwise taken from the payload.
    pub address: Option<String>,
}

impl Account {
    /// Our own side of a conversation: `given` is the id that the payload names, if it names one.
    pub fn own_address(&self, given: Option<&str>) -> Address {
        let target = given.filter(|t| !t.is_empty()).or(self.address.as_deref()).unwrap_or_default();
        Address::new(self.channel.address_kind(), target, &self.name)
    }
}
