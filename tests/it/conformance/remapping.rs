//! Kept webhooks through a mapping that has changed: what is found is repaired once, and nothing is told twice.

use super::Engine;
use super::changes::{raw, unsend, watched};
use super::world::{Note, Scribe, World, account, at, note, riddle, said};
use birdwire::adapter::verified::Verified;
use birdwire::adapter::{Adapter, VerifyError};
use birdwire::domain::account::Account;
use birdwire::domain::event::{Erase, InboundEvent};
use birdwire::domain::format::RecordFormat;
use birdwire::domain::ids::MessageId;
use birdwire::domain::route::{Interest, Routes, SubscriberId};
use birdwire::domain::webhook::RawWebhook;
use birdwire::ingest::Ingest;
use birdwire::ingest::replay::{Finding, Order, Summary};
use birdwire::store::inbound::Outlet;
use birdwire::store::listing::DeliveryRow;
use birdwire::voipbin::Renderer;
use std::sync::Arc;

const UPDATED: &str = "conversation_message_updated";

/// A webhook is a line per message, `<dialog> <key> <text>`. A line with a question mark is beyond a `young` reader, and
/// a webhook with an exclamation mark all of it; an `old` one writes louder.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Reader {
    Young,
    /// Takes webhooks apart, but has no answer to a question.
    Teen,
    Grown,
    Old,
    /// Takes `U1` for another dialog.
    Odd,
}

impl Erase for Reader {
    fn erase(&self, raw: &[u8], message: MessageId) -> Vec<u8> {
        Scribe.erase(raw, message)
    }
}

impl Adapter for Reader {
    fn verify(&self, _webhook: &RawWebhook) -> Result<(), VerifyError> {
        Ok(())
    }

    fn events(&self, webhook: &Verified<'_>) -> Vec<InboundEvent> {
        let text = std::str::from_utf8(webhook.body()).unwrap();
        if *self == Self::Young && text.contains('!') {
            return vec![riddle()];
        }
        text.lines().map(|line| self.one(line)).collect()
    }

    fn kept_headers(&self) -> &'static [&'static str] {
        &[]
    }
}

impl Reader {
    fn one(self, line: &str) -> InboundEvent {
        let mut words = line.splitn(3, ' ');
        let [dialog, key, text] = [(); 3].map(|()| words.next().unwrap());
        if matches!(self, Self::Young | Self::Teen) && text.contains('?') {
            return riddle();
        }
        let text = if self == Self::Old { text.to_uppercase() } else { text.to_owned() };
        let dialog = if self == Self::Odd { "U2" } else { dialog };
        said(&Note { text, ..note(dialog, key) }, key)
    }

    fn ingest(self, world: &World, accounts: &[Arc<Account>]) -> Ingest {
        let events = vec!["conversation_message_*".to_owned()];
        let interest = Interest { subscriber: SubscriberId("crm".to_owned()), events, accounts: Vec::new() };
        let render = Box::new(Renderer::new(RecordFormat::Documented));
        let outlet = Arc::new(Outlet { render, routes: Routes::new(vec![interest]) });
        let accounts = accounts.iter().map(|account| (Account::clone(account), Box::new(self) as Box<dyn Adapter>));
        Ingest::new(world.store.clone(), outlet, accounts)
    }

    pub(crate) async fn accept(self, world: &World, body: &str) -> Vec<&'static str> {
        let ingest = self.ingest(world, &[account(1)]);
        let webhook = RawWebhook { headers: Vec::new(), body: body.as_bytes().to_vec(), received_at: at(0) };
        let desk = ingest.desk(account(1).id).unwrap();
        let report = ingest.accept(desk, webhook, "req".to_owned(), || Some(Box::new(()))).await.unwrap();
        report.ends.iter().map(birdwire::domain::event::End::state).collect()
    }

    pub(crate) async fn replay(self, world: &World, order: Order) -> (Summary, Vec<Finding>) {
        let mut findings = Vec::new();
        let ingest = self.ingest(world, &[account(1)]);
        let summary = ingest.replay(&order, at(50), &mut |finding| findings.push(finding)).await.unwrap();
        (summary, findings)
    }
}

const DRY: Order = Order { account: None, since: None, until: None, quarantined: false, dry_run: true };
pub(crate) const REAL: Order = Order { dry_run: false, ..DRY };

/// Everything that a dry run must not change.
async fn state(world: &World) -> (Vec<DeliveryRow>, String, String) {
    (world.deliveries().await, format!("{:?}", world.events().await), raw(world).await)
}

async fn texts(world: &World) -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for row in world.deliveries().await {
        let body = world.store.delivery(row.id).await.unwrap().unwrap().body;
        texts.push((row.event_type, super::world::key_of(&body)));
    }
    texts
}

pub(crate) async fn what_can_be_understood_now_leaves_quarantine(engine: &dyn Engine) {
    let world = watched(engine).await;
    let taken = Reader::Young.accept(&world, "U1 a one\nU1 b two?\nU1 c three").await;
    assert_eq!(taken, ["stored", "quarantined", "stored"]);
    assert_eq!(Reader::Young.accept(&world, "U1 d four!\nU1 e five\nU1 f six").await, ["quarantined"]);
    let before = state(&world).await;
    let (dry, found) = Reader::Grown.replay(&world, Order { quarantined: true, ..DRY }).await;
    assert_eq!((dry.events, dry.understood, dry.still_quarantined), (2, 2, 0), "{found:?}");
    assert_eq!(found.iter().filter(|found| matches!(found, Finding::Understood { .. })).count(), 4);
    assert_eq!(state(&world).await, before, "a dry run changes nothing");
    let (real, told) = Reader::Grown.replay(&world, REAL).await;
    assert_eq!((real.understood, real.repaired, real.skipped), (2, 0, 0));
    assert_eq!(told, found);
    let owed: Vec<String> = texts(&world).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(owed, ["one", "three", "two?", "four!", "five", "six"]);
    let ends: Vec<&str> = world.events().await.iter().map(|event| event.end.state()).collect();
    assert_eq!(ends, ["stored"; 6]);
    let before = state(&world).await;
    let (again, told) = Reader::Grown.replay(&world, REAL).await;
    assert_eq!((again.understood, again.repaired, again.messages, told), (0, 0, 6, vec![]));
    assert_eq!(state(&world).await, before);
    // A provider's repeat of it is one.
    assert_eq!(Reader::Grown.accept(&world, "U1 b two?").await, ["duplicate"]);
    world.end().await;
}

pub(crate) async fn what_nobody_understands_stays(engine: &dyn Engine) {
    let world = watched(engine).await;
    Reader::Young.accept(&world, "U1 a one?").await;
    let before = state(&world).await;
    let (summary, findings) = Reader::Young.replay(&world, REAL).await;
    assert_eq!((summary.understood, summary.still_quarantined, findings), (0, 1, vec![]));
    assert_eq!(state(&world).await, before);
    world.end().await;
}

pub(crate) async fn another_record_is_repaired_once(engine: &dyn Engine) {
    let world = watched(engine).await;
    Reader::Grown.accept(&world, "U1 a one\nU1 b TWO").await;
    let before = state(&world).await;
    let (dry, found) = Reader::Old.replay(&world, DRY).await;
    assert_eq!((dry.messages, dry.repaired, found.len()), (2, 1, 1));
    assert_eq!(state(&world).await, before, "a dry run changes nothing");
    let (real, told) = Reader::Old.replay(&world, REAL).await;
    assert_eq!((real.repaired, &told), (1, &found));
    let Finding::Differs { before, after, .. } = &found[0] else { panic!("{found:?}") };
    assert!(before.contains("\"one\"") && after.contains("\"ONE\""), "{found:?}");
    assert_eq!(texts(&world).await[2..], [(UPDATED.to_owned(), "ONE".to_owned())]);
    assert_eq!(Reader::Old.replay(&world, REAL).await.0.repaired, 0);
    assert_eq!(world.deliveries().await.len(), 3);
    // There and back: the same repair has the same id, another one another.
    Reader::Grown.replay(&world, REAL).await;
    Reader::Old.replay(&world, REAL).await;
    let ids: Vec<_> = world.deliveries().await.into_iter().map(|row| row.event_id).collect();
    assert_eq!((ids.len(), ids[2] == ids[4], ids[2] == ids[3]), (5, true, false));
    world.end().await;
}

/// A message never moves, so a mapping that sees it elsewhere has nothing to repair, today and tomorrow.
pub(crate) async fn a_repair_does_not_move_a_message(engine: &dyn Engine) {
    let world = watched(engine).await;
    Reader::Grown.accept(&world, "U1 a one").await;
    let before = world.deliveries().await;
    for _ in 0..2 {
        Reader::Odd.replay(&world, REAL).await;
    }
    let rows = world.deliveries().await;
    assert!(rows.len() <= before.len() + 1, "told once: {rows:?}");
    assert_eq!(Reader::Odd.replay(&world, REAL).await.0.repaired, 0);
    assert!(rows.iter().all(|row| row.conversation == before[0].conversation));
    world.end().await;
}

pub(crate) async fn what_was_taken_back_or_is_nobody_s_is_skipped(engine: &dyn Engine) {
    let world = watched(engine).await;
    Reader::Grown.accept(&world, "U1 a one").await;
    assert_eq!(world.say(account(1), vec![unsend(&note("U1", "a"))]).await[0].state(), "stored");
    let other = Note { account: account(2), ..note("U1", "a") };
    assert_eq!(world.commit(&[other]).await[0].state(), "stored");
    let before = state(&world).await;
    let (summary, findings) = Reader::Old.replay(&world, REAL).await;
    assert_eq!((summary.skipped, summary.repaired), (2, 0), "{findings:?}");
    let why = |finding: &Finding| matches!(finding, Finding::Skipped { why, .. } if !why.is_empty());
    assert!(findings.len() == 2 && findings.iter().all(why), "{findings:?}");
    assert_eq!(state(&world).await, before);
    // By account and by time.
    let none = Order { since: Some(at(1)), ..REAL };
    assert_eq!(Reader::Old.replay(&world, none).await.0.events, 0);
    let none = Order { until: Some(at(0)), ..REAL };
    assert_eq!(Reader::Old.replay(&world, none).await.0.events, 0);
    let theirs = Order { account: Some(account(2).id), until: Some(at(1)), ..REAL };
    assert_eq!(Reader::Old.replay(&world, theirs).await.0.events, 1);
    world.end().await;
}

pub(crate) async fn a_webhook_may_be_understood_in_part(engine: &dyn Engine) {
    let world = watched(engine).await;
    assert_eq!(Reader::Young.accept(&world, "U1 a one?\nU1 b two!\nU1 c three?").await, ["quarantined"]);
    let (first, findings) = Reader::Teen.replay(&world, REAL).await;
    assert_eq!(first.understood, 1);
    let understood =
        |found: &Finding| matches!(found, Finding::Understood { record: Some(r), .. } if r.contains("two!"));
    assert!(findings.len() == 1 && understood(&findings[0]), "{findings:?}");
    let states: Vec<&str> = world.events().await.iter().map(|event| event.end.state()).collect();
    assert_eq!(states, ["quarantined", "stored", "quarantined"], "every event has an end of its own now");
    let before = state(&world).await;
    let (second, findings) = Reader::Teen.replay(&world, REAL).await;
    assert_eq!((second.understood, second.still_quarantined, findings), (0, 2, vec![]));
    assert_eq!(state(&world).await, before);
    assert_eq!(Reader::Grown.replay(&world, REAL).await.0.understood, 2);
    let owed: Vec<String> = texts(&world).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(owed, ["two!", "one?", "three?"]);
    world.end().await;
}
