//! Keeping house: removing what is old, listing what is there, proving that commits work.

use super::Engine;
use super::world::{DAY, World, at, messages};
use birdwire::domain::delivery::{Order, State};
use birdwire::domain::route::SubscriberId;
use birdwire::store::lane::Verdict;
use birdwire::store::listing::{DeliveryQuery, Retained};

pub(crate) async fn old_webhooks_and_finished_deliveries_are_removed(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    for (dialog, verdict) in [
        ("U1", Some(Verdict::Dead)),
        ("U2", Some(Verdict::Delivered)),
        ("U3", Some(Verdict::Retry { due: at(500) })),
        ("U4", None),
    ] {
        world.write(dialog, &[dialog]).await;
        if let Some(verdict) = verdict {
            let leased = world.claim_one(at(100)).await;
            world.record(&leased, verdict, at(100)).await;
        }
    }
    let nothing = Retained::default();
    assert_eq!(world.store.retain(at(0), at(100), 100).await.unwrap(), nothing, "nothing is older than that");
    assert_eq!(world.store.retain(at(DAY), at(0), 100).await.unwrap(), Retained { raw: 4, finished: 0 });
    assert_eq!(world.store.retain(at(DAY), at(DAY), 100).await.unwrap(), Retained { raw: 0, finished: 1 });
    assert_eq!(world.store.retain(at(9 * DAY), at(9 * DAY), 100).await.unwrap(), nothing, "dead and owed ones stay");
    assert_eq!(world.states().await, [2, 0, 0, 1, 0]);
    for row in world.deliveries().await {
        assert!(!world.store.delivery(row.id).await.unwrap().unwrap().body.is_empty(), "with what they need");
    }
    assert_eq!(world.events().await.len(), 4, "the account of events stays whole");
    // What was removed is still known: a repeat is a repeat.
    let world = world.reopen().await;
    assert_eq!(world.commit(&[super::world::note("U2", "U2")]).await[0].state(), "duplicate");
    world.write("U2", &["next"]).await;
    assert_eq!(world.deliveries().await.last().unwrap().sequence, 2, "and its number is not given away again");
    world.end().await;
}

pub(crate) async fn dead_letters_do_not_keep_others_from_being_removed(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    for number in 0..6 {
        world.write("U1", &[&format!("m{number}")]).await;
        let leased = world.claim_one(at(100)).await;
        world.record(&leased, if number < 3 { Verdict::Dead } else { Verdict::Delivered }, at(100)).await;
    }
    // Fewer at a time than there are dead letters before them.
    for _ in 0..2 {
        world.store.retain(at(0), at(DAY), 2).await.unwrap();
    }
    assert_eq!(world.states().await, [0, 0, 0, 3, 0]);
    world.end().await;
}

pub(crate) async fn what_is_owed_does_not_keep_others_from_being_removed(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    for number in 0..40 {
        world.write(&format!("U{number}"), &[&format!("m{number}")]).await;
    }
    let before = world.deliveries().await.len();
    // One of the last is delivered; more are owed before it than are looked at in one go.
    let mut leased = world.claim(at(100)).await;
    leased.sort_by_key(|lane| lane.owed.delivery);
    let last = leased.pop().unwrap();
    world.record(&last, Verdict::Delivered, at(100)).await;
    let mut removed = 0;
    for _ in 0..10 {
        removed += world.store.retain(at(0), at(DAY), 1).await.unwrap().finished;
    }
    assert_eq!(removed, 1);
    // Nor does anything stay that ends later.
    let first = leased.remove(0);
    world.record(&first, Verdict::Delivered, at(200)).await;
    for _ in 0..10 {
        removed += world.store.retain(at(0), at(DAY), 1).await.unwrap().finished;
    }
    assert_eq!((removed, world.deliveries().await.len()), (2, before - 2));
    world.end().await;
}

pub(crate) async fn a_probe_commits(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    world.store.probe(at(1)).await.unwrap();
    world.store.probe(at(2)).await.unwrap();
    world.end().await;
}

pub(crate) async fn deliveries_are_listed_by_state_subscriber_and_page(engine: &dyn Engine) {
    let world = World::new(engine, &[messages("crm", Order::Strict), messages("other", Order::Strict)]).await;
    world.write("U1", &["a", "b", "c", "d"]).await;
    let dead = world.claim_one(at(1)).await;
    world.record(&dead, Verdict::Dead, at(1)).await;
    let delivered = world.claim_one(at(2)).await;
    world.record(&delivered, Verdict::Delivered, at(2)).await;
    world.claim_one(at(3)).await;
    let rows = world.deliveries().await;
    let crm = Some(SubscriberId("crm".to_owned()));
    for (position, state) in [State::Dead, State::Delivered, State::Leased, State::Pending].into_iter().enumerate() {
        let query =
            DeliveryQuery { state: Some(state), subscriber: crm.clone(), limit: 10, ..DeliveryQuery::default() };
        let found = world.store.deliveries(query).await.unwrap();
        assert_eq!(found, [rows[position * 2].clone()], "{state:?}");
        assert_eq!(found[0].state, state);
    }
    let nobody = Some(SubscriberId("nobody".to_owned()));
    let of_nobody = DeliveryQuery { subscriber: nobody, limit: 10, ..DeliveryQuery::default() };
    assert_eq!(world.store.deliveries(of_nobody).await.unwrap(), []);
    let page = DeliveryQuery { subscriber: crm.clone(), after: rows[0].id, limit: 2, ..DeliveryQuery::default() };
    assert_eq!(world.store.deliveries(page).await.unwrap(), [rows[2].clone(), rows[4].clone()]);
    let newest = DeliveryQuery { subscriber: crm, newest: true, limit: 2, ..DeliveryQuery::default() };
    assert_eq!(world.store.deliveries(newest).await.unwrap(), [rows[4].clone(), rows[6].clone()]);
    assert_eq!(world.store.delivery(4711).await.unwrap(), None);
    world.end().await;
}
