//! A whole store as logical tables: rows of typed values that mean the same on every engine.
//!
//! Engines shape their own tables as suits them; what a store holds is this. A row's first columns are its key, and
//! rows come in the order of their keys: integers by value, ids by their bytes. So two engines that hold the same
//! give the same rows in the same order, and a hash over them is equal.

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number, or a time in microseconds.
    Int,
    /// Yes or no: 1 or 0.
    Flag,
    /// Text of our own making, in UTF-8.
    Text,
    /// Strangers' words as they came, whatever they are; or a body.
    Words,
    /// 16 bytes: a UUID, or the first half of a SHA-256.
    Id,
}

/// One column of a logical table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
}

/// A logical table.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// How many columns are its key, from the first.
    pub key: usize,
    /// Its columns.
    pub columns: &'static [Column],
}

impl Table {
    /// The place of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Nothing.
    Null,
    /// A number, a time, yes or no.
    Int(i64),
    /// Text, words or an id.
    Bytes(Vec<u8>),
}

impl Value {
    /// The number that it is.
    pub fn int(&self) -> Option<i64> {
        if let Self::Int(number) = self { Some(*number) } else { None }
    }

    /// The bytes that it is.
    pub fn bytes(&self) -> Option<&[u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }
}

/// The values of one row, as many as its table has columns.
pub type Row = Vec<Value>;

/// Rows that go together, at most.
pub const PAGE_ROWS: usize = 1000;

/// Bytes after which a page has enough rows.
pub const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// About how much memory a row takes.
pub fn size(row: &[Value]) -> usize {
    row.iter().map(|value| 32 + value.bytes().map_or(0, <[u8]>::len)).sum()
}

/// Appends values in the one form in which they are hashed and kept: nothing is 0; a number is 1 and its eight bytes; bytes
/// are 2, their count in eight bytes, and they.
pub fn encode(values: &[Value], out: &mut Vec<u8>) {
    for value in values {
        match value {
            Value::Null => out.push(0),
            Value::Int(number) => {
                out.push(1);
                out.extend(number.to_be_bytes());
            }
            Value::Bytes(bytes) => {
                out.push(2);
                out.extend(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
                out.extend(bytes);
            }
        }
    }
}

/// What was encoded; `None` when that was something else.
pub fn decode(mut bytes: &[u8]) -> Option<Vec<Value>> {
    let mut values = Vec::new();
    while let Some((tag, rest)) = bytes.split_first() {
        bytes = rest;
        values.push(match tag {
            0 => Value::Null,
            1 => Value::Int(i64::from_be_bytes(take(&mut bytes)?)),
            2 => {
                let length = usize::try_from(u64::from_be_bytes(take(&mut bytes)?)).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Value::Bytes(value.to_vec())
            }
            _ => return None,
        });
    }
    Some(values)
}

fn take(bytes: &mut &[u8]) -> Option<[u8; 8]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

const fn int(name: &'static str) -> Column {
    Column { name, kind: Kind::Int }
}

const fn flag(name: &'static str) -> Column {
    Column { name, kind: Kind::Flag }
}

const fn text(name: &'static str) -> Column {
    Column { name, kind: Kind::Text }
}

const fn words(name: &'static str) -> Column {
    Column { name, kind: Kind::Words }
}

const fn id(name: &'static str) -> Column {
    Column { name, kind: Kind::Id }
}

/// Everything that a store holds, in the order in which it is copied. Columns that a look-up needs are `known`: the
/// row is found by its id or key. `event_at` is when the event downstream of a delivery was committed.
///
/// Subscribers are last: nobody can claim what they are owed before everything is there.
pub const TABLES: &[Table] = &[
    Table { name: "accounts", key: 1, columns: &[int("id"), id("uuid")] },
    Table {
        name: "conversations",
        key: 1,
        columns: &[
            int("id"),
            id("uuid"),
            int("account"),
            id("customer"),
            text("channel"),
            words("dialog_id"),
            text("own"),
            text("peer"),
            int("named_at"),
            int("tm_create"),
            int("tm_update"),
            int("tm_delete"),
        ],
    },
    Table {
        name: "messages",
        key: 1,
        columns: &[
            int("id"),
            id("uuid"),
            int("account"),
            int("conversation"),
            int("event"),
            text("direction"),
            text("status"),
            words("text"),
            text("content"),
            int("tm_create"),
            int("tm_update"),
            int("tm_delete"),
            flag("edited"),
            flag("known"),
        ],
    },
    Table { name: "early_messages", key: 1, columns: &[id("uuid"), int("row")] },
    Table {
        name: "webhooks",
        key: 1,
        columns: &[int("id"), int("account"), int("received_at"), text("headers"), words("body")],
    },
    Table {
        name: "events",
        key: 1,
        columns: &[
            int("id"),
            int("webhook"),
            int("beside"),
            int("place"),
            int("account"),
            int("received_at"),
            text("request_id"),
            words("kind"),
            int("event_time"),
            words("provider_key"),
            int("state"),
            flag("conflict"),
            text("reason"),
            words("detail"),
            int("message"),
            flag("known"),
        ],
    },
    Table { name: "dedupe", key: 3, columns: &[int("account"), int("event_time"), id("key"), int("event")] },
    Table {
        name: "outbox",
        key: 1,
        columns: &[
            int("id"),
            id("uuid"),
            text("type"),
            int("event"),
            int("message"),
            int("conversation"),
            int("created_at"),
            words("body"),
            flag("known"),
        ],
    },
    Table {
        name: "finished",
        key: 1,
        columns: &[
            int("id"),
            int("event"),
            int("event_at"),
            int("subscriber"),
            int("lane"),
            int("seq"),
            flag("replay"),
            int("attempts"),
            int("due_at"),
            int("first_at"),
            int("last_at"),
            int("last_ms"),
            int("last_status"),
            text("last_reason"),
        ],
    },
    Table {
        name: "attempts",
        key: 2,
        columns: &[int("delivery"), int("number"), int("at"), int("ms"), int("status"), text("reason")],
    },
    Table {
        name: "deliveries",
        key: 1,
        columns: &[
            int("id"),
            int("event"),
            int("event_at"),
            int("subscriber"),
            int("lane"),
            int("seq"),
            int("state"),
            flag("replay"),
            int("attempts"),
            int("round_start"),
            int("due_at"),
            int("first_at"),
            int("last_at"),
            int("last_ms"),
            int("last_status"),
            text("last_reason"),
        ],
    },
    Table {
        name: "lanes",
        key: 1,
        columns: &[
            int("id"),
            int("subscriber"),
            int("conversation"),
            flag("single"),
            int("last_seq"),
            int("head"),
            int("due_at"),
            flag("leased"),
            int("token"),
        ],
    },
    Table {
        name: "subscribers",
        key: 1,
        columns: &[
            int("id"),
            text("name"),
            flag("configured"),
            flag("ordered"),
            int("disabled_at"),
            text("disabled_reason"),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_can_be_decoded_and_nothing_else() {
        let values = vec![Value::Null, Value::Int(-5), Value::Bytes(b"a\0b".to_vec()), Value::Bytes(Vec::new())];
        let mut bytes = Vec::new();
        encode(&values, &mut bytes);
        assert_eq!(decode(&bytes), Some(values));
        for cut in [2, 5, bytes.len() - 1] {
            assert_eq!(decode(&bytes[..cut]), None);
        }
        assert_eq!(decode(&[3]), None);
        assert_eq!(decode(&[2, 255, 255, 255, 255, 255, 255, 255, 255, 1]), None);
    }

    #[test]
    fn different_rows_are_encoded_differently() {
        let encoded = |values: &[Value]| {
            let mut out = Vec::new();
            encode(values, &mut out);
            out
        };
        let bytes = |text: &str| Value::Bytes(text.into());
        assert_ne!(encoded(&[bytes("ab"), bytes("c")]), encoded(&[bytes("a"), bytes("bc")]));
        assert_ne!(encoded(&[Value::Null]), encoded(&[bytes("")]));
        assert_ne!(encoded(&[Value::Int(0)]), encoded(&[Value::Null]));
    }

    #[test]
    fn keys_are_the_first_columns() {
        for table in TABLES {
            let keys = &table.columns[..table.key];
            assert!(keys.iter().all(|column| matches!(column.kind, Kind::Int | Kind::Id)), "{}", table.name);
        }
    }
}
