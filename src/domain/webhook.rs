//! One request as it arrived, before anybody has looked into it.

use super::time::Timestamp;
use std::borrow::Cow;

/// A provider's request: exact bytes, header names in lower case, in the order received.
#[derive(Clone, Debug)]
pub struct RawWebhook {
    /// Header names (lower case) and values.
    pub headers: Vec<(Cow<'static, str>, String)>,
    /// The body, byte for byte.
    pub body: Vec<u8>,
    /// When it arrived.
    pub received_at: Timestamp,
}

impl RawWebhook {
    /// The value of the header `name` (lower case) when it was sent exactly once: a signature given twice names
    /// two candidates, and choosing one for the sender is how checks are walked around.
    pub fn sole_header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }

    /// The same, taken out: an empty value is left in its place.
    pub fn take_sole_header(&mut self, name: &str) -> Option<String> {
        let mut found = self.headers.iter_mut().filter(|(n, _)| n == name).map(|(_, v)| v);
        let first = found.next()?;
        found.next().is_none().then(|| std::mem::take(first))
    }
}
