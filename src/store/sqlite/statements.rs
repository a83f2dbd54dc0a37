//! The statements of every message, prepared once: looking each up by its text takes as long as a quarter of what it
//! does.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, Statement, ToSql, params_from_iter};

/// A statement of every message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hot {
    /// A raw webhook: id, account, received_at, headers, body.
    Webhook,
    /// A received event: id, webhook, place, account, received_at, request_id, kind, event_time, provider_key, state,
    /// conflict, reason, detail, message.
    Event,
    /// A message: id (which is its event), uuid, account, conversation, direction, status, text, content, tm_create,
    /// tm_update, tm_delete, edited.
    Message,
    /// An event downstream: id, uuid, type, event, message, conversation, created_at, body, first, deliveries.
    Outbox,
    /// A delivery: id, event, subscriber, lane, seq, state, due_at.
    Delivery,
    /// An attempt that ended: delivery, state, due_at, started, took, status, reason. A delivery that was cancelled while
    /// it was attempted stays cancelled, but was attempted.
    Attempted,
}

const SQL: [&str; 6] = [
    "INSERT INTO webhooks (id, account, received_at, headers, body) VALUES (?1, ?2, ?3, ?4, ?5)",
    "INSERT INTO events (id, webhook, place, account, received_at, request_id, kind, event_time, provider_key, state,
         conflict, reason, detail, message)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    "INSERT INTO messages (id, event, uuid, account, conversation, direction, status, text, content, tm_create, tm_update,
         tm_delete, edited)
     VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    "INSERT INTO outbox (id, uuid, type, event, message, conversation, created_at, body, first, deliveries)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    "INSERT INTO deliveries (id, event, subscriber, lane, seq, state, replay, attempts, round_start, due_at)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0, 0, ?7)",
    "UPDATE deliveries SET state = iif(state = 4, 4, ?2), due_at = coalesce(?3, due_at), attempts = attempts + 1,
         first_at = coalesce(first_at, ?4), last_at = ?4, last_ms = ?5, last_status = ?6, last_reason = ?7 WHERE id = ?1",
];

/// Runs the statements of every message. A trait, so that whoever works in a transaction need not know how long they
/// live.
pub(super) trait Run {
    /// Runs a statement.
    fn run(&mut self, statement: Hot, params: &[&dyn ToSql]) -> rusqlite::Result<()>;
}

/// The statements.
pub(super) struct Statements<'c>([Statement<'c>; SQL.len()]);

impl<'c> Statements<'c> {
    /// Prepares them.
    pub(super) fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        let [webhook, event, message, outbox, delivery, attempted] = SQL.map(|sql| connection.prepare(sql));
        Ok(Self([webhook?, event?, message?, outbox?, delivery?, attempted?]))
    }
}

impl Run for Statements<'_> {
    fn run(&mut self, statement: Hot, params: &[&dyn ToSql]) -> rusqlite::Result<()> {
        self.0[statement as usize].execute(params).map(drop)
    }
}

/// Inserts many rows of the same table: several with one run, because beginning and ending a statement takes as long as a
/// row.
pub(super) struct Rows<'c> {
    many: CachedStatement<'c>,
    one: CachedStatement<'c>,
}

/// Rows that are inserted with one run.
const AT_ONCE: usize = 16;

impl<'c> Rows<'c> {
    /// Of a table, named with its columns: `t (a, b)`. Rows that are there already stay as they are.
    pub(super) fn new(connection: &'c Connection, table: &str, columns: usize) -> rusqlite::Result<Self> {
        let row = format!("({})", vec!["?"; columns].join(", "));
        let sql = |rows: usize| {
            format!("INSERT INTO {table} VALUES {} ON CONFLICT DO NOTHING", vec![row.as_str(); rows].join(", "))
        };
        Ok(Self { many: connection.prepare_cached(&sql(AT_ONCE))?, one: connection.prepare_cached(&sql(1))? })
    }

    /// Inserts rows, which are best in the order of their keys.
    pub(super) fn insert<const COLUMNS: usize>(&mut self, rows: &[[Cell; COLUMNS]]) -> rusqlite::Result<()> {
        for rows in rows.chunks(AT_ONCE) {
            if rows.len() == AT_ONCE {
                self.many.execute(params_from_iter(rows.as_flattened()))?;
            } else {
                for row in rows {
                    self.one.execute(params_from_iter(row))?;
                }
            }
        }
        Ok(())
    }
}

/// A value of a row.
#[derive(Clone, Copy)]
pub(super) enum Cell {
    /// A number.
    Int(i64),
    /// The first half of a hash.
    Half([u8; 16]),
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Int(number) => ValueRef::Integer(*number),
            Self::Half(bytes) => ValueRef::Blob(bytes),
        }))
    }
}
