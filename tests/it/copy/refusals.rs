//! What a copy does not touch: a store that is served, one that is there already, half of another one.

use super::grown::nothing;
use super::{copied, ends, left, target};
use crate::conformance::engines::Sqlite;
use crate::conformance::servers::{Postgres, run as sql, schema};
use crate::conformance::world::{World, at, open};
use crate::conformance::{Engine, Place};
use birdwire::store::copy::{Begun, Outcome};
use birdwire::store::lane::Verdict;
use birdwire::store::tables::TABLES;
use birdwire::store::{Access, StoreError};

/// Why there is no copy.
async fn why(from: &Place, to: &Place) -> String {
    match copied(from, to, |_| false).await {
        Err(error @ StoreError::Unusable { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

async fn small(key: &str) -> Place {
    let world = World::simple(&Sqlite).await;
    world.write("U1", &[key]).await;
    left(world).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_served_is_not_copied() {
    let world = World::simple(&Sqlite).await;
    world.write("U1", &["a"]).await;
    let to = Postgres.place();
    let refused = why(&world.place, &to).await;
    assert!(refused.contains("another birdwire serves") && refused.contains("stop it"), "{refused}");
    let from = left(world).await;
    // And what is copied is not served, nor changed by a command.
    let (source, target) = ends(&from, &to).await.unwrap();
    let served = crate::conformance::world::refused(open(&from, Access::Serve).await);
    assert!(served.contains("another birdwire serves"), "{served}");
    source.close().await;
    target.close().await;
    open(&from, Access::Serve).await.unwrap().close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_made_where_nothing_is() {
    let from = Sqlite.place();
    let refused = why(&from, &Postgres.place()).await;
    assert!(refused.contains("there is no store at"), "{refused}");
    let file = std::path::PathBuf::from(from.url.strip_prefix("sqlite:").unwrap());
    assert!(!file.exists() && !file.with_extension("db.lock").exists());
    let (a, b) = (Sqlite.place(), Postgres.place());
    for (from, to) in [(&a, &a), (&b, &b), (&b, &a)] {
        assert!(why(from, to).await.contains("no"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_there_is_left_alone() {
    let from = small("a").await;
    let world = World::simple(&Postgres).await;
    nothing(&world).await;
    let to = left(world).await;
    let refused = why(&from, &to).await;
    assert!(refused.contains("holds a store already") && refused.contains("accounts"), "{refused}");
    let store = open(&to, Access::Serve).await.unwrap();
    store.probe(at(0)).await.unwrap();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_serves_keeps_a_copy_out() {
    let from = small("a").await;
    let world = World::new(&Postgres, &[]).await;
    let refused = why(&from, &world.place).await;
    assert!(refused.contains("serves from the database"), "{refused}");
    world.write("U1", &["x"]).await;
    let to = left(world).await;
    assert_eq!(sql(&schema(&to), "SELECT count(*) FROM copies")[0][0].as_deref(), Some("0"));
}

/// One that is as if it had started at the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_slipped_in_ends_itself() {
    let world = World::new(&Postgres, &[]).await;
    sql(
        &schema(&world.place),
        "INSERT INTO copies (id, source, begun_at, newest_event, next_row, part, rows) VALUES (1, '', 0, 0, 1, 'accounts', 0)",
    );
    let failed = tokio::time::timeout(std::time::Duration::from_secs(20), world.store.failed()).await.unwrap();
    assert!(failed.to_string().contains("unfinished copy"), "{failed}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_another_store_is_not_gone_on_with() {
    let (from, other) = (small("a").await, small("b").await);
    let to = Postgres.place();
    assert!(copied(&from, &to, |step| step.rows > 2).await.unwrap().is_none());
    let refused = why(&other, &to).await;
    assert!(refused.contains("unfinished copy of another store") && refused.contains("--abandon"), "{refused}");
    // Nor with the same one, when it was served meanwhile.
    let store = open(&from, Access::Serve).await.unwrap();
    let claim =
        birdwire::store::lane::Claim { subscriber: birdwire::domain::route::SubscriberId("crm".into()), lanes: 1 };
    let leased = store.claim_lanes(vec![claim], at(1), std::time::Duration::from_mins(1)).await.unwrap().leased;
    let retry = crate::conformance::world::attempt(&leased[0], Verdict::Retry { due: at(2) }, at(1));
    store.record_attempt(retry).await.unwrap();
    store.close().await;
    assert!(why(&from, &to).await.contains("before it changed"));
    let (source, target) = ends(&from, &to).await.unwrap();
    assert!(target.abandon().await.unwrap());
    source.close().await;
    target.close().await;
    // Nothing is in the way: neither of another copy nor of whoever serves.
    assert!(matches!(copied(&other, &to, |_| false).await.unwrap(), Some(Outcome::Compared(_))));
    assert!(why(&from, &to).await.contains("holds a store already"));
    open(&to, Access::Serve).await.unwrap().close().await;
}

/// As from two machines that both have the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_copies_at_once_do_not_mix() {
    let (from, to) = (small("a").await, Postgres.place());
    let (source, first) = ends(&from, &to).await.unwrap();
    let second = target(&to).await.unwrap();
    let portrait = source.portrait().await.unwrap();
    let Begun::Goes(start) = first.begin(&portrait, at(1)).await.unwrap() else { panic!("it begins") };
    assert_eq!(second.begin(&portrait, at(2)).await.unwrap(), Begun::Goes(start.clone()));
    let rows = source.page(&TABLES[0], None).await.unwrap();
    let reached = first.put(&start, &TABLES[0], &rows).await.unwrap();
    assert_eq!((reached.rows, second.begin(&portrait, at(2)).await.unwrap()), (1, Begun::Goes(reached.clone())));
    let refused = second.put(&start, &TABLES[0], &rows).await.unwrap_err();
    assert!(refused.to_string().contains("another birdwire copies into it"), "{refused}");
    // And what one gives up, the other cannot finish.
    assert!(second.abandon().await.unwrap());
    assert!(first.finish(at(3)).await.unwrap_err().to_string().contains("abandoned"));
    assert!(first.put(&reached, &TABLES[0], &rows).await.is_err());
    assert_eq!(sql(&schema(&to), "SELECT count(*) FROM accounts")[0][0].as_deref(), Some("0"));
    source.close().await;
    first.close().await;
    second.close().await;
}
