//! What the cases speak with: people who write, a store that keeps, subscribers that are owed, and a clock that only
//! the case moves.

use super::{Engine, Place};
use birdwire::domain::account::{Account, Channel};
use birdwire::domain::address::{Address, AddressKind};
use birdwire::domain::conversation::Sighting;
use birdwire::domain::delivery::{Order, State};
use birdwire::domain::event::{Content, DedupeKey, End, Erase, InboundEvent, NewMessage, Quarantine, QuarantineReason};
use birdwire::domain::format::RecordFormat;
use birdwire::domain::ids::{AccountId, CustomerId, MessageId};
use birdwire::domain::message::{Direction, Message, Metadata, Status};
use birdwire::domain::route::{Interest, Routes, SubscriberId};
use birdwire::domain::time::Timestamp;
use birdwire::metrics::Metrics;
use birdwire::store::inbound::{Inbound, Outlet, Prepared};
use birdwire::store::lane::{Advance, Attempt, Claim, Claimed, Leased, Verdict};
use birdwire::store::listing::{Backlog, DeliveryQuery, DeliveryRow, EventQuery, EventRow};
use birdwire::store::{self, Access, LeaseClock, Opening, Store, StoreError};
use birdwire::voipbin::Renderer;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// How long lanes are leased here.
pub(crate) const LEASE: Duration = Duration::from_mins(1);

/// An engine may remove what is old a whole day at a time; cases begin with one.
pub(crate) const DAY: u64 = 86_400;

/// So many seconds into the case.
pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(1_767_225_600_000_000).plus(Duration::from_secs(seconds))
}

/// Leases go by the hand-moved clock.
pub(crate) async fn open(place: &Place, access: Access) -> Result<Arc<dyn Store>, StoreError> {
    open_with(place, access, LeaseClock::Caller).await
}

pub(crate) async fn open_with(place: &Place, access: Access, clock: LeaseClock) -> Result<Arc<dyn Store>, StoreError> {
    let metrics = Metrics::new().unwrap();
    let chance = || fastrand::u128(..);
    let opening = Opening { access, now: at(0), metrics: &metrics, connections: 6, node: "case", chance, clock };
    store::open(&place.url, opening).await
}

/// Why it was refused: the whole chain.
pub(crate) fn refused(opened: Result<Arc<dyn Store>, StoreError>) -> String {
    match opened {
        Ok(_) => panic!("it was opened"),
        Err(error @ StoreError::Unusable { .. }) => error.to_string(),
        Err(other) => panic!("{other:?}"),
    }
}

pub(crate) fn account(number: u128) -> Arc<Account> {
    Arc::new(Account {
        id: AccountId(Uuid::from_u128(number)),
        customer_id: CustomerId(Uuid::from_u128(1000 + number)),
        name: "Shop".into(),
        channel: Channel::Line,
        address: None,
    })
}

/// Writes webhooks: a line for everything that somebody says, and which message it is.
pub(crate) struct Scribe;

impl Scribe {
    pub(crate) fn body(events: &[InboundEvent]) -> Vec<u8> {
        let line = |event: &InboundEvent| match &event.content {
            Content::Message(new) | Content::Edited(new) | Content::Outgoing(new) => {
                format!("{} says {}\n", new.message.id, new.message.text)
            }
            _ => format!("{}\n", event.kind),
        };
        events.iter().map(line).collect::<String>().into_bytes()
    }
}

impl Erase for Scribe {
    fn erase(&self, raw: &[u8], message: MessageId) -> Vec<u8> {
        let said = format!("{message} says");
        let line = |line: &str| if line.starts_with(&said) { format!("{said}\n") } else { format!("{line}\n") };
        std::str::from_utf8(raw).unwrap().lines().map(line).collect::<String>().into_bytes()
    }
}

/// A message that somebody writes in a dialog.
#[derive(Clone)]
pub(crate) struct Note {
    pub(crate) account: Arc<Account>,
    pub(crate) dialog: String,
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) text: String,
    pub(crate) at: Timestamp,
}

/// `key` in `dialog`, at the case's beginning.
pub(crate) fn note(dialog: &str, key: &str) -> Note {
    Note {
        account: account(1),
        dialog: dialog.to_owned(),
        name: "Mei".to_owned(),
        key: key.to_owned(),
        text: format!("text of {key}"),
        at: at(0),
    }
}

impl Note {
    pub(crate) fn event(&self) -> InboundEvent {
        let sighting = Sighting {
            dialog_id: self.dialog.clone(),
            own: Address::new(AddressKind::Line, "2005", "Shop"),
            peer: Address::new(AddressKind::Line, self.dialog.clone(), self.name.clone()),
            at: self.at,
        };
        let message = Message {
            id: MessageId::derive(self.account.id, &self.key),
            account_id: self.account.id,
            customer_id: self.account.customer_id,
            conversation_id: sighting.conversation_id(&self.account),
            direction: Direction::Incoming,
            status: Status::Received,
            reference_type: "line",
            dialog_id: self.dialog.clone(),
            source: sighting.peer.clone(),
            destination: sighting.own.clone(),
            text: self.text.clone(),
            medias: Vec::new(),
            metadata: Metadata::default(),
            parts: None,
            tm_create: self.at,
            tm_update: self.at,
            tm_delete: None,
        };
        InboundEvent {
            kind: "line.inbound".to_owned(),
            key: Some(DedupeKey { at: self.at, provider_key: self.key.clone() }),
            content: Content::Message(Box::new(NewMessage { sighting, message })),
            oddities: Vec::new(),
        }
    }
}

/// The note as an event of which repeats carry `key`; the note's own key names only its message.
pub(crate) fn said(note: &Note, key: &str) -> InboundEvent {
    let at = note.at;
    InboundEvent { key: Some(DedupeKey { at, provider_key: key.to_owned() }), ..note.event() }
}

/// An event that nobody understands.
pub(crate) fn riddle() -> InboundEvent {
    InboundEvent {
        kind: "line.riddle".to_owned(),
        key: None,
        content: Content::Quarantined(Quarantine::new(QuarantineReason::Unreadable, "id")),
        oddities: Vec::new(),
    }
}

/// A subscriber that wants every message and nothing else.
pub(crate) fn messages(name: &str, order: Order) -> (Interest, Order) {
    let events = vec!["conversation_message_created".to_owned()];
    (Interest { subscriber: SubscriberId(name.to_owned()), events, accounts: Vec::new() }, order)
}

/// A store with its subscribers.
pub(crate) struct World {
    pub(crate) place: Place,
    pub(crate) store: Arc<dyn Store>,
    subscribers: Vec<(Interest, Order)>,
}

impl World {
    pub(crate) async fn new(engine: &dyn Engine, subscribers: &[(Interest, Order)]) -> Self {
        let place = engine.place();
        let store = open(&place, Access::Serve).await.unwrap();
        Self::of(place, store, subscribers).await
    }

    /// On a store that is there already.
    pub(crate) async fn of(place: Place, store: Arc<dyn Store>, subscribers: &[(Interest, Order)]) -> Self {
        let world = Self { place, store, subscribers: subscribers.to_vec() };
        world.register().await;
        world
    }

    /// One strict subscriber, `crm`, that wants every message.
    pub(crate) async fn simple(engine: &dyn Engine) -> Self {
        Self::new(engine, &[messages("crm", Order::Strict)]).await
    }

    async fn register(&self) {
        let orders: Vec<_> = self.subscribers.iter().map(|(i, order)| (i.subscriber.clone(), *order)).collect();
        self.store.register_subscribers(&orders).await.unwrap();
    }

    /// Ends the process in good order and starts the next one.
    pub(crate) async fn reopen(self) -> Self {
        let subscribers = self.subscribers.clone();
        self.reopen_with(&subscribers).await
    }

    /// The same subscribers, at a store in another place.
    pub(crate) async fn elsewhere(&self, place: Place) -> Self {
        let store = open(&place, Access::Serve).await.unwrap();
        Self::of(place, store, &self.subscribers).await
    }

    /// The same with other subscribers configured.
    pub(crate) async fn reopen_with(self, subscribers: &[(Interest, Order)]) -> Self {
        self.store.close().await;
        drop(self.store);
        let store = open(&self.place, Access::Serve).await.unwrap();
        Self::of(self.place, store, subscribers).await
    }

    pub(crate) fn inbound(&self, account: Arc<Account>, received_at: Timestamp, events: Vec<InboundEvent>) -> Inbound {
        let render = Renderer::new(RecordFormat::Documented);
        let prepare = |(place, event)| Prepared::new(event, place, &account, &render);
        let body = Scribe::body(&events);
        let events = events.into_iter().enumerate().map(prepare).collect();
        let interests = self.subscribers.iter().map(|(interest, _)| interest.clone()).collect();
        Inbound {
            account,
            received_at,
            request_id: "req_case".to_owned(),
            headers: vec![("messagebird-signature", "s".to_owned())],
            body,
            events,
            outlet: Arc::new(Outlet { render: Box::new(render), routes: Routes::new(interests) }),
            kept: None,
            erase: Arc::new(Scribe),
            hold: Box::new(()),
        }
    }

    /// One webhook with these events, received when the first of them was written.
    pub(crate) async fn commit(&self, notes: &[Note]) -> Vec<End> {
        let account = notes[0].account.clone();
        let inbound = self.inbound(account, notes[0].at, notes.iter().map(Note::event).collect());
        self.store.commit_inbound(inbound).await.unwrap().ends
    }

    /// One webhook with these events, received when the first of them happened.
    pub(crate) async fn say(&self, account: Arc<Account>, events: Vec<InboundEvent>) -> Vec<End> {
        let received_at = events[0].key.as_ref().map_or(at(0), |key| key.at);
        self.store.commit_inbound(self.inbound(account, received_at, events)).await.unwrap().ends
    }

    /// New messages `keys` in `dialog`, one webhook each.
    pub(crate) async fn write(&self, dialog: &str, keys: &[&str]) {
        for key in keys {
            assert_eq!(self.commit(&[note(dialog, key)]).await, [End::Stored]);
        }
    }

    pub(crate) async fn claim_all(&self, subscriber: &str, lanes: usize, now: Timestamp) -> Claimed {
        let claim = Claim { subscriber: SubscriberId(subscriber.to_owned()), lanes };
        self.store.claim_lanes(vec![claim], now, LEASE).await.unwrap()
    }

    /// Every due lane of `crm`.
    pub(crate) async fn claim(&self, now: Timestamp) -> Vec<Leased> {
        self.claim_all("crm", 1000, now).await.leased
    }

    /// The only due lane of `crm`.
    pub(crate) async fn claim_one(&self, now: Timestamp) -> Leased {
        let mut leased = self.claim(now).await;
        assert_eq!(leased.len(), 1, "{leased:?}");
        leased.remove(0)
    }

    /// Records and gives the lane back.
    pub(crate) async fn record(&self, leased: &Leased, verdict: Verdict, now: Timestamp) -> Advance {
        self.store.record_attempt(attempt(leased, verdict, now)).await.unwrap()
    }

    pub(crate) async fn deliveries(&self) -> Vec<DeliveryRow> {
        self.store.deliveries(DeliveryQuery { limit: 10_000, ..DeliveryQuery::default() }).await.unwrap()
    }

    /// How many deliveries are in each state: pending, leased, delivered, dead, cancelled.
    pub(crate) async fn states(&self) -> [usize; 5] {
        let rows = self.deliveries().await;
        State::ALL.map(|state| rows.iter().filter(|row| row.state == state).count())
    }

    pub(crate) async fn events(&self) -> Vec<EventRow> {
        self.store.events(EventQuery { limit: 10_000, ..EventQuery::default() }).await.unwrap()
    }

    pub(crate) async fn backlog(&self, subscriber: &str) -> Backlog {
        let all = self.store.backlog().await.unwrap();
        all.into_iter().find(|backlog| backlog.subscriber.id.0 == subscriber).expect("it is known")
    }

    /// Ends the store in good order.
    pub(crate) async fn end(self) {
        self.store.close().await;
    }
}

/// An attempt that took 10 ms and gives its lane back.
pub(crate) fn attempt(leased: &Leased, verdict: Verdict, now: Timestamp) -> Attempt {
    let (status, reason) = match verdict {
        Verdict::Delivered => (200, "delivered"),
        Verdict::Retry { .. } | Verdict::Dead => (500, "server error"),
    };
    Attempt {
        lease: leased.lease,
        delivery: leased.owed.delivery,
        started_at: now,
        ended_at: now.plus(Duration::from_millis(10)),
        status: Some(status),
        reason,
        verdict,
        extend: None,
    }
}

/// The key of the message in a body, told from its text.
pub(crate) fn key_of(body: &[u8]) -> String {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    body["data"]["text"].as_str().unwrap().trim_start_matches("text of ").to_owned()
}
