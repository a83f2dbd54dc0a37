//! Who a message is from or to, as VoIPBIN names it.

/// What kind of address a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// A LINE user, group, room or channel id.
    Line,
    /// A telephone number, `+` and digits.
    Tel,
}

impl AddressKind {
    /// VoIPBIN's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Tel => "tel",
        }
    }
}

/// VoIPBIN's Address: `name` and `detail` exist in the record, but no provider fills them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The kind of `target`.
    pub kind: AddressKind,
    /// The id or number; empty when the provider gave none.
    pub target: String,
    /// The display name; empty when the provider gave none.
    pub target_name: String,
}

impl Address {
    /// An address with a display name, which may be empty.
    pub fn new(kind: AddressKind, target: impl Into<String>, target_name: impl Into<String>) -> Self {
        Self { kind, target: target.into(), target_name: target_name.into() }
    }
}

/// A telephone number as VoIPBIN stores it: a leading `+` and ASCII digits only; without any digit, unchanged.
pub fn normalize_tel(number: &str) -> String {
    if !number.contains(|c: char| c.is_ascii_digit()) {
        return number.to_owned();
    }
    let digits = number.chars().filter(char::is_ascii_digit);
    let plus = number.trim_start().starts_with('+').then_some('+');
    plus.into_iter().chain(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::normalize_tel;

    #[test]
    fn numbers_keep_a_leading_plus_and_digits() {
        for (given, want) in [
            ("+31 6 1234-5678", "+31612345678"),
            (" +49(0)89", "+49089"),
            ("0031 6", "00316"),
            ("1+2", "12"),
            ("BANK", "BANK"),
            ("", ""),
        ] {
            assert_eq!(normalize_tel(given), want);
        }
    }
}
