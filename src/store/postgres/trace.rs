//! Finding the way of a message.

use super::connect::Session;
use super::error::Failure;
use super::messages::every;
use super::reads;
use super::sql::{key_hash, text};
use crate::domain::ids::{AccountId, ConversationId, EventId, MessageId};
use crate::domain::time::Timestamp;
use crate::store::listing::DeliveryDetail;
use crate::store::rows;
use crate::store::trace::{Trace, TraceQuery, TracedEvent, TracedMessage};
use std::collections::BTreeSet;

/// What the asked id leads to: a message, or an event that became none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lead {
    Message(i64),
    Event(i64),
}

const REPEAT: i16 = 1;

pub(super) async fn trace(session: &Session, query: &TraceQuery) -> Result<Vec<Trace>, Failure> {
    let mut leads = BTreeSet::new();
    for &id in &query.ids {
        leads.extend(every(session, 0, id).await?.into_iter().map(Lead::Message));
        let outbox = every(session, 1, id).await?;
        // Retention may have removed what an id once stood for.
        for row in session.query("SELECT message, event FROM outbox WHERE id = ANY($1)", &[&outbox]).await? {
            leads.insert(row.get::<_, Option<i64>>(0).map_or(Lead::Event(row.get(1)), Lead::Message));
        }
    }
    for key in &query.keys {
        let rows = every(session, 2, key_hash(key)).await?;
        for row in session.query("SELECT id, message, state FROM events WHERE id = ANY($1)", &[&rows]).await? {
            match (row.get::<_, Option<i64>>(1), row.get::<_, i16>(2)) {
                (Some(message), _) => drop(leads.insert(Lead::Message(message))),
                // A repeat leads to what its first time became.
                (None, REPEAT) => {}
                (None, _) => drop(leads.insert(Lead::Event(row.get(0)))),
            }
        }
    }
    let mut traces = Vec::with_capacity(leads.len());
    for lead in leads {
        traces.push(follow(session, lead).await?);
    }
    Ok(traces)
}

async fn follow(session: &Session, lead: Lead) -> Result<Trace, Failure> {
    let (message, firsts, about) = match lead {
        Lead::Message(row) => {
            let firsts = session.query("SELECT id FROM events WHERE message = $1 ORDER BY id", &[&row]).await?;
            let firsts: Vec<i64> = firsts.iter().map(|row| row.get(0)).collect();
            (self::message(session, row).await?, firsts, Some(row))
        }
        Lead::Event(row) => (None, vec![row], None),
    };
    let mut received: BTreeSet<i64> = firsts.iter().copied().collect();
    for &first in &firsts {
        received.extend(repeats(session, first).await?);
    }
    let received = reads::events_by_row(session, &received.into_iter().collect::<Vec<_>>()).await?;
    let mut owed = Vec::new();
    for first in firsts {
        owed.extend(owed_for(session, first, about).await?);
    }
    Ok(Trace { message, received, owed })
}

/// Later events of the same account under the same key.
async fn repeats(session: &Session, first: i64) -> Result<Vec<i64>, Failure> {
    let key = session
        .query_opt("SELECT account, provider_key FROM events WHERE id = $1 AND provider_key IS NOT NULL", &[&first])
        .await?;
    let Some(row) = key else { return Ok(Vec::new()) };
    let (account, key): (i64, Vec<u8>) = (row.get(0), row.get(1));
    let same = every(session, 2, key_hash(&text(key))).await?;
    let rows = session.query("SELECT id FROM events WHERE id = ANY($1) AND account = $2", &[&same, &account]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn message(session: &Session, row: i64) -> Result<Option<TracedMessage>, Failure> {
    let found = session
        .query_opt(
            "SELECT m.uuid, a.uuid, c.uuid, m.direction, m.status, m.tm_create, m.tm_update, m.tm_delete
             FROM messages m JOIN accounts a ON a.id = m.account JOIN conversations c ON c.id = m.conversation
             WHERE m.id = $1",
            &[&row],
        )
        .await?;
    Ok(found.map(|r| TracedMessage {
        id: MessageId(r.get(0)),
        account: AccountId(r.get(1)),
        conversation: ConversationId(r.get(2)),
        direction: rows::parse_direction(r.get(3)),
        status: rows::status(rows::parse_status(r.get(4))),
        tm_create: Timestamp::from_micros(r.get(5)),
        tm_update: Timestamp::from_micros(r.get(6)),
        tm_delete: r.get::<_, Option<i64>>(7).map(Timestamp::from_micros),
    }))
}

/// What `event` owed; of a message only what is about the message.
async fn owed_for(session: &Session, event: i64, message: Option<i64>) -> Result<Vec<TracedEvent>, Failure> {
    let rows = session
        .query(
            "SELECT id, uuid, type, created_at, length(body) = 0 FROM outbox
             WHERE event = $1 AND ($2::bigint IS NULL OR message = $2) ORDER BY id",
            &[&event, &message],
        )
        .await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        events.push(TracedEvent {
            id: EventId(row.get(1)),
            event_type: row.get(2),
            created_at: Timestamp::from_micros(row.get(3)),
            erased: row.get(4),
            deliveries: deliveries(session, row.get(0)).await?,
        });
    }
    Ok(events)
}

async fn deliveries(session: &Session, outbox: i64) -> Result<Vec<DeliveryDetail>, Failure> {
    let ids = session
        .query(
            "SELECT id FROM deliveries WHERE event = $1 UNION ALL SELECT id FROM finished WHERE event = $1",
            &[&outbox],
        )
        .await?;
    let ids: Vec<i64> = ids.iter().map(|row| row.get(0)).collect();
    reads::details(session, &ids).await
}
