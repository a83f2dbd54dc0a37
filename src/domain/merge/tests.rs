//! Every transition of a message, and that order and repetition do not matter.

use super::*;
use crate::domain::address::{Address, AddressKind};
use crate::domain::conversation::Sighting;
use crate::domain::event::{ChannelEvent, Notice, Quarantine, QuarantineReason};
use crate::domain::ids::{AccountId, ConversationId, CustomerId, MessageId};
use crate::domain::message::{Direction, Emoji, Media, MediaKind, ProviderStatus, Status};
use proptest::prelude::*;
use uuid::Uuid;

const CREATED: Option<EventType> = Some(EventType::ConversationMessageCreated);
const UPDATED: Option<EventType> = Some(EventType::ConversationMessageUpdated);
const DELETED: Option<EventType> = Some(EventType::ConversationMessageDeleted);

fn at(t: i64) -> Timestamp {
    Timestamp::from_micros(t)
}

fn sighting(t: i64) -> Sighting {
    let line = |target| Address::new(AddressKind::Line, target, "");
    Sighting { dialog_id: "C1".into(), own: line("B1"), peer: line("C1"), at: at(t) }
}

fn record(text: &str, t: i64) -> Message {
    let Sighting { own, peer, dialog_id, .. } = sighting(t);
    Message {
        id: MessageId(Uuid::from_u128(1)),
        account_id: AccountId(Uuid::from_u128(2)),
        customer_id: CustomerId(Uuid::from_u128(3)),
        conversation_id: ConversationId(Uuid::from_u128(4)),
        direction: Direction::Incoming,
        status: Status::Received,
        reference_type: "line",
        dialog_id,
        source: peer,
        destination: own,
        text: text.into(),
        medias: Vec::new(),
        metadata: Metadata::default(),
        parts: None,
        tm_create: at(t),
        tm_update: at(t),
        tm_delete: None,
    }
}

fn boxed(message: Message) -> Box<NewMessage> {
    Box::new(NewMessage { sighting: sighting(0), message })
}

fn said(text: &str, t: i64) -> Content {
    Content::Message(boxed(record(text, t)))
}

fn edited(text: &str, t: i64) -> Content {
    Content::Edited(boxed(record(text, t)))
}

fn unsent_as(t: i64, metadata: Metadata) -> Content {
    let stub = Message { tm_delete: Some(at(t)), metadata, ..record("", t) };
    Content::Unsent(Box::new(Unsent { sighting: sighting(t), message: stub.id, stub }))
}

fn unsent(t: i64) -> Content {
    unsent_as(t, Metadata::default())
}

fn status(status: Status, word: &str, text: &str, t: i64) -> Content {
    let provider = Some(ProviderStatus { status: Some(word.into()), reason: None, failure: None });
    let metadata = Metadata { provider, ..Metadata::default() };
    let direction = Direction::Outgoing;
    Content::Outgoing(boxed(Message { direction, status, metadata, tm_create: at(1), ..record(text, t) }))
}

/// What each event emits, and what is known in the end.
fn run<'a>(contents: impl IntoIterator<Item = &'a Content>) -> (Vec<Option<EventType>>, Known) {
    let mut known: Option<Known> = None;
    let mut emitted = Vec::new();
    for content in contents {
        let applied = apply(known.as_ref(), content);
        emitted.push(applied.emits);
        known = applied.known(known.as_ref());
    }
    (emitted, known.unwrap())
}

#[test]
fn a_message_is_created_once() {
    let (emitted, known) = run(&[said("hi", 5), said("hi", 5), said("other", 9)]);
    assert_eq!(emitted, [CREATED, None, None]);
    assert_eq!((&*known.message.text, known.message.tm_update), ("hi", at(5)));
    let repeat = said("hi", 5);
    let applied = apply(Some(&known), &repeat);
    assert_eq!((applied.record, applied.erase), (None, false));
}

#[test]
fn the_newest_edit_stands() {
    let (emitted, known) = run(&[said("a", 1), edited("c", 3), edited("b", 2), edited("c", 3), edited("d", 4)]);
    assert_eq!(emitted, [CREATED, UPDATED, None, None, UPDATED]);
    assert_eq!((&*known.message.text, known.message.tm_create, known.message.tm_update), ("d", at(1), at(4)));
    // An edit of the very same time is later than what it edits; one that claims to be older is not.
    assert_eq!(run(&[said("b", 1), edited("a", 1)]).0, [CREATED, UPDATED]);
    assert_eq!(run(&[said("b", 2), edited("a", 1)]).0, [CREATED, None]);
}

#[test]
fn an_original_after_its_edit_only_fills_gaps() {
    let sender = Address::new(AddressKind::Line, "U1", "Mei");
    let mut original = record("before", 1);
    original.source = sender.clone();
    original.metadata.sender = Some(sender.clone());
    original.metadata.quoted_message_id = Some("7".into());
    original.metadata.emojis = vec![Emoji::default()];
    original.medias = vec![Media::new(original.id, 0, MediaKind::File)];
    let original = Content::Message(boxed(original));
    let (emitted, known) = run(&[edited("after", 2), original.clone(), original]);
    assert_eq!(emitted, [UPDATED, None, None]);
    let message = known.message;
    assert_eq!((&*message.text, message.tm_create, message.tm_update), ("after", at(1), at(2)));
    assert_eq!((&message.source, message.metadata.sender.as_ref()), (&sender, Some(&sender)));
    assert_eq!(message.metadata.quoted_message_id.as_deref(), Some("7"));
    // What belongs to the old text does not come back with it.
    assert!(message.metadata.emojis.is_empty() && message.medias.is_empty());
    // Whatever the times say: the edit may have none, or LINE's clocks may differ.
    for (edit, original) in [(2, 3), (0, 5), (2, 2)] {
        let (emitted, known) = run(&[edited("after", edit), said("before", original)]);
        assert_eq!((emitted, &*known.message.text), (vec![UPDATED, None], "after"), "{edit} {original}");
    }
}

#[test]
fn an_edit_replaces_all_that_was_said_and_nothing_around_it() {
    let mut original = record("(love)", 1);
    original.metadata.emojis = vec![Emoji::default()];
    original.metadata.quoted_message_id = Some("7".into());
    let (_, known) = run(&[Content::Message(boxed(original)), edited("plain", 2)]);
    assert!(known.edited && known.message.metadata.emojis.is_empty());
    assert_eq!(known.message.metadata.quoted_message_id.as_deref(), Some("7"));
}

#[test]
fn what_was_taken_back_says_nothing_any_more() {
    let mut original = record("secret", 1);
    original.medias = vec![Media::new(original.id, 0, MediaKind::Image)];
    original.metadata.sender = Some(Address::new(AddressKind::Line, "U1", ""));
    original.metadata.quoted_message_id = Some("7".into());
    original.metadata.emojis = vec![Emoji { alt: Some("(secret)".into()), ..Emoji::default() }];
    original.metadata.unmapped = vec!["message".into()];
    let original = Content::Message(boxed(original));
    let known = apply(None, &original).known(None).unwrap();
    let end = unsent(9);
    let applied = apply(Some(&known), &end);
    assert_eq!((applied.emits, applied.erase), (DELETED, true));
    let gone = applied.known(Some(&known)).unwrap();
    let want = Message { tm_create: at(1), tm_update: at(9), tm_delete: Some(at(9)), ..known.message.clone() };
    let metadata = Metadata { sender: known.message.metadata.sender.clone(), ..Metadata::default() };
    assert_eq!(gone.message, Message { text: String::new(), medias: Vec::new(), metadata, ..want });

    // It stays so, and what still comes of it is erased from what is kept raw.
    for (late, erase) in [(&original, true), (&edited("secret 2", 12), true), (&unsent(9), false)] {
        let applied = apply(Some(&gone), late);
        assert_eq!((applied.record, applied.emits, applied.erase), (None, None, erase));
    }
}

#[test]
fn a_message_after_its_end_is_stored_deleted() {
    let (emitted, known) = run(&[unsent(9), said("secret", 1), edited("secret", 2), unsent(8), unsent(9)]);
    assert_eq!(emitted, [DELETED, None, None, None, None]);
    let message = &known.message;
    assert!(message.is_bare());
    assert_eq!((message.tm_create, message.tm_update, message.tm_delete), (at(1), at(8), Some(at(8))));
    let end = unsent(9);
    assert!(apply(None, &end).erase, "what came and was not understood is kept too");
}

#[test]
fn an_event_without_a_time_does_not_make_a_message_older() {
    let (_, known) = run(&[said("x", 5), edited("y", 0), unsent(0), unsent(7), said("x", 5)]);
    assert_eq!((known.message.tm_create, known.message.tm_delete), (at(5), Some(at(7))));
}

#[test]
fn a_status_only_climbs() {
    use Status::{Delivered, Failed, Sending, Sent};
    for (events, emitted, want, word) in [
        (vec![(Sending, "accepted", 1), (Sent, "sent", 2), (Delivered, "delivered", 3)], "cuu", Delivered, "delivered"),
        (vec![(Delivered, "delivered", 3), (Sent, "sent", 2), (Sending, "accepted", 1)], "c--", Delivered, "delivered"),
        (
            vec![(Sent, "sent", 2), (Failed, "delivery_failed", 3), (Delivered, "delivered", 4)],
            "cu-",
            Failed,
            "delivery_failed",
        ),
        (vec![(Delivered, "delivered", 3), (Failed, "delivery_failed", 4)], "c-", Delivered, "delivered"),
        // Within a rank the newest words stand.
        (
            vec![(Sending, "accepted", 1), (Sending, "processing", 2), (Sending, "accepted", 1)],
            "cu-",
            Sending,
            "processing",
        ),
        (vec![(Sent, "sent", 2), (Sent, "read", 5), (Sent, "read", 5), (Sent, "sent", 2)], "cu--", Sent, "read"),
        (vec![(Failed, "rejected", 3), (Failed, "sending_failed", 4)], "cu", Failed, "sending_failed"),
        // A higher rank stands even if its clock was slow.
        (vec![(Sending, "accepted", 5), (Sent, "sent", 2)], "cu", Sent, "sent"),
    ] {
        let contents: Vec<_> = events.iter().map(|&(s, word, t)| status(s, word, "hi", t)).collect();
        let (found, known) = run(&contents);
        let letter = |e: &Option<EventType>| {
            if *e == CREATED {
                'c'
            } else if *e == UPDATED {
                'u'
            } else {
                '-'
            }
        };
        assert_eq!(found.iter().map(letter).collect::<String>(), emitted, "{events:?}");
        assert_eq!(known.message.status, want, "{events:?}");
        assert_eq!(known.message.metadata.provider.unwrap().status.as_deref(), Some(word), "{events:?}");
        let newest = contents.iter().zip(&found).filter(|(_, e)| e.is_some());
        let newest = newest.map(|(c, _)| if let Content::Outgoing(new) = c { new.message.tm_update } else { at(0) });
        assert_eq!(Some(known.message.tm_update), newest.max(), "{events:?}");
    }
}

#[test]
fn a_body_that_comes_late_fills_the_empty_one() {
    let (emitted, known) = run(&[
        status(Status::Sent, "sent", "", 2),
        status(Status::Sending, "accepted", "hello", 1),
        status(Status::Sending, "accepted", "other", 1),
    ]);
    assert_eq!(emitted, [CREATED, UPDATED, None]);
    assert_eq!((&*known.message.text, known.message.status), ("hello", Status::Sent));
    assert_eq!((known.message.tm_create, known.message.tm_update), (at(1), at(2)));
}

#[test]
fn what_a_late_status_adds_is_told() {
    let mut late = status(Status::Sending, "accepted", "hi", 1);
    let Content::Outgoing(new) = &mut late else { unreachable!("a status is of an outgoing message") };
    new.message.metadata.reply_to = Some("7".into());
    let (emitted, known) = run(&[status(Status::Sent, "sent", "hi", 2), late.clone(), late]);
    assert_eq!(emitted, [CREATED, UPDATED, None]);
    let message = known.message;
    assert_eq!(
        (message.metadata.reply_to.as_deref(), message.status, message.tm_update),
        (Some("7"), Status::Sent, at(2))
    );
    assert_eq!(message.metadata.provider.unwrap().status.as_deref(), Some("sent"));
}

#[test]
fn the_provider_s_count_of_parts_is_kept_once_it_is_known() {
    let with = |content: Content, count| match content {
        Content::Outgoing(mut new) => {
            new.message.parts = count;
            Content::Outgoing(new)
        }
        other => other,
    };
    let (_, known) = run(&[
        with(status(Status::Sending, "accepted", "x", 1), None),
        with(status(Status::Sent, "sent", "x", 2), Some(2)),
        with(status(Status::Delivered, "delivered", "x", 3), None),
    ]);
    assert_eq!(known.message.parts, Some(2));
}

#[test]
fn an_id_that_goes_the_other_way_changes_nothing() {
    for (first, second) in [
        (said("in", 1), status(Status::Sent, "sent", "out", 2)),
        (status(Status::Sent, "sent", "out", 2), said("in", 3)),
        (status(Status::Sent, "sent", "out", 2), edited("in", 3)),
        (status(Status::Sent, "sent", "out", 2), unsent(3)),
    ] {
        let (emitted, known) = run([&first, &second]);
        assert_eq!(emitted, [CREATED, None]);
        assert_eq!(known, run([&first]).1);
    }
}

#[test]
fn what_is_no_message_does_nothing_to_one() {
    let notice = Notice {
        sighting: None,
        opens: false,
        record: ChannelEvent {
            id: Uuid::nil(),
            conversation_id: ConversationId(Uuid::nil()),
            account_id: AccountId(Uuid::nil()),
            kind: "follow".into(),
            source: Address::new(AddressKind::Line, "", ""),
            detail: "{}".into(),
            tm_create: at(0),
        },
    };
    let quarantine = Quarantine::new(QuarantineReason::Unreadable, "");
    for content in [Content::Notice(Box::new(notice)), Content::Quarantined(quarantine)] {
        assert_eq!(apply(None, &content), nothing(false));
    }
}

/// What may be known of the circumstances by one event: all or nothing of it, never something else.
fn circumstances() -> impl Strategy<Value = Metadata> {
    let sender = prop::option::of(Just(Address::new(AddressKind::Line, "U1", "")));
    let quoted = prop::option::of(Just("7".to_owned()));
    (sender, quoted, any::<bool>()).prop_map(|(sender, quoted_message_id, standby)| Metadata {
        quoted_message_id,
        sender,
        standby,
        ..Metadata::default()
    })
}

fn with(metadata: Metadata, text: &str, t: i64) -> Box<NewMessage> {
    let mut message = record(text, t);
    message.source = metadata.sender.clone().unwrap_or(message.source);
    message.metadata = metadata;
    boxed(message)
}

/// At most one original, some edits that are no older, some ends at any time; and the same in another order with
/// repetitions.
fn history() -> impl Strategy<Value = (Vec<Content>, Vec<Content>)> {
    let original = (0..4_i64, circumstances()).prop_map(|(t, m)| Content::Message(with(m, "original", t)));
    let edit = (3..8_i64, "[ab]{1,2}", circumstances()).prop_map(|(t, text, m)| Content::Edited(with(m, &text, t)));
    let end = (0..6_i64, circumstances()).prop_map(|(t, metadata)| {
        let mut content = unsent_as(t, metadata);
        if let Content::Unsent(unsent) = &mut content {
            unsent.stub.source = unsent.stub.metadata.sender.clone().unwrap_or(unsent.stub.source.clone());
        }
        content
    });
    let events =
        (prop::collection::vec(original, 0..=1), prop::collection::vec(edit, 0..4), prop::collection::vec(end, 0..3));
    events
        .prop_map(|(a, b, c)| [a, b, c].concat())
        .prop_filter("something", |events| !events.is_empty())
        .prop_flat_map(|events| {
            let count = events.len();
            let repeats = prop::collection::vec(0..count, 0..6);
            let shuffled =
                repeats.prop_map(move |repeats| (0..count).chain(repeats).collect::<Vec<_>>()).prop_shuffle();
            (Just(events), shuffled)
        })
        .prop_map(|(events, order)| {
            let shuffled = order.into_iter().map(|i| events[i].clone()).collect();
            (events, shuffled)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_and_repetition_ends_in_the_same_record((events, shuffled) in history()) {
        prop_assert_eq!(run(&events).1, run(&shuffled).1);
    }

    #[test]
    fn what_was_told_last_is_what_is_known((_, events) in history()) {
        let mut known: Option<Known> = None;
        let mut told: Option<(String, bool, Timestamp)> = None;
        for content in &events {
            let applied = apply(known.as_ref(), content);
            let deleted = known.as_ref().is_some_and(|k| k.message.tm_delete.is_some());
            prop_assert!(!(deleted && applied.emits.is_some()), "nothing is told after the end");
            prop_assert_eq!(known.is_none(), told.is_none(), "the first event is told");
            let emits = applied.emits;
            known = applied.known(known.as_ref());
            if let (Some(_), Some(k)) = (emits, &known) {
                told = Some((k.message.text.clone(), k.message.tm_delete.is_some(), k.message.tm_update));
            }
        }
        let message = known.unwrap().message;
        let (text, deleted, tm_update) = told.unwrap();
        prop_assert_eq!((&text, deleted), (&message.text, message.tm_delete.is_some()));
        prop_assert!(deleted || tm_update == message.tm_update);
    }

    #[test]
    fn a_status_never_falls(order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle()) {
        let events = [
            status(Status::Sending, "accepted", "", 1),
            status(Status::Sending, "processing", "hi", 2),
            status(Status::Sending, "processing", "hi", 2),
            status(Status::Sent, "sent", "hi", 3),
            status(Status::Sent, "read", "", 4),
            status(Status::Delivered, "delivered", "hi", 5),
        ];
        let mut rank = 0;
        let mut known: Option<Known> = None;
        for i in order {
            known = apply(known.as_ref(), &events[i]).known(known.as_ref());
            let now = known.as_ref().map_or(0, |k| k.message.status.rank());
            prop_assert!(now >= rank);
            rank = now;
        }
        let message = known.unwrap().message;
        prop_assert_eq!((&*message.text, message.status), ("hi", Status::Delivered));
        prop_assert_eq!((message.tm_create, message.tm_update), (at(1), at(5)));
    }
}
