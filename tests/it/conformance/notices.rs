//! What happens without a message.

use super::Engine;
use super::world::{Note, World, account, at, messages, note, said};
use birdwire::domain::delivery::Order;
use birdwire::domain::event::{ChannelEvent, Content, End, InboundEvent, Notice};
use birdwire::domain::ids::ConversationId;
use birdwire::domain::route::{Interest, SubscriberId};
use birdwire::store::lane::Verdict;
use uuid::Uuid;

pub(crate) fn wants(name: &str, events: &[&str]) -> (Interest, Order) {
    let events = events.iter().map(|&event| event.to_owned()).collect();
    (Interest { subscriber: SubscriberId(name.to_owned()), events, accounts: Vec::new() }, Order::Strict)
}

/// Whoever wrote the note does `kind` instead. Nobody does it when there is no dialog.
pub(crate) fn notice(note: &Note, kind: &str) -> InboundEvent {
    let event = said(note, &format!("{kind} {}", note.key));
    let Content::Message(new) = event.content else { unreachable!("a note is a message") };
    let somewhere = !note.dialog.is_empty();
    let record = ChannelEvent {
        id: ChannelEvent::id_of(note.account.id, &format!("{kind} {}", note.key)),
        conversation_id: if somewhere { new.message.conversation_id } else { ConversationId(Uuid::nil()) },
        account_id: note.account.id,
        kind: kind.to_owned(),
        source: new.sighting.peer.clone(),
        detail: "{}".to_owned(),
        tm_create: note.at,
    };
    let notice = Notice { sighting: somewhere.then_some(new.sighting), opens: kind == "follow", record };
    InboundEvent { kind: kind.to_owned(), content: Content::Notice(Box::new(notice)), ..event }
}

async fn tell(world: &World, event: InboundEvent) {
    assert_eq!(world.say(account(1), vec![event]).await, [End::Stored]);
}

async fn owed(world: &World, subscriber: &str) -> Vec<(String, i64)> {
    let rows = world.deliveries().await.into_iter().filter(|row| row.subscriber.0 == subscriber);
    rows.map(|row| (row.event_type, row.sequence)).collect()
}

pub(crate) async fn only_who_asks_is_told_of_channel_events(engine: &dyn Engine) {
    let world =
        World::new(engine, &[wants("usual", &[]), wants("asks", &["channel_event"]), wants("all", &["*"])]).await;
    tell(&world, notice(&note("U1", "a"), "follow")).await;
    tell(&world, notice(&note("U1", "b"), "follow")).await;
    tell(&world, notice(&note("U1", "c"), "unfollow")).await;
    let [created, channel] = ["conversation_created", "channel_event"].map(str::to_owned);
    assert_eq!(owed(&world, "usual").await, [(created.clone(), 1)], "the conversation is created once");
    assert_eq!(owed(&world, "asks").await, [(channel.clone(), 1), (channel.clone(), 2), (channel.clone(), 3)]);
    assert_eq!(owed(&world, "all").await, [(created, 1), (channel.clone(), 2), (channel.clone(), 3), (channel, 4)]);
    assert_eq!(world.say(account(1), vec![notice(&note("U1", "c"), "unfollow")]).await[0].state(), "duplicate");
    // What follows does not create it again.
    world.write("U1", &["hello"]).await;
    assert_eq!(owed(&world, "usual").await[1..], [("conversation_message_created".to_owned(), 2)]);
    world.end().await;
}

pub(crate) async fn a_notice_without_a_conversation_has_a_lane_of_its_own(engine: &dyn Engine) {
    let world = World::new(engine, &[wants("crm", &["*"])]).await;
    for (dialog, kind) in [("", "module"), ("U1", "unfollow"), ("", "activated")] {
        tell(&world, notice(&note(dialog, "a"), kind)).await;
    }
    let rows = world.deliveries().await;
    assert_eq!(rows.iter().map(|row| row.sequence).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(rows.iter().all(|row| row.conversation == ConversationId(Uuid::nil())), "{rows:?}");
    let stuck = world.claim_one(at(1)).await;
    world.record(&stuck, Verdict::Retry { due: at(5000) }, at(1)).await;
    world.write("U1", &["hello"]).await;
    let other = Note { account: account(2), ..note("", "a") };
    assert_eq!(world.say(account(2), vec![notice(&other, "module")]).await, [End::Stored]);
    let free = world.claim(at(2)).await;
    assert_eq!(free.len(), 2, "the conversation's lane and the other account's");
    assert!(free.iter().all(|lane| lane.owed.sequence == 1));
    world.end().await;
}

/// The rule for names does not ask what kind of event it is.
pub(crate) async fn a_notice_may_name_somebody_anew(engine: &dyn Engine) {
    let world = World::new(engine, &[wants("crm", &["conversation_*"]), messages("other", Order::Strict)]).await;
    let named = |key: &str, name: &str, seconds| Note { name: name.to_owned(), at: at(seconds), ..note("U1", key) };
    tell(&world, notice(&named("a", "Nobody", 0), "beacon")).await;
    assert_eq!(world.deliveries().await, [], "it opens nothing");
    tell(&world, named("b", "Mei", 10).event()).await;
    tell(&world, notice(&named("c", "May", 20), "beacon")).await;
    tell(&world, notice(&named("d", "Old", 15), "beacon")).await;
    tell(&world, notice(&named("e", "", 30), "beacon")).await;
    let told: Vec<String> = owed(&world, "crm").await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(told, ["conversation_created", "conversation_message_created", "conversation_updated"]);
    world.end().await;
}
