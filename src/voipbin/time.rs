//! The two ways in which VoIPBIN writes moments.

use crate::domain::time::Timestamp;
use chrono::{Datelike as _, Timelike as _};
use serde::{Serialize, Serializer};
use std::fmt;

/// What stands for a moment that has not come yet, in the documented format.
const NEVER: &str = "9999-01-01 00:00:00.000000";

/// `2024-07-26 07:49:07.588000`; nothing becomes the year 9999.
#[derive(Clone, Copy)]
pub(super) struct Documented(pub(super) Option<Timestamp>);

/// `2024-07-26T07:49:07.588Z`, zeros at the end cut; nothing becomes null.
#[derive(Clone, Copy)]
pub(super) struct Current(pub(super) Option<Timestamp>);

impl Serialize for Documented {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(moment) => serializer.collect_str(&Text { moment, current: false }),
            None => serializer.serialize_str(NEVER),
        }
    }
}

impl Serialize for Current {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(moment) => serializer.collect_str(&Text { moment, current: true }),
            None => serializer.serialize_none(),
        }
    }
}

struct Text {
    moment: Timestamp,
    current: bool,
}

/// 0000-01-01T00:00:00Z and 9999-12-31T23:59:59.999999Z: years with four digits, which is all that receivers read.
const FIRST: i64 = -62_167_219_200_000_000;
const LAST: i64 = 253_402_300_799_999_999;

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = Timestamp::from_micros(self.moment.micros().clamp(FIRST, LAST));
        let utc = moment.utc().ok_or(fmt::Error)?; // never: the clamped range is far inside chrono's
        let (hour, minute, second) = (utc.hour(), utc.minute(), utc.second());
        let micros = moment.micros().rem_euclid(1_000_000);
        write!(f, "{:04}-{:02}-{:02}", utc.year(), utc.month(), utc.day())?;
        if !self.current {
            return write!(f, " {hour:02}:{minute:02}:{second:02}.{micros:06}");
        }
        write!(f, "T{hour:02}:{minute:02}:{second:02}")?;
        if micros > 0 {
            let digits = format!("{micros:06}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(moment: Option<Timestamp>) -> (String, String) {
        let documented = serde_json::to_string(&Documented(moment)).unwrap();
        (documented, serde_json::to_string(&Current(moment)).unwrap())
    }

    #[test]
    fn both_formats_of_every_fraction() {
        for (given, documented, current) in [
            ("2024-07-26T07:49:07.588Z", "2024-07-26 07:49:07.588000", "2024-07-26T07:49:07.588Z"),
            ("2024-07-26T07:49:07Z", "2024-07-26 07:49:07.000000", "2024-07-26T07:49:07Z"),
            ("2022-06-24T04:28:51.558082Z", "2022-06-24 04:28:51.558082", "2022-06-24T04:28:51.558082Z"),
            ("2022-06-24T04:28:51.0000019Z", "2022-06-24 04:28:51.000001", "2022-06-24T04:28:51.000001Z"),
            ("1969-12-31T23:59:59.9Z", "1969-12-31 23:59:59.900000", "1969-12-31T23:59:59.9Z"),
            ("2024-07-26T23:59:07+09:00", "2024-07-26 14:59:07.000000", "2024-07-26T14:59:07Z"),
        ] {
            let moment = Timestamp::parse(given);
            assert!(moment.is_some());
            assert_eq!(both(moment), (format!("\"{documented}\""), format!("\"{current}\"")));
        }
    }

    #[test]
    fn nothing_and_the_ends_of_the_range() {
        assert_eq!(both(None), ("\"9999-01-01 00:00:00.000000\"".into(), "null".into()));
        for (moment, documented, current) in [
            (i64::MAX, "9999-12-31 23:59:59.999999", "9999-12-31T23:59:59.999999Z"),
            (i64::MIN, "0000-01-01 00:00:00.000000", "0000-01-01T00:00:00Z"),
        ] {
            let moment = Some(Timestamp::from_micros(moment));
            assert_eq!(both(moment), (format!("\"{documented}\""), format!("\"{current}\"")));
        }
    }
}
