//! The engines there are, and what of each only it can do.

use super::{Engine, Place};
use crate::conformance::world::{World, at, messages, open, refused};
use birdwire::domain::delivery::Order;
use birdwire::store::Access;
use birdwire::store::lane::{Advance, Leased, Verdict};
use birdwire::store::listing::Retained;
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The embedded engine, on a file of its own.
pub(crate) struct Sqlite;

fn file(place: &Place) -> PathBuf {
    PathBuf::from(place.url.strip_prefix("sqlite:").unwrap())
}

impl Engine for Sqlite {
    fn place(&self) -> Place {
        let folder = tempfile::tempdir().unwrap();
        Place { url: format!("sqlite:{}", folder.path().join("deep/er/store.db").display()), _hold: Box::new(folder) }
    }

    fn forbid(&self, place: &Place, text: &str) {
        let sql = format!(
            "CREATE TRIGGER forbidden BEFORE INSERT ON messages WHEN new.text = '{text}'
             BEGIN SELECT RAISE(ABORT, 'it is forbidden'); END"
        );
        Connection::open(file(place)).unwrap().execute_batch(&sql).unwrap();
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn age(&self, place: &Place) {
        let sql = "INSERT INTO migrations (version, checksum, applied_at) VALUES (99, x'00', 0)";
        Connection::open(file(place)).unwrap().execute_batch(sql).unwrap();
    }
}

#[tokio::test]
async fn what_is_no_database_is_refused() {
    let place = Sqlite.place();
    fs::create_dir_all(file(&place).parent().unwrap()).unwrap();
    fs::write(file(&place), "this is a text and no database at all, however long it may be".repeat(100)).unwrap();
    for access in [Access::Serve, Access::Read, Access::Write] {
        let why = refused(open(&place, access).await);
        assert!(why.contains("store.db") && why.contains("not a database"), "{why}");
    }
}

/// What people write to each other is in it. What somebody else made keeps the rights that it was given.
#[cfg(unix)]
#[tokio::test]
async fn only_its_owner_may_read_a_new_store() {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let beside = |place: &Place, more: &str| PathBuf::from(format!("{}{more}", file(place).display()));
    let world = World::simple(&Sqlite).await;
    world.write("U1", &["a"]).await;
    for more in ["", "-wal", "-shm", ".lock"] {
        assert_eq!(mode(&beside(&world.place, more)), 0o600, "{more}");
    }
    for folder in file(&world.place).ancestors().skip(1).take(2) {
        assert_eq!(mode(folder), 0o700, "{}", folder.display());
    }
    world.end().await;

    let place = Sqlite.place();
    let folder = file(&place).parent().unwrap().to_owned();
    fs::create_dir_all(&folder).unwrap();
    fs::write(file(&place), "").unwrap();
    for (path, given) in [(&folder, 0o750), (&file(&place), 0o640)] {
        fs::set_permissions(path, fs::Permissions::from_mode(given)).unwrap();
    }
    open(&place, Access::Serve).await.unwrap().close().await;
    assert_eq!((mode(&folder), mode(&file(&place)), mode(&beside(&place, "-wal"))), (0o750, 0o640, 0o640));
}

#[tokio::test]
async fn another_program_s_database_is_refused_and_left_alone() {
    let place = Sqlite.place();
    fs::create_dir_all(file(&place).parent().unwrap()).unwrap();
    Connection::open(file(&place)).unwrap().execute_batch("CREATE TABLE messages (id INTEGER PRIMARY KEY)").unwrap();
    for access in [Access::Serve, Access::Read, Access::Write] {
        let why = refused(open(&place, access).await);
        assert!(why.contains("store.db"), "{why}");
    }
    let tables = "SELECT group_concat(name) FROM sqlite_master WHERE type = 'table'";
    let tables: String = Connection::open(file(&place)).unwrap().query_row(tables, [], |r| r.get(0)).unwrap();
    assert_eq!(tables, "messages");
}

#[tokio::test]
async fn an_unknown_engine_is_refused() {
    let place = Place { url: "mysql://user:secret@host/db".to_owned(), _hold: Box::new(()) };
    let why = refused(open(&place, Access::Serve).await);
    assert!(why.contains("mysql") && !why.contains("secret"), "{why}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let url = format!("sqlite:{}", folder.path().join("file/store.db").display());
    let why = refused(open(&Place { url, _hold: Box::new(folder) }, Access::Serve).await);
    assert!(why.contains("file"), "{why}");
}

/// What is left of it cannot be seen from outside, but fills the disk.
#[tokio::test]
async fn nothing_is_left_of_a_removed_delivery() {
    let world = World::new(&Sqlite, &[messages("crm", Order::Strict), messages("other", Order::Strict)]).await;
    for number in 0..6 {
        world.write("U1", &[&format!("m{number}")]).await;
        for subscriber in ["crm", "other"] {
            let first = world.claim_all(subscriber, 1, at(100 + number)).await.leased.remove(0);
            world.record(&first, Verdict::Retry { due: at(100 + number) }, at(100 + number)).await;
            let second = world.claim_all(subscriber, 1, at(100 + number)).await.leased.remove(0);
            let verdict = if number < 3 && subscriber == "crm" { Verdict::Dead } else { Verdict::Delivered };
            world.record(&second, verdict, at(100 + number)).await;
        }
    }
    while world.store.retain(at(1000), at(1000), 2).await.unwrap() != Retained::default() {}
    let count = |table: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        Connection::open(file(&world.place)).unwrap().query_row(&sql, [], |r| r.get(0)).unwrap()
    };
    let left = ["webhooks", "deliveries", "outbox", "attempts"].map(count);
    assert_eq!(left, [0, 3, 3, 6], "the dead letters and what they need");
    world.end().await;
}

/// Nobody will ever be sent them.
#[tokio::test]
async fn events_that_nobody_is_owed_are_not_kept() {
    let world = World::new(&Sqlite, &[]).await;
    world.write("U1", &["a", "b"]).await;
    let sql = "SELECT count(*) FROM outbox";
    let rows: i64 = Connection::open(file(&world.place)).unwrap().query_row(sql, [], |r| r.get(0)).unwrap();
    assert_eq!(rows, 0);
    world.end().await;
}

/// The lock proves that whoever held a lease is gone.
#[tokio::test]
async fn restarting_voids_leases_and_says_so() {
    let world = World::simple(&Sqlite).await;
    world.write("U1", &["a", "b"]).await;
    world.write("U2", &["c"]).await;
    let before = world.claim(at(1)).await;
    assert_eq!(before.len(), 2);
    let world = world.reopen().await;
    for lane in &before {
        assert_eq!(world.record(lane, Verdict::Delivered, at(2)).await, Advance::Lost);
    }
    let again = world.claim(at(2)).await;
    let claimed = |lanes: &[Leased]| lanes.iter().map(|lane| lane.owed.delivery).collect::<BTreeSet<_>>();
    assert_eq!(claimed(&again), claimed(&before));
    for lane in &again {
        assert_eq!(lane.owed.failures, 1);
        assert!(lane.owed.first_attempt.is_some(), "giving up counts from the attempt that was cut");
        let detail = world.store.delivery(lane.owed.delivery).await.unwrap().unwrap();
        let logged: Vec<_> = detail.attempts.iter().map(|a| (a.number, &*a.reason, a.status, a.duration_ms)).collect();
        assert_eq!(logged, [(1, "unknown outcome", None, None)]);
        world.record(lane, Verdict::Delivered, at(3)).await;
        let detail = world.store.delivery(lane.owed.delivery).await.unwrap().unwrap();
        let logged: Vec<_> = detail.attempts.iter().map(|a| (a.number, &*a.reason)).collect();
        assert_eq!(logged, [(1, "unknown outcome"), (2, "delivered")]);
    }
    assert_eq!(world.states().await, [1, 0, 2, 0, 0]);
    world.end().await;
}

#[tokio::test]
async fn only_one_may_serve() {
    let world = World::simple(&Sqlite).await;
    let why = refused(open(&world.place, Access::Serve).await);
    assert!(why.contains("another birdwire serves"), "{why}");
    // The refused one took nothing from the one that serves.
    world.write("U1", &["a"]).await;
    world.claim_one(at(0)).await;
    refused(open(&world.place, Access::Serve).await);
    assert_eq!(world.states().await, [0, 1, 0, 0, 0]);
    world.reopen().await.end().await;
}

#[tokio::test]
async fn removal_is_bounded() {
    let world = World::new(&Sqlite, &[messages("crm", Order::None)]).await;
    world.write("U1", &["a", "b", "c", "d", "e"]).await;
    for lane in world.claim(at(1)).await {
        world.record(&lane, Verdict::Delivered, at(1)).await;
    }
    let mut left = [5, 5];
    for expected in [2, 2, 1, 0] {
        let removed = world.store.retain(at(1000), at(1000), 2).await.unwrap();
        assert_eq!(removed, Retained { raw: expected, finished: expected });
        left = [left[0] - removed.raw, left[1] - removed.finished];
    }
    assert_eq!(left, [0, 0]);
    world.end().await;
}
