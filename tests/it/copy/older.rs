//! A store that an older version made: brought up to date it shows the same, and goes on.

use super::grown::{afterwards, line, shown, subscribers};
use super::{claim, served};
use crate::conformance::Place;
use crate::conformance::world::{World, account, attempt, note};
use birdwire::domain::event::End;
use birdwire::store::lane::Verdict;
use sha2::{Digest, Sha256};
use std::path::Path;

/// `v2.db` was grown by the version with that schema; `v2.shown` has the first half of the SHA-256 of each line that
/// the same version showed of it.
fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/copy/older").join(name)
}

async fn brought_up_to_date() -> World {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    std::fs::copy(fixture("v2.db"), &file).unwrap();
    served(Place { url: format!("sqlite:{}", file.display()), _hold: Box::new(folder) }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_store_shows_the_same() {
    let world = brought_up_to_date().await;
    let lines = shown(&*world.store, &[account(1), account(2)]).await;
    let expected = std::fs::read_to_string(fixture("v2.shown")).unwrap();
    let hash = |line: &String| {
        let hash = Sha256::digest(line.as_bytes());
        let half = hash.first_chunk().map_or(0, |half| u64::from_be_bytes(*half));
        format!("{half:016x}")
    };
    // A quarantine did not name a message then; no row of that store does.
    let lines: Vec<String> = lines.iter().map(|line| line.replace("\", message: None })", "\" })")).collect();
    for (line, expected) in lines.iter().zip(expected.lines()) {
        assert_eq!(hash(line), expected, "not what it showed: {line}");
    }
    assert_eq!(lines.len(), expected.lines().count());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_store_goes_on() {
    let world = brought_up_to_date().await;
    let before = world.deliveries().await;
    assert_eq!(world.commit(&[note("U1", "a")]).await, [End::Duplicate { conflict: false }]);
    assert_eq!(world.commit(&[line("b", "text of b", 7)]).await, [End::Duplicate { conflict: true }]);
    assert_eq!(world.commit(&[line("new", "new", 99)]).await, [End::Stored]);
    let rows = world.deliveries().await;
    let new = rows[before.len()..].iter().find(|row| row.subscriber.0 == "crm").unwrap();
    let lane = rows.iter().filter(|row| row.subscriber == new.subscriber && row.conversation == new.conversation);
    assert_eq!(lane.map(|row| row.sequence).max(), Some(new.sequence), "it is numbered on");
    // Everything that was owed is delivered, in order.
    for (interest, _) in subscribers() {
        let name = interest.subscriber.0.clone();
        world.store.enable(&interest.subscriber, afterwards()).await.unwrap();
        loop {
            let leased = claim(&world, &name).await;
            if leased.is_empty() {
                break;
            }
            for leased in leased {
                let done = attempt(&leased, Verdict::Delivered, afterwards());
                world.store.record_attempt(done).await.unwrap();
            }
        }
        assert_eq!(world.backlog(&name).await.owed, 0, "{name}");
    }
    world.end().await;
}
