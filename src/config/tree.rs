//! TOML as a tree that remembers where each value was written, so that a mistake can name its line or variable.

use super::mistakes::Origin;
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Keys and their values.
pub(super) type Table = BTreeMap<String, Node>;

/// A value and where it was written.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Value,
}

/// A value as written.
#[derive(Clone)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    List(Vec<Node>),
    Table(Table),
    /// The text of an environment variable: what it means depends on the key.
    Raw(String),
    /// What no key takes, by its name.
    Other(&'static str),
}

impl Value {
    /// What it is, in a sentence.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Raw(_) => "text",
            Self::Integer(_) => "a number",
            Self::List(_) => "a list",
            Self::Table(_) => "a section",
            Self::Other(kind) => kind,
        }
    }
}

/// Text that is not TOML: where, and why.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) what: String,
}

/// Reads a whole document; every value gets the origin that `origin` makes of its line.
pub(super) fn parse(text: &str, origin: impl Fn(usize) -> Origin) -> Result<Table, SyntaxError> {
    let lines = Lines::of(text);
    match DeTable::parse(text) {
        Ok(root) => Ok(table(root.get_ref(), &|at| origin(lines.line(at)))),
        Err(error) => {
            let at = error.span().map_or(text.len(), |span| span.start).min(text.len());
            let line = lines.line(at);
            let start = lines.start(line);
            let column = text.get(start..at).map_or(at - start, |before| before.chars().count()) + 1;
            // Only the parser's own words: its full report quotes the line, which may hold a secret.
            Err(SyntaxError { line, column, what: error.message().to_owned() })
        }
    }
}

/// Reads one value, such as the list in an environment variable; `None` when it is none.
pub(super) fn parse_value(text: &str, origin: &Origin) -> Option<Value> {
    DeValue::parse(text).ok().map(|found| node(&found, &|_| origin.clone()).value)
}

/// Lays `over` upon `base`: sections are joined, everything else is replaced.
pub(super) fn overlay(base: &mut Table, over: Table) {
    for (key, node) in over {
        match (base.get_mut(&key), node) {
            (Some(Node { origin, value: Value::Table(below) }), Node { origin: above, value: Value::Table(table) }) => {
                *origin = above;
                overlay(below, table);
            }
            (_, node) => {
                base.insert(key, node);
            }
        }
    }
}

/// Where each line begins.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// The line, from 1, that holds the byte `at`.
    fn line(&self, at: usize) -> usize {
        self.0.partition_point(|&start| start <= at)
    }

    /// The first byte of a line.
    fn start(&self, line: usize) -> usize {
        self.0.get(line.saturating_sub(1)).copied().unwrap_or_default()
    }
}

fn table(found: &DeTable<'_>, origin: &dyn Fn(usize) -> Origin) -> Table {
    found.iter().map(|(key, value)| (key.get_ref().to_string(), node(value, origin))).collect()
}

fn node(found: &Spanned<DeValue<'_>>, origin: &dyn Fn(usize) -> Origin) -> Node {
    let value = match found.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("a number out of range"),
        },
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Boolean(_) => Value::Other("true or false"),
        DeValue::Datetime(_) => Value::Other("a date or time"),
        DeValue::Array(list) => Value::List(list.iter().map(|element| node(element, origin)).collect()),
        DeValue::Table(inner) => Value::Table(table(inner, origin)),
    };
    Node { origin: origin(found.span().start), value }
}
