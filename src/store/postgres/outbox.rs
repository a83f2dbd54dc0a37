//! Owing events downstream, and taking back what must not be said any more.

use super::connect::Session;
use super::error::Failure;
use super::inbound::work::{Lane, Outbound, Owed, day_of};
use super::inbound::write::{Batch, IDS, columns};
use super::lanes::{LOCK, SETTLE};
use super::messages;
use super::sql::{bucket, key_hash, now, text};
use crate::domain::event::Erase;
use crate::domain::ids::MessageId;
use crate::store::columns;
use std::collections::BTreeSet;

const OUTBOX: &str = "
    INSERT INTO outbox (id, day, uuid, type, event, message, conversation, created_at, body)
    SELECT * FROM unnest($1::bigint[], $2::integer[], $3::uuid[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
        $8::bigint[], $9::bytea[])";

/// Lane numbers come from the lane's own row, which everybody who numbers has to lock, in the same order. A lane that is
/// idle, which is one that has no due_at, is leased to `$9` if the batch says for how long.
const LANES: &str = concat!(
    "INSERT INTO lanes AS l (id, subscriber, conversation, single, last_seq, head, due_at, leased, token, holder)
     SELECT t.id, t.subscriber, t.conversation, false, t.count, 1,
         CASE WHEN t.ordered THEN coalesce(t.due, ",
    now!(),
    ") + coalesce(t.lease, 0) END, t.lease IS NOT NULL, CASE WHEN t.lease IS NULL THEN 0 ELSE 1 END,
         CASE WHEN t.lease IS NOT NULL THEN $9::uuid END
     FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::boolean[], $7::bigint[], $8::bigint[])
          AS t(id, subscriber, conversation, count, ordered, due, lease)
     ON CONFLICT (conversation, subscriber) WHERE NOT single
     DO UPDATE SET last_seq = l.last_seq + excluded.last_seq, due_at = coalesce(l.due_at, excluded.due_at),
         leased = l.leased OR l.due_at IS NULL AND excluded.leased,
         token = CASE WHEN l.due_at IS NULL THEN l.token + excluded.token ELSE l.token END,
         holder = CASE WHEN l.due_at IS NULL AND excluded.leased THEN excluded.holder ELSE l.holder END
     RETURNING l.id, l.conversation, l.subscriber, l.last_seq, l.token, l.leased,
         l.leased AND l.holder IS NOT DISTINCT FROM $9 AS mine"
);

/// Lanes of one delivery each, where order does not matter.
const SINGLES: &str = concat!(
    "INSERT INTO lanes (id, subscriber, conversation, single, last_seq, head, due_at, leased, token)
     SELECT t.id, t.subscriber, t.conversation, true, 0, 0, coalesce(t.due, ",
    now!(),
    "), false, 0
     FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) AS t(id, subscriber, conversation, due)"
);

/// Reads the numbers that the statement before has given to the lanes: nobody else can have, they are locked.
const DELIVERIES: &str =
    concat!(
    "INSERT INTO deliveries (id, event, event_day, subscriber, lane, seq, state, replay, attempts, round_start, due_at)
     SELECT t.id, t.event, t.day, t.subscriber, coalesce(t.single, l.id), l.last_seq - t.back, 0, false, 0, 0,
         coalesce(t.due, ", now!(), ")
     FROM unnest($2::bigint[], $3::bigint[], $4::integer[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
         $9::bigint[]) AS t(id, event, day, subscriber, conversation, back, single, due)
     CROSS JOIN LATERAL (
         SELECT id, last_seq FROM lanes l
         WHERE l.conversation = t.conversation AND l.subscriber = t.subscriber AND NOT l.single LIMIT 1) l"
);

/// Adds what is owed to a batch.
pub(super) fn write<'b>(batch: &mut Batch<'b>, owed: &'b Owed<'_>) {
    let none: Option<i64> = None;
    batch.add(OUTBOX, owed.outbox.len(), || {
        columns![
            owed.outbox,
            |o| o.id,
            day_of,
            |o| o.event.id.0,
            |o| o.event.event_type.as_str(),
            |o| o.cause,
            |o| o.message,
            |o| o.conversation,
            |o| o.at.micros(),
            |o| o.event.body.as_slice(),
        ]
    });
    let lanes: Vec<(i64, i64, &Lane<'_>)> = owed.lanes.iter().map(|((c, s), lane)| (*c, *s, lane)).collect();
    batch.add(LANES, lanes.len(), || {
        let mut params =
            columns![lanes, |l| l.2.id, |l| l.1, |l| l.0, |l| l.2.count, |l| l.2.ordered, |l| l.2.due, |l| l.2.lease,];
        params.insert(0, Box::new(none));
        params.push(Box::new(owed.holder));
        params
    });
    let singles: Vec<_> = owed.deliveries.iter().filter(|d| d.single.is_some()).collect();
    batch.add(SINGLES, singles.len(), || {
        let mut params = columns![singles, |d| d.single, |d| d.subscriber, |d| d.conversation, |d| d.due];
        params.insert(0, Box::new(none));
        params
    });
    let outbound = |d: &super::inbound::work::Delivery| -> &Outbound<'_> { &owed.outbox[d.outbound] };
    let back = |d: &super::inbound::work::Delivery| {
        owed.lanes.get(&(d.conversation, d.subscriber)).map_or(0, |lane| lane.count - d.nth)
    };
    batch.add(DELIVERIES, owed.deliveries.len(), || {
        let mut params = columns![
            owed.deliveries,
            |d| d.id,
            |d| outbound(d).id,
            |d| day_of(outbound(d)),
            |d| d.subscriber,
            |d| d.conversation,
            back,
            |d| d.single,
            |d| d.due,
        ];
        params.insert(0, Box::new(none));
        params
    });
}

/// Makes what is owed known by its `webhook-id`.
pub(super) fn remember(batch: &mut Batch<'_>, owed: &Owed<'_>) {
    batch.add(IDS, owed.outbox.len(), || {
        columns![owed.outbox, |o| bucket(o.cause), |o| o.event.id.0, |_| 1i16, |o| o.id]
    });
}

/// Erases what a message said, wherever it is kept, and cancels what is still owed of it. What tells of its end
/// stays.
pub(super) async fn erase(session: &Session, how: &dyn Erase, message: i64, id: MessageId) -> Result<(), Failure> {
    let said: Vec<i64> = session
        .query(
            "SELECT o.id FROM events e JOIN outbox o ON o.event = e.id
             WHERE e.message = $1 AND o.message = $1 AND o.type <> 'conversation_message_deleted' AND length(o.body) > 0",
            &[&message],
        )
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect();
    if !said.is_empty() {
        session.execute("UPDATE outbox SET body = '' WHERE id = ANY($1)", &[&said]).await?;
        let lanes = session.query("SELECT lane FROM deliveries WHERE event = ANY($1) AND state = 0", &[&said]).await?;
        let lanes: Vec<i64> = lanes.iter().map(|row| row.get(0)).collect();
        session.execute(LOCK, &[&lanes]).await?;
        session.execute("UPDATE deliveries SET state = 4 WHERE event = ANY($1) AND state = 0", &[&said]).await?;
        // Whoever works on one of the lanes will settle it.
        let nobody: Vec<Option<i64>> = vec![None; lanes.len()];
        session.execute(SETTLE, &[&lanes, &nobody]).await?;
    }
    for webhook in webhooks_of(session, message, id).await? {
        erase_raw(session, how, webhook, id).await?;
    }
    Ok(())
}

/// Erases what a message said from one kept webhook. Retention may have been here before.
pub(super) async fn erase_raw(
    session: &Session,
    how: &dyn Erase,
    webhook: i64,
    message: MessageId,
) -> Result<(), Failure> {
    let row = session.query_opt("SELECT body FROM webhooks WHERE id = $1 FOR UPDATE", &[&webhook]).await?;
    let Some(raw) = row.map(|row| row.get::<_, Vec<u8>>(0)) else { return Ok(()) };
    let erased = how.erase(&raw, message);
    if erased != raw {
        session.execute("UPDATE webhooks SET body = $2 WHERE id = $1", &[&webhook, &erased]).await?;
    }
    Ok(())
}

/// The kept webhooks with events of a message: those that told of it first, those in which one of them came again
/// beside something new, and those whose event of it is in quarantine.
async fn webhooks_of(session: &Session, message: i64, id: MessageId) -> Result<BTreeSet<i64>, Failure> {
    let told =
        session.query("SELECT webhook, account, provider_key FROM events WHERE message = $1", &[&message]).await?;
    let aside = messages::every(session, 2, key_hash(&columns::about_message(id))).await?;
    let aside = session.query("SELECT webhook FROM events WHERE id = ANY($1) AND state = 2", &[&aside]).await?;
    let mut webhooks: BTreeSet<i64> = aside.iter().filter_map(|row| row.get::<_, Option<i64>>(0)).collect();
    for row in told {
        webhooks.extend(row.get::<_, Option<i64>>(0));
        let account: i64 = row.get(1);
        let Some(key) = row.get::<_, Option<Vec<u8>>>(2) else { continue };
        let repeats = messages::every(session, 2, key_hash(&text(key))).await?;
        let beside = session
            .query(
                "SELECT beside FROM events WHERE id = ANY($1) AND account = $2 AND beside IS NOT NULL",
                &[&repeats, &account],
            )
            .await?;
        webhooks.extend(beside.iter().map(|row| row.get::<_, i64>(0)));
    }
    Ok(webhooks)
}
