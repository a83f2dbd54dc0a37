//! The least that PostgreSQL can do for a message that is taken once, found again by its id, numbered in its conversation, and
//! owed to a subscriber: one wide row that tells repeats by time and id, an index in buckets for the id, a counter, and a
//! narrow row of what is owed. Three statements and a commit in one round trip.
//!
//! What makes a gateway of that is missing: messages that change, lanes that are leased and due, what became of each event, a commit
//! whose answer was lost, retention.

use super::log::{BATCH, Waiting, answer};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Statement};
use uuid::Uuid;

/// Transactions beside each other, as many as of the gateway.
const CONNECTIONS: usize = 2;

const TABLES: &str = "
    CREATE TABLE messages (at bigint NOT NULL, id uuid NOT NULL, row bigserial NOT NULL, webhook bytea NOT NULL,
        event bytea NOT NULL, PRIMARY KEY (at, id));
    CREATE INDEX messages_of_id ON messages ((row >> 16), id);
    CREATE TABLE conversations (id uuid PRIMARY KEY, last_seq bigint NOT NULL) WITH (fillfactor = 60);
    CREATE TABLE owed (conversation uuid NOT NULL, seq bigint NOT NULL, at bigint NOT NULL, id uuid NOT NULL,
        PRIMARY KEY (conversation, seq))";

/// As for the gateway: look-ups go by index, also while the planner takes a table for empty.
const PLANNER: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off";

const NUMBER: &str = "
    INSERT INTO conversations AS c (id, last_seq) SELECT * FROM unnest($1::uuid[], $2::bigint[])
    ON CONFLICT (id) DO UPDATE SET last_seq = c.last_seq + excluded.last_seq RETURNING id, last_seq";

const KEEP: &str = "
    INSERT INTO messages (at, id, webhook, event)
    SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::bytea[], $4::bytea[]) ON CONFLICT DO NOTHING RETURNING id";

const OWE: &str = "
    INSERT INTO owed (conversation, seq, at, id)
    SELECT t.conversation, c.last_seq - t.back, t.at, t.id
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::uuid[]) AS t(conversation, back, at, id)
    CROSS JOIN LATERAL (SELECT last_seq FROM conversations c WHERE c.id = t.conversation LIMIT 1) c";

/// Makes the tables, and starts tasks that write to them.
pub(super) async fn start(url: &str, receiver: mpsc::Receiver<Waiting>) -> Result<()> {
    let receiver = Arc::new(Mutex::new(receiver));
    for number in 0..CONNECTIONS {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("the database of --store")?;
        tokio::spawn(connection);
        client.batch_execute(PLANNER).await?;
        if number == 0 {
            client.batch_execute(TABLES).await?;
        }
        tokio::spawn(work(client, receiver.clone()));
    }
    Ok(())
}

async fn work(client: Client, receiver: Arc<Mutex<mpsc::Receiver<Waiting>>>) -> Result<()> {
    let statements = [client.prepare(NUMBER).await?, client.prepare(KEEP).await?, client.prepare(OWE).await?];
    let mut waiting = Vec::with_capacity(BATCH);
    // Whoever has the receiver takes all that waits; the other's transaction is under way meanwhile.
    while receiver.lock().await.recv_many(&mut waiting, BATCH).await > 0 {
        write(&client, &statements, &waiting).await?;
        answer(&mut waiting);
    }
    Ok(())
}

async fn write(client: &Client, [number, keep, owe]: &[Statement; 3], waiting: &[Waiting]) -> Result<()> {
    let names: Vec<_> = waiting.iter().map(|(entry, _)| entry.name).collect();
    // In one order everywhere, as every lock.
    let mut counts: BTreeMap<Uuid, i64> = BTreeMap::new();
    let mut nth = Vec::with_capacity(names.len());
    for name in &names {
        let count = counts.entry(name.conversation).or_default();
        *count += 1;
        nth.push(*count);
    }
    let back: Vec<i64> = names.iter().zip(nth).map(|(name, nth)| counts[&name.conversation] - nth).collect();
    let (lanes, counts): (Vec<Uuid>, Vec<i64>) = counts.into_iter().unzip();
    let conversations: Vec<Uuid> = names.iter().map(|name| name.conversation).collect();
    let times: Vec<i64> = names.iter().map(|name| name.at).collect();
    let ids: Vec<Uuid> = names.iter().map(|name| name.id).collect();
    let webhooks: Vec<&[u8]> = waiting.iter().map(|(entry, _)| entry.webhook.as_slice()).collect();
    let events: Vec<&[u8]> = waiting.iter().map(|(entry, _)| entry.event.as_slice()).collect();
    let numbered: [&(dyn ToSql + Sync); 2] = [&lanes, &counts];
    let kept: [&(dyn ToSql + Sync); 4] = [&times, &ids, &webhooks, &events];
    let owed: [&(dyn ToSql + Sync); 4] = [&conversations, &back, &times, &ids];
    let (begun, numbered, kept, owed, committed) = tokio::join!(biased;
        client.batch_execute("BEGIN"),
        client.query(number, &numbered),
        client.query(keep, &kept),
        client.execute(owe, &owed),
        client.batch_execute("COMMIT"),
    );
    begun?;
    numbered?;
    kept?;
    owed?;
    Ok(committed?)
}
