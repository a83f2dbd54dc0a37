//! Finding and reading messages.

use super::connect::Session;
use super::error::Failure;
use super::inbound::known::Ask;
use super::sql::text;
use crate::domain::account::Account;
use crate::domain::event::Content;
use crate::domain::ids::{ConversationId, MessageId};
use crate::domain::merge::Known;
use crate::domain::message::Message;
use crate::domain::time::Timestamp;
use crate::store::rows;
use std::collections::HashSet;
use tokio_postgres::Row;
use uuid::Uuid;

/// A message as found.
pub(super) struct Found {
    pub(super) row: i64,
    pub(super) conversation: i64,
    pub(super) known: Known,
}

macro_rules! message {
    () => {
        "m.id, m.uuid, m.account, m.conversation, m.direction, m.status, m.text, m.content, m.tm_create, m.tm_update,
         m.tm_delete, m.edited, v.uuid AS conversation_uuid, v.dialog_id"
    };
}

/// New messages: most likely unknown. Looked for among the newest, and among those that were changed before they
/// arrived.
const NEW: &str = concat!(
    "SELECT t.place, ",
    message!(),
    "
     FROM unnest($1::uuid[], $2::bigint[]) AS t(id, place)
     CROSS JOIN LATERAL (
         (SELECT i.row FROM ids i WHERE i.bucket IN ($3::bigint, $3::bigint - 1) AND i.id = t.id AND i.kind = 0
          ORDER BY i.bucket DESC, i.row DESC LIMIT 1)
         UNION ALL
         (SELECT e.row FROM early_messages e WHERE e.uuid = t.id) LIMIT 1) r
     JOIN messages m ON m.id = r.row JOIN conversations v ON v.id = m.conversation"
);

/// Changes of messages: most likely known, maybe for long.
const OLD: &str = concat!(
    "SELECT t.place, ",
    message!(),
    "
     FROM unnest($1::uuid[], $2::bigint[]) AS t(id, place)
     CROSS JOIN LATERAL (
         SELECT i.row FROM generate_series($3::bigint, 0, -1) b
         CROSS JOIN LATERAL (
             SELECT i.row FROM ids i WHERE i.bucket = b AND i.id = t.id AND i.kind = 0 ORDER BY i.row DESC LIMIT 1) i
         LIMIT 1) r
     JOIN messages m ON m.id = r.row JOIN conversations v ON v.id = m.conversation"
);

/// Statuses: events about the message carry the same time, the first one included.
const AT: &str = concat!(
    "SELECT t.place, ",
    message!(),
    "
     FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[]) AS t(id, place, account, at)
     CROSS JOIN LATERAL (
         SELECT m.* FROM dedupe d JOIN events e ON e.id = d.event JOIN messages m ON m.id = e.message
         WHERE d.account = t.account AND d.event_time = t.at AND m.uuid = t.id LIMIT 1) m
     JOIN conversations v ON v.id = m.conversation"
);

/// The looks that a batch needs.
pub(super) struct Find<'a> {
    asks: &'a [Ask<'a>],
    newest: i64,
    new: (Vec<Uuid>, Vec<i64>),
    old: (Vec<Uuid>, Vec<i64>),
    at: (Vec<Uuid>, Vec<i64>, Vec<i64>, Vec<i64>),
}

impl<'a> Find<'a> {
    pub(super) fn of(asks: &'a [Ask<'a>], newest: i64) -> Self {
        let mut find = Self { asks, newest, new: Default::default(), old: Default::default(), at: Default::default() };
        for (place, ask) in (0i64..).zip(asks) {
            let Some(MessageId(id)) = ask.message else { continue };
            match &ask.prepared.event.content {
                Content::Message(_) => {
                    find.new.0.push(id);
                    find.new.1.push(place);
                }
                Content::Outgoing(new) => {
                    find.new.0.push(id);
                    find.new.1.push(place);
                    find.at.0.push(id);
                    find.at.1.push(place);
                    find.at.2.push(ask.account_row);
                    find.at.3.push(ask.key.map_or(new.message.tm_create, |(key, _)| key.at).micros());
                }
                _ => {
                    find.old.0.push(id);
                    find.old.1.push(place);
                }
            }
        }
        find
    }

    /// The ids of new messages.
    pub(super) fn new_messages(&self) -> impl Iterator<Item = Uuid> {
        self.new.0.iter().copied()
    }

    /// What is found of messages that are most likely known, by the place of who asks.
    pub(super) async fn most_likely_known(&self, session: &Session) -> Result<Vec<(usize, Found)>, Failure> {
        let mut rows = Vec::new();
        if !self.at.0.is_empty() {
            let at = session.prepare_cached(AT).await?;
            rows.extend(session.query(&at, &[&self.at.0, &self.at.1, &self.at.2, &self.at.3]).await?);
        }
        if !self.old.0.is_empty() {
            let old = session.prepare_cached(OLD).await?;
            rows.extend(session.query(&old, &[&self.old.0, &self.old.1, &self.newest]).await?);
        }
        Ok(self.found(&rows))
    }

    /// Of new messages those that are known all the same, among those that were `seen`.
    pub(super) async fn known_after_all(
        &self,
        session: &Session,
        seen: &HashSet<Uuid>,
    ) -> Result<Vec<(usize, Found)>, Failure> {
        let (ids, places): (Vec<Uuid>, Vec<i64>) =
            self.new.0.iter().zip(&self.new.1).filter(|(id, _)| seen.contains(id)).unzip();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let new = session.prepare_cached(NEW).await?;
        Ok(self.found(&session.query(&new, &[&ids, &places, &self.newest]).await?))
    }

    fn found(&self, rows: &[Row]) -> Vec<(usize, Found)> {
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let place = usize::try_from(row.get::<_, i64>("place")).unwrap_or_default();
            let Some(ask) = self.asks.get(place) else { continue };
            if let Some(message) = read(row, ask.account, ask.account_row) {
                found.push((place, message));
            }
        }
        found
    }
}

/// Reads a message of the account; `None` when it is another account's or cannot be understood.
fn read(row: &Row, account: &Account, account_row: i64) -> Option<Found> {
    if row.get::<_, i64>("account") != account_row {
        return None;
    }
    let content = rows::parse_content(row.get("content"))?;
    let time = |name: &str| row.get::<_, Option<i64>>(name).map(Timestamp::from_micros);
    let message = Message {
        id: MessageId(row.get("uuid")),
        account_id: account.id,
        customer_id: account.customer_id,
        conversation_id: ConversationId(row.get("conversation_uuid")),
        direction: rows::parse_direction(row.get("direction")),
        status: rows::parse_status(row.get("status")),
        reference_type: content.reference_type,
        dialog_id: text(row.get("dialog_id")),
        source: content.source,
        destination: content.destination,
        text: text(row.get("text")),
        medias: content.medias,
        metadata: content.metadata,
        parts: content.parts,
        tm_create: time("tm_create")?,
        tm_update: time("tm_update")?,
        tm_delete: time("tm_delete"),
    };
    let edited = row.get("edited");
    Some(Found { row: row.get("id"), conversation: row.get("conversation"), known: Known { message, edited } })
}

/// Finds a message of the account, however old, and locks it.
pub(super) async fn find(
    session: &Session,
    account: &Account,
    account_row: i64,
    id: MessageId,
) -> Result<Option<Found>, Failure> {
    let Some(row) = all(session, id.0).await?.pop() else { return Ok(None) };
    let sql = concat!(
        "SELECT ",
        message!(),
        " FROM messages m JOIN conversations v ON v.id = m.conversation WHERE m.id = $1
         FOR UPDATE OF m"
    );
    let found = session.query_opt(sql, &[&row]).await?;
    Ok(found.and_then(|row| read(&row, account, account_row)))
}

/// The rows of the messages with this id, the oldest first.
pub(super) async fn all(session: &Session, id: Uuid) -> Result<Vec<i64>, Failure> {
    every(session, 0, id).await
}

/// Everything of one kind that an id stands for, the oldest first: bucket after bucket.
pub(super) async fn every(session: &Session, kind: i16, id: Uuid) -> Result<Vec<i64>, Failure> {
    let select = session
        .prepare_cached(
            "SELECT i.row FROM generate_series(0, (SELECT coalesce(max(bucket), -1) FROM ids)) b
             CROSS JOIN LATERAL (SELECT row FROM ids WHERE bucket = b AND id = $2 AND kind = $1) i ORDER BY i.row",
        )
        .await?;
    Ok(session.query(&select, &[&kind, &id]).await?.iter().map(|row| row.get(0)).collect())
}
