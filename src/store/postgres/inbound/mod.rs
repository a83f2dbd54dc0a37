//! Keeping webhooks, many in one transaction of three round trips: begin and ids; what is known; what is new, with
//! the commit.
//!
//! What is known is read under locks that every node takes in the same order: dedupe keys, then conversations, then
//! lanes. Whoever holds a conversation knows everything about its messages until the commit.

mod handing;
pub(super) mod known;
pub(super) mod work;
pub(super) mod write;

use super::connect::{Database, Session};
use super::error::Failure;
use super::flush::{Flush, begin};
use super::lanes::Claims;
use super::names::Names;
use super::outbox;
use crate::domain::event::{Content, Quarantine, QuarantineReason};
use crate::store::inbound::{Inbound, Receipt};
use handing::Handing;
pub(super) use handing::Hands;
use std::sync::Arc;
use tokio::sync::Notify;
use uuid::Uuid;

/// Keeps webhooks.
pub(super) struct Webhooks {
    pub(super) database: Arc<Database>,
    pub(super) names: Arc<Names>,
    pub(super) hint: Arc<Notify>,
    pub(super) claims: Arc<Claims>,
    pub(super) hands: Arc<Hands>,
}

/// What became of a webhook, and whether somebody should look for what is owed for it.
pub(super) type Kept = (Receipt, bool);

impl Flush for Webhooks {
    type Item = Inbound;
    type Answer = Kept;

    /// Events of one conversation take one way, so that they stay in the order in which they came.
    fn way(&self, inbound: &Inbound) -> Option<u64> {
        let first = inbound.events.first().and_then(|prepared| prepared.event.content.sighting());
        let owner = first.map_or(inbound.account.id.0, |sighting| sighting.conversation_id(&inbound.account).0);
        // Ids that agree in half only wait for each other needlessly.
        Some(owner.as_u64_pair().1)
    }

    async fn flush(
        &self,
        session: &Session,
        id: Uuid,
        items: &[Inbound],
        promised: &mut Option<Vec<Kept>>,
    ) -> Result<(), Failure> {
        let accounts = self.names.accounts(session, items.iter().map(|i| i.account.id.0)).await?;
        let wanted = items.iter().flat_map(|i| i.outlet.routes.subscribers());
        let subscribers = self.names.subscribers(session, wanted).await?;

        let now = items.first().and_then(|i| self.database.clock(i.received_at));
        let mut rows = work::Ids::default();
        let take = rows.ensure(session, work::likely(items));
        let (begun, taken) = tokio::join!(biased; begin(session, id, now), take);
        begun?;
        taken?;
        let asks = known::asks(items, &accounts, &mut rows, session).await?;
        let mut known = known::read(session, &asks).await?;

        let mut work = work::Work::new(&self.database, &subscribers, rows);
        let mut answers = Vec::with_capacity(items.len());
        let mut rest = asks.as_slice();
        for inbound in items {
            let (own, others) = rest.split_at(inbound.events.len());
            answers.push(work.keep(inbound, accounts[&inbound.account.id.0], own, &mut known));
            rest = others;
        }
        work.number(session).await?;
        *promised = Some(answers);
        if work.is_plain() {
            let holder = Uuid::from_u128((self.database.chance)());
            let handing = Handing::of(&self.hands, &self.claims, &mut work.owed, holder);
            let lanes = write::all(session, &work, &known, true).await?;
            let is_looked_for = work.owed.is_looked_for(&lanes);
            if let Some(handing) = handing {
                handing.over(&lanes, &work.owed);
            }
            // Whoever works on a lane goes on with it; nobody has to be called for the others.
            if !is_looked_for && let Some(answers) = promised {
                for (_, is_called) in answers {
                    *is_called = false;
                }
            }
            return Ok(());
        }
        write::all(session, &work, &known, false).await?;
        for (webhook, message, inbound) in &work.unchanging {
            if known::is_taken_back(session, *message).await? {
                outbox::erase_raw(session, &*inbound.erase, *webhook, *message).await?;
            }
        }
        for (row, message, inbound) in &work.erased {
            outbox::erase(session, &*inbound.erase, *row, *message).await?;
        }
        Ok(session.batch_execute("COMMIT").await?)
    }

    fn rescue(&self, item: &mut Inbound, why: &str) -> bool {
        let is_kept_aside = |prepared: &crate::store::inbound::Prepared| matches!(&prepared.event.content, Content::Quarantined(q) if q.reason == QuarantineReason::Unstorable);
        if item.events.is_empty() || item.events.iter().all(is_kept_aside) {
            return false;
        }
        // What no row can hold is kept raw instead.
        for prepared in &mut item.events {
            prepared.event.key = None;
            let message = prepared.event.content.speaks_of();
            let quarantine = Quarantine::new(QuarantineReason::Unstorable, why).about(message);
            prepared.event.content = Content::Quarantined(quarantine);
            prepared.created.clear();
        }
        true
    }

    fn committed(&self, answers: &[Kept]) {
        if answers.iter().any(|(_, owed)| *owed) {
            self.hint.notify_one();
        }
    }
}
