//! Lanes: one delivery at a time, in order, by whoever holds the lease.

use super::Engine;
use super::world::{LEASE, Note, World, account, at, attempt, key_of, messages, note};
use birdwire::domain::delivery::{Order, State};
use birdwire::domain::event::End;
use birdwire::domain::route::SubscriberId;
use birdwire::domain::time::Timestamp;
use birdwire::store::lane::{Advance, Attempt, Claim, Leased, Verdict};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::task::JoinSet;

pub(crate) async fn sequences_have_no_gaps(engine: &dyn Engine) {
    let world = World::new(engine, &[messages("crm", Order::Strict), messages("free", Order::None)]).await;
    let mut commits = JoinSet::new();
    for number in 0..60 {
        let note = note(&format!("U{}", number % 3), &format!("m{number}"));
        let inbound = world.inbound(account(1), at(0), vec![note.event()]);
        let store = world.store.clone();
        commits.spawn(async move { store.commit_inbound(inbound).await.unwrap() });
    }
    commits.join_all().await;
    let world = world.reopen().await;
    world.write("U0", &["last"]).await;
    let rows = world.deliveries().await;
    let conversations: BTreeSet<_> = rows.iter().map(|row| row.conversation).collect();
    assert_eq!((rows.len(), conversations.len()), (122, 3));
    for subscriber in ["crm", "free"] {
        for &conversation in &conversations {
            let of_lane = rows.iter().filter(|row| row.subscriber.0 == subscriber && row.conversation == conversation);
            let sequences: Vec<i64> = of_lane.map(|row| row.sequence).collect();
            let whole: Vec<i64> = (1..).take(sequences.len()).collect();
            assert_eq!(sequences, whole, "{subscriber}");
        }
    }
    world.end().await;
}

pub(crate) async fn only_the_head_is_claimed(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    world.write("U1", &["a", "b", "c"]).await;
    for (sequence, key) in (1..).zip(["a", "b", "c"]) {
        let leased = world.claim_one(at(sequence)).await;
        assert_eq!((leased.owed.sequence, key_of(&leased.owed.body)), (sequence.cast_signed(), key.to_owned()));
        assert_eq!((leased.owed.failures, leased.owed.first_attempt, leased.owed.replay), (0, None, false));
        assert_eq!(leased.owed.event_type, "conversation_message_created");
        let states = world.states().await;
        assert_eq!(states, [3 - usize::try_from(sequence).unwrap(), 1, usize::try_from(sequence).unwrap() - 1, 0, 0]);
        assert_eq!(world.record(&leased, Verdict::Delivered, at(sequence)).await, Advance::Released);
    }
    let claimed = world.claim_all("crm", 10, at(100)).await;
    assert_eq!((claimed.leased, claimed.next_due), (vec![], None));
    world.end().await;
}

pub(crate) async fn a_leased_lane_is_not_claimed_again(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    world.write("U1", &["a"]).await;
    world.claim_one(at(0)).await;
    // What is added meanwhile does not free it.
    world.write("U1", &["b"]).await;
    let claimed = world.claim_all("crm", 10, at(1)).await;
    assert_eq!((claimed.leased, claimed.next_due), (vec![], Some(at(0).plus(LEASE))));
    world.end().await;
}

pub(crate) async fn an_expired_lease_can_be_claimed_and_its_result_is_dropped(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    world.write("U1", &["a", "b"]).await;
    let slow = world.claim_one(at(0)).await;
    assert_eq!(world.claim(at(59)).await, []);
    let quick = world.claim_one(at(60)).await;
    assert_eq!(quick.owed.delivery, slow.owed.delivery);
    assert!(quick.lease != slow.lease);
    for verdict in [Verdict::Delivered, Verdict::Dead, Verdict::Retry { due: at(999) }] {
        assert_eq!(world.record(&slow, verdict, at(61)).await, Advance::Lost);
    }
    // Giving a lost lease back takes nothing from the one who has it now.
    world.store.release_lanes(vec![slow.lease]).await.unwrap();
    assert_eq!(world.claim(at(61)).await, []);
    assert_eq!(world.record(&quick, Verdict::Delivered, at(62)).await, Advance::Released);
    assert_eq!(world.record(&quick, Verdict::Delivered, at(62)).await, Advance::Lost, "once is enough");
    let rows = world.deliveries().await;
    let logged = world.store.delivery(rows[0].id).await.unwrap().unwrap().attempts;
    let logged: Vec<_> = logged.iter().map(|a| (a.number, &*a.reason)).collect();
    assert_eq!(logged, [(1, "unknown outcome"), (2, "delivered")], "nobody knows what the slow one did");
    assert_eq!((rows[0].state, rows[0].attempts, rows[1].state), (State::Delivered, 2, State::Pending));
    world.end().await;
}

pub(crate) async fn a_released_lane_is_due_at_once(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    world.write("U1", &["a"]).await;
    let leased = world.claim_one(at(0)).await;
    world.store.release_lanes(vec![leased.lease]).await.unwrap();
    let again = world.claim_one(at(1)).await;
    assert_eq!((again.owed.delivery, again.owed.failures), (leased.owed.delivery, 0));
    assert_eq!(world.record(&leased, Verdict::Delivered, at(2)).await, Advance::Lost);
    world.end().await;
}

pub(crate) async fn a_retry_waits_for_its_time(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    world.write("U1", &["a", "b"]).await;
    let first = world.claim_one(at(1)).await;
    let retry = Verdict::Retry { due: at(30) };
    assert_eq!(world.record(&first, retry, at(1)).await, Advance::Released);
    let claimed = world.claim_all("crm", 10, at(29)).await;
    assert_eq!((claimed.leased, claimed.next_due), (vec![], Some(at(30))), "strict: what is behind it waits too");
    let second = world.claim_one(at(30)).await;
    assert_eq!((second.owed.delivery, second.owed.failures), (first.owed.delivery, 1));
    assert_eq!(second.owed.first_attempt, Some(at(1)));
    // Wanting the lane further does not help a delivery that has to wait.
    let mut wanting = attempt(&second, Verdict::Retry { due: at(90) }, at(30));
    wanting.extend = Some(LEASE);
    assert_eq!(world.store.record_attempt(wanting).await.unwrap(), Advance::Released);
    let detail = world.store.delivery(first.owed.delivery).await.unwrap().unwrap();
    assert_eq!((detail.row.state, detail.row.attempts, detail.row.due_at), (State::Pending, 2, at(90)));
    let logged: Vec<_> = detail.attempts.iter().map(|a| (a.number, a.at, a.status, a.duration_ms)).collect();
    assert_eq!(logged, [(1, at(1), Some(500), Some(10)), (2, at(30), Some(500), Some(10))]);
    let world = world.reopen().await;
    assert_eq!(world.claim(at(89)).await, [], "a restart makes nothing due");
    assert_eq!(world.claim_one(at(90)).await.owed.failures, 2);
    world.end().await;
}

pub(crate) async fn a_dead_letter_lets_the_lane_go_on(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    world.write("U1", &["a", "b"]).await;
    let first = world.claim_one(at(0)).await;
    assert_eq!(world.record(&first, Verdict::Dead, at(0)).await, Advance::Released);
    let second = world.claim_one(at(1)).await;
    assert_eq!((second.owed.sequence, key_of(&second.owed.body)), (2, "b".to_owned()), "the gap is to be seen");
    assert_eq!(world.record(&second, Verdict::Delivered, at(1)).await, Advance::Released);
    assert_eq!(world.states().await, [0, 0, 1, 1, 0]);
    let backlog = world.backlog("crm").await;
    assert_eq!((backlog.owed, backlog.dead, backlog.oldest), (0, 1, None));
    world.end().await;
}

pub(crate) async fn an_extended_lease_goes_on_with_the_next(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    world.write("U1", &["a", "b", "c"]).await;
    let mut leased = world.claim_one(at(0)).await;
    for (now, verdict, key) in [(50, Verdict::Delivered, "b"), (100, Verdict::Dead, "c")] {
        let extended = Attempt { extend: Some(LEASE), ..attempt(&leased, verdict, at(now)) };
        let Advance::Next(next) = world.store.record_attempt(extended).await.unwrap() else { panic!("not extended") };
        assert_eq!(key_of(&next.body), key);
        assert_eq!(world.claim(at(now + 59)).await, [], "it is leased from the end of the attempt on");
        leased = Leased { owed: *next, ..leased };
    }
    let extended = Attempt { extend: Some(LEASE), ..attempt(&leased, Verdict::Delivered, at(110)) };
    assert_eq!(world.store.record_attempt(extended).await.unwrap(), Advance::Released, "nothing is left");
    world.write("U1", &["d"]).await;
    assert_eq!(key_of(&world.claim_one(at(111)).await.owed.body), "d");
    world.end().await;
}

pub(crate) async fn without_order_everything_is_due_at_once(engine: &dyn Engine) {
    let world = World::new(engine, &[messages("crm", Order::None)]).await;
    world.write("U1", &["a", "b", "c"]).await;
    let leased = world.claim(at(0)).await;
    let sequences: BTreeSet<i64> = leased.iter().map(|lane| lane.owed.sequence).collect();
    assert_eq!(sequences, BTreeSet::from([1, 2, 3]));
    assert_eq!(leased.iter().map(|lane| lane.conversation).collect::<BTreeSet<_>>().len(), 1);
    assert_eq!(world.record(&leased[0], Verdict::Retry { due: at(500) }, at(1)).await, Advance::Released);
    assert_eq!(world.record(&leased[2], Verdict::Delivered, at(1)).await, Advance::Released);
    assert_eq!(world.record(&leased[1], Verdict::Delivered, at(1)).await, Advance::Released);
    assert_eq!(world.claim(at(499)).await, []);
    let last = world.claim_one(at(500)).await;
    assert_eq!(last.owed.delivery, leased[0].owed.delivery);
    world.record(&last, Verdict::Delivered, at(500)).await;
    assert_eq!(world.states().await, [0, 0, 3, 0, 0]);
    world.end().await;
}

pub(crate) async fn one_conversation_does_not_hold_up_another(engine: &dyn Engine) {
    let world = World::new(engine, &[messages("crm", Order::Strict), messages("other", Order::Bounded)]).await;
    world.write("U1", &["a", "b"]).await;
    world.write("U2", &["c", "d"]).await;
    let leased = world.claim(at(0)).await;
    assert_eq!(leased.len(), 2);
    let (stuck, free) = if key_of(&leased[0].owed.body) == "a" { (0, 1) } else { (1, 0) };
    world.record(&leased[stuck], Verdict::Retry { due: at(1000) }, at(0)).await;
    world.record(&leased[free], Verdict::Delivered, at(0)).await;
    assert_eq!(key_of(&world.claim_one(at(1)).await.owed.body), "d");
    // Nor one subscriber another.
    let others = world.claim_all("other", 10, at(1)).await.leased;
    assert_eq!(others.len(), 2);
    assert!(others.iter().all(|lane| lane.subscriber == SubscriberId("other".to_owned()) && lane.owed.sequence == 1));
    world.end().await;
}

pub(crate) async fn as_many_lanes_as_wanted_and_no_more(engine: &dyn Engine) {
    let world = World::new(engine, &[messages("crm", Order::Strict), messages("other", Order::Strict)]).await;
    for number in 0..5 {
        world.write(&format!("U{number}"), &[&format!("m{number}")]).await;
    }
    let claim = |name: &str, lanes| Claim { subscriber: SubscriberId(name.to_owned()), lanes };
    let wishes = vec![claim("crm", 2), claim("other", 0), claim("nobody", 3)];
    let claimed = world.store.claim_lanes(wishes, at(0), LEASE).await.unwrap();
    assert_eq!(claimed.leased.len(), 2);
    assert!(claimed.leased.iter().all(|lane| lane.subscriber.0 == "crm"));
    assert_eq!(world.claim_all("crm", 2, at(0)).await.leased.len(), 2);
    assert_eq!(world.claim_all("crm", 2, at(0)).await.leased.len(), 1);
    let at_once = world.store.claim_lanes(vec![claim("crm", 9), claim("other", 9)], at(0), LEASE).await.unwrap();
    assert_eq!(at_once.leased.len(), 5);
    assert!(at_once.leased.iter().all(|lane| lane.subscriber.0 == "other"));
    world.end().await;
}

pub(crate) async fn a_disabled_subscriber_gets_nothing_and_keeps_what_it_is_owed(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    world.write("U1", &["a"]).await;
    let crm = SubscriberId("crm".to_owned());
    let gone = "answered 410 Gone".to_owned();
    assert!(world.store.disable(&crm, gone.clone(), at(5)).await.unwrap());
    assert!(!world.store.disable(&SubscriberId("nobody".to_owned()), gone.clone(), at(5)).await.unwrap());
    world.write("U1", &["b"]).await;
    let world = world.reopen().await;
    let claimed = world.claim_all("crm", 10, at(100)).await;
    assert_eq!((claimed.leased, claimed.next_due), (vec![], None));
    let backlog = world.backlog("crm").await;
    assert_eq!((backlog.owed, backlog.oldest, &backlog.subscriber.disabled), (2, Some(at(0)), &Some((at(5), gone))));
    assert!(world.store.enable(&crm, at(6)).await.unwrap());
    assert_eq!(world.backlog("crm").await.subscriber.disabled, None);
    assert_eq!(key_of(&world.claim_one(at(100)).await.owed.body), "a");
    world.end().await;
}

/// More heads than are looked at together, some of them being attempted when the subscriber is resumed.
pub(crate) async fn who_is_enabled_again_has_all_its_time(engine: &dyn Engine) {
    let world = World::new(engine, &[messages("crm", Order::Strict), messages("other", Order::Strict)]).await;
    let notes: Vec<Note> = (0..1100).map(|nth| note(&format!("U{nth}"), &format!("m{nth}"))).collect();
    world.commit(&notes).await;
    world.commit(&[note("U0", "behind")]).await;
    let mut failed = JoinSet::new();
    for subscriber in ["crm", "other"] {
        for lane in world.claim_all(subscriber, 2000, at(1)).await.leased {
            let store = world.store.clone();
            failed.spawn(async move {
                store.record_attempt(attempt(&lane, Verdict::Retry { due: at(2) }, at(1))).await.unwrap();
            });
        }
    }
    assert_eq!(failed.join_all().await.len(), 2 * notes.len());
    // An attempt that is recorded when the subscriber is enabled again, and one of which nobody ever hears.
    let [slow, lost] = &world.claim_all("crm", 2, at(2)).await.leased[..] else { panic!("two lanes are due") };
    assert_eq!((slow.owed.failures, slow.owed.first_attempt), (1, Some(at(1))));
    let crm = SubscriberId("crm".to_owned());
    world.store.disable(&crm, "answered 410 Gone".to_owned(), at(2)).await.unwrap();
    world.store.enable(&crm, at(300_000)).await.unwrap();
    world.record(slow, Verdict::Retry { due: at(300_002) }, at(300_001)).await;

    let leased = world.claim_all("crm", 2000, at(300_002)).await.leased;
    assert_eq!(leased.len(), notes.len());
    for lane in &leased {
        let expected = match lane.owed.delivery {
            id if id == slow.owed.delivery => (1, Some(at(300_001))),
            id if id == lost.owed.delivery => (1, Some(at(300_002))),
            _ => (0, None),
        };
        assert_eq!((lane.owed.failures, lane.owed.first_attempt), expected, "{}", lane.owed.delivery);
    }
    let calm = leased.iter().find(|lane| lane.owed.failures == 0).unwrap();
    let detail = world.store.delivery(calm.owed.delivery).await.unwrap().unwrap();
    assert_eq!((detail.row.attempts, detail.attempts.len()), (1, 1), "what was attempted is not forgotten");
    let others = world.claim_all("other", 2000, at(300_002)).await.leased;
    assert!(others.iter().all(|lane| lane.owed.first_attempt == Some(at(1))), "nobody else has begun anew");
    world.end().await;
}

pub(crate) async fn a_removed_subscriber_keeps_what_it_is_owed(engine: &dyn Engine) {
    let world = World::new(engine, &[messages("crm", Order::Strict), messages("old", Order::Strict)]).await;
    world.write("U1", &["a"]).await;
    let world = world.reopen_with(&[messages("crm", Order::Strict)]).await;
    world.write("U1", &["b"]).await;
    let (kept, old) = (world.backlog("crm").await, world.backlog("old").await);
    assert_eq!((kept.owed, kept.subscriber.configured), (2, true));
    assert_eq!((old.owed, old.subscriber.configured), (1, false), "owed what it was owed and nothing more");
    assert_eq!(world.claim_all("old", 10, at(10)).await.leased, [], "but it gets nothing");
    let world = world.reopen_with(&[messages("crm", Order::Strict), messages("old", Order::Strict)]).await;
    assert_eq!(world.claim_all("old", 10, at(10)).await.leased.len(), 1, "until it is back");
    world.end().await;
}

pub(crate) async fn order_may_change_between_two_starts(engine: &dyn Engine) {
    let world = World::new(engine, &[messages("crm", Order::None)]).await;
    world.write("U1", &["a", "b"]).await;
    let world = world.reopen_with(&[messages("crm", Order::Strict)]).await;
    world.write("U1", &["c", "d"]).await;
    let leased = world.claim(at(1)).await;
    let sequences: BTreeSet<i64> = leased.iter().map(|lane| lane.owed.sequence).collect();
    assert_eq!(sequences, BTreeSet::from([1, 2, 3]), "what was owed before stays free, the new is in order");
    for lane in &leased {
        world.record(lane, Verdict::Delivered, at(1)).await;
    }
    let world = world.reopen_with(&[messages("crm", Order::None)]).await;
    world.write("U1", &["e"]).await;
    let sequences: BTreeSet<i64> = world.claim(at(2)).await.iter().map(|lane| lane.owed.sequence).collect();
    assert_eq!(sequences, BTreeSet::from([4, 5]));
    world.end().await;
}

pub(crate) async fn work_is_hinted_at(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    // Armed before there is work, or the hint is kept: either way it does not get lost.
    let store = world.store.clone();
    let hinted = tokio::spawn(async move { store.work_hint().await });
    world.write("U1", &["a"]).await;
    tokio::time::timeout(Duration::from_secs(10), hinted).await.expect("a hint").unwrap();
    let now: Timestamp = at(1);
    assert_eq!(world.commit(&[note("U1", "b")]).await, [End::Stored]);
    tokio::time::timeout(Duration::from_secs(10), world.store.work_hint()).await.expect("a hint that was kept");
    let leased = world.claim_one(now).await;
    // Given back with more to do.
    assert_eq!(world.record(&leased, Verdict::Delivered, now).await, Advance::Released);
    tokio::time::timeout(Duration::from_secs(10), world.store.work_hint()).await.expect("a hint for the rest");
    let leased = world.claim_one(now).await;
    // Given back for later: whoever did it knows when.
    assert_eq!(world.record(&leased, Verdict::Retry { due: at(100) }, now).await, Advance::Released);
    let hinted = tokio::time::timeout(Duration::from_millis(50), world.store.work_hint()).await;
    assert!(hinted.is_err(), "there is nothing to do");
    world.end().await;
}
