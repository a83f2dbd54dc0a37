//! Which of VoIPBIN's two record formats subscribers get.

/// The format of records downstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFormat {
    /// What VoIPBIN's published documents show.
    Documented,
    /// What VoIPBIN's code writes today.
    Current,
}

impl RecordFormat {
    /// Both formats.
    pub const ALL: [Self; 2] = [Self::Documented, Self::Current];

    /// Its word in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Documented => "documented",
            Self::Current => "current",
        }
    }

    /// The format of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.as_str() == text)
    }
}
