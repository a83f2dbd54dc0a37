//! Replays: the same delivery again, out of order and marked.

use super::Engine;
use super::world::{World, at, key_of};
use birdwire::domain::delivery::State;
use birdwire::store::lane::{Advance, Verdict};
use birdwire::store::listing::{ReplayOf, Replayed};

async fn replay(world: &World, ids: &[i64], seconds: u64) -> Replayed {
    world.store.replay(ReplayOf::Deliveries(ids.to_vec()), at(seconds)).await.unwrap()
}

/// A world with one delivery in each end state: `a` is dead, `b` is delivered, `c` is owed. Returns their ids.
async fn ended(engine: &dyn Engine) -> (World, [i64; 3]) {
    let world = World::simple(engine).await;
    world.write("U1", &["a", "b", "c"]).await;
    let dead = world.claim_one(at(1)).await;
    world.record(&dead, Verdict::Dead, at(1)).await;
    let delivered = world.claim_one(at(2)).await;
    world.record(&delivered, Verdict::Delivered, at(2)).await;
    let owed = world.deliveries().await[2].id;
    (world, [dead.owed.delivery, delivered.owed.delivery, owed])
}

pub(crate) async fn a_dead_letter_is_owed_again(engine: &dyn Engine) {
    let (world, [dead, ..]) = ended(engine).await;
    let before = world.store.delivery(dead).await.unwrap().unwrap();
    assert_eq!(replay(&world, &[dead], 10).await, Replayed { replayed: vec![dead], ..Replayed::default() });
    let leased = world.claim(at(10)).await;
    let again = leased.iter().find(|lane| lane.owed.replay).expect("the replay");
    assert_eq!((again.owed.delivery, again.owed.sequence, again.owed.event_id), (dead, 1, before.row.event_id));
    assert_eq!((&again.owed.body, key_of(&again.owed.body)), (&before.body, "a".to_owned()));
    assert_eq!(again.conversation, before.row.conversation);
    assert_eq!(world.record(again, Verdict::Delivered, at(11)).await, Advance::Released);
    let after = world.store.delivery(dead).await.unwrap().unwrap();
    assert_eq!((after.row.state, after.row.replay, after.row.attempts), (State::Delivered, true, 2));
    assert_eq!(after.attempts.iter().map(|a| a.status).collect::<Vec<_>>(), [Some(500), Some(200)]);
    world.end().await;
}

pub(crate) async fn a_delivered_one_is_owed_again(engine: &dyn Engine) {
    let (world, [_, delivered, _]) = ended(engine).await;
    replay(&world, &[delivered], 10).await;
    assert_eq!(world.backlog("crm").await.owed, 2);
    let world = world.reopen().await;
    let leased = world.claim(at(10)).await;
    let again = leased.iter().find(|lane| lane.owed.replay).expect("the replay");
    assert_eq!((again.owed.delivery, again.owed.sequence), (delivered, 2));
    world.end().await;
}

pub(crate) async fn a_replay_does_not_hold_up_its_lane(engine: &dyn Engine) {
    let (world, [dead, _, owed]) = ended(engine).await;
    replay(&world, &[dead], 10).await;
    let leased = world.claim(at(10)).await;
    assert_eq!(leased.len(), 2, "side by side");
    for lane in &leased {
        let verdict = if lane.owed.replay { Verdict::Retry { due: at(999) } } else { Verdict::Delivered };
        assert_eq!(world.record(lane, verdict, at(11)).await, Advance::Released);
    }
    world.write("U1", &["d"]).await;
    assert_eq!(key_of(&world.claim_one(at(12)).await.owed.body), "d");
    assert_eq!(world.store.delivery(owed).await.unwrap().unwrap().row.state, State::Delivered);
    assert_eq!(world.claim_all("crm", 9, at(12)).await.next_due, Some(at(72)), "the lease of d");
    world.end().await;
}

pub(crate) async fn what_is_still_owed_or_unknown_is_said(engine: &dyn Engine) {
    let (world, [dead, delivered, owed]) = ended(engine).await;
    let done = replay(&world, &[owed, 4711, dead, dead, delivered], 10).await;
    assert_eq!(done.replayed, [dead, delivered]);
    assert_eq!(done.still_owed, [owed, dead], "asked twice, owed once");
    assert_eq!(done.unknown, [4711]);
    assert_eq!(world.states().await, [3, 0, 0, 0]);
    assert_eq!(world.claim(at(10)).await.len(), 3);
    world.end().await;
}

pub(crate) async fn dead_letters_are_replayed_by_their_time(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    for (number, key) in (1..).zip(["a", "b", "c"]) {
        world.write("U1", &[key]).await;
        let leased = world.claim_one(at(number * 100)).await;
        world.record(&leased, Verdict::Dead, at(number * 100)).await;
    }
    let since = |seconds| ReplayOf::Dead { since: Some(at(seconds)) };
    assert_eq!(world.store.replay(since(301), at(400)).await.unwrap().replayed.len(), 0);
    let ids: Vec<i64> = world.deliveries().await.iter().map(|row| row.id).collect();
    assert_eq!(world.store.replay(since(200), at(400)).await.unwrap().replayed, ids[1..]);
    assert_eq!(world.store.replay(ReplayOf::Dead { since: None }, at(400)).await.unwrap().replayed, ids[..1]);
    assert_eq!(world.store.replay(ReplayOf::Dead { since: None }, at(400)).await.unwrap(), Replayed::default());
    world.end().await;
}

pub(crate) async fn a_replay_begins_a_new_round_of_attempts(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    world.write("U1", &["a"]).await;
    let first = world.claim_one(at(1)).await;
    world.record(&first, Verdict::Retry { due: at(2) }, at(1)).await;
    let second = world.claim_one(at(2)).await;
    assert_eq!((second.owed.failures, second.owed.first_attempt), (1, Some(at(1))));
    world.record(&second, Verdict::Dead, at(2)).await;
    replay(&world, &[first.owed.delivery], 100_000).await;
    let third = world.claim_one(at(100_000)).await;
    assert_eq!((third.owed.failures, third.owed.first_attempt), (0, None), "it may be tried as long as the first time");
    world.record(&third, Verdict::Retry { due: at(100_001) }, at(100_000)).await;
    let fourth = world.claim_one(at(100_001)).await;
    assert_eq!((fourth.owed.failures, fourth.owed.first_attempt), (1, Some(at(100_000))));
    world.record(&fourth, Verdict::Dead, at(100_001)).await;
    let detail = world.store.delivery(first.owed.delivery).await.unwrap().unwrap();
    assert_eq!((detail.row.state, detail.row.attempts), (State::Dead, 4));
    assert_eq!(detail.attempts.iter().map(|a| a.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
    world.end().await;
}
