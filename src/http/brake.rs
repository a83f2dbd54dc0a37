//! A brake on log lines that strangers can cause: they are told of once a second, and of the others how many there were.

use crate::domain::time::Timestamp;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// At most one line in that time.
const EVERY: Duration = Duration::from_secs(1);

/// For lines of one kind.
#[derive(Default)]
pub(super) struct Brake(Mutex<State>);

#[derive(Default)]
struct State {
    last: Option<Timestamp>,
    unlogged: u64,
}

impl Brake {
    /// At `now` there would be a line. `Some` says that it may be written, and how many before it were not.
    pub(super) fn pass(&self, now: Timestamp) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back must not silence anything.
        if state.last.is_some_and(|last| now >= last && now.since(last) < EVERY) {
            state.unlogged += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_that_tells_of_the_others() {
        let brake = Brake::default();
        let pass = |millis| brake.pass(Timestamp::from_millis(millis));
        assert_eq!(pass(5000), Some(0));
        assert_eq!([5000, 5001, 5999].map(pass), [None; 3]);
        assert_eq!(pass(6000), Some(3));
        assert_eq!(pass(7000), Some(0));
        assert_eq!(pass(7500), None);
        assert_eq!(pass(100), Some(1), "the clock was set back");
        assert_eq!(pass(1099), None);
        assert_eq!(pass(1100), Some(1));
    }
}
