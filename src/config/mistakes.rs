//! What is wrong with a configuration, collected so that all of it is reported at once.

use std::fmt;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file and line, or the name of the environment variable.
    pub place: String,
    /// The key and what would be right; one line, never a secret's value.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Everything that is wrong; never empty when it comes from [`load`](super::load).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// In the defaults.
    Default,
    /// On this line of the user's file, from 1.
    Line(usize),
    /// In this environment variable.
    Variable(String),
}

/// A value's origin and its key as a path: `accounts[0].name`.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) origin: Origin,
    pub(super) path: String,
}

impl Place {
    /// The place of `key` inside this one, when it was written at `origin`.
    pub(super) fn key(&self, key: &str, origin: Origin) -> Self {
        let path = if self.path.is_empty() { plain(key) } else { format!("{}.{}", self.path, plain(key)) };
        Self { origin, path }
    }

    /// The place of an element of this list.
    pub(super) fn element(&self, index: usize, origin: Origin) -> Self {
        Self { origin, path: format!("{}[{index}]", self.path) }
    }

    /// The place where the absent `key` should have been.
    pub(super) fn absent(&self, key: &str) -> Self {
        let place = self.key(key, self.origin.clone());
        match place.origin {
            Origin::Variable(_) => Self { origin: Origin::Variable(variable(&place.path)), ..place },
            _ => place,
        }
    }

    /// Of two values that contradict each other, the one that somebody wrote.
    pub(super) fn or<'a>(&'a self, other: &'a Self) -> &'a Self {
        if self.origin == Origin::Default { other } else { self }
    }
}

/// Proof that a mistake was noted: whoever returns it need not say more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noted(());

/// The mistakes found so far.
pub(super) struct Notes {
    file: String,
    found: Vec<(Rank, Mistake)>,
}

/// The order of a report: the file from top to bottom, then the environment.
type Rank = (u8, usize);

impl Notes {
    /// No mistakes yet; `file` is the name of the user's file.
    pub(super) fn new(file: String) -> Self {
        Self { file, found: Vec::new() }
    }

    /// Notes that the value at `place` is wrong: `what` says how, and what would be right.
    pub(super) fn add(&mut self, place: &Place, what: impl fmt::Display) -> Noted {
        let path = &place.path;
        match &place.origin {
            Origin::Default => self.push((1, 0), "default.toml".to_owned(), &format!("{path}: {what}")),
            Origin::Line(line) => self.push((0, *line), format!("{}:{line}", self.file), &format!("{path}: {what}")),
            Origin::Variable(name) if *name == variable(path) => self.push((2, 0), name.clone(), &what.to_string()),
            Origin::Variable(name) => self.push((2, 0), name.clone(), &format!("{path}: {what}")),
        }
    }

    /// Notes that the file as a whole is wrong.
    pub(super) fn add_file(&mut self, what: impl fmt::Display) -> Noted {
        self.push((0, 0), self.file.clone(), &what.to_string())
    }

    /// Notes that the file cannot be read as TOML, from this line and column on.
    pub(super) fn add_syntax(&mut self, line: usize, column: usize, what: &str) -> Noted {
        self.push((0, line), format!("{}:{line}:{column}", self.file), what)
    }

    /// Notes that an environment variable itself is wrong.
    pub(super) fn add_variable(&mut self, name: &str, what: impl fmt::Display) -> Noted {
        self.push((2, 0), name.to_owned(), &what.to_string())
    }

    /// Whether nothing is wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Everything that is wrong, in the order of the report.
    pub(super) fn into_mistakes(mut self) -> Mistakes {
        self.found.sort_by_key(|(rank, _)| *rank);
        Mistakes(self.found.into_iter().map(|(_, mistake)| mistake).collect())
    }

    fn push(&mut self, rank: Rank, place: String, message: &str) -> Noted {
        // What a file says may hold line breaks; a mistake is one line whatever it quotes.
        let message = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.found.push((rank, Mistake { place, message }));
        Noted(())
    }
}

/// The environment variable that sets the key at `path`.
pub(super) fn variable(path: &str) -> String {
    format!("BIRDWIRE_{}", path.replace(']', "").replace(['.', '['], "__").to_uppercase())
}

/// A key as it may be printed: what is no plain key is shown in quotes, and not at any length.
fn plain(key: &str) -> String {
    let is_plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if is_plain && key.len() <= 64 { key.to_owned() } else { format!("{:?}", key.chars().take(64).collect::<String>()) }
}
