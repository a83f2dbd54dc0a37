//! Opening and closing: who may, beside whom, and what is refused.

use super::Engine;
use super::world::{World, at, key_of, open, refused};
use birdwire::domain::route::SubscriberId;
use birdwire::store::lane::Verdict;
use birdwire::store::listing::{DeliveryQuery, ReplayOf};
use birdwire::store::{Access, StoreError};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

pub(crate) async fn nothing_is_read_where_nothing_is(engine: &dyn Engine) {
    let place = engine.place();
    for access in [Access::Read, Access::Write] {
        let why = refused(open(&place, access).await);
        assert!(why.contains("birdwire serve"), "it says what makes one: {why}");
    }
}

pub(crate) async fn a_newer_schema_is_refused(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    let place = world.place;
    world.store.close().await;
    drop(world.store);
    engine.age(&place);
    for access in [Access::Serve, Access::Read, Access::Write] {
        let why = refused(open(&place, access).await);
        assert!(why.contains("version 99") && why.contains("newer birdwire"), "{why}");
    }
}

pub(crate) async fn others_read_and_write_beside_the_one_that_serves(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    world.write("U1", &["a"]).await;
    let reader = open(&world.place, Access::Read).await.unwrap();
    let writer = open(&world.place, Access::Write).await.unwrap();
    let all = DeliveryQuery { limit: 10, ..DeliveryQuery::default() };
    assert_eq!(reader.deliveries(all.clone()).await.unwrap(), world.deliveries().await);
    let leased = world.claim_one(at(1)).await;
    assert_eq!(reader.deliveries(all.clone()).await.unwrap(), world.deliveries().await, "the lease is seen");
    world.record(&leased, Verdict::Dead, at(1)).await;

    let done = writer.replay(ReplayOf::Dead { since: None }, at(2)).await.unwrap();
    assert_eq!(done.replayed, [leased.owed.delivery]);
    let again = world.claim_one(at(2)).await;
    assert!(again.owed.replay && key_of(&again.owed.body) == "a");
    let crm = SubscriberId("crm".to_owned());
    assert!(writer.disable(&crm, "by hand".to_owned(), at(3)).await.unwrap());
    world.write("U2", &["b"]).await;
    assert_eq!(world.claim(at(4)).await, [], "the change is seen");
    assert_eq!(reader.backlog().await.unwrap(), world.store.backlog().await.unwrap());

    assert!(matches!(reader.probe(at(5)).await, Err(StoreError::Stopped { .. })), "who only looks changes nothing");
    writer.close().await;
    reader.close().await;
    world.write("U2", &["c"]).await;
    world.end().await;
}

pub(crate) async fn a_closed_store_says_so(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    let inbound = world.inbound(super::world::account(1), at(0), Vec::new());
    world.store.close().await;
    assert!(matches!(world.store.commit_inbound(inbound).await, Err(StoreError::Stopped { .. })));
    assert!(matches!(world.store.probe(at(0)).await, Err(StoreError::Stopped { .. })));
    world.store.close().await;
}

pub(crate) async fn closing_waits_for_nobody(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    let (mut hint, mut failed) = (world.store.work_hint(), world.store.failed());
    poll_fn(|cx| {
        assert!(hint.as_mut().poll(cx).is_pending() && failed.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    let closed = tokio::time::timeout(Duration::from_secs(5), world.store.close()).await;
    drop((hint, failed));
    assert!(closed.is_ok(), "somebody who waits for work kept the store open");
}
