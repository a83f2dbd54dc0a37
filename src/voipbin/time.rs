//! The two ways in which VoIPBIN writes moments.

use crate::domain::time::{Civil, Timestamp};

/// A moment as text. Written digit by digit: every record has several, and a formatter takes many times as long.
pub(super) struct Text {
    bytes: [u8; 27],
    length: usize,
}

impl Text {
    /// What stands for a moment that has not come yet, in the documented format.
    pub(super) const NEVER: &str = "9999-01-01 00:00:00.000000";

    /// As the documented format has it: `2024-07-26 07:49:07.588000`.
    pub(super) fn documented(moment: Timestamp) -> Self {
        Self { bytes: write(moment, b' '), length: 26 }
    }

    /// As the current format has it: `2024-07-26T07:49:07.588Z`, zeros at the end cut.
    pub(super) fn current(moment: Timestamp) -> Self {
        let mut bytes = write(moment, b'T');
        let mut length = 26;
        while bytes[length - 1] == b'0' && length > 20 {
            length -= 1;
        }
        if length == 20 {
            length = if bytes[19] == b'.' { 19 } else { 20 };
        }
        bytes[length] = b'Z';
        Self { bytes, length: length + 1 }
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default() // it is ASCII
    }
}

/// `2024-07-26 07:49:07.588000`, with `between` between date and time, and a byte to spare.
fn write(moment: Timestamp, between: u8) -> [u8; 27] {
    let Civil { year, month, day, hour, minute, second, micros } = moment.into();
    let mut text = *b"0000-00-00 00:00:00.000000\0";
    digits(&mut text[..4], year);
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    text[10] = between;
    digits(&mut text[11..13], hour);
    digits(&mut text[14..16], minute);
    digits(&mut text[17..19], second);
    digits(&mut text[20..26], micros);
    text
}

/// `value`, right-aligned in a place full of zeros.
fn digits(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789"[usize::try_from(value % 10).unwrap_or_default()];
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(moment: Timestamp) -> (String, String) {
        (Text::documented(moment).as_str().to_owned(), Text::current(moment).as_str().to_owned())
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
            let moment = Timestamp::parse(given).unwrap();
            assert_eq!(both(moment), (documented.to_owned(), current.to_owned()));
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        for (moment, documented, current) in [
            (i64::MAX, "9999-12-31 23:59:59.999999", "9999-12-31T23:59:59.999999Z"),
            (i64::MIN, "0000-01-01 00:00:00.000000", "0000-01-01T00:00:00Z"),
        ] {
            assert_eq!(both(Timestamp::from_micros(moment)), (documented.to_owned(), current.to_owned()));
        }
    }
}
