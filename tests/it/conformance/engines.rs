//! The engines there are, and what of each only it can do.

use super::{Engine, Place};
use crate::conformance::world::{World, at, messages, open, refused};
use birdwire::domain::delivery::Order;
use birdwire::store::Access;
use birdwire::store::lane::Verdict;
use birdwire::store::listing::Retained;
use rusqlite::Connection;
use std::fs;
use std::path::PathBuf;

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

    fn age(&self, place: &Place) {
        let sql = "INSERT INTO migrations (version, checksum, applied_at) VALUES (99, x'00', 0)";
        Connection::open(file(place)).unwrap().execute_batch(sql).unwrap();
    }
}

#[test]
fn what_is_no_database_is_refused() {
    let place = Sqlite.place();
    fs::create_dir_all(file(&place).parent().unwrap()).unwrap();
    fs::write(file(&place), "this is a text and no database at all, however long it may be".repeat(100)).unwrap();
    for access in [Access::Serve, Access::Read, Access::Write] {
        let why = refused(open(&place, access));
        assert!(why.contains("store.db") && why.contains("not a database"), "{why}");
    }
}

#[test]
fn another_program_s_database_is_refused_and_left_alone() {
    let place = Sqlite.place();
    fs::create_dir_all(file(&place).parent().unwrap()).unwrap();
    Connection::open(file(&place)).unwrap().execute_batch("CREATE TABLE messages (id INTEGER PRIMARY KEY)").unwrap();
    for access in [Access::Serve, Access::Read, Access::Write] {
        let why = refused(open(&place, access));
        assert!(why.contains("store.db"), "{why}");
    }
    let tables = "SELECT group_concat(name) FROM sqlite_master WHERE type = 'table'";
    let tables: String = Connection::open(file(&place)).unwrap().query_row(tables, [], |r| r.get(0)).unwrap();
    assert_eq!(tables, "messages");
}

#[test]
fn an_unknown_engine_is_refused() {
    let place = Place { url: "mysql://user:secret@host/db".to_owned(), _hold: Box::new(()) };
    let why = refused(open(&place, Access::Serve));
    assert!(why.contains("mysql") && !why.contains("secret"), "{why}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let url = format!("sqlite:{}", folder.path().join("file/store.db").display());
    let why = refused(open(&Place { url, _hold: Box::new(folder) }, Access::Serve));
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
