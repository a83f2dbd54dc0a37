//! Reading kept webhooks, and repairing messages.

use super::index;
use super::messages::{self, Search};
use super::outbox::{self, About, Occasion};
use super::writer::Tx;
use crate::domain::account::Account;
use crate::domain::ids::{AccountId, MessageId};
use crate::domain::time::Timestamp;
use crate::store::columns::{count, webhook};
use crate::store::replay::{History, Kept, KeptQuery, Repair};
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

pub(super) fn kept(connection: &Connection, query: &KeptQuery) -> rusqlite::Result<Vec<Kept>> {
    connection
        .prepare_cached(
            "SELECT e.id, a.uuid, e.place, e.request_id, e.state, m.uuid, w.id, w.headers, w.body, w.received_at,
                 (SELECT count(*) FROM events s WHERE s.webhook = w.id AND s.id BETWEEN max(w.id, e.id - 1000) AND e.id + 1000)
             FROM events e
             JOIN accounts a ON a.id = e.account
             JOIN webhooks w ON w.id = e.webhook
             LEFT JOIN messages m ON m.id = e.message
             WHERE e.id > ?1 AND (?2 IS NULL OR a.uuid = ?2) AND e.received_at >= ?3 AND e.received_at < ?4
                 AND (?5 = 0 OR e.state = 2)
             ORDER BY e.id LIMIT ?6",
        )?
        .query_map(
            params![
                query.after,
                query.account.map(|id| *id.0.as_bytes()),
                query.since.map_or(i64::MIN, Timestamp::micros),
                query.until.map_or(i64::MAX, Timestamp::micros),
                query.quarantined,
                i64::try_from(query.limit).unwrap_or(i64::MAX),
            ],
            |r| {
                Ok(Kept {
                    row: r.get(0)?,
                    account: AccountId(Uuid::from_bytes(r.get(1)?)),
                    place: count(r.get(2)?),
                    request_id: r.get(3)?,
                    quarantined: r.get::<_, i64>(4)? == 2,
                    message: r.get::<_, Option<[u8; 16]>>(5)?.map(|id| MessageId(Uuid::from_bytes(id))),
                    webhook_row: r.get(6)?,
                    webhook: webhook(&r.get::<_, String>(7)?, r.get(8)?, r.get(9)?),
                    siblings: count(r.get(10)?),
                })
            },
        )?
        .collect()
}

pub(super) fn history(
    connection: &Connection,
    account: &Account,
    message: MessageId,
) -> rusqlite::Result<Option<History>> {
    let row: Option<i64> = connection
        .prepare_cached("SELECT id FROM accounts WHERE uuid = ?1")?
        .query_row([account.id.0.as_bytes()], |r| r.get(0))
        .optional()?;
    let Some(account_row) = row else { return Ok(None) };
    let Some(row) = index::find_message(connection, message.0.as_bytes())? else { return Ok(None) };
    let Some(found) = messages::read(connection, account, account_row, row)? else { return Ok(None) };
    let events = connection
        .prepare_cached(
            "SELECT e.place, w.headers, w.body, w.received_at
             FROM events e LEFT JOIN webhooks w ON w.id = e.webhook
             WHERE (e.id = ?1 AND e.message = ?1) OR (e.message = ?1 AND e.message <> e.id) ORDER BY e.id",
        )?
        .query_map([found.row], |r| {
            let kept = match (r.get::<_, Option<String>>(1)?, r.get(2)?, r.get(3)?) {
                (Some(headers), Some(body), Some(at)) => Some(webhook(&headers, body, at)),
                _ => None,
            };
            Ok((count(r.get(0)?), kept))
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Some(History { known: found.known, events }))
}

/// Whether it was done; `false` when the message has changed meanwhile.
pub(super) fn repair(tx: &mut Tx<'_>, repair: &Repair) -> rusqlite::Result<bool> {
    let account = tx.memory.account(tx.connection, repair.account.id.0)?;
    let id = repair.before.message.id;
    let found = messages::find(tx.connection, tx.memory, &repair.account, account, id, Search::Known)?;
    let Some(found) = found.filter(|found| found.known == repair.before) else { return Ok(false) };
    messages::update(tx.connection, found.row, &repair.after.message, repair.after.edited)?;
    let (conversation, event): (i64, i64) = tx
        .connection
        .prepare_cached("SELECT conversation, event FROM messages WHERE id = ?1")?
        .query_row([found.row], |r| Ok((r.get(0)?, r.get(1)?)))?;
    let occasion = Occasion { account: repair.account.id, routes: &repair.outlet.routes, now: repair.now };
    for outbound in &repair.outbound {
        let lane = found.known.message.conversation_id;
        outbox::owe(tx, &occasion, outbound, About { event, message: Some(found.row), conversation, lane })?;
    }
    Ok(true)
}
