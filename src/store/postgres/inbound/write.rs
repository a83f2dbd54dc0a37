//! Writing a batch: one statement for each table, all sent at once, the commit behind them.

use super::super::connect::Session;
use super::super::error::Failure;
use super::super::outbox;
use super::super::sql::{bucket, day, key_hash};
use super::known::{Known, Talk, Told};
use super::work::{Line, Work};
use crate::domain::message::Message;
use crate::domain::time::Timestamp;
use crate::store::columns::{end, headers};
use crate::store::rows;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};
use uuid::Uuid;

const RAW: &str = "
    INSERT INTO webhooks (id, day, account, received_at, headers, body)
    SELECT * FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::bigint[], $5::text[], $6::bytea[])";

const LINES: &str = "
    INSERT INTO events (id, webhook, beside, place, account, received_at, request_id, kind, event_time, provider_key,
        state, conflict, reason, detail, message)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[],
        $8::bytea[], $9::bigint[], $10::bytea[], $11::smallint[], $12::boolean[], $13::text[], $14::bytea[],
        $15::bigint[])";

/// Quarantined events that are understood now keep when and with which request they came.
const AGAIN: &str = "
    UPDATE events e SET webhook = t.webhook, beside = t.beside, kind = t.kind, event_time = t.event_time,
        provider_key = t.provider_key, state = t.state, conflict = t.conflict, reason = t.reason, detail = t.detail,
        message = t.message
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[],
        $8::bytea[], $9::bigint[], $10::bytea[], $11::smallint[], $12::boolean[], $13::text[], $14::bytea[],
        $15::bigint[])
        AS t(id, webhook, beside, place, account, received_at, request_id, kind, event_time, provider_key, state,
             conflict, reason, detail, message)
    WHERE e.id = t.id";

/// What look-ups find, of rows that are new: nothing of theirs can be there, and to look first costs as much again.
const FRESH_IDS: &str = "
    INSERT INTO ids (bucket, id, kind, row)
    SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::smallint[], $4::bigint[])";

/// The same of rows that may have been found before.
pub(crate) const IDS: &str = "
    INSERT INTO ids (bucket, id, kind, row)
    SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::smallint[], $4::bigint[]) ON CONFLICT DO NOTHING";

const TALKS: &str = "
    INSERT INTO conversations (id, uuid, account, customer, channel, dialog_id, own, peer, named_at, tm_create)
    SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::uuid[], $5::text[], $6::bytea[], $7::text[],
        $8::text[], $9::bigint[], $10::bigint[])";

const RENAMED: &str = "
    UPDATE conversations c SET peer = t.peer, named_at = t.named_at, tm_update = t.tm_update
    FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[]) AS t(id, peer, named_at, tm_update)
    WHERE c.id = t.id";

const TOLD: &str = "
    INSERT INTO messages (id, uuid, account, conversation, event, direction, status, text, content, tm_create,
        tm_update, tm_delete, edited)
    SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::text[],
        $8::bytea[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::boolean[])";

const EARLY: &str = "
    INSERT INTO early_messages (uuid, row) SELECT * FROM unnest($1::uuid[], $2::bigint[]) ON CONFLICT DO NOTHING";

/// Writes everything; with `commit`, commits too. Says what the lanes are now.
pub(super) async fn all(session: &Session, work: &Work<'_>, known: &Known, commit: bool) -> Result<Vec<Row>, Failure> {
    let mut batch = Batch::default();
    raw(&mut batch, work);
    let (again, fresh): (Vec<&Line<'_>>, Vec<&Line<'_>>) = work.lines.iter().partition(|line| line.replaces);
    lines(&mut batch, LINES, &fresh);
    lines(&mut batch, AGAIN, &again);
    talks(&mut batch, known);
    told(&mut batch, known);
    ids(&mut batch, work, known);
    outbox::write(&mut batch, &work.owed);
    batch.send(session, commit).await
}

/// Statements to be sent together, in order.
#[derive(Default)]
pub(crate) struct Batch<'b>(Vec<(&'static str, Vec<Column<'b>>)>);

/// A parameter: an array with an element for each row.
pub(crate) type Column<'b> = Box<dyn ToSql + Send + Sync + 'b>;

macro_rules! columns {
    ($rows:expr, $($column:expr),+ $(,)?) => {
        vec![$(Box::new($rows.iter().map($column).collect::<Vec<_>>()) as $crate::store::postgres::inbound::write::Column<'_>),+]
    };
}
pub(crate) use columns;

impl<'b> Batch<'b> {
    /// Adds a statement, unless it has no rows.
    pub(crate) fn add(&mut self, sql: &'static str, rows: usize, columns: impl FnOnce() -> Vec<Column<'b>>) {
        if rows > 0 {
            self.0.push((sql, columns()));
        }
    }

    /// Sends everything at once and waits for the last answer. Returns the rows that statements returned.
    pub(crate) async fn send(self, session: &Session, commit: bool) -> Result<Vec<Row>, Failure> {
        let mut prepared: Vec<(Statement, Vec<Column<'b>>)> = Vec::with_capacity(self.0.len());
        for (sql, columns) in self.0 {
            prepared.push((session.prepare_cached(sql).await?, columns));
        }
        let mut answers = Vec::with_capacity(prepared.len());
        for (statement, columns) in &prepared {
            let params: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|c| &**c as &(dyn ToSql + Sync)).collect();
            answers.push(async move { session.query(statement, &params).await });
        }
        // Joined in order, each is sent before the answer of the one before is waited for. A commit behind a
        // statement that failed is none.
        let commit = async { if commit { session.batch_execute("COMMIT").await } else { Ok(()) } };
        let (written, committed) = tokio::join!(biased; futures_util::future::join_all(answers), commit);
        let rows = written.into_iter().collect::<Result<Vec<Vec<Row>>, _>>()?;
        committed?;
        Ok(rows.into_iter().flatten().collect())
    }
}

fn raw<'b>(batch: &mut Batch<'b>, work: &'b Work<'_>) {
    batch.add(RAW, work.raw.len(), || {
        columns![
            work.raw,
            |r| r.id,
            |r| day(r.inbound.received_at),
            |r| r.account,
            |r| r.inbound.received_at.micros(),
            |r| headers(&r.inbound.headers),
            |r| r.inbound.body.as_slice(),
        ]
    });
}

fn lines<'b>(batch: &mut Batch<'b>, sql: &'static str, lines: &[&'b Line<'_>]) {
    batch.add(sql, lines.len(), || {
        columns![
            lines,
            |l| l.id,
            |l| l.webhook,
            |l| l.beside,
            |l| super::super::sql::number(l.place),
            |l| l.account,
            |l| l.inbound.received_at.micros(),
            |l| l.inbound.request_id.as_str(),
            |l| l.kind.as_bytes(),
            |l| l.key.map(|(at, ..)| at.micros()),
            |l| l.key.map(|(_, key, _)| key).or(l.about.as_deref()).map(str::as_bytes),
            |l| end(&l.end).state,
            |l| end(&l.end).conflict,
            |l| end(&l.end).reason,
            |l| end(&l.end).detail.map(str::as_bytes),
            |l| l.message,
        ]
    });
}

fn ids(batch: &mut Batch<'_>, work: &Work<'_>, known: &Known) {
    let mut rows: Vec<(i64, Uuid, i16, i64)> = Vec::with_capacity(work.lines.len() * 3);
    for told in known.messages.values().filter(|told| told.is_new) {
        rows.push((bucket(told.event), told.found.known.message.id.0, 0, told.found.row));
    }
    for outbound in &work.owed.outbox {
        rows.push((bucket(outbound.cause), outbound.event.id.0, 1, outbound.id));
    }
    for line in &work.lines {
        let hash = line.key.map(|(_, _, hash)| hash).or_else(|| line.about.as_deref().map(key_hash));
        if let Some(hash) = hash {
            rows.push((bucket(line.id), hash, 2, line.id));
        }
    }
    rows.sort_unstable();
    // An event that is read again was known by its key already.
    let sql = if work.lines.iter().any(|line| line.replaces) { IDS } else { FRESH_IDS };
    batch.add(sql, rows.len(), || columns![rows, |r| r.0, |r| r.1, |r| r.2, |r| r.3]);
}

fn talks<'b>(batch: &mut Batch<'b>, known: &'b Known) {
    let mut new: Vec<&Talk> = known.conversations.values().filter(|talk| talk.is_new).collect();
    // In one order everywhere, as every lock.
    new.sort_unstable_by_key(|talk| talk.conversation.id.0);
    batch.add(TALKS, new.len(), || {
        columns![
            new,
            |t| t.row,
            |t| t.conversation.id.0,
            |t| t.account,
            |t| t.conversation.customer_id.0,
            |t| t.conversation.channel.as_str(),
            |t| t.conversation.dialog_id.as_bytes(),
            |t| rows::address(&t.conversation.own),
            |t| rows::address(&t.conversation.peer),
            |t| t.conversation.named_at.micros(),
            |t| t.conversation.tm_create.micros(),
        ]
    });
    let mut changed: Vec<&Talk> = known.conversations.values().filter(|talk| talk.is_changed).collect();
    changed.sort_unstable_by_key(|talk| talk.conversation.id.0);
    batch.add(RENAMED, changed.len(), || {
        columns![
            changed,
            |t| t.row,
            |t| rows::address(&t.conversation.peer),
            |t| t.conversation.named_at.micros(),
            |t| t.conversation.tm_update.map(Timestamp::micros),
        ]
    });
}

fn message<'a>(told: &(&i64, &'a Told)) -> &'a Message {
    &told.1.found.known.message
}

fn told<'b>(batch: &mut Batch<'b>, known: &'b Known) {
    let mut new: Vec<(&i64, &Told)> =
        known.messages.iter().filter(|(_, told)| told.is_new).map(|((account, _), told)| (account, told)).collect();
    new.sort_unstable_by_key(|(_, told)| told.found.row);
    batch.add(TOLD, new.len(), || {
        columns![
            new,
            |t| t.1.found.row,
            |t| message(t).id.0,
            |t| *t.0,
            |t| t.1.found.conversation,
            |t| t.1.event,
            |t| message(t).direction.as_str(),
            |t| rows::status(message(t).status),
            |t| message(t).text.as_bytes(),
            |t| rows::content(message(t)),
            |t| message(t).tm_create.micros(),
            |t| message(t).tm_update.micros(),
            |t| message(t).tm_delete.map(Timestamp::micros),
            |t| t.1.found.known.edited,
        ]
    });
    let early: Vec<_> = new.iter().filter(|(_, told)| told.is_early).collect();
    batch.add(EARLY, early.len(), || columns![early, |t| message(t).id.0, |t| t.1.found.row]);
    let mut changed: Vec<&Told> = known.messages.values().filter(|told| told.is_changed && !told.is_new).collect();
    changed.sort_unstable_by_key(|told| told.found.row);
    let changed: Vec<(i64, &crate::domain::merge::Known)> =
        changed.into_iter().map(|told| (told.found.row, &told.found.known)).collect();
    update(batch, &changed);
}

const CHANGED: &str = "
    UPDATE messages m SET status = t.status, text = t.text, content = t.content, tm_create = t.tm_create,
        tm_update = t.tm_update, tm_delete = t.tm_delete, edited = t.edited
    FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
        $8::boolean[]) AS t(id, status, text, content, tm_create, tm_update, tm_delete, edited)
    WHERE m.id = t.id";

/// Writes what known messages have become. Their direction and conversation never change.
pub(crate) fn update<'b>(batch: &mut Batch<'b>, changed: &[(i64, &'b crate::domain::merge::Known)]) {
    batch.add(CHANGED, changed.len(), || {
        columns![
            changed,
            |(row, _)| *row,
            |(_, k)| rows::status(k.message.status),
            |(_, k)| k.message.text.as_bytes(),
            |(_, k)| rows::content(&k.message),
            |(_, k)| k.message.tm_create.micros(),
            |(_, k)| k.message.tm_update.micros(),
            |(_, k)| k.message.tm_delete.map(Timestamp::micros),
            |(_, k)| k.edited,
        ]
    });
}
