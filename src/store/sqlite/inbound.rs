//! Keeping one webhook.

use super::writer::{RecentKey, Tx};
use crate::domain::account::{Account, Channel};
use crate::domain::conversation::{Change, Conversation};
use crate::domain::event::{DedupeKey, End, NewMessage, OutboundEvent, Quarantine, QuarantineReason};
use crate::domain::ids::MessageId;
use crate::domain::time::Timestamp;
use crate::store::inbound::{Inbound, Kept, Prepared, Receipt};
use crate::store::{plan, rows};
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Writes everything that `inbound` causes. What no row can hold is kept raw instead of failing its batch.
pub(super) fn commit(tx: &mut Tx<'_>, inbound: &Inbound) -> rusqlite::Result<Receipt> {
    match try_commit(tx, inbound) {
        Err(error) if super::error::blame(&error) == super::error::Blame::Item => {
            tx.undo()?;
            tx.work = false;
            keep_aside(tx, inbound, &error)
        }
        result => result,
    }
}

fn try_commit(tx: &mut Tx<'_>, inbound: &Inbound) -> rusqlite::Result<Receipt> {
    let mut receipts = Receipts::new(tx, inbound)?;
    if inbound.events.is_empty() {
        let end = End::Ignored;
        receipts.write(tx, &Row { end: &end, ..Row::bare("") })?;
        return Ok(Receipt { ends: vec![end] });
    }
    let mut ends = Vec::with_capacity(inbound.events.len());
    for prepared in &inbound.events {
        ends.push(one(tx, &mut receipts, inbound, prepared)?);
    }
    Ok(Receipt { ends })
}

fn one(tx: &mut Tx<'_>, receipts: &mut Receipts<'_>, inbound: &Inbound, prepared: &Prepared) -> rusqlite::Result<End> {
    let event = &prepared.event;
    let row = tx.memory.next_event(tx.connection)?;
    if let Some(key) = &event.key
        && let Some(conflict) = repeated(tx, receipts.account, key, row)?
    {
        let end = End::Duplicate { conflict };
        receipts.write_at(tx, row, &Row { key: Some(key), end: &end, ..Row::bare(&event.kind) })?;
        return Ok(end);
    }
    match prepared.kept() {
        Kept::Aside(quarantine) => {
            let end = End::Quarantined(quarantine.into_owned());
            receipts.write_at(tx, row, &Row { key: event.key.as_ref(), end: &end, ..Row::bare(&event.kind) })?;
            Ok(end)
        }
        Kept::Message(new) => {
            let message = Some(new.message.id);
            receipts.write_at(tx, row, &Row { key: event.key.as_ref(), message, ..Row::bare(&event.kind) })?;
            store_message(tx, inbound, prepared, new, receipts.account, row)?;
            Ok(End::Stored)
        }
    }
}

/// `None` for a new event, which is remembered; otherwise whether the repeat's time differs.
fn repeated(tx: &mut Tx<'_>, account: i64, key: &DedupeKey, event: i64) -> rusqlite::Result<Option<bool>> {
    let recent: RecentKey = (account, key_hash(&key.provider_key));
    if let Some(at) = tx.memory.recent(&recent) {
        return Ok(Some(at != key.at.micros()));
    }
    let new = tx
        .connection
        .prepare_cached(
            "INSERT INTO dedupe (account, event_time, key, event) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )?
        .execute(params![account, key.at.micros(), recent.1, event])?;
    if new == 0 {
        return Ok(Some(false));
    }
    tx.memory.remember(recent, key.at.micros());
    Ok(None)
}

/// The first half of SHA-256: keys are strangers' texts of any length, the index must stay narrow.
pub(super) fn key_hash(provider_key: &str) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&Sha256::digest(provider_key.as_bytes())[..16]);
    half
}

fn store_message(
    tx: &mut Tx<'_>,
    inbound: &Inbound,
    prepared: &Prepared,
    new: &NewMessage,
    account: i64,
    event: i64,
) -> rusqlite::Result<()> {
    let connection = tx.connection;
    let known = conversation(connection, new.message.conversation_id.0, &inbound.account)?;
    let plan = plan::message(known.as_ref().map(|(_, c)| c), new, prepared, &inbound.account, &inbound.outlet);
    let conversation = match (&plan.conversation, known) {
        (Change::Created(made), _) => insert_conversation(connection, made, account)?,
        (Change::Updated(changed), Some((row, _))) => {
            connection
                .prepare_cached("UPDATE conversations SET peer = ?2, named_at = ?3, tm_update = ?4 WHERE id = ?1")?
                .execute(params![
                    row,
                    rows::address(&changed.peer),
                    changed.named_at.micros(),
                    changed.tm_update.map(Timestamp::micros)
                ])?;
            row
        }
        (_, Some((row, _))) => row,
        // `observe` creates what is not known.
        (_, None) => return Err(rusqlite::Error::QueryReturnedNoRows),
    };
    let message = &new.message;
    connection
        .prepare_cached(
            "INSERT INTO messages (uuid, conversation, event, direction, status, text, content, tm_create, tm_update,
                 tm_delete)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            message.id.0.as_bytes(),
            conversation,
            event,
            message.direction.as_str(),
            status_word(message.status),
            message.text,
            rows::content(message),
            message.tm_create.micros(),
            message.tm_update.micros(),
            message.tm_delete.map(Timestamp::micros),
        ])?;
    for outbound in &plan.outbound {
        owe(tx, inbound, outbound, conversation, event)?;
    }
    Ok(())
}

fn status_word(status: crate::domain::message::Status) -> &'static str {
    use crate::domain::message::Status;
    match status {
        Status::Received => "received",
        Status::Sending => "sending",
        Status::Sent => "sent",
        Status::Delivered => "delivered",
        Status::Failed => "failed",
    }
}

/// Writes an event downstream and a delivery for everybody who is owed it; nothing when that is nobody.
fn owe(
    tx: &mut Tx<'_>,
    inbound: &Inbound,
    outbound: &OutboundEvent,
    conversation: i64,
    event: i64,
) -> rusqlite::Result<()> {
    let connection = tx.connection;
    let now = inbound.received_at.micros();
    let mut subscribers = inbound.outlet.routes.owed(outbound.event_type, inbound.account.id).peekable();
    if subscribers.peek().is_none() {
        return Ok(());
    }
    connection
        .prepare_cached(
            "INSERT INTO outbox (uuid, type, event, conversation, created_at, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            outbound.id.0.as_bytes(),
            outbound.event_type.as_str(),
            event,
            conversation,
            now,
            outbound.body
        ])?;
    let outbox = connection.last_insert_rowid();
    for subscriber in subscribers {
        let (subscriber, ordered) = tx.memory.subscriber(connection, &subscriber.0)?;
        let (lane, sequence): (i64, i64) = connection
            .prepare_cached(
                "INSERT INTO lanes (subscriber, conversation, single, last_seq, due_at, leased, token)
                 VALUES (?1, ?2, 0, 1, iif(?4, ?3, NULL), 0, 0)
                 ON CONFLICT (subscriber, conversation) WHERE single = 0
                 DO UPDATE SET last_seq = last_seq + 1, due_at = iif(?4, coalesce(due_at, ?3), due_at)
                 RETURNING id, last_seq",
            )?
            .query_row(params![subscriber, conversation, now, ordered], |r| Ok((r.get(0)?, r.get(1)?)))?;
        let lane = if ordered { lane } else { super::lanes::single(connection, subscriber, conversation, now)? };
        connection
            .prepare_cached(
                "INSERT INTO deliveries (event, subscriber, lane, seq, state, replay, attempts, round_start, due_at)
                 VALUES (?1, ?2, ?3, ?4, 0, 0, 0, 0, ?5)",
            )?
            .execute(params![outbox, subscriber, lane, sequence, now])?;
        tx.work = true;
    }
    Ok(())
}

/// Row and content of a conversation.
fn conversation(connection: &Connection, id: Uuid, account: &Account) -> rusqlite::Result<Option<(i64, Conversation)>> {
    connection
        .prepare_cached(
            "SELECT id, dialog_id, own, peer, named_at, tm_create, tm_update, tm_delete
             FROM conversations WHERE uuid = ?1",
        )?
        .query_row([id.as_bytes()], |r| {
            let address = |column: usize| {
                let text: String = r.get(column)?;
                rows::parse_address(&text).ok_or(rusqlite::Error::InvalidColumnType(
                    column,
                    "address".to_owned(),
                    rusqlite::types::Type::Text,
                ))
            };
            let channel: Channel = account.channel;
            Ok((
                r.get(0)?,
                Conversation {
                    id: crate::domain::ids::ConversationId(id),
                    account_id: account.id,
                    customer_id: account.customer_id,
                    channel,
                    dialog_id: r.get(1)?,
                    own: address(2)?,
                    peer: address(3)?,
                    named_at: Timestamp::from_micros(r.get(4)?),
                    tm_create: Timestamp::from_micros(r.get(5)?),
                    tm_update: r.get::<_, Option<i64>>(6)?.map(Timestamp::from_micros),
                    tm_delete: r.get::<_, Option<i64>>(7)?.map(Timestamp::from_micros),
                },
            ))
        })
        .optional()
}

fn insert_conversation(connection: &Connection, made: &Conversation, account: i64) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "INSERT INTO conversations (uuid, account, customer, channel, dialog_id, own, peer, named_at, tm_create,
                 tm_update, tm_delete)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, NULL, NULL)",
        )?
        .execute(params![
            made.id.0.as_bytes(),
            account,
            made.customer_id.0.as_bytes(),
            made.channel.as_str(),
            made.dialog_id,
            rows::address(&made.own),
            rows::address(&made.peer),
            made.named_at.micros(),
            made.tm_create.micros(),
        ])?;
    Ok(connection.last_insert_rowid())
}

/// Keeps the whole webhook raw, every event of it in quarantine.
fn keep_aside(tx: &mut Tx<'_>, inbound: &Inbound, error: &rusqlite::Error) -> rusqlite::Result<Receipt> {
    let mut receipts = Receipts::new(tx, inbound)?;
    let quarantine = Quarantine::new(QuarantineReason::Unstorable, super::error::explain(error));
    let end = End::Quarantined(quarantine);
    for prepared in &inbound.events {
        receipts.write(tx, &Row { end: &end, ..Row::bare(&prepared.event.kind) })?;
    }
    Ok(Receipt { ends: vec![end; inbound.events.len()] })
}

/// One line of the account of events.
struct Row<'a> {
    kind: &'a str,
    key: Option<&'a DedupeKey>,
    end: &'a End,
    message: Option<MessageId>,
}

impl<'a> Row<'a> {
    fn bare(kind: &'a str) -> Self {
        Self { kind, key: None, end: &End::Stored, message: None }
    }
}

/// Writes the account of one webhook's events; the raw webhook itself is written with the first event that is
/// worth it, so that a repeat leaves a receipt without a body.
struct Receipts<'a> {
    inbound: &'a Inbound,
    account: i64,
    webhook: Option<i64>,
}

impl<'a> Receipts<'a> {
    fn new(tx: &mut Tx<'_>, inbound: &'a Inbound) -> rusqlite::Result<Self> {
        let account = tx.memory.account(tx.connection, inbound.account.id.0)?;
        Ok(Self { inbound, account, webhook: None })
    }

    fn write(&mut self, tx: &mut Tx<'_>, row: &Row<'_>) -> rusqlite::Result<()> {
        let id = tx.memory.next_event(tx.connection)?;
        self.write_at(tx, id, row)
    }

    fn write_at(&mut self, tx: &Tx<'_>, id: i64, row: &Row<'_>) -> rusqlite::Result<()> {
        let webhook = match row.end {
            End::Stored | End::Quarantined(_) => Some(self.raw(tx.connection)?),
            End::Duplicate { .. } | End::Ignored => None,
        };
        let (state, conflict, reason) = match row.end {
            End::Stored => (0, false, None),
            End::Duplicate { conflict } => (1, *conflict, None),
            End::Quarantined(q) => (2, false, Some(q)),
            End::Ignored => (3, false, None),
        };
        tx.connection
            .prepare_cached(
                "INSERT INTO events (id, webhook, account, received_at, request_id, kind, event_time, provider_key,
                     state, conflict, reason, detail, message)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )?
            .execute(params![
                id,
                webhook,
                self.account,
                self.inbound.received_at.micros(),
                self.inbound.request_id,
                row.kind,
                row.key.map(|k| k.at.micros()),
                row.key.map(|k| &k.provider_key),
                state,
                conflict,
                reason.map(|q| q.reason.as_str()),
                reason.map(|q| &q.detail),
                row.message.map(|m| *m.0.as_bytes()),
            ])
            .map(drop)
    }

    fn raw(&mut self, connection: &Connection) -> rusqlite::Result<i64> {
        if let Some(row) = self.webhook {
            return Ok(row);
        }
        let headers: Vec<(&str, &str)> = self.inbound.headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        connection
            .prepare_cached("INSERT INTO webhooks (account, received_at, headers, body) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![
                self.account,
                self.inbound.received_at.micros(),
                serde_json::to_string(&headers).unwrap_or_default(),
                self.inbound.body
            ])?;
        let row = connection.last_insert_rowid();
        self.webhook = Some(row);
        Ok(row)
    }
}
