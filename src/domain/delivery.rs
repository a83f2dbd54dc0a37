//! One event owed to one subscriber, and its states.

/// How a subscriber wants the events of one conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One after the other: the lane waits for its head until success or the end of its time.
    Strict,
    /// The same with the subscriber's own, shorter time.
    Bounded,
    /// Side by side.
    None,
}

impl Order {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Strict, Self::Bounded, Self::None];

    /// Its word in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Bounded => "bounded",
            Self::None => "none",
        }
    }

    /// The policy of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|o| o.as_str() == text)
    }
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Waiting for its time or its turn.
    Pending,
    /// Being attempted.
    Leased,
    /// The subscriber answered 2xx.
    Delivered,
    /// Given up: a dead letter, replayable.
    Dead,
    /// Its message was taken back before it was delivered.
    Cancelled,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Leased, Self::Delivered, Self::Dead, Self::Cancelled];

    /// Its word in listings and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Leased => "leased",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }
}
