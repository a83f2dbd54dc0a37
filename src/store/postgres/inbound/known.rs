//! What is known of everything that a batch of webhooks speaks of, read under locks.

use super::super::connect::Session;
use super::super::error::Failure;
use super::super::messages::{self, Found};
use super::super::sql::{Params, bucket, key_hash};
use super::work::Ids;
use crate::domain::account::Account;
use crate::domain::conversation::Conversation;
use crate::domain::event::{Content, DedupeKey};
use crate::domain::ids::{ConversationId, MessageId};
use crate::domain::time::Timestamp;
use crate::store::inbound::{Inbound, Prepared};
use crate::store::rows;
use std::collections::{BTreeSet, HashMap, HashSet};
use tokio_postgres::Row;
use uuid::Uuid;

/// One event and what has to be known for it.
pub(crate) struct Ask<'a> {
    pub(crate) prepared: &'a Prepared,
    pub(crate) account: &'a Account,
    pub(crate) account_row: i64,
    /// The row of the event.
    pub(crate) event: i64,
    pub(crate) key: Option<(&'a DedupeKey, Uuid)>,
    pub(crate) conversation: Option<Uuid>,
    pub(crate) message: Option<MessageId>,
}

/// Gives every event its row, webhook after webhook.
pub(super) async fn asks<'a>(
    items: &'a [Inbound],
    accounts: &HashMap<Uuid, i64>,
    rows: &mut Ids,
    session: &Session,
) -> Result<Vec<Ask<'a>>, Failure> {
    let count = items.iter().map(|i| i.events.len()).sum();
    rows.ensure(session, count).await?;
    let mut asks = Vec::with_capacity(count);
    for item in items {
        for prepared in &item.events {
            let content = &prepared.event.content;
            let sighting = match content {
                Content::Notice(notice) => notice.sighting.as_ref(),
                other => other.sighting(),
            };
            asks.push(Ask {
                prepared,
                account: &item.account,
                account_row: accounts[&item.account.id.0],
                event: prepared.replaces.unwrap_or_else(|| rows.next()),
                key: prepared.event.key.as_ref().map(|key| (key, key_hash(&key.provider_key))),
                conversation: sighting.map(|s| s.conversation_id(&item.account).0),
                message: content.message_id(),
            });
        }
    }
    Ok(asks)
}

/// A conversation and its row.
pub(crate) struct Talk {
    pub(crate) row: i64,
    /// The row of its account.
    pub(crate) account: i64,
    pub(crate) conversation: Conversation,
    pub(crate) is_new: bool,
    pub(crate) is_changed: bool,
}

/// A message, its row and what has become of it in this batch.
pub(crate) struct Told {
    pub(crate) found: Found,
    pub(crate) is_new: bool,
    pub(crate) is_changed: bool,
    /// Whether it was changed before it arrived.
    pub(crate) is_early: bool,
    /// The event that it was first known from.
    pub(crate) event: i64,
}

/// What is known, and what the batch adds to it.
#[derive(Default)]
pub(crate) struct Known {
    /// Events whose key is new.
    pub(crate) first: HashSet<i64>,
    /// Events whose key was seen lately with another time.
    pub(crate) conflicts: HashSet<i64>,
    pub(crate) conversations: HashMap<Uuid, Talk>,
    pub(crate) messages: HashMap<(i64, MessageId), Told>,
}

const DEDUPE: &str = "
    INSERT INTO dedupe (account, event_time, key, event)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::bigint[]) ON CONFLICT DO NOTHING RETURNING event";

/// Which of these ids, of new messages and of keys, are known: nearly always none, so this is all that is looked for.
/// LATERAL with LIMIT leaves the planner one way, bucket and id; other words let it read whole buckets, if what it knows
/// of the table is old.
const SEEN: &str = "
    SELECT t.id FROM unnest($1::uuid[]) AS t(id)
    CROSS JOIN LATERAL (
        SELECT 1 FROM ids i
        WHERE i.bucket IN ($2::bigint, $2::bigint - 1) AND i.id = t.id AND i.kind <> 1 LIMIT 1) i
    UNION ALL
    SELECT e.uuid FROM early_messages e WHERE e.uuid = ANY($1::uuid[])";

const OTHER_TIME: &str = "
    SELECT t.event FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::bigint[]) AS t(account, at, key, event)
    CROSS JOIN LATERAL (
        SELECT 1 FROM ids i JOIN events e ON e.id = i.row
        WHERE i.bucket IN ($5::bigint, $5::bigint - 1) AND i.id = t.key AND i.kind = 2
            AND e.account = t.account AND e.state <> 1 AND e.event_time <> t.at LIMIT 1) e";

const CONVERSATIONS: &str = "
    SELECT id, uuid, dialog_id, own, peer, named_at, tm_create, tm_update, tm_delete
    FROM conversations WHERE uuid = ANY($1) ORDER BY uuid FOR UPDATE";

/// What is asked about a key: account, time, hash, event.
type Keyed = (i64, i64, Uuid, i64);

/// The columns of those, as statements take them.
fn columns_of(keyed: &[Keyed]) -> (Vec<i64>, Vec<i64>, Vec<Uuid>, Vec<i64>) {
    keyed.iter().copied().collect()
}

/// Reads everything; new keys are taken by that.
pub(super) async fn read(session: &Session, asks: &[Ask<'_>]) -> Result<Known, Failure> {
    let mut keyed: Vec<Keyed> = Vec::with_capacity(asks.len());
    let mut times_of = HashMap::new();
    let mut known = Known::default();
    for ask in asks {
        let Some((key, hash)) = ask.key else { continue };
        // Within the batch the first wins.
        match times_of.entry((ask.account_row, hash)) {
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(key.at);
                keyed.push((ask.account_row, key.at.micros(), hash, ask.event));
            }
            std::collections::hash_map::Entry::Occupied(first) if *first.get() != key.at => {
                known.conflicts.insert(ask.event);
            }
            std::collections::hash_map::Entry::Occupied(_) => {}
        }
    }
    keyed.sort_unstable();
    let (accounts, times, hashes, events) = columns_of(&keyed);
    let conversations: Vec<Uuid> =
        asks.iter().filter_map(|ask| ask.conversation).collect::<BTreeSet<_>>().into_iter().collect();
    let newest = bucket(asks.iter().map(|ask| ask.event).max().unwrap_or_default());

    let (dedupe, seen, talks) = (
        session.prepare_cached(DEDUPE).await?,
        session.prepare_cached(SEEN).await?,
        session.prepare_cached(CONVERSATIONS).await?,
    );
    let find = messages::Find::of(asks, newest);
    // In their order, which is that of the pages.
    let wanted: Vec<Uuid> =
        find.new_messages().chain(hashes.iter().copied()).collect::<BTreeSet<_>>().into_iter().collect();
    let dedupe_params: Params<'_> = &[&accounts, &times, &hashes, &events];
    let talks_params: Params<'_> = &[&conversations];
    let seen_params: Params<'_> = &[&wanted, &newest];
    let (first, talks, seen, told) = tokio::join!(biased;
        session.query(&dedupe, dedupe_params),
        session.query(&talks, talks_params),
        session.query(&seen, seen_params),
        find.most_likely_known(session),
    );
    known.first = first?.iter().map(|row| row.get(0)).collect();
    let seen: HashSet<Uuid> = seen?.iter().map(|row| row.get(0)).collect();
    let mut told = told?;
    told.extend(find.known_after_all(session, &seen).await?);
    keyed.retain(|(_, _, hash, _)| seen.contains(hash));
    if !keyed.is_empty() {
        known.conflicts.extend(other_time(session, &keyed, newest).await?);
    }
    let owner: HashMap<Uuid, &Ask<'_>> = asks.iter().filter_map(|ask| Some((ask.conversation?, ask))).collect();
    for row in talks? {
        let id: Uuid = row.get("uuid");
        if let Some(talk) = owner.get(&id).and_then(|ask| talk(&row, ask)) {
            known.conversations.insert(id, talk);
        }
    }
    for (place, found) in told {
        let ask = &asks[place];
        let Some(id) = ask.message else { continue };
        known
            .messages
            .insert((ask.account_row, id), Told { found, is_new: false, is_changed: false, is_early: false, event: 0 });
    }
    Ok(known)
}

/// Events whose key came lately with another time.
async fn other_time(session: &Session, keyed: &[Keyed], newest: i64) -> Result<Vec<i64>, Failure> {
    let other_time = session.prepare_cached(OTHER_TIME).await?;
    let (accounts, times, hashes, events) = columns_of(keyed);
    let rows = session.query(&other_time, &[&accounts, &times, &hashes, &events, &newest]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn talk(row: &Row, ask: &Ask<'_>) -> Option<Talk> {
    let address = |name: &str| rows::parse_address(row.get(name));
    let time = |name: &str| row.get::<_, Option<i64>>(name).map(Timestamp::from_micros);
    Some(Talk {
        row: row.get("id"),
        account: ask.account_row,
        conversation: Conversation {
            id: ConversationId(row.get("uuid")),
            account_id: ask.account.id,
            customer_id: ask.account.customer_id,
            channel: ask.account.channel,
            dialog_id: super::super::sql::text(row.get("dialog_id")),
            own: address("own")?,
            peer: address("peer")?,
            named_at: time("named_at")?,
            tm_create: time("tm_create")?,
            tm_update: time("tm_update"),
            tm_delete: time("tm_delete"),
        },
        is_new: false,
        is_changed: false,
    })
}

/// Whether a message was taken back.
pub(super) async fn is_taken_back(session: &Session, message: MessageId) -> Result<bool, Failure> {
    let rows = messages::all(session, message.0).await?;
    let Some(row) = rows.last() else { return Ok(false) };
    let found = session.query_opt("SELECT tm_delete IS NOT NULL FROM messages WHERE id = $1", &[row]).await?;
    Ok(found.is_some_and(|row| row.get(0)))
}
