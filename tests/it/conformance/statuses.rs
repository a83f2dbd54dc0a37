//! What becomes of messages that go out, in the order in which networks tell it, which is none.

use super::Engine;
use super::world::{Note, World, account, at, note, said};
use birdwire::domain::account::{Account, Channel};
use birdwire::domain::delivery::Order;
use birdwire::domain::event::{Content, End, InboundEvent};
use birdwire::domain::ids::MessageId;
use birdwire::domain::message::{Direction, Message, ProviderStatus, Status};
use birdwire::domain::route::{Interest, SubscriberId};
use serde_json::Value;
use std::sync::Arc;

async fn watched(engine: &dyn Engine) -> World {
    let events = vec!["message_*".to_owned(), "conversation_message_*".to_owned()];
    let interest = Interest { subscriber: SubscriberId("crm".to_owned()), events, accounts: Vec::new() };
    World::new(engine, &[(interest, Order::Strict)]).await
}

/// The message `m` of `account`: the provider's word, what it stands for, and when.
pub(crate) fn status(account: &Arc<Account>, text: &str, status: Status, word: &str, seconds: u64) -> InboundEvent {
    let note = Note { account: account.clone(), text: text.to_owned(), ..note("+31", "m") };
    let event = said(&note, &format!("m {word}"));
    let Content::Message(mut new) = event.content else { unreachable!("a note is a message") };
    let message = &mut new.message;
    (message.direction, message.status) = (Direction::Outgoing, status);
    std::mem::swap(&mut message.source, &mut message.destination);
    message.reference_type = account.channel.reference_type();
    message.tm_update = at(seconds);
    message.metadata.provider = Some(ProviderStatus { status: Some(word.to_owned()), ..ProviderStatus::default() });
    InboundEvent { kind: "line.outbound".to_owned(), content: Content::Outgoing(new), ..event }
}

async fn tell(world: &World, account: &Arc<Account>, event: InboundEvent) {
    assert_eq!(world.say(account.clone(), vec![event]).await, [End::Stored]);
}

async fn record(world: &World, account: &Arc<Account>) -> Message {
    let id = MessageId::derive(account.id, "m");
    world.store.history(account.clone(), id).await.unwrap().expect("it is known").known.message
}

/// Everything that was owed: types and records.
async fn owed(world: &World) -> Vec<(String, Value)> {
    let mut owed = Vec::new();
    for row in world.deliveries().await {
        let body = world.store.delivery(row.id).await.unwrap().unwrap().body;
        owed.push((row.event_type, serde_json::from_slice::<Value>(&body).unwrap()["data"].take()));
    }
    owed
}

pub(crate) async fn a_status_creates_and_then_only_advances(engine: &dyn Engine) {
    let world = watched(engine).await;
    let line = account(1);
    let updated = "conversation_message_updated";
    for (event, told) in [
        (status(&line, "", Status::Sending, "processing", 6), Some("conversation_message_created")),
        (status(&line, "hello", Status::Sending, "accepted", 5), Some(updated)), // its body, late
        (status(&line, "hello", Status::Sent, "sent", 7), Some(updated)),
        (status(&line, "other", Status::Sending, "scheduled", 8), None), // overtaken by what it led to
        (status(&line, "hello", Status::Failed, "delivery_failed", 9), Some(updated)),
        (status(&line, "hello", Status::Delivered, "delivered", 10), None), // what failed was not delivered
    ] {
        let before = owed(&world).await.len();
        tell(&world, &line, event.clone()).await;
        let after = owed(&world).await;
        assert_eq!(after[before..].iter().map(|(name, _)| &**name).collect::<Vec<_>>(), Vec::from_iter(told));
        assert_eq!(world.say(line.clone(), vec![event]).await, [End::Duplicate { conflict: false }]);
    }
    let words: Vec<_> = owed(&world).await.into_iter().map(|(_, r)| [r["status"].clone(), r["text"].clone()]).collect();
    assert_eq!(words, [["sending", ""], ["sending", "hello"], ["sent", "hello"], ["failed", "hello"]]);
    let after = record(&world, &line).await;
    assert_eq!((after.status, &*after.text, after.tm_update), (Status::Failed, "hello", at(9)));
    assert_eq!(after.metadata.provider.unwrap().status.as_deref(), Some("delivery_failed"));
    world.end().await;
}

pub(crate) async fn any_order_of_statuses_ends_the_same(engine: &dyn Engine) {
    let world = watched(engine).await;
    // One message in each of many accounts, all told the same in another order.
    let mut random = fastrand::Rng::with_seed(7);
    let mut ends = Vec::new();
    for number in 1..=100 {
        let line = account(number);
        let mut events = vec![
            status(&line, "", Status::Sending, "accepted", 5),
            status(&line, "hello", Status::Sending, "processing", 6),
            status(&line, "", Status::Sent, "sent", 7),
            status(&line, "hello", Status::Sent, "read?", 8),
            status(&line, "", Status::Delivered, "delivered", 9),
        ];
        random.shuffle(&mut events);
        for event in events {
            tell(&world, &line, event).await;
        }
        let Message { status, text, metadata, tm_create, tm_update, .. } = record(&world, &line).await;
        ends.push((status, text, metadata, tm_create, tm_update));
    }
    assert_eq!((ends[0].0, &*ends[0].1, ends[0].4), (Status::Delivered, "hello", at(9)));
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
    world.end().await;
}

pub(crate) async fn an_sms_is_told_before_its_conversation_message(engine: &dyn Engine) {
    let world = watched(engine).await;
    let sms = Arc::new(Account { channel: Channel::Sms, ..Account::clone(&account(1)) });
    tell(&world, &sms, status(&sms, "hello", Status::Sending, "accepted", 5)).await;
    tell(&world, &sms, status(&sms, "hello", Status::Delivered, "delivered", 6)).await;
    let owed = owed(&world).await;
    let names: Vec<&str> = owed.iter().map(|(name, _)| &**name).collect();
    let [created, updated] = ["message_created", "message_updated"];
    assert_eq!(names, [created, "conversation_message_created", updated, "conversation_message_updated"]);
    assert!(owed.iter().all(|(_, record)| record["id"] == owed[0].1["id"]));
    let targets: Vec<&Value> = owed.iter().map(|(_, record)| &record["targets"][0]["status"]).collect();
    assert_eq!((targets[0], targets[2]), (&"queued".into(), &"delivered".into()));
    assert_eq!(owed[3].1["status"], "sent");
    let sequences: Vec<i64> = world.deliveries().await.iter().map(|row| row.sequence).collect();
    assert_eq!(sequences, [1, 2, 3, 4], "one lane");
    world.end().await;
}
