//! What the embedded store writes later, some thousand deliveries at a time, is not lost before that: whenever its
//! process is killed, the next one finds everything that was answered.

use super::changes::unsend;
use super::engines::Sqlite;
use super::world::{LEASE, Note, World, account, at, attempt, key_of, messages, note, open};
use super::{Engine, Place};
use birdwire::domain::delivery::{Order, State};
use birdwire::domain::event::End;
use birdwire::domain::ids::MessageId;
use birdwire::domain::route::SubscriberId;
use birdwire::domain::time::Timestamp;
use birdwire::store::Access;
use birdwire::store::lane::{Advance, Attempt, Leased, Verdict};
use birdwire::store::listing::{DeliveryQuery, DeliveryRow};
use birdwire::store::trace::TraceQuery;
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const DIALOGS: usize = 300;
const WEBHOOKS: usize = 22;
const NOTES: usize = 200;

/// What was answered, and so must be found.
#[derive(Default)]
struct Promised {
    notes: Vec<Note>,
    delivered: BTreeSet<i64>,
    /// Until when heads wait for their next attempt.
    waiting: BTreeMap<i64, u64>,
    /// Attempts under way.
    leased: Vec<Leased>,
}

fn file(place: &Place) -> &Path {
    Path::new(place.url.strip_prefix("sqlite:").unwrap())
}

/// The store as a process that was killed now leaves it, opened by the next one.
async fn after_a_kill(world: &World) -> World {
    let place = Sqlite.place();
    std::fs::create_dir_all(file(&place).parent().unwrap()).unwrap();
    for suffix in ["", "-wal"] {
        let name = |place: &Place| format!("{}{suffix}", file(place).display());
        std::fs::copy(name(&world.place), name(&place)).unwrap();
    }
    world.elsewhere(place).await
}

async fn deliveries(world: &World, subscriber: &str) -> Vec<DeliveryRow> {
    let subscriber = Some(SubscriberId(subscriber.to_owned()));
    world.store.deliveries(DeliveryQuery { subscriber, limit: 1_000_000, ..DeliveryQuery::default() }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_with_the_process_that_would_have_written_it() {
    let world = World::new(&Sqlite, &[messages("crm", Order::Strict), messages("free", Order::None)]).await;
    let mut promised = Promised::default();
    for round in 0..5 {
        let now = u64::try_from(round).unwrap() * 10;
        for webhook in 0..WEBHOOKS {
            let notes: Vec<Note> = (0..NOTES)
                .map(|n| (round * WEBHOOKS + webhook) * NOTES + n)
                .map(|n| note(&format!("U{}", n * 7 % DIALOGS), &format!("m{n}")))
                .collect();
            assert!(world.commit(&notes).await.iter().all(|end| *end == End::Stored));
            promised.notes.extend(notes);
        }
        for (nth, leased) in world.claim_all("crm", 200, at(now)).await.leased.into_iter().enumerate() {
            match nth % 4 {
                0 => promised.leased.push(leased),
                1 => {
                    world.record(&leased, Verdict::Retry { due: at(now + 15) }, at(now)).await;
                    promised.waiting.insert(leased.owed.delivery, now + 15);
                }
                _ => {
                    // Some lanes go on with their next delivery under the same lease, and are left in the middle of it.
                    let mut done = attempt(&leased, Verdict::Delivered, at(now));
                    done.extend = (nth % 4 == 3).then_some(LEASE);
                    promised.delivered.insert(leased.owed.delivery);
                    world.store.record_attempt(done).await.unwrap();
                }
            }
        }
        let next = after_a_kill(&world).await;
        check(&next, &promised, now + 1).await;
        next.store.close().await;
        // Of the keys of repeats, the newest are known by heart as well: that all are written only their table tells.
        let sql = "SELECT count(*) FROM dedupe";
        let keys: i64 = Connection::open(file(&next.place)).unwrap().query_row(sql, [], |r| r.get(0)).unwrap();
        assert_eq!(keys, i64::try_from(promised.notes.len()).unwrap() + 1);
    }
    let world = world.reopen().await;
    check(&world, &promised, 1_000).await;
    world.end().await;
}

/// What stands in its place is worked off lane by lane: how far a lane is, is one row that everybody reads.
#[tokio::test]
async fn how_far_a_lane_is_survives_its_process() {
    let world = World::simple(&Sqlite).await;
    world.write("U1", &["a", "b", "c", "d"]).await;
    let world = world.reopen().await;
    let first = world.claim_one(at(1)).await;
    assert_eq!((world.states().await, world.backlog("crm").await.owed), ([3, 1, 0, 0, 0], 4));
    assert!(done(&after_a_kill(&world).await, "a").await.is_empty());

    let second = go_on(&world, &first, at(2)).await;
    assert_eq!(key_of(&second.owed.body), "b");
    assert_eq!((world.states().await, world.backlog("crm").await.owed), ([2, 1, 1, 0, 0], 3));
    let oldest = world.backlog("crm").await.oldest;
    let beside = open(&world.place, Access::Write).await.unwrap();
    let crm = SubscriberId("crm".to_owned());
    // A command leaves alone what is being attempted.
    beside.enable(&crm, at(2)).await.unwrap();
    beside.close().await;
    assert_eq!((world.backlog("crm").await.oldest, world.claim(at(2)).await.len()), (oldest, 0));
    let next = after_a_kill(&world).await;
    assert_eq!((next.states().await, next.backlog("crm").await.owed), ([3, 0, 1, 0, 0], 3));
    assert_eq!(done(&next, "b").await, [first.owed.delivery]);

    // What is taken back meanwhile is not owed, and was attempted by nobody that anybody knows of.
    world.say(account(1), vec![unsend(&Note { at: at(3), ..note("U1", "b") })]).await;
    let next = after_a_kill(&world).await;
    assert_eq!((next.states().await, next.backlog("crm").await.owed), ([2, 0, 1, 0, 1], 2));
    assert_eq!(key_of(&next.claim_one(at(3)).await.owed.body), "c");

    let third = go_on(&world, &second, at(4)).await;
    assert_eq!(key_of(&third.owed.body), "c");
    // What came meanwhile is not in its place yet, and comes behind what is.
    world.write("U1", &["e"]).await;
    let fourth = go_on(&world, &third, at(5)).await;
    let fifth = go_on(&world, &fourth, at(6)).await;
    assert_eq!((key_of(&fourth.owed.body), key_of(&fifth.owed.body)), ("d".to_owned(), "e".to_owned()));
    let next = after_a_kill(&world).await;
    assert_eq!((next.states().await, next.backlog("crm").await.owed), ([1, 0, 3, 0, 1], 1));
    assert_eq!(done(&next, "e").await.len(), 3);
    world.record(&fifth, Verdict::Retry { due: at(100) }, at(7)).await;
    assert_eq!(world.claim(at(99)).await, []);
    let last = world.claim_one(at(100)).await;
    world.record(&last, Verdict::Delivered, at(100)).await;
    assert_eq!((world.states().await, world.backlog("crm").await.owed), ([0, 0, 4, 0, 1], 0));
    let place = file(&world.place).to_owned();
    world.store.close().await;
    let left = "SELECT (SELECT count(*) FROM owed) + (SELECT count(*) FROM at_work)";
    let left: i64 = Connection::open(place).unwrap().query_row(left, [], |r| r.get(0)).unwrap();
    assert_eq!(left, 0, "nothing is left of it");
}

/// Records a delivery and goes on with the next of its lane.
async fn go_on(world: &World, leased: &Leased, now: Timestamp) -> Leased {
    let done = Attempt { extend: Some(LEASE), ..attempt(leased, Verdict::Delivered, now) };
    match world.store.record_attempt(done).await.unwrap() {
        Advance::Next(owed) => Leased { owed: *owed, ..leased.clone() },
        other => panic!("the lane has more: {other:?}"),
    }
}

/// What is delivered, of a store whose next delivery is the one with this key, which was attempted once before.
async fn done(world: &World, key: &str) -> Vec<i64> {
    let head = world.claim_one(at(50)).await;
    assert_eq!(key_of(&head.owed.body), key);
    let detail = world.store.delivery(head.owed.delivery).await.unwrap().unwrap();
    let logged: Vec<_> = detail.attempts.iter().map(|attempt| (attempt.number, attempt.reason.as_str())).collect();
    assert_eq!(logged, [(1, "unknown outcome")]);
    let rows = deliveries(world, "crm").await;
    assert!(rows.iter().all(|row| row.id <= head.owed.delivery || row.attempts == 0), "nobody attempted the others");
    rows.into_iter().filter(|row| row.state == State::Delivered).map(|row| row.id).collect()
}

async fn check(world: &World, promised: &Promised, now: u64) {
    for subscriber in ["crm", "free"] {
        let rows = deliveries(world, subscriber).await;
        assert_eq!(rows.len(), promised.notes.len());
        let mut last = BTreeMap::new();
        for row in &rows {
            let before = last.insert(row.conversation.0, row.sequence).unwrap_or_default();
            assert_eq!(row.sequence, before + 1, "{subscriber}: {row:?}");
        }
        let done: BTreeSet<i64> = rows.iter().filter(|row| row.state == State::Delivered).map(|row| row.id).collect();
        if subscriber == "crm" {
            assert_eq!(done, promised.delivered);
        }
        let owed = rows.iter().filter(|row| row.state != State::Delivered);
        assert!(owed.clone().all(|row| row.state == State::Pending), "nobody is at work");
        let backlog = world.backlog(subscriber).await;
        assert_eq!(backlog.owed, u64::try_from(owed.count()).unwrap());
    }
    // Attempts that were cut short are accounted for; of the newest lanes and the oldest.
    for leased in promised.leased.iter().take(3).chain(promised.leased.iter().rev().take(3)) {
        let detail = world.store.delivery(leased.owed.delivery).await.unwrap().unwrap();
        assert!(detail.attempts.iter().any(|attempt| attempt.reason == "unknown outcome"), "{detail:?}");
    }
    // Every head that is due is found, and no other.
    let rows = deliveries(world, "crm").await;
    let mut heads = BTreeMap::new();
    for row in rows.iter().rev().filter(|row| row.state == State::Pending) {
        heads.insert(row.conversation.0, row.id);
    }
    let is_due = |id: &i64| promised.waiting.get(id).is_none_or(|until| *until <= now);
    let due: BTreeSet<i64> = heads.into_values().filter(is_due).collect();
    let leased = world.claim_all("crm", DIALOGS * 2, at(now)).await.leased;
    assert_eq!(leased.iter().map(|lane| lane.owed.delivery).collect::<BTreeSet<_>>(), due);
    let singles = world.claim_all("free", 1_000_000, at(now)).await.leased.len();
    assert_eq!(singles, promised.notes.len(), "without order everything is due");

    let some: Vec<&Note> = promised.notes.iter().step_by(997).chain(promised.notes.last()).collect();
    for note in &some {
        let id = MessageId::derive(account(1).id, &note.key);
        let query = TraceQuery { ids: vec![id.0], keys: Vec::new() };
        let traced = world.store.trace(query).await.unwrap();
        assert_eq!(traced.len(), 1, "{}", note.key);
        assert_eq!(traced[0].owed[0].deliveries.len(), 2);
        let event = TraceQuery { ids: vec![traced[0].owed[0].id.0], keys: Vec::new() };
        assert_eq!(world.store.trace(event).await.unwrap(), traced, "by the id of the event downstream");
        let key = TraceQuery { ids: Vec::new(), keys: vec![note.key.clone()] };
        assert_eq!(world.store.trace(key).await.unwrap(), traced, "by the provider's key");
    }
    for note in some {
        assert_eq!(
            world.commit(std::slice::from_ref(note)).await,
            [End::Duplicate { conflict: false }],
            "{}",
            note.key
        );
    }
    assert_eq!(world.commit(&[note("U0", "one more")]).await, [End::Stored]);
    let rows = deliveries(world, "crm").await;
    let lane = rows.iter().filter(|row| row.conversation == rows[rows.len() - 1].conversation);
    assert_eq!(lane.map(|row| row.sequence).max(), rows.last().map(|row| row.sequence));
}
