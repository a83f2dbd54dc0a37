//! Going through kept webhooks with today's mapping.
//!
//! What was in quarantine and can be understood now is committed like a new webhook. A message that today's mapping
//! would make another one of is worked out anew from everything that is kept of it, and replaced; subscribers are told
//! once, under an id that the new body decides, so that nothing is told twice however often it is replayed.

use super::{Desk, Ingest};
use crate::adapter::verified::kept;
use crate::domain::event::{Content, End, EventType, InboundEvent, OutboundEvent};
use crate::domain::ids::{AccountId, MessageId};
use crate::domain::merge::{Known, apply};
use crate::domain::message::Message;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::inbound::{Inbound, Prepared};
use crate::store::replay::{History, Kept, KeptQuery, Repair};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fmt::Write;

/// Kept events per question to the store.
const PAGE: usize = 200;

/// How often a message that changes while it is repaired is worked out again.
const PATIENCE: usize = 5;

/// What to replay, and how.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Of this account.
    pub account: Option<AccountId>,
    /// Received at or after this moment.
    pub since: Option<Timestamp>,
    /// Received before this moment.
    pub until: Option<Timestamp>,
    /// Only what is in quarantine.
    pub quarantined: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// One thing that was found, and done unless it was a dry run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A message is another one with today's mapping: its record before and after, as subscribers see it.
    Differs {
        /// The message.
        message: MessageId,
        /// Its record as it was.
        before: String,
        /// Its record as it is from now on.
        after: String,
    },
    /// An event in quarantine can be understood now.
    Understood {
        /// Its row.
        event: i64,
        /// The provider's word for it.
        kind: String,
        /// The record of its message, if it is one, as subscribers see it.
        record: Option<String>,
    },
    /// Something stays as it is.
    Skipped {
        /// The event's row.
        event: i64,
        /// Why.
        why: &'static str,
    },
}

/// What was gone through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Kept events.
    pub events: usize,
    /// Messages that were worked out anew.
    pub messages: usize,
    /// Messages that are others now.
    pub repaired: usize,
    /// Events that left quarantine.
    pub understood: usize,
    /// Events that are still in quarantine.
    pub still_quarantined: usize,
    /// Events that were passed over.
    pub skipped: usize,
}

impl Ingest {
    /// Replays what `order` says; `tell` hears of every finding.
    pub async fn replay(
        &self,
        order: &Order,
        now: Timestamp,
        tell: &mut (dyn FnMut(Finding) + Send),
    ) -> Result<Summary, StoreError> {
        let mut summary = Summary::default();
        let mut done = HashSet::new();
        let mut query = KeptQuery {
            account: order.account,
            since: order.since,
            until: order.until,
            quarantined: order.quarantined,
            after: 0,
            limit: PAGE,
        };
        loop {
            let page = self.store.kept(query.clone()).await?;
            let Some(last) = page.last() else { return Ok(summary) };
            query.after = last.row;
            for event in page {
                summary.events += 1;
                let skip = match self.desk(event.account) {
                    None => Some("its account is not configured"),
                    Some(desk) if event.quarantined => {
                        self.requeue(desk, &event, order.dry_run, &mut summary, tell).await?
                    }
                    Some(desk) => match event.message {
                        Some(message) if done.insert((event.account, message)) => {
                            self.rework(desk, message, order.dry_run, now, &mut summary, tell).await?
                        }
                        _ => None,
                    },
                };
                if let Some(why) = skip {
                    summary.skipped += 1;
                    tell(Finding::Skipped { event: event.row, why });
                }
            }
        }
    }

    /// Reads a quarantined event again, and commits it if it can be understood now.
    async fn requeue(
        &self,
        desk: &Desk,
        event: &Kept,
        dry_run: bool,
        summary: &mut Summary,
        tell: &mut (dyn FnMut(Finding) + Send),
    ) -> Result<Option<&'static str>, StoreError> {
        let mut prepared = self.prepare(desk, desk.adapter.events(&kept(&event.webhook)));
        // A webhook of which nothing could be read has one row for all of it; any other row is for its own place.
        if event.siblings > 1 || event.place > 0 {
            prepared.retain(|prepared| prepared.place == event.place);
        }
        let is_understood = |p: &Prepared| !matches!(p.event.content, Content::Quarantined(_));
        if !prepared.iter().any(is_understood) {
            summary.still_quarantined += 1;
            return Ok(None);
        }
        for prepared in &mut prepared {
            prepared.replaces = (prepared.place == event.place).then_some(event.row);
        }
        summary.understood += 1;
        for prepared in prepared.iter().filter(|prepared| is_understood(prepared)) {
            let record = prepared.created.last().map(|created| text(&created.body));
            tell(Finding::Understood { event: event.row, kind: prepared.event.kind.clone(), record });
        }
        if dry_run {
            return Ok(None);
        }
        let receipt = self
            .store
            .commit_inbound(Inbound {
                account: desk.account.clone(),
                received_at: event.webhook.received_at,
                request_id: event.request_id.clone(),
                headers: Vec::new(),
                body: Vec::new(),
                events: prepared,
                outlet: self.outlet.clone(),
                kept: Some(event.webhook_row),
                erase: desk.adapter.clone(),
                hold: Box::new(()),
            })
            .await?;
        let all_repeats = receipt.ends.iter().all(|end| matches!(end, End::Duplicate { .. }));
        Ok(all_repeats.then_some("it arrived another way meanwhile"))
    }

    /// Works a message out anew from everything that is kept of it, and replaces it when it is another one.
    async fn rework(
        &self,
        desk: &Desk,
        message: MessageId,
        dry_run: bool,
        now: Timestamp,
        summary: &mut Summary,
        tell: &mut (dyn FnMut(Finding) + Send),
    ) -> Result<Option<&'static str>, StoreError> {
        summary.messages += 1;
        for _ in 0..PATIENCE {
            let Some(history) = self.store.history(desk.account.clone(), message).await? else { return Ok(None) };
            if history.known.message.tm_delete.is_some() {
                return Ok(Some("it was taken back, and what it said is erased"));
            }
            let after = match work_out(desk, message, &history) {
                Ok(after) => after,
                Err(why) => return Ok(Some(why)),
            };
            if after == history.known {
                return Ok(None);
            }
            let outbound = self.repaired(desk, &after.message);
            if !dry_run {
                let repair = Repair {
                    account: desk.account.clone(),
                    before: history.known.clone(),
                    after: after.clone(),
                    outbound,
                    outlet: self.outlet.clone(),
                    now,
                };
                if !self.store.repair(repair).await? {
                    // It has changed meanwhile: what was worked out is of yesterday.
                    continue;
                }
            }
            summary.repaired += 1;
            let (before, after) = (self.shown(desk, &history.known.message), self.shown(desk, &after.message));
            tell(Finding::Differs { message, before, after });
            return Ok(None);
        }
        Ok(Some("it kept changing"))
    }

    /// What is owed for a repair. The new body is its cause, so the same repair has the same ids again.
    fn repaired(&self, desk: &Desk, message: &Message) -> Vec<OutboundEvent> {
        let update = |cause: &str| {
            let render = &*self.outlet.render;
            OutboundEvent::of_message(render, desk.account.id, EventType::ConversationMessageUpdated, message, cause)
        };
        let body = update("").pop().map(|event| event.body).unwrap_or_default();
        let mut cause = "replay:".to_owned();
        for byte in Sha256::digest(&body) {
            // Writing to a text cannot fail.
            write!(cause, "{byte:02x}").ok();
        }
        update(&cause)
    }

    fn shown(&self, desk: &Desk, message: &Message) -> String {
        let render = &*self.outlet.render;
        let event_type = EventType::ConversationMessageUpdated;
        OutboundEvent::of_message(render, desk.account.id, event_type, message, "")
            .pop()
            .map(|event| text(&event.body))
            .unwrap_or_default()
    }
}

/// The message as today's mapping of its events makes it, in the order in which they were stored.
fn work_out(desk: &Desk, message: MessageId, history: &History) -> Result<Known, &'static str> {
    let mut known: Option<Known> = None;
    for (place, webhook) in &history.events {
        let Some(webhook) = webhook else { return Err("a webhook of it is no longer kept") };
        let event = desk.adapter.events(&kept(webhook)).into_iter().nth(*place);
        let Some(InboundEvent { content, .. }) = event.filter(|event| event.content.message_id() == Some(message))
        else {
            return Err("today's mapping makes no message of it");
        };
        let applied = apply(known.as_ref(), &content);
        known = applied.known(known.as_ref());
    }
    let mut known = known.ok_or("nothing is kept of it")?;
    // A message never moves, not even when today's mapping would see it elsewhere.
    let Message { conversation_id, dialog_id, direction, .. } = &history.known.message;
    known.message.conversation_id = *conversation_id;
    known.message.dialog_id.clone_from(dialog_id);
    known.message.direction = *direction;
    Ok(known)
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}
