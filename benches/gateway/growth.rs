//! What becomes of speed and memory when the store is large, or much is owed.
//!
//! A large store is made in minutes, not hours: the gateway itself takes some messages, and what it wrote is copied
//! inside the file, with other ids and later times, until there is enough. So the rows are the gateway's own. Of what is
//! stored for good, old messages have everything but their raw webhook and what was owed, which retention removes. Of
//! what is owed, every delivery has its event and its place in one of 10,000 conversations.

use crate::contender::{Plan, Who, store_file};
use crate::load;
use crate::machine;
use crate::measure::{self, Load, Task, Told};
use crate::options::Options;
use crate::payload::Talk;
use crate::rounds::{self, Row, RowResult};
use crate::sink::Sink;
use crate::store::Place;
use anyhow::{Context, Result, ensure};
use birdwire::domain::time::Timestamp;
use rusqlite::Connection;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

const SUITE: &str = "growth";

/// Messages that the gateway writes itself before they are copied, in so many conversations: three whole buckets of ids,
/// and as many more as it takes to have them written.
const SEED: usize = 28_000;
const BUCKET: i64 = 8192;
const COPIED: i64 = 3 * BUCKET;
const ROOM: i64 = 4 * BUCKET;
const CONVERSATIONS: u64 = 10_000;

/// Bytes in the file, rounded up: of a message that is stored for good, and of a delivery that is owed with its event.
const STORED: u64 = 1_000;
const OWED: u64 = 1_500;

/// What a store holds before the rounds.
#[derive(Clone, Copy)]
struct Size {
    name: &'static str,
    stored: u64,
    owed: u64,
}

const fn size(name: &'static str, stored: u64, owed: u64) -> Size {
    Size { name, stored, owed }
}

const NOTHING: Size = size("stored-0", 0, 0);
const LITTLE: Size = size("drain-little", 0, 250_000);

fn sizes(options: &Options) -> (Vec<Size>, [(&'static str, Size); 2]) {
    let (stored, owed) = if options.quick {
        (vec![NOTHING, size("stored-200k", 200_000, 0)], size("owed-100k", 0, 100_000))
    } else {
        let stored = vec![NOTHING, size("stored-1M", 1_000_000, 0), size("stored-10M", 10_000_000, 0)];
        (stored, size("owed-1M", 0, 1_000_000))
    };
    let drains = [("drain-little", LITTLE), (if options.quick { "drain-100k" } else { "drain-1M" }, owed)];
    (stored.into_iter().chain([owed]).collect(), drains)
}

/// The names of the rows.
pub(crate) fn names(options: &Options) -> Vec<String> {
    let (accepts, drains) = sizes(options);
    accepts.iter().map(|size| size.name).chain(drains.iter().map(|(name, _)| *name)).map(str::to_owned).collect()
}

/// Measures on stores that are made large beforehand.
pub(crate) fn run(options: &Options, place: &Place) -> Result<Vec<RowResult>> {
    let (accepts, drains) = sizes(options);
    let accepts: Vec<Size> = accepts.into_iter().filter(|size| options.wants(SUITE, size.name)).collect();
    let drains: Vec<_> = drains.into_iter().filter(|(name, _)| options.wants(SUITE, name)).collect();
    let mut needed: Vec<Size> = accepts.clone();
    for (_, size) in &drains {
        if needed.iter().all(|there| there.name != size.name) {
            needed.push(*size);
        }
    }
    if needed.is_empty() {
        return Ok(Vec::new());
    }
    make_sure_of_room(&needed, place)?;
    let mut stores = Vec::new();
    for size in needed {
        stores.push((size.name, grown(size, place)?));
    }
    let folder = |name: &str| stores.iter().find(|(its, _)| *its == name).map(|(_, folder)| folder.path());

    let time = Duration::from_secs(if options.quick { 2 } else { 5 });
    let task = Task {
        who: Who::Gateway,
        sink: Told::Later,
        subscribers: 1,
        conversations: 1_000,
        load: Load::Closed(time, usize::MAX),
    };
    let mut rows = Vec::new();
    for size in accepts {
        let folder = folder(size.name);
        rows.push(Row {
            name: size.name.to_owned(),
            missing: None,
            run: Box::new(move || measure::round(task, place, folder)),
        });
    }
    for (name, size) in drains {
        let folder = folder(size.name).context("a store was not made")?;
        let run = move || {
            Connection::open(store_file(folder))?.execute("UPDATE subscribers SET disabled_at = NULL", [])?;
            measure::drain(place, folder, time.min(Duration::from_secs(3)))
        };
        rows.push(Row { name: name.to_owned(), missing: None, run: Box::new(run) });
    }
    Ok(rounds::run(SUITE, options.rounds(3), options.noise(), rows))
}

fn make_sure_of_room(sizes: &[Size], place: &Place) -> Result<()> {
    // A gigabyte for what the rounds write.
    let needed = sizes.iter().map(|size| size.stored * STORED + size.owed * OWED).sum::<u64>() + (1 << 30);
    let room = machine::room(&place.folder)?;
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    anstream::eprintln!("{SUITE}: needs {:.1} GiB, there are {:.1} GiB", gib(needed), gib(room));
    ensure!(room > needed, "there is not enough room in {}: --folder names another place", place.folder.display());
    Ok(())
}

/// A store of this size.
fn grown(size: Size, place: &Place) -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("bench-grown-").tempdir_in(&place.folder)?;
    let began = tokio::time::Instant::now();
    seed(folder.path(), place)?;
    if size.stored + size.owed > 0 {
        let file = store_file(folder.path());
        let connection = Connection::open(&file)?;
        // Nobody is promised anything yet.
        connection.execute_batch(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
             PRAGMA cache_size = -262144;",
        )?;
        store_more(&connection, size.stored)?;
        owe_more(&connection, size.owed)?;
        connection.execute_batch("PRAGMA journal_mode = WAL")?;
        drop(connection);
        std::fs::File::open(&file)?.sync_all()?;
        let (took, bytes) = (began.elapsed().as_secs(), std::fs::metadata(&file)?.len());
        anstream::eprintln!("{SUITE}: {} has {} MiB after {took} s", size.name, bytes >> 20);
    }
    Ok(folder)
}

/// The gateway's own rows: messages of yesterday, owed to a subscriber that wants nothing now.
fn seed(folder: &Path, place: &Place) -> Result<()> {
    let sink = Sink::start(1, 1, true)?;
    let fresh = place.fresh(Who::Gateway)?;
    let plan = Plan { who: Who::Gateway, before: None, folder, store: fresh.url(), subscribers: 1, sink: sink.port };
    let running = plan.start()?;
    let mut talk = Talk::new(CONVERSATIONS);
    talk.began = Timestamp::from_micros(talk.began.micros() - 86_400_000_000);
    let outcome = load::closed(running.port, talk.requests(0, SEED)?.into(), Duration::from_mins(1))?;
    ensure!(outcome.taken == SEED, "the gateway took {} of {SEED} messages", outcome.taken);
    running.end()
}

/// One number of the store.
fn one(connection: &Connection, sql: &str) -> Result<i64> {
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

/// Where the events of a copy begin, with room for the rest of the seed before the first.
fn offset(copy: i64) -> i64 {
    ROOM + (copy - 1) * COPIED
}

/// Copies events and messages until there are so many.
fn store_more(connection: &Connection, wanted: u64) -> Result<()> {
    let span = one(connection, "SELECT max(event_time) - min(event_time) + 1 FROM dedupe")?;
    let (account, latest) = connection.query_row("SELECT account, max(event_time) FROM dedupe", [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
    })?;
    let written = one(connection, &format!("SELECT count(DISTINCT id / 128) FROM id_slices WHERE id < {COPIED} / 64"))?;
    ensure!(written == COPIED / BUCKET, "the gateway has written {written} buckets of ids");
    let rows = one(connection, &format!("SELECT count(*) FROM messages WHERE id < {COPIED}"))?;
    for copy in 1..=(i64::try_from(wanted)? - one(connection, "SELECT count(*) FROM messages")?) / rows {
        let (event, later) = (offset(copy), copy * span);
        connection.execute_batch(&format!(
            "BEGIN;
             INSERT INTO events (id, webhook, place, account, received_at, request_id, kind, event_time, provider_key,
                 state, conflict, reason, detail, message)
             SELECT id + {event}, NULL, place, account, received_at, request_id, kind, event_time + {later},
                 lower(hex(randomblob(18))), state, conflict, reason, detail, message + {event}
             FROM events WHERE id < {COPIED};
             INSERT INTO messages (id, uuid, account, conversation, event, direction, status, text, content, tm_create,
                 tm_update, tm_delete, edited)
             SELECT id + {event}, randomblob(16), account, conversation, event + {event}, direction, status, text,
                 content, tm_create + {later}, tm_update + {later}, tm_delete, edited
             FROM messages WHERE id < {COPIED};
             INSERT INTO dedupe (account, event_time, key, event)
             SELECT account, event_time + {later}, randomblob(16), event + {event}
             FROM dedupe WHERE account = {account} AND event_time <= {latest} AND event < {COPIED}
             ORDER BY account, event_time;
             INSERT INTO id_slices (id, entries)
             SELECT id + {event} / {BUCKET} * 128, randomblob(length(entries)) FROM id_slices WHERE id < {COPIED} / 64;
             COMMIT;"
        ))?;
    }
    settle(connection)
}

/// The writer must not take the copies for its newest rows, which it knows by heart.
fn settle(connection: &Connection) -> Result<()> {
    connection.execute_batch(
        "UPDATE tail SET event = 1 + max(coalesce((SELECT max(id) FROM events), 0), coalesce((SELECT max(id) >> 3 FROM outbox), 0)),
             delivery = 1 + coalesce((SELECT max(id) FROM deliveries), 0)",
    )?;
    Ok(())
}

/// Copies what is owed until it is so much.
fn owe_more(connection: &Connection, wanted: u64) -> Result<()> {
    let deliveries = one(connection, "SELECT max(id) FROM deliveries")?;
    let copies = i64::try_from(wanted)? / one(connection, "SELECT count(*) FROM deliveries WHERE state = 0")?;
    for copy in 1..copies {
        // Each event has eight numbers for events downstream.
        let (event, delivery) = (copy * ROOM * 8, copy * deliveries);
        connection.execute_batch(&format!(
            "BEGIN;
             INSERT INTO outbox (id, uuid, type, event, message, conversation, created_at, body, first, deliveries)
             SELECT id + {event}, randomblob(16), type, (id + {event}) >> 3, message, conversation, created_at, body,
                 first + {delivery}, deliveries
             FROM outbox WHERE id < {ROOM} * 8;
             INSERT INTO deliveries (id, event, subscriber, lane, seq, state, replay, attempts, round_start, due_at)
             SELECT d.id + {delivery}, d.event + {event}, d.subscriber, d.lane, d.seq + {copy} * l.last_seq, 0, 0, 0, 0,
                 d.due_at
             FROM deliveries d JOIN lanes l ON l.id = d.lane WHERE d.id <= {deliveries} AND d.state = 0 ORDER BY d.id;
             INSERT INTO owed (subscriber, lane, seq, delivery)
             SELECT o.subscriber, o.lane, o.seq + {copy} * l.last_seq, o.delivery + {delivery}
             FROM owed o JOIN lanes l ON l.id = o.lane WHERE o.delivery <= {deliveries} ORDER BY 1, 2, 3;
             COMMIT;"
        ))?;
    }
    if copies > 1 {
        connection.execute("UPDATE lanes SET last_seq = last_seq * ?1", [copies])?;
    }
    settle(connection)
}
