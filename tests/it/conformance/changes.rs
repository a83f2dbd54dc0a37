//! Edits and unsends: whatever their order, and however often each comes, the record ends right, subscribers are told
//! once, and what was taken back is kept nowhere.

use super::Engine;
use super::world::{DAY, Note, Scribe, World, account, at, note, said};
use birdwire::domain::account::Account;
use birdwire::domain::delivery::{Order, State};
use birdwire::domain::event::{Content, End, InboundEvent, Quarantine, QuarantineReason, Unsent};
use birdwire::domain::ids::MessageId;
use birdwire::domain::message::Message;
use birdwire::domain::route::{Interest, SubscriberId};
use birdwire::store::lane::{Advance, Attempt, Verdict};
use birdwire::store::listing::{DeliveryDetail, EventQuery, ReplayOf};
use birdwire::store::replay::KeptQuery;
use std::collections::BTreeSet;
use std::sync::Arc;

const CREATED: &str = "conversation_message_created";
const UPDATED: &str = "conversation_message_updated";
const DELETED: &str = "conversation_message_deleted";

/// A subscriber of everything that happens to messages.
pub(crate) async fn watched(engine: &dyn Engine) -> World {
    let events = vec!["conversation_message_*".to_owned()];
    let interest = Interest { subscriber: SubscriberId("crm".to_owned()), events, accounts: Vec::new() };
    World::new(engine, &[(interest, Order::Strict)]).await
}

/// `id` in dialog U1 says `text`, so many seconds into the case.
fn line(id: &str, text: &str, seconds: u64) -> Note {
    Note { text: text.to_owned(), at: at(seconds), ..note("U1", id) }
}

pub(crate) fn original(note: &Note) -> InboundEvent {
    said(note, &format!("message {}", note.key))
}

pub(crate) fn edit(note: &Note) -> InboundEvent {
    let event = said(note, &format!("edit {} {} {}", note.key, note.text, note.at.micros()));
    let Content::Message(new) = event.content else { unreachable!("a note is a message") };
    InboundEvent { kind: "messageEdited".to_owned(), content: Content::Edited(new), ..event }
}

pub(crate) fn unsend(note: &Note) -> InboundEvent {
    let event = said(note, &format!("unsend {} {}", note.key, note.at.micros()));
    let Content::Message(new) = event.content else { unreachable!("a note is a message") };
    let stub = Message { text: String::new(), tm_delete: Some(note.at), ..new.message };
    let unsent = Unsent { sighting: new.sighting, message: stub.id, stub };
    InboundEvent { kind: "unsend".to_owned(), content: Content::Unsent(Box::new(unsent)), ..event }
}

fn id_of(account: &Account, key: &str) -> MessageId {
    MessageId::derive(account.id, key)
}

async fn record(world: &World, account: Arc<Account>, key: &str) -> Message {
    let id = id_of(&account, key);
    world.store.history(account, id).await.unwrap().expect("it is known").known.message
}

/// Commits one webhook of account 1; every event has to be stored.
async fn tell(world: &World, events: Vec<InboundEvent>) {
    let count = events.len();
    assert_eq!(world.say(account(1), events).await, vec![End::Stored; count]);
}

async fn details(world: &World) -> Vec<DeliveryDetail> {
    let mut details = Vec::new();
    for row in world.deliveries().await {
        details.push(world.store.delivery(row.id).await.unwrap().unwrap());
    }
    details
}

/// Type and text of everything that was ever owed, in order.
async fn owed(world: &World) -> Vec<(String, String)> {
    let text = |body: &[u8]| match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(body) => body["data"]["text"].as_str().unwrap().to_owned(),
        Err(_) => "(erased)".to_owned(),
    };
    details(world).await.into_iter().map(|d| (d.row.event_type, text(&d.body))).collect()
}

fn pairs(wanted: &[(&str, &str)]) -> Vec<(String, String)> {
    wanted.iter().map(|(event_type, text)| ((*event_type).to_owned(), (*text).to_owned())).collect()
}

/// Every raw webhook that is kept.
pub(crate) async fn raw(world: &World) -> String {
    let kept = world.store.kept(KeptQuery { limit: 10_000, ..KeptQuery::default() }).await.unwrap();
    kept.iter().map(|kept| std::str::from_utf8(&kept.webhook.body).unwrap()).collect()
}

pub(crate) async fn an_edit_changes_the_text_once(engine: &dyn Engine) {
    let world = watched(engine).await;
    tell(&world, vec![original(&line("m", "helo", 0))]).await;
    let change = edit(&line("m", "hello", 10));
    tell(&world, vec![change.clone()]).await;
    assert_eq!(world.say(account(1), vec![change]).await, [End::Duplicate { conflict: false }]);
    assert_eq!(owed(&world).await, pairs(&[(CREATED, "helo"), (UPDATED, "hello")]));
    let after = record(&world, account(1), "m").await;
    assert_eq!((&*after.text, after.tm_create, after.tm_update), ("hello", at(0), at(10)));
    let ids: BTreeSet<_> = world.deliveries().await.iter().map(|row| row.event_id).collect();
    assert_eq!(ids.len(), 2);
    world.end().await;
}

pub(crate) async fn an_edit_before_its_message_stands(engine: &dyn Engine) {
    let world = watched(engine).await;
    tell(&world, vec![edit(&line("m", "hello", 10))]).await;
    // Also long after, in another process.
    let world = world.reopen().await;
    tell(&world, vec![original(&line("m", "helo", 0))]).await;
    assert_eq!(owed(&world).await, pairs(&[(UPDATED, "hello")]), "the message itself tells nothing new");
    let after = record(&world, account(1), "m").await;
    assert_eq!((&*after.text, after.tm_create, after.tm_update), ("hello", at(0), at(10)), "but when it was written");
    world.end().await;
}

pub(crate) async fn the_newest_of_several_edits_stands(engine: &dyn Engine) {
    let (first, second) = (line("m", "b", 10), line("m", "c", 20));
    for (order, told) in [
        ([0, 1, 2], vec![(CREATED, "a"), (UPDATED, "b"), (UPDATED, "c")]),
        ([0, 2, 1], vec![(CREATED, "a"), (UPDATED, "c")]),
        ([2, 0, 1], vec![(UPDATED, "c")]),
        ([1, 2, 0], vec![(UPDATED, "b"), (UPDATED, "c")]),
        ([2, 1, 0], vec![(UPDATED, "c")]),
    ] {
        let world = watched(engine).await;
        let events = [original(&line("m", "a", 0)), edit(&first), edit(&second)];
        for step in order {
            tell(&world, vec![events[step].clone()]).await;
        }
        assert_eq!(owed(&world).await, pairs(&told), "{order:?}");
        let after = record(&world, account(1), "m").await;
        assert_eq!((&*after.text, after.tm_create, after.tm_update), ("c", at(0), at(20)), "{order:?}");
        world.end().await;
    }
}

pub(crate) async fn an_unsend_leaves_nothing(engine: &dyn Engine) {
    let world = watched(engine).await;
    tell(&world, vec![original(&line("m", "secret", 0))]).await;
    tell(&world, vec![edit(&line("m", "secret too", 5)), original(&line("n", "public", 6))]).await;
    let delivered = world.claim_one(at(6)).await;
    world.record(&delivered, Verdict::Delivered, at(6)).await;
    assert!(raw(&world).await.contains("secret"), "so that the case can fail");
    let end = unsend(&line("m", "", 10));
    tell(&world, vec![end.clone()]).await;
    assert_eq!(world.say(account(1), vec![end]).await, [End::Duplicate { conflict: false }]);
    tell(&world, vec![unsend(&line("m", "", 12))]).await;
    assert_eq!(
        owed(&world).await,
        pairs(&[(CREATED, "(erased)"), (UPDATED, "(erased)"), (CREATED, "public"), (DELETED, "")]),
        "told once however often it comes"
    );
    let states: Vec<State> = world.deliveries().await.iter().map(|row| row.state).collect();
    assert_eq!(states, [State::Delivered, State::Cancelled, State::Pending, State::Pending]);
    let after = record(&world, account(1), "m").await;
    assert_eq!((&*after.text, after.medias.len(), after.tm_delete), ("", 0, Some(at(10))), "the first end counts");
    let raw = raw(&world).await;
    assert!(!raw.contains("secret") && raw.contains("public"), "{raw}");
    // The lane goes on behind what was cancelled, and its gap is to be seen.
    for (sequence, event_type) in [(3, CREATED), (4, DELETED)] {
        let next = world.claim_one(at(20)).await;
        assert_eq!((next.owed.sequence, &*next.owed.event_type), (sequence, event_type));
        world.record(&next, Verdict::Delivered, at(20)).await;
    }
    assert_eq!(world.claim(at(1000)).await, []);
    world.end().await;
}

pub(crate) async fn what_is_erased_is_not_replayed(engine: &dyn Engine) {
    let world = watched(engine).await;
    tell(&world, vec![original(&line("m", "secret", 0))]).await;
    let delivered = world.claim_one(at(1)).await;
    world.record(&delivered, Verdict::Delivered, at(1)).await;
    tell(&world, vec![edit(&line("m", "secret too", 2)), unsend(&line("m", "", 3))]).await;
    let ids: Vec<i64> = world.deliveries().await.iter().map(|row| row.id).collect();
    let done = world.store.replay(ReplayOf::Deliveries(ids.clone()), at(10)).await.unwrap();
    assert_eq!((&*done.erased, &*done.still_owed, &*done.replayed), (&ids[..2], &ids[2..], &[][..]));
    let next = world.claim_one(at(10)).await;
    assert_eq!((next.owed.delivery, &*next.owed.event_type), (ids[2], DELETED));
    world.end().await;
}

pub(crate) async fn an_unsend_cancels_a_failing_head(engine: &dyn Engine) {
    let world = watched(engine).await;
    tell(&world, vec![original(&line("m", "secret", 0)), original(&line("n", "public", 0))]).await;
    let head = world.claim_one(at(1)).await;
    world.record(&head, Verdict::Retry { due: at(5000) }, at(1)).await;
    assert_eq!(world.claim(at(2)).await, [], "it holds up its lane");
    tell(&world, vec![unsend(&line("m", "", 3))]).await;
    let next = world.claim_one(at(3)).await;
    assert_eq!((next.owed.sequence, &*next.owed.event_type), (2, CREATED), "and does so no longer");
    world.end().await;
}

pub(crate) async fn a_head_may_be_cancelled_while_it_is_attempted(engine: &dyn Engine) {
    let verdicts = [
        (Verdict::Delivered, false),
        (Verdict::Retry { due: at(5000) }, false),
        (Verdict::Dead, false),
        (Verdict::Delivered, true),
        (Verdict::Retry { due: at(5000) }, true),
    ];
    for ((verdict, extended), is_old) in verdicts.into_iter().flat_map(|how| [(how, false), (how, true)]) {
        let mut world = watched(engine).await;
        tell(&world, vec![original(&line("m", "secret", 0)), original(&line("n", "public", 0))]).await;
        if is_old {
            // A store that was closed has everything where it belongs.
            world = world.reopen().await;
        }
        let head = world.claim_one(at(1)).await;
        tell(&world, vec![unsend(&line("m", "", 2))]).await;
        assert_eq!(world.claim(at(3)).await, [], "the lane is leased");
        let attempt = super::world::attempt(&head, verdict, at(3));
        let extend = extended.then_some(super::world::LEASE);
        let advance = world.store.record_attempt(Attempt { extend, ..attempt }).await.unwrap();
        let detail = world.store.delivery(head.owed.delivery).await.unwrap().unwrap();
        assert_eq!((detail.row.state, detail.row.attempts, detail.body.len()), (State::Cancelled, 1, 0), "{verdict:?}");
        let next = match advance {
            Advance::Next(owed) => *owed,
            Advance::Released => world.claim_one(at(4)).await.owed,
            Advance::Lost => panic!("the lease was held"),
        };
        assert_eq!((next.sequence, &*next.event_type), (2, CREATED), "{verdict:?}");
        world.end().await;
    }
}

pub(crate) async fn an_unsend_before_its_message_stands(engine: &dyn Engine) {
    let world = watched(engine).await;
    tell(&world, vec![unsend(&line("m", "", 10))]).await;
    let world = world.reopen().await;
    tell(&world, vec![original(&line("m", "secret", 0)), original(&line("n", "public", 0))]).await;
    tell(&world, vec![edit(&line("m", "secret too", 5))]).await;
    tell(&world, vec![unsend(&line("m", "", 8))]).await;
    assert_eq!(owed(&world).await, pairs(&[(DELETED, ""), (CREATED, "public")]));
    let after = record(&world, account(1), "m").await;
    assert_eq!((&*after.text, after.tm_create, after.tm_delete), ("", at(0), Some(at(8))));
    let raw = raw(&world).await;
    assert!(!raw.contains("secret") && raw.contains("public"), "{raw}");
    world.end().await;
}

/// A repeat says it again, and is kept with its neighbour that is new.
pub(crate) async fn an_unsend_reaches_repeats(engine: &dyn Engine) {
    let world = watched(engine).await;
    let message = original(&line("m", "secret", 0));
    let repeat = End::Duplicate { conflict: false };
    tell(&world, vec![message.clone()]).await;
    let batch = vec![original(&line("n", "before", 0)), message.clone(), original(&line("o", "behind", 0))];
    assert_eq!(world.say(account(1), batch).await, [End::Stored, repeat.clone(), End::Stored]);
    let batch = vec![message.clone(), original(&line("p", "other", 0))];
    assert_eq!(world.say(account(1), batch).await, [repeat.clone(), End::Stored]);
    assert_eq!(raw(&world).await.matches("secret").count(), 4, "one of them is listed with both its neighbours");
    tell(&world, vec![unsend(&line("m", "", 10))]).await;
    let kept = raw(&world).await;
    assert!(!kept.contains("secret"), "{kept}");
    // Nor does it come back.
    let batch = vec![message, original(&line("q", "late", 0))];
    assert_eq!(world.say(account(1), batch).await, [repeat, End::Stored]);
    let kept = raw(&world).await;
    assert!(!kept.contains("secret"), "{kept}");
    for word in ["before", "behind", "other", "late"] {
        assert!(kept.contains(word), "{word} in {kept}");
    }
    world.end().await;
}

/// An event that cannot be understood says it all the same, whether it came before the end or comes after it.
pub(crate) async fn an_unsend_reaches_quarantine(engine: &dyn Engine) {
    let world = watched(engine).await;
    let aside = |key: &str, text: &str| {
        let id = id_of(&account(1), key);
        let quarantine = Quarantine::new(QuarantineReason::Unreadable, "text").about(Some(id));
        let content = Content::Quarantined(quarantine);
        InboundEvent { kind: format!("{id} says {text}"), key: None, content, oddities: Vec::new() }
    };
    let say = async |world: &World, events: Vec<InboundEvent>| {
        let ends = world.say(account(1), events).await;
        assert!(matches!(ends[0], End::Quarantined(_)), "{ends:?}");
    };
    say(&world, vec![aside("m", "secret"), original(&line("n", "public", 0))]).await;
    tell(&world, vec![original(&line("o", "secret", 0))]).await;
    say(&world, vec![aside("o", "secret")]).await;
    let world = world.reopen().await;
    tell(&world, vec![unsend(&line("m", "", 10)), unsend(&line("o", "", 10))]).await;
    let kept = raw(&world).await;
    assert!(!kept.contains("secret") && kept.contains("public"), "{kept}");
    say(&world, vec![aside("m", "secret again"), original(&line("p", "late", 0))]).await;
    let kept = raw(&world).await;
    assert!(!kept.contains("secret") && kept.contains("late"), "{kept}");
    // Nothing else is lost by it.
    let query = EventQuery { state: Some("quarantined".to_owned()), limit: 10, ..EventQuery::default() };
    assert_eq!(world.store.events(query).await.unwrap().len(), 3);
    world.end().await;
}

pub(crate) async fn accounts_do_not_change_each_other_s_messages(engine: &dyn Engine) {
    let world = watched(engine).await;
    let (one, two) = (account(1), account(2));
    let of =
        |account: &Arc<Account>, text: &str, seconds| Note { account: account.clone(), ..line("m", text, seconds) };
    for account in [&one, &two] {
        assert_eq!(world.say(account.clone(), vec![original(&of(account, "hello", 0))]).await, [End::Stored]);
    }
    assert_eq!(world.say(one.clone(), vec![edit(&of(&one, "edited", 5))]).await, [End::Stored]);
    let untouched = record(&world, two.clone(), "m").await;
    assert_eq!((&*untouched.text, untouched.tm_update), ("hello", at(0)));
    assert_eq!(world.say(one.clone(), vec![unsend(&of(&one, "", 10))]).await, [End::Stored]);
    assert_eq!(record(&world, two.clone(), "m").await, untouched);
    assert_ne!(record(&world, one.clone(), "m").await.conversation_id, untouched.conversation_id);
    let rows = world.deliveries().await;
    let theirs: Vec<_> = rows.iter().filter(|row| row.conversation == untouched.conversation_id).collect();
    assert_eq!(theirs.iter().map(|row| (&*row.event_type, row.state)).collect::<Vec<_>>(), [(CREATED, State::Pending)]);
    // An account cannot look at the other's message either.
    assert!(world.store.history(two, id_of(&one, "m")).await.unwrap().is_none());
    world.end().await;
}

pub(crate) async fn cancelled_deliveries_are_removed_with_time(engine: &dyn Engine) {
    let world = watched(engine).await;
    for number in 0..3 {
        let key = format!("m{number}");
        tell(&world, vec![original(&line(&key, "secret", 0)), unsend(&line(&key, "", 1))]).await;
        let told = world.claim_one(at(100)).await;
        world.record(&told, Verdict::Delivered, at(100)).await;
    }
    assert_eq!(world.states().await, [0, 0, 3, 0, 3]);
    // Fewer at a time than were cancelled: those that were never attempted must not hide the others.
    for _ in 0..3 {
        world.store.retain(at(0), at(DAY), 2).await.unwrap();
    }
    assert_eq!(world.deliveries().await, []);
    world.end().await;
}

/// The eraser that every case relies on.
pub(crate) async fn only_what_was_said_is_erased(_engine: &dyn Engine) {
    use birdwire::domain::event::Erase;
    let events = [original(&line("m", "one", 0)), original(&line("n", "two", 0)), original(&line("m", "three", 0))];
    let body = Scribe::body(&events);
    let erased = String::from_utf8(Scribe.erase(&body, id_of(&account(1), "m"))).unwrap();
    assert!(!erased.contains("one") && erased.contains("two") && !erased.contains("three"), "{erased}");
}
