//! Typed reading of the tree: every reader notes what is wrong and lets the others go on.

use super::mistakes::{Noted, Notes, Origin, Place};
use super::nearest::nearest;
use super::tree::{Node, Table, Value, parse_value};
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The shortest duration that is one at all.
pub(super) const SOME: Duration = Duration::from_millis(1);

/// Longer durations would overflow the clock somewhere.
const LONGEST: Duration = Duration::from_hours(24 * 36_500);

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// A table whose keys are taken out one by one; what is left at the end is unknown.
pub(super) struct Section {
    pub(super) place: Place,
    table: Table,
    known: Vec<&'static str>,
}

impl Section {
    /// The whole configuration.
    pub(super) fn root(table: Table) -> Self {
        Self { place: Place { origin: Origin::Default, path: String::new() }, table, known: Vec::new() }
    }

    /// The section `key`.
    pub(super) fn section(&mut self, key: &'static str, notes: &mut Notes) -> Result<Self, Noted> {
        match self.optional(key) {
            Some(Leaf { place, value: Value::Table(table) }) => Ok(Self { place, table, known: Vec::new() }),
            Some(leaf) => Err(notes.add(&leaf.place, format_args!("is one section; write [{key}]"))),
            None => Err(notes.add(&self.place.absent(key), "missing")),
        }
    }

    /// The tables of `key`, one for each `[[key]]`.
    pub(super) fn tables(&mut self, key: &'static str, notes: &mut Notes) -> Vec<Self> {
        let Some(leaf) = self.optional(key) else { return Vec::new() };
        let help = format!("one block for each is needed; write [[{key}]], with double brackets");
        if matches!(leaf.value, Value::Table(_)) {
            notes.add(&leaf.place, help);
            return Vec::new();
        }
        let elements = leaf.list(notes).unwrap_or_default();
        let mut tables = Vec::new();
        for Leaf { place, value } in elements {
            match value {
                Value::Table(table) => tables.push(Self { place, table, known: Vec::new() }),
                _ => {
                    notes.add(&place, &help);
                }
            }
        }
        tables
    }

    /// Where `key` was written, or where it should have been.
    pub(super) fn at(&self, key: &str) -> Place {
        match self.table.get(key) {
            Some(node) => self.place.key(key, node.origin.clone()),
            None => self.place.absent(key),
        }
    }

    /// The value of `key`, when it was written.
    pub(super) fn optional(&mut self, key: &'static str) -> Option<Leaf> {
        self.known.push(key);
        let node = self.table.remove(key)?;
        Some(Leaf { place: self.place.key(key, node.origin), value: node.value })
    }

    /// The value of `key`; `help` says what it would be.
    pub(super) fn required(&mut self, key: &'static str, help: &str, notes: &mut Notes) -> Result<Leaf, Noted> {
        let absent = self.place.absent(key);
        self.optional(key).ok_or_else(|| notes.add(&absent, format_args!("missing; {help}")))
    }

    /// Takes `key` unread: whether it is right cannot be told.
    pub(super) fn discard(&mut self, key: &'static str) {
        drop(self.optional(key));
    }

    /// Notes that `key` is not known here, for a better reason than [`Section::finish`] could give.
    pub(super) fn refuse(&mut self, key: &str, what: impl fmt::Display, notes: &mut Notes) {
        if let Some(node) = self.table.remove(key) {
            notes.add(&self.place.key(key, node.origin), what);
        }
    }

    /// Notes every key that nobody asked for. `elsewhere` are the paths of all settings, for keys in the wrong section.
    pub(super) fn finish(self, elsewhere: &[String], notes: &mut Notes) {
        let Self { place, table, known } = self;
        for (key, node) in table {
            let at = place.key(&key, written(&node));
            let home = elsewhere.iter().find(|path| path.rsplit('.').next() == Some(key.as_str()));
            if let Some(close) = nearest(&key, known.iter().copied()) {
                notes.add(&at, format_args!("unknown key; did you mean {close}?"));
            } else if let Some(home) = home {
                notes.add(&at, format_args!("unknown key here; did you mean {home}?"));
            } else {
                notes.add(&at, format_args!("unknown key; known here: {}", known.join(", ")));
            }
        }
    }
}

/// Where something was really written: a table that only variables made is nobody's own words.
fn written(node: &Node) -> Origin {
    match (&node.origin, &node.value) {
        (Origin::Variable(_), Value::Table(table)) => table.values().next().map_or(node.origin.clone(), written),
        _ => node.origin.clone(),
    }
}

/// One value and its place.
pub(super) struct Leaf {
    pub(super) place: Place,
    value: Value,
}

impl Leaf {
    /// Whether it is empty text.
    pub(super) fn is_empty(&self) -> bool {
        matches!(&self.value, Value::Text(text) | Value::Raw(text) if text.is_empty())
    }

    /// As text. Notes never show the value: it may be a secret.
    pub(super) fn text(self, notes: &mut Notes) -> Result<String, Noted> {
        match self.value {
            Value::Text(text) | Value::Raw(text) => Ok(text),
            other => Err(notes.add(&self.place, format_args!("must be text in quotes, not {}", other.kind()))),
        }
    }

    /// As text that says something; `help` is what would be right.
    pub(super) fn filled(self, help: &str, notes: &mut Notes) -> Result<String, Noted> {
        let place = self.place.clone();
        let text = self.text(notes)?;
        if text.trim().is_empty() {
            return Err(notes.add(&place, format_args!("must not be empty; {help}")));
        }
        Ok(text)
    }

    /// As text that `read` understands; `read` says what would be right.
    pub(super) fn read<T, E: fmt::Display>(
        self,
        notes: &mut Notes,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, Noted> {
        let place = self.place.clone();
        let text = self.text(notes)?;
        read(&text).map_err(|what| notes.add(&place, what))
    }

    /// As one of a few words.
    pub(super) fn word<T: Copy, const N: usize>(
        self,
        all: [T; N],
        name: fn(T) -> &'static str,
        notes: &mut Notes,
    ) -> Result<T, Noted> {
        self.read(notes, |text| {
            all.into_iter().find(|&word| name(word) == text).ok_or_else(|| {
                let words: Vec<String> = all.iter().map(|&word| format!("{:?}", name(word))).collect();
                format!("{} is not known here; write {}", quoted(text), words.join(" or "))
            })
        })
    }

    /// As a whole number within bounds.
    pub(super) fn whole(self, bounds: &RangeInclusive<usize>, notes: &mut Notes) -> Result<usize, Noted> {
        let number = match &self.value {
            Value::Integer(number) => usize::try_from(*number).ok(),
            Value::Raw(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.filter(|number| bounds.contains(number)).ok_or_else(|| {
            notes.add(&self.place, format_args!("must be a whole number from {} to {}", bounds.start(), bounds.end()))
        })
    }

    /// As a size in bytes, one at least.
    pub(super) fn size(self, notes: &mut Notes) -> Result<usize, Noted> {
        let bytes = match &self.value {
            Value::Integer(number) => usize::try_from(*number).ok(),
            Value::Text(text) | Value::Raw(text) => size(text),
            _ => None,
        };
        bytes.filter(|&bytes| bytes > 0).ok_or_else(|| {
            notes.add(&self.place, r#"must be a size above 0: bytes, or text such as "512KiB" or "1MiB""#)
        })
    }

    /// As a duration of `least` or more.
    pub(super) fn duration(self, least: Duration, notes: &mut Notes) -> Result<Duration, Noted> {
        if let Value::Integer(number) = self.value {
            return Err(notes
                .add(&self.place, format_args!(r#"{number} needs a unit, such as "{number}s" (ms, s, m, h or d)"#)));
        }
        self.read(notes, |text| match duration(text) {
            None => Err(format!(
                r#"{} is no duration; write a number and a unit, such as "30s" (ms, s, m, h or d)"#,
                quoted(text)
            )),
            Some(given) if given < least => Err(format!("must be at least {}", shown(least))),
            Some(given) if given > LONGEST => Err(format!("must be at most {}", shown(LONGEST))),
            Some(given) => Ok(given),
        })
    }

    /// As a list. Notes never show the value: it may hold secrets.
    pub(super) fn list(self, notes: &mut Notes) -> Result<Vec<Leaf>, Noted> {
        let Self { place, value } = self;
        let parsed = match value {
            Value::Raw(text) if text.trim().is_empty() => Some(Value::List(Vec::new())),
            Value::Raw(text) => parse_value(text.trim(), &place.origin),
            value => Some(value),
        };
        match parsed {
            Some(Value::List(list)) => {
                let leaf =
                    |(index, node): (usize, Node)| Leaf { place: place.element(index, node.origin), value: node.value };
                Ok(list.into_iter().enumerate().map(leaf).collect())
            }
            _ => Err(notes.add(&place, r#"must be a list, such as ["one", "two"]"#)),
        }
    }
}

/// A value of the user's as it may be quoted in a message: whole when short.
pub(super) fn quoted(text: &str) -> String {
    const MOST: usize = 80;
    if text.chars().count() <= MOST {
        return format!("{text:?}");
    }
    format!("{:?}...", text.chars().take(MOST).collect::<String>())
}

/// A duration as it is written in configuration.
pub(super) fn shown(duration: Duration) -> String {
    let millis = duration.as_millis();
    let unit = UNITS.iter().find(|(_, size)| millis > 0 && millis.is_multiple_of(u128::from(*size)));
    let (unit, size) = unit.copied().unwrap_or(("ms", 1));
    format!("{}{unit}", millis / u128::from(size))
}

/// A number and a unit: "500ms", "30s".
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text.trim())?;
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*millis).map(Duration::from_millis)
}

fn size(text: &str) -> Option<usize> {
    let (number, unit) = split(text.trim())?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    usize::try_from(number.checked_mul(factor)?).ok()
}

/// A number and what follows it, with or without a space between them.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}
