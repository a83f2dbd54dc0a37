//! A store that is moved from SQLite to PostgreSQL is the same store: for operators, for subscribers, for providers.

mod grown;
mod older;
mod program;
mod refusals;

use crate::conformance::changes::{raw, unsend};
use crate::conformance::engines::Sqlite;
use crate::conformance::servers::{Postgres, run as sql, schema};
use crate::conformance::world::{LEASE, Note, World, account, at, attempt, note, open};
use crate::conformance::{Engine, Place};
use birdwire::domain::event::{DedupeKey, End, InboundEvent};
use birdwire::domain::route::SubscriberId;
use birdwire::metrics::Metrics;
use birdwire::store::copy::{self, Compared, Outcome, Source, Step, Target, What};
use birdwire::store::lane::{Claim, Leased, Verdict};
use birdwire::store::{Access, LeaseClock, Opening, StoreError};
use grown::{afterwards, grown, line, shown, subscribers};
use std::sync::Arc;
use tokio::sync::Notify;

fn opening(metrics: &Metrics) -> Opening<'_> {
    Opening {
        access: Access::Serve,
        now: afterwards(),
        metrics,
        connections: 2,
        node: "",
        chance: || fastrand::u128(..),
        clock: LeaseClock::Caller,
    }
}

async fn target(to: &Place) -> Result<Arc<dyn Target>, StoreError> {
    copy::target(&to.url, &opening(&Metrics::new().unwrap())).await
}

async fn ends(from: &Place, to: &Place) -> Result<(Arc<dyn Source>, Arc<dyn Target>), StoreError> {
    let source = copy::source(&from.url, &opening(&Metrics::new().unwrap()))?;
    match target(to).await {
        Ok(target) => Ok((source, target)),
        Err(error) => {
            source.close().await;
            Err(error)
        }
    }
}

/// Copies until `until` says that it is enough, as if the process were killed then; `None` when it was.
async fn copied(
    from: &Place,
    to: &Place,
    mut until: impl FnMut(Step) -> bool + Send,
) -> Result<Option<Outcome>, StoreError> {
    let (source, target) = ends(from, to).await?;
    let enough = Notify::new();
    let mut watch = |step| {
        if until(step) {
            enough.notify_one();
        }
    };
    let outcome = tokio::select! {
        biased;
        () = enough.notified() => Ok(None),
        outcome = copy::run(&*source, &*target, afterwards(), &mut watch) => outcome.map(Some),
    };
    source.close().await;
    target.close().await;
    outcome
}

async fn whole(from: &Place, to: &Place) -> Vec<Compared> {
    match copied(from, to, |_| false).await.unwrap() {
        Some(Outcome::Compared(tables)) => tables,
        other => panic!("{other:?}"),
    }
}

fn assert_equal(tables: &[Compared]) {
    let wrong: Vec<&Compared> = tables.iter().filter(|table| !table.is_equal()).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(tables.iter().all(|table| table.source.rows > 0), "every table has rows: {tables:?}");
}

/// Ends whoever serves and says where the store is.
async fn left(world: World) -> Place {
    let World { place, store, .. } = world;
    store.close().await;
    place
}

/// The same accounts' and subscribers' world on a store that is there already.
async fn served(place: Place) -> World {
    let store = open(&place, Access::Serve).await.unwrap();
    World::of(place, store, &subscribers()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_shows_the_same_and_goes_on_the_same() {
    let from = left(grown(&Sqlite).await).await;
    let to = Postgres.place();
    assert_equal(&whole(&from, &to).await);

    let accounts = [account(1), account(2)];
    let (old, new) = (open(&from, Access::Read).await.unwrap(), open(&to, Access::Read).await.unwrap());
    let (ours, theirs) = (shown(&*old, &accounts).await, shown(&*new, &accounts).await);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.iter().any(|line| line.contains("unknown outcome")), "leases of the dead are accounted for");
    assert!(ours.iter().any(|line| line.contains("te\\0xt") || line.contains("k\\0ey")));
    old.close().await;
    new.close().await;

    let rest = sql(
        &schema(&to),
        "SELECT (SELECT count(*) FROM webhooks_rest) + (SELECT count(*) FROM outbox_rest) + (SELECT count(*) FROM finished_rest)",
    );
    assert_eq!(rest[0][0].as_deref(), Some("0"), "every day has its partition");

    let (old, new) = (served(from).await, served(to).await);
    goes_on(&old, &new).await;
    old.end().await;
    new.end().await;
}

/// What both do from now on is the same.
async fn goes_on(old: &World, new: &World) {
    let worlds = [old, new];
    let last = old.deliveries().await.last().unwrap().id;
    // Repeats are still repeats, also with another time and beside something new; what is new is numbered on.
    let conflict = InboundEvent {
        key: Some(DedupeKey { at: at(77), provider_key: "many 1299".into() }),
        ..note("U4", "many 1299").event()
    };
    let mut numbers = Vec::new();
    for world in worlds {
        assert_eq!(world.commit(&[note("U1", "a")]).await, [End::Duplicate { conflict: false }]);
        assert_eq!(world.say(account(1), vec![conflict.clone()]).await, [End::Duplicate { conflict: true }]);
        assert_eq!(world.commit(&[Note { at: afterwards(), ..note("U1", "new") }]).await, [End::Stored]);
        let rows = world.deliveries().await;
        let fresh = rows.iter().rev().find(|row| row.subscriber.0 == "crm").unwrap();
        numbers.push(fresh.sequence);
        let lane =
            rows.iter().filter(|row| row.subscriber == fresh.subscriber && row.conversation == fresh.conversation);
        assert_eq!(lane.filter(|row| row.sequence >= fresh.sequence).count(), 1);
    }
    assert_eq!(numbers[0], numbers[1], "the next sequence number");
    // What is taken back is taken out of the repeat that was kept beside something new.
    for world in worlds {
        assert!(raw(world).await.contains("secret"), "so that the case can fail");
        assert_eq!(world.say(account(1), vec![unsend(&line("secret", "", 40))]).await, [End::Stored]);
        assert!(!raw(world).await.contains("secret"));
        world.store.enable(&SubscriberId("down".into()), afterwards()).await.unwrap();
    }
    // Claims find the same deliveries in the same lanes until nothing is left.
    for subscriber in ["crm", "bulk", "bounded", "down"] {
        let mut rounds = 0;
        loop {
            let (ours, theirs) = (claim(old, subscriber).await, claim(new, subscriber).await);
            assert_eq!(shown_of(&ours, last), shown_of(&theirs, last));
            if ours.is_empty() {
                break;
            }
            rounds += 1;
            for (world, leased) in [(old, ours), (new, theirs)] {
                for leased in leased {
                    let next = attempt(&leased, Verdict::Delivered, afterwards());
                    world.store.record_attempt(next).await.unwrap();
                }
            }
            // A long lane is the same all along.
            if rounds == 8 {
                break;
            }
        }
        assert!(rounds > 0, "{subscriber}");
    }
}

/// Every due lane of a subscriber.
async fn claim(world: &World, subscriber: &str) -> Vec<Leased> {
    let claim = Claim { subscriber: SubscriberId(subscriber.to_owned()), lanes: 5000 };
    let mut leased = world.store.claim_lanes(vec![claim], afterwards(), LEASE).await.unwrap().leased;
    leased.sort_by_key(|leased| (leased.conversation.0, leased.owed.sequence, leased.owed.event_id.0));
    leased
}

/// What is claimed; rows that were copied, up to the `last`, have their old ids.
fn shown_of(leased: &[Leased], last: i64) -> Vec<String> {
    let one = |Leased { lease, conversation, owed: o, .. }: &Leased| {
        let ids = (o.delivery <= last).then_some((lease.lane, o.delivery));
        let about = (conversation.0, o.sequence, o.event_id.0, &o.event_type, o.body.len());
        format!("{ids:?} {about:?} {} {:?} {}", o.failures, o.first_attempt, o.replay)
    };
    leased.iter().map(one).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_killed_again_and_again_ends_the_same() {
    let from = left(grown(&Sqlite).await).await;
    let (at_once, to) = (Postgres.place(), Postgres.place());
    let expected = whole(&from, &at_once).await;
    assert_equal(&expected);
    // Killed after every chunk, while the next one is on its way.
    let (mut kills, mut rows) = (0, 0);
    let tables = loop {
        let mut first = None;
        let outcome = copied(&from, &to, |step| {
            let copies = !step.compares;
            if copies {
                assert!(step.rows > rows, "it goes on: {step:?} after {rows}");
                first.get_or_insert(step.rows);
            }
            copies && first == Some(step.rows)
        });
        match outcome.await.unwrap() {
            None => {
                kills += 1;
                let mark = sql(&schema(&to), "SELECT rows FROM copies WHERE verified_at IS NULL");
                rows = mark[0][0].as_deref().unwrap().parse().unwrap();
                let why = crate::conformance::world::refused(open(&to, Access::Serve).await);
                assert!(why.contains("unfinished copy") && why.contains("--abandon"), "{why}");
            }
            Some(Outcome::Compared(tables)) => break tables,
            Some(other) => panic!("{other:?}"),
        }
    };
    assert!(kills > 13, "{kills}");
    let sums = |tables: &[Compared]| tables.iter().map(|t| t.target.sha256.clone()).collect::<Vec<_>>();
    assert_eq!(sums(&tables), sums(&expected));
    // Killed while it compares, it compares again; finished, it says so.
    let third = Postgres.place();
    assert!(copied(&from, &third, |step| step.compares).await.unwrap().is_none());
    assert_equal(&whole(&from, &third).await);
    assert!(matches!(copied(&from, &third, |_| false).await.unwrap(), Some(Outcome::Finished(_))));
    open(&third, Access::Serve).await.unwrap().close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_not_the_same_is_found_and_named() {
    let from = left(grown(&Sqlite).await).await;
    let to = Postgres.place();
    assert!(copied(&from, &to, |step| step.compares).await.unwrap().is_none());
    let columns = |names: &[&'static str]| What::Columns(names.to_vec());
    let cases: [(&str, &str, &str, What); 7] = [
        ("UPDATE messages SET text = 'other' WHERE id = 3", "messages", "3", columns(&["text"])),
        ("DELETE FROM events WHERE id = 4", "events", "4", What::Missing),
        ("INSERT INTO attempts VALUES (99999999, 1, 0, NULL, NULL, 'x')", "attempts", "99999999/1", What::Extra),
        ("DELETE FROM ids WHERE kind = 0 AND row = 2", "messages", "2", columns(&["known"])),
        ("UPDATE lanes SET head = head + 1 WHERE id = 1", "lanes", "1", columns(&["head"])),
        (
            "UPDATE deliveries SET event_day = 1 WHERE id = (SELECT min(id) FROM deliveries)",
            "deliveries",
            "",
            columns(&["event_at"]),
        ),
        (
            "WITH d AS (DELETE FROM webhooks WHERE id = (SELECT max(id) FROM webhooks) RETURNING *)
             INSERT INTO webhooks SELECT id, day + 1, account, received_at, headers, body FROM d",
            "webhooks",
            "",
            columns(&["received_at"]),
        ),
    ];
    for (tampered, ..) in &cases {
        sql(&schema(&to), tampered);
    }
    let tables = whole(&from, &to).await;
    for (_, table, key, what) in cases {
        let found = tables.iter().find(|compared| compared.table == table).unwrap();
        assert!(!found.is_equal());
        let difference = found.difference.clone().unwrap();
        if table == "messages" {
            // The first of two.
            assert_eq!((&*difference.key, &difference.what), ("2", &columns(&["known"])));
            continue;
        }
        assert_eq!(difference.what, what, "{table}");
        assert!(key.is_empty() || difference.key == key, "{difference}");
    }
    let equal: Vec<&str> = tables.iter().filter(|table| table.is_equal()).map(|table| table.table).collect();
    assert_eq!(equal.len(), tables.len() - 6, "the others are equal: {equal:?}");
    // It is not finished by that, and a new one is.
    let why = crate::conformance::world::refused(open(&to, Access::Serve).await);
    assert!(why.contains("unfinished copy"), "{why}");
    let (source, target) = ends(&from, &to).await.unwrap();
    assert!(target.abandon().await.unwrap());
    assert!(!target.abandon().await.unwrap());
    source.close().await;
    target.close().await;
    assert_equal(&whole(&from, &to).await);
}

/// New rows get ids above every copied one; what look-ups take for recent must still be it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_recent_is_recent_after_a_jump_of_ids() {
    let world = World::simple(&Sqlite).await;
    world.write("U1", &["a"]).await;
    let from = left(world).await;
    let file = rusqlite::Connection::open(from.url.strip_prefix("sqlite:").unwrap()).unwrap();
    file.execute("INSERT INTO subscribers (id, name, configured, ordered) VALUES (10000000, 'x', 0, 1)", []).unwrap();
    file.close().unwrap();
    let to = Postgres.place();
    assert!(whole(&from, &to).await.iter().all(Compared::is_equal));
    let store = open(&to, Access::Serve).await.unwrap();
    let world =
        World::of(to, store, &[crate::conformance::world::messages("crm", birdwire::domain::delivery::Order::Strict)])
            .await;
    let conflict =
        InboundEvent { key: Some(DedupeKey { at: at(9), provider_key: "a".into() }), ..note("U1", "a").event() };
    assert_eq!(world.say(account(1), vec![conflict]).await, [End::Duplicate { conflict: true }]);
    let other =
        InboundEvent { key: Some(DedupeKey { at: at(0), provider_key: "b".into() }), ..note("U1", "a").event() };
    assert_eq!(world.say(account(1), vec![other]).await, [End::Stored]);
    assert_eq!(world.deliveries().await.len(), 1, "the same message is told once");
    world.write("U1", &["c"]).await;
    assert!(world.events().await.last().unwrap().id > 10_000_000);
    world.end().await;
}
