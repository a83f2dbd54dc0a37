//! A store that has lived: everything that can happen to one, through the same calls as a gateway makes.

use crate::conformance::Engine;
use crate::conformance::changes::{edit, original, unsend};
use crate::conformance::notices::notice;
use crate::conformance::remapping::{REAL, Reader};
use crate::conformance::statuses::status;
use crate::conformance::world::{DAY, Note, World, account, at, messages, note, riddle};
use birdwire::domain::account::Account;
use birdwire::domain::delivery::{Order, State};
use birdwire::domain::event::{DedupeKey, End, InboundEvent};
use birdwire::domain::message::Status;
use birdwire::domain::route::{Interest, SubscriberId};
use birdwire::domain::time::Timestamp;
use birdwire::store::Store;
use birdwire::store::lane::Verdict;
use birdwire::store::listing::{DeliveryQuery, EventQuery, ReplayOf};
use birdwire::store::replay::KeptQuery;
use birdwire::store::trace::TraceQuery;
use std::sync::Arc;
use std::time::Duration;

fn everything(name: &str, order: Order) -> (Interest, Order) {
    let events = vec!["*".to_owned()];
    (Interest { subscriber: SubscriberId(name.to_owned()), events, accounts: Vec::new() }, order)
}

pub(super) fn subscribers() -> Vec<(Interest, Order)> {
    vec![
        everything("crm", Order::Strict),
        everything("bulk", Order::None),
        messages("bounded", Order::Bounded),
        messages("down", Order::Strict),
    ]
}

/// `key` in dialog U1, so many seconds into the case.
pub(super) fn line(key: &str, text: &str, seconds: u64) -> Note {
    Note { text: text.to_owned(), at: at(seconds), ..note("U1", key) }
}

/// What strangers write: bytes that text columns of other engines cannot hold.
fn nul() -> InboundEvent {
    let strange = Note { name: "N\0ul".to_owned(), text: "te\0xt".to_owned(), at: at(20), ..note("D\0ialog", "k\0ey") };
    InboundEvent { kind: "ki\0nd".to_owned(), ..original(&strange) }
}

/// A webhook without events.
pub(super) async fn nothing(world: &World) {
    let ends = world.store.commit_inbound(world.inbound(account(1), at(9), Vec::new())).await.unwrap().ends;
    assert_eq!(ends[0].state(), "ignored");
}

/// Grows a store over four days. Leases are left behind, as by a process that was killed.
pub(super) async fn grown(engine: &dyn Engine) -> World {
    let leaver = messages("leaver", Order::Strict);
    let world = World::new(engine, &[subscribers(), vec![leaver]].concat()).await;
    // Quarantine, and what today's mapping makes of it.
    assert_eq!(Reader::Young.accept(&world, "U3 q one\nU3 r two?\nU3 s three").await.len(), 3);
    Reader::Young.accept(&world, "U3 t four!\nU3 u five").await;
    assert!(Reader::Grown.replay(&world, REAL).await.0.understood >= 2);
    // Two conversations, two accounts, repeats, a conflict, a repeat beside something new.
    world.write("U1", &["a", "b", "c", "d", "e"]).await;
    world.write("U2", &["f", "g"]).await;
    world.say(account(2), vec![original(&Note { account: account(2), ..line("a", "elsewhere", 1) })]).await;
    assert_eq!(world.commit(&[note("U1", "a")]).await[0].state(), "duplicate");
    let later =
        InboundEvent { key: Some(DedupeKey { at: at(7), provider_key: "b".into() }), ..note("U1", "b").event() };
    assert_eq!(world.say(account(1), vec![later]).await[0].state(), "duplicate");
    world.say(account(1), vec![original(&line("secret", "secret", 8))]).await;
    let beside = vec![original(&line("secret", "secret", 8)), original(&line("public", "public", 9)), riddle()];
    assert_eq!(
        world.say(account(1), beside).await.iter().map(End::state).collect::<Vec<_>>(),
        ["duplicate", "stored", "quarantined"]
    );
    nothing(&world).await;
    // Edits and unsends, in order and not; statuses; notices with and without a conversation.
    world.say(account(1), vec![edit(&line("secret", "secret too", 10))]).await;
    world.say(account(1), vec![edit(&line("early", "edited", 11)), unsend(&line("never", "", 12))]).await;
    world.say(account(1), vec![original(&line("gone", "gone", 13))]).await;
    world.say(account(1), vec![unsend(&line("gone", "", 14))]).await;
    let one = account(1);
    world.say(one.clone(), vec![status(&one, "out", Status::Sent, "sent", 15)]).await;
    world.say(one.clone(), vec![status(&one, "out", Status::Delivered, "delivered", 16)]).await;
    world.say(one.clone(), vec![notice(&line("n", "", 17), "follow"), notice(&note("", "n"), "joined")]).await;
    world.say(one, vec![nul()]).await;
    Reader::Young.accept(&world, "U3 v never?").await;
    deliver(&world).await;
    // Later days: what is old is removed, more comes, and somebody is killed.
    let more = Note { at: at(2 * DAY), ..note("U1", "h") };
    world.commit(&[more]).await;
    world.store.retain(at(0), at(1), 2).await.unwrap();
    let many: Vec<Note> = (0..1300).map(|n| Note { at: at(3 * DAY), ..note("U4", &format!("many {n}")) }).collect();
    for some in many.chunks(650) {
        world.commit(some).await;
    }
    for leased in world.claim_all("bulk", 700, at(3 * DAY)).await.leased {
        world.record(&leased, Verdict::Delivered, at(3 * DAY)).await;
    }
    world.claim_all("crm", 2, at(3 * DAY)).await;
    world.claim_all("bulk", 3, at(3 * DAY)).await;
    let world = world.reopen_with(&subscribers()).await;
    world.claim_all("crm", 1, at(3 * DAY)).await;
    world
}

/// Every fate of a delivery: delivered, failed and waiting, given up, owed again, disabled.
async fn deliver(world: &World) {
    let due = at(DAY + 60);
    for round in 0..4u64 {
        for (nth, leased) in world.claim_all("crm", 100, at(DAY + round)).await.leased.iter().enumerate() {
            let verdict = match (nth + usize::try_from(round).unwrap()) % 3 {
                0 => Verdict::Delivered,
                1 => Verdict::Dead,
                _ => Verdict::Retry { due },
            };
            world.record(leased, verdict, at(DAY + round)).await;
        }
    }
    for leased in world.claim_all("bulk", 4, at(DAY)).await.leased {
        // Late in the day, and over before the next one has begun.
        world.record(&leased, Verdict::Delivered, at(2 * DAY).minus(Duration::from_millis(5))).await;
    }
    for leased in world.claim_all("down", 1, at(DAY)).await.leased {
        world.record(&leased, Verdict::Retry { due }, at(DAY)).await;
    }
    world.store.disable(&SubscriberId("down".into()), "410".into(), at(DAY)).await.unwrap();
    let rows = world.deliveries().await;
    let of = |state: State| rows.iter().filter(|row| row.state == state).map(|row| row.id).take(2).collect::<Vec<_>>();
    let again = [of(State::Delivered), of(State::Dead)].concat();
    assert_eq!(again.len(), 4, "{rows:?}");
    let replayed = world.store.replay(ReplayOf::Deliveries(again.clone()), at(DAY + 10)).await.unwrap();
    assert_eq!(replayed.replayed, again);
    let states = world.states().await;
    assert!(states[0] > 0 && states[2] > 0 && states[3] > 0 && states[4] > 0, "every state: {states:?}");
}

/// Everything that an operator's commands show, line by line.
pub(super) async fn shown(store: &dyn Store, accounts: &[Arc<Account>]) -> Vec<String> {
    let mut lines = Vec::new();
    let events = store.events(EventQuery { limit: 100_000, ..EventQuery::default() }).await.unwrap();
    let rows = store.deliveries(DeliveryQuery { limit: 100_000, ..DeliveryQuery::default() }).await.unwrap();
    // Many are alike; every one of the others is looked at, and some of those.
    let some = |n: usize, len: usize| n < 130 || n + 20 > len || n.is_multiple_of(211);
    for (n, row) in rows.iter().enumerate().filter(|(n, _)| some(*n, rows.len())) {
        lines.push(format!("{n} {row:?} {:?}", store.delivery(row.id).await.unwrap()));
    }
    let (mut ids, mut keys) = (Vec::new(), Vec::new());
    for (_, event) in events.iter().enumerate().filter(|(n, _)| some(*n, events.len())) {
        ids.extend(event.message.map(|id| id.0));
        keys.extend(event.provider_key.clone());
    }
    ids.extend(rows.iter().enumerate().filter(|(n, _)| some(*n, rows.len())).map(|(_, row)| row.event_id.0));
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        lines.push(format!("{id} {:?}", store.trace(TraceQuery { ids: vec![id], keys: Vec::new() }).await.unwrap()));
    }
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        lines.push(format!(
            "{key} {:?}",
            store.trace(TraceQuery { ids: Vec::new(), keys: vec![key.clone()] }).await.unwrap()
        ));
    }
    for (_, event) in events.iter().enumerate().filter(|(n, _)| some(*n, events.len())) {
        let Some(message) = event.message else { continue };
        for account in accounts {
            lines.push(format!("{:?}", store.history(account.clone(), message).await.unwrap()));
        }
    }
    lines.extend(rows.iter().map(|row| format!("{row:?}")));
    lines.extend(events.iter().map(|event| format!("{event:?}")));
    let kept = store.kept(KeptQuery { limit: 100_000, ..KeptQuery::default() }).await.unwrap();
    assert!(!kept.is_empty());
    lines.extend(kept.iter().map(|kept| format!("{kept:?}").chars().take(20_000).collect()));
    lines.extend(store.backlog().await.unwrap().iter().map(|backlog| format!("{backlog:?}")));
    lines.extend(store.subscribers().await.unwrap().iter().map(|subscriber| format!("{subscriber:?}")));
    lines.extend(store.accounts().await.unwrap().iter().map(|account| format!("{account:?}")));
    lines
}

/// A moment after everything.
pub(super) fn afterwards() -> Timestamp {
    at(10 * DAY)
}
