//! Keeping webhooks: each event once, with one end.

use super::Engine;
use super::world::{DAY, World, account, at, messages, note, riddle};
use birdwire::domain::delivery::Order;
use birdwire::domain::event::{End, QuarantineReason};
use birdwire::domain::route::{Interest, SubscriberId};
use birdwire::store::listing::EventQuery;
use std::collections::BTreeSet;
use tokio::task::JoinSet;

const DUPLICATE: End = End::Duplicate { conflict: false };
const CONFLICT: End = End::Duplicate { conflict: true };

/// A subscriber that wants everything.
fn everything(name: &str) -> (Interest, Order) {
    (Interest { subscriber: SubscriberId(name.to_owned()), events: Vec::new(), accounts: Vec::new() }, Order::Strict)
}

async fn owed_types(world: &World) -> Vec<String> {
    world.deliveries().await.into_iter().map(|row| row.event_type).collect()
}

pub(crate) async fn a_conversation_is_created_once(engine: &dyn Engine) {
    let world = World::new(engine, &[everything("crm")]).await;
    world.write("U1", &["a", "b"]).await;
    world.write("U2", &["c"]).await;
    let message = "conversation_message_created";
    let created = "conversation_created";
    assert_eq!(owed_types(&world).await, [created, message, message, created, message]);
    let rows = world.deliveries().await;
    assert_eq!(rows.iter().map(|row| row.sequence).collect::<Vec<_>>(), [1, 2, 3, 1, 2]);
    assert_eq!(rows.iter().map(|row| row.conversation).collect::<BTreeSet<_>>().len(), 2);
    let world = world.reopen().await;
    world.write("U1", &["d"]).await;
    assert_eq!(owed_types(&world).await.iter().filter(|t| *t == created).count(), 2);
    world.end().await;
}

pub(crate) async fn a_repeat_is_stored_once(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    world.write("U1", &["a"]).await;
    assert_eq!(world.commit(&[note("U1", "a")]).await, [DUPLICATE]);
    assert_eq!(world.deliveries().await.len(), 1);
    let events = world.events().await;
    assert_eq!(events.iter().map(|e| e.end.clone()).collect::<Vec<_>>(), [End::Stored, DUPLICATE]);
    assert!(events[0].message.is_some() && events[1].message.is_none());
    world.end().await;
}

pub(crate) async fn a_hundred_repeats_at_once_are_stored_once(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    let mut commits = JoinSet::new();
    for _ in 0..100 {
        let inbound = world.inbound(account(1), at(0), vec![note("U1", "a").event()]);
        let store = world.store.clone();
        commits.spawn(async move { store.commit_inbound(inbound).await.unwrap().ends });
    }
    let ends: Vec<End> = commits.join_all().await.into_iter().flatten().collect();
    assert_eq!(ends.iter().filter(|end| **end == End::Stored).count(), 1);
    assert_eq!(ends.iter().filter(|end| **end == DUPLICATE).count(), 99);
    assert_eq!((world.deliveries().await.len(), world.events().await.len()), (1, 100));
    world.end().await;
}

pub(crate) async fn a_repeat_within_one_webhook_is_stored_once(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    let ends = world.commit(&[note("U1", "a"), note("U1", "b"), note("U1", "a")]).await;
    assert_eq!(ends, [End::Stored, End::Stored, DUPLICATE]);
    assert_eq!(world.deliveries().await.iter().map(|row| row.sequence).collect::<Vec<_>>(), [1, 2]);
    world.end().await;
}

pub(crate) async fn a_repeat_is_recognised_after_a_restart(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    world.write("U1", &["a", "b"]).await;
    let world = world.reopen().await;
    assert_eq!(world.commit(&[note("U1", "a")]).await, [DUPLICATE]);
    assert_eq!(world.commit(&[note("U1", "c"), note("U1", "b")]).await, [End::Stored, DUPLICATE]);
    assert_eq!(world.deliveries().await.len(), 3);
    world.end().await;
}

pub(crate) async fn a_repeat_with_another_time_is_a_conflict(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    world.write("U1", &["a"]).await;
    let mut later = note("U1", "a");
    later.at = at(1);
    assert_eq!(world.commit(&[later.clone()]).await, [CONFLICT]);
    let world = world.reopen().await;
    assert_eq!(world.commit(&[later]).await, [CONFLICT]);
    assert_eq!(world.commit(&[note("U1", "a")]).await, [DUPLICATE]);
    let ends: Vec<End> = world.events().await.into_iter().map(|event| event.end).collect();
    assert_eq!(ends, [End::Stored, CONFLICT, CONFLICT, DUPLICATE]);
    assert_eq!(world.deliveries().await.len(), 1);
    world.end().await;
}

pub(crate) async fn accounts_do_not_take_each_other_for_repeats(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    world.write("U1", &["a"]).await;
    let mut other = note("U1", "a");
    other.account = account(2);
    assert_eq!(world.commit(&[other.clone()]).await, [End::Stored]);
    assert_eq!(world.commit(&[other]).await, [DUPLICATE]);
    let rows = world.deliveries().await;
    assert_eq!(rows.len(), 2);
    assert_ne!(rows[0].event_id, rows[1].event_id);
    assert_ne!(rows[0].conversation, rows[1].conversation);
    assert_eq!((rows[0].sequence, rows[1].sequence), (1, 1));
    world.end().await;
}

pub(crate) async fn what_cannot_be_understood_is_kept(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    let inbound = world.inbound(account(1), at(5), vec![riddle(), note("U1", "a").event(), riddle()]);
    let ends = world.store.commit_inbound(inbound).await.unwrap().ends;
    assert_eq!(ends.iter().map(End::state).collect::<Vec<_>>(), ["quarantined", "stored", "quarantined"]);
    let events = world.events().await;
    assert_eq!(events.iter().map(|event| event.end.clone()).collect::<Vec<_>>(), ends);
    assert_eq!((&*events[0].kind, &*events[0].request_id, events[0].received_at), ("line.riddle", "req_case", at(5)));
    assert_eq!(world.deliveries().await.len(), 1);
    // Nobody can say what a repeat of it is, so each is kept; one webhook is kept once, whatever is in it.
    let inbound = world.inbound(account(1), at(5), vec![riddle()]);
    assert_eq!(world.store.commit_inbound(inbound).await.unwrap().ends[0].state(), "quarantined");
    assert_eq!(world.store.retain(at(DAY), at(0), 100).await.unwrap().raw, 2);
    world.end().await;
}

pub(crate) async fn a_webhook_without_events_is_accounted_for(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    let inbound = world.inbound(account(1), at(5), Vec::new());
    assert_eq!(world.store.commit_inbound(inbound).await.unwrap().ends, [End::Ignored]);
    let events = world.events().await;
    assert_eq!((events.len(), &events[0].end, events[0].account), (1, &End::Ignored, account(1).id));
    assert_eq!(world.store.retain(at(DAY), at(0), 100).await.unwrap().raw, 0, "there is nothing in it to keep");
    world.end().await;
}

pub(crate) async fn a_name_changes_only_to_a_newer_one(engine: &dyn Engine) {
    let world = World::new(engine, &[everything("crm")]).await;
    let named = |key: &str, name: &str, seconds: u64| {
        let mut note = note("U1", key);
        (note.name, note.at) = (name.to_owned(), at(seconds));
        note
    };
    let (created, updated, message) = ("conversation_created", "conversation_updated", "conversation_message_created");
    for (step, causes) in [
        (named("a", "Mei", 10), vec![created, message]),
        (named("b", "Mei", 20), vec![message]),
        (named("c", "", 30), vec![message]),
        (named("d", "Old", 5), vec![message]),
        (named("e", "May", 40), vec![updated, message]),
        (named("f", "Mei", 35), vec![message]),
        (named("g", "Mei", 50), vec![updated, message]),
    ] {
        let before = world.deliveries().await.len();
        assert_eq!(world.commit(std::slice::from_ref(&step)).await, [End::Stored]);
        assert_eq!(owed_types(&world).await[before..], causes, "{}", step.key);
    }
    // A name that was taken over is remembered, and so is the time it is from.
    let world = world.reopen().await;
    let before = world.deliveries().await.len();
    world.commit(&[named("h", "May", 45), named("i", "Mei", 60)]).await;
    assert_eq!(owed_types(&world).await[before..], [message, message]);
    let ids: BTreeSet<_> = world.deliveries().await.into_iter().map(|row| row.event_id).collect();
    assert_eq!(ids.len(), world.deliveries().await.len(), "every event has an id of its own");
    world.end().await;
}

pub(crate) async fn what_cannot_be_written_spoils_nothing_else(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    engine.forbid(&world.place, "text of poison");
    // Queued together, so that they share a commit.
    let mut commits = JoinSet::new();
    for number in 0..20 {
        let keys =
            if number % 5 == 0 { vec![format!("m{number}"), "poison".to_owned()] } else { vec![format!("m{number}")] };
        let events = keys.iter().map(|key| note("U1", key).event()).collect();
        let inbound = world.inbound(account(1), at(0), events);
        let store = world.store.clone();
        commits.spawn(async move { (number, store.commit_inbound(inbound).await.unwrap().ends) });
    }
    for (number, ends) in commits.join_all().await {
        if number % 5 == 0 {
            let unstorable =
                |end: &End| matches!(end, End::Quarantined(why) if why.reason == QuarantineReason::Unstorable);
            assert!(ends.len() == 2 && ends.iter().all(unstorable), "{ends:?}");
        } else {
            assert_eq!(ends, [End::Stored]);
        }
    }
    assert_eq!(world.events().await.len(), 24);
    let rows = world.deliveries().await;
    assert_eq!(rows.iter().map(|row| row.sequence).collect::<Vec<_>>(), (1..=16).collect::<Vec<_>>());
    // What was taken back with it is not taken for a repeat.
    world.write("U1", &["m0"]).await;
    world.end().await;
}

pub(crate) async fn every_subscriber_is_owed_what_it_wants(engine: &dyn Engine) {
    let wants = |name: &str, events: &[&str], accounts: &[u128]| {
        let events = events.iter().map(|&e| e.to_owned()).collect();
        let accounts = accounts.iter().map(|&a| account(a).id).collect();
        (Interest { subscriber: SubscriberId(name.to_owned()), events, accounts }, Order::Strict)
    };
    let subscribers = [
        wants("all", &[], &[]),
        wants("conversations", &["conversation_created", "conversation_updated"], &[]),
        wants("second", &["*_created"], &[2]),
        wants("nothing", &["message_*"], &[]),
    ];
    let world = World::new(engine, &subscribers).await;
    world.write("U1", &["a"]).await;
    let mut other = note("U1", "b");
    other.account = account(2);
    world.commit(&[other]).await;
    let owed = |rows: &[birdwire::store::listing::DeliveryRow], name: &str| {
        let mine = rows.iter().filter(|row| row.subscriber.0 == name);
        mine.map(|row| (row.event_type.clone(), row.sequence)).collect::<Vec<_>>()
    };
    let rows = world.deliveries().await;
    let created = |seq| ("conversation_created".to_owned(), seq);
    let message = |seq| ("conversation_message_created".to_owned(), seq);
    assert_eq!(owed(&rows, "all"), [created(1), message(2), created(1), message(2)]);
    assert_eq!(owed(&rows, "conversations"), [created(1), created(1)]);
    assert_eq!(owed(&rows, "second"), [created(1), message(2)]);
    assert_eq!(owed(&rows, "nothing"), []);
    let ids: BTreeSet<_> = rows.iter().map(|row| row.event_id).collect();
    assert_eq!(ids.len(), 4, "an event is the same one for everybody");
    world.end().await;
}

pub(crate) async fn nobody_is_owed_anything_without_subscribers(engine: &dyn Engine) {
    let world = World::new(engine, &[]).await;
    world.write("U1", &["a"]).await;
    assert_eq!(world.deliveries().await, []);
    let world = world.reopen_with(&[messages("late", Order::Strict)]).await;
    world.write("U1", &["b"]).await;
    let rows = world.deliveries().await;
    assert_eq!((rows.len(), rows[0].sequence), (1, 1), "only what comes after it");
    world.end().await;
}

pub(crate) async fn events_are_listed_by_state_account_and_page(engine: &dyn Engine) {
    let world = World::simple(engine).await;
    world.write("U1", &["a", "b", "c"]).await;
    world.commit(&[note("U1", "a")]).await;
    let mut other = note("U1", "a");
    other.account = account(2);
    world.commit(&[other]).await;
    let count = async |query: EventQuery| world.store.events(query).await.unwrap().len();
    let all = EventQuery { limit: 100, ..EventQuery::default() };
    assert_eq!(count(all.clone()).await, 5);
    assert_eq!(count(EventQuery { state: Some("stored".into()), ..all.clone() }).await, 4);
    assert_eq!(count(EventQuery { state: Some("duplicate".into()), ..all.clone() }).await, 1);
    assert_eq!(count(EventQuery { state: Some("nonsense".into()), ..all.clone() }).await, 0);
    assert_eq!(count(EventQuery { account: Some(account(2).id), ..all.clone() }).await, 1);
    assert_eq!(count(EventQuery { account: Some(account(3).id), ..all.clone() }).await, 0);
    let rows = world.events().await;
    let page = world.store.events(EventQuery { after: rows[1].id, limit: 2, ..EventQuery::default() }).await.unwrap();
    assert_eq!(page, rows[2..4]);
    let newest = world.store.events(EventQuery { newest: true, limit: 2, ..EventQuery::default() }).await.unwrap();
    assert_eq!(newest, rows[3..]);
    world.end().await;
}
