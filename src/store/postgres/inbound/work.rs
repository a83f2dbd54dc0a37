//! What a batch of webhooks adds to what is known: worked out in memory, event by event, as rows to be written.

use super::super::connect::{Database, Session};
use super::super::error::Failure;
use super::super::messages::Found;
use super::super::names::{Subscriber, Subscribers};
use super::super::sql::day;
use super::known::{Ask, Known, Talk, Told};
use crate::domain::conversation::{Change, Sighting, observe};
use crate::domain::event::{Content, End, EventType, Notice, OutboundEvent, Record};
use crate::domain::ids::{AccountId, ConversationId, MessageId};
use crate::domain::merge;
use crate::domain::route::{Routes, SubscriberId};
use crate::domain::time::Timestamp;
use crate::store::inbound::{Inbound, Receipt};
use crate::store::{columns, plan};
use std::borrow::Cow;
use std::collections::BTreeMap;
use tokio_postgres::Row;
use uuid::Uuid;

/// Rows' ids, taken many at a time.
#[derive(Default)]
pub(crate) struct Ids {
    free: Vec<i64>,
}

impl Ids {
    /// Makes sure that there are so many.
    pub(crate) async fn ensure(&mut self, session: &Session, count: usize) -> Result<(), Failure> {
        let missing = count.saturating_sub(self.free.len());
        if missing == 0 {
            return Ok(());
        }
        // An array's length is no reason for the planner to think again each time; generate_series's parameter is.
        let take = session.prepare_cached("SELECT array_agg(nextval('row_ids')) FROM unnest($1::boolean[])").await?;
        let mut fresh: Vec<i64> = session.query_one(&take, &[&vec![true; missing]]).await?.get(0);
        // The lowest is taken first, from the end.
        fresh.sort_unstable_by(|a, b| b.cmp(a));
        fresh.append(&mut self.free);
        self.free = fresh;
        Ok(())
    }

    /// The next one; whoever asks has made sure that there is one.
    pub(crate) fn next(&mut self) -> i64 {
        self.free.pop().unwrap_or_default()
    }
}

/// How many rows a batch will most likely need.
pub(super) fn likely(items: &[Inbound]) -> usize {
    let per = |inbound: &Inbound| {
        let owed = |e: &OutboundEvent| 1 + inbound.outlet.routes.owed(e.event_type, inbound.account.id).count();
        let created = inbound.events.iter().flat_map(|p| &p.created);
        1 + inbound.events.len() * 2 + created.map(owed).sum::<usize>()
    };
    items.iter().map(per).sum()
}

/// A raw webhook to be kept.
pub(super) struct Raw<'a> {
    pub(super) id: i64,
    pub(super) account: i64,
    pub(super) inbound: &'a Inbound,
}

/// One line of the account of events.
pub(super) struct Line<'a> {
    pub(super) id: i64,
    pub(super) webhook: Option<i64>,
    pub(super) beside: Option<i64>,
    pub(super) place: usize,
    pub(super) account: i64,
    pub(super) inbound: &'a Inbound,
    pub(super) kind: &'a str,
    pub(super) key: Option<(Timestamp, &'a str, Uuid)>,
    /// What it is found by instead, if it is not understood.
    pub(super) about: Option<String>,
    pub(super) end: End,
    pub(super) message: Option<i64>,
    /// Whether the line stands already.
    pub(super) replaces: bool,
}

/// An event downstream.
pub(crate) struct Outbound<'a> {
    pub(crate) id: i64,
    pub(crate) at: Timestamp,
    pub(crate) event: Cow<'a, OutboundEvent>,
    pub(crate) cause: i64,
    pub(crate) message: Option<i64>,
    pub(crate) conversation: i64,
    /// What its lane is called downstream.
    pub(crate) lane: ConversationId,
}

/// How many deliveries a lane gets, and whether they are in order.
pub(crate) struct Lane<'a> {
    pub(crate) id: i64,
    pub(crate) count: i64,
    pub(crate) ordered: bool,
    pub(crate) due: Option<i64>,
    /// Whose it is, and whether he gets anything at the moment.
    pub(crate) name: &'a SubscriberId,
    pub(crate) active: bool,
    /// The first of its deliveries.
    pub(super) first: usize,
    /// For how long it is leased if it is idle, in microseconds; `None`: it is not.
    pub(crate) lease: Option<i64>,
}

/// A delivery of an event downstream.
pub(crate) struct Delivery {
    pub(crate) id: i64,
    pub(crate) outbound: usize,
    pub(crate) subscriber: i64,
    pub(crate) conversation: i64,
    /// Its place among those that its lane gets in this batch, from 1.
    pub(crate) nth: i64,
    /// A lane of its own, where order does not matter.
    pub(crate) single: Option<i64>,
    pub(crate) due: Option<i64>,
}

/// What is owed downstream, row by row.
#[derive(Default)]
pub(crate) struct Owed<'a> {
    pub(crate) outbox: Vec<Outbound<'a>>,
    pub(crate) deliveries: Vec<Delivery>,
    /// By conversation and subscriber, which is the order in which everybody locks lanes.
    pub(crate) lanes: BTreeMap<(i64, i64), Lane<'a>>,
    /// To whom idle lanes are leased.
    pub(crate) holder: Option<Uuid>,
}

/// When, for whom and by whose clock something is owed.
pub(crate) struct Occasion<'a> {
    pub(crate) account: AccountId,
    pub(crate) routes: &'a Routes,
    pub(crate) subscribers: &'a Subscribers,
    pub(crate) now: Timestamp,
    pub(crate) clock: Option<i64>,
}

impl<'a> Owed<'a> {
    /// Owes an event downstream to everybody who wants it; nothing when that is nobody. Says whether somebody does.
    pub(crate) fn owe(
        &mut self,
        occasion: &Occasion<'a>,
        event: Cow<'a, OutboundEvent>,
        cause: i64,
        message: Option<i64>,
        (conversation, lane): (i64, ConversationId),
    ) -> bool {
        let wanted = occasion.routes.owed(event.event_type, occasion.account);
        let subscribers: Vec<(&SubscriberId, Subscriber)> =
            wanted.filter_map(|s| Some((s, *occasion.subscribers.get(&s.0)?))).collect();
        if subscribers.is_empty() {
            return false;
        }
        let outbound = self.outbox.len();
        self.outbox.push(Outbound { id: 0, at: occasion.now, event, cause, message, conversation, lane });
        for (name, Subscriber { row: subscriber, ordered, active }) in subscribers {
            let first = self.deliveries.len();
            let lane = self.lanes.entry((conversation, subscriber)).or_insert(Lane {
                id: 0,
                count: 0,
                ordered,
                due: occasion.clock,
                name,
                active,
                first,
                lease: None,
            });
            lane.count += 1;
            let nth = lane.count;
            let single = (!ordered).then_some(0);
            let due = occasion.clock;
            self.deliveries.push(Delivery { id: 0, outbound, subscriber, conversation, nth, single, due });
        }
        true
    }

    /// Whether somebody should look for what is owed: some lane is due, as the database says, and nobody works on it.
    pub(super) fn is_looked_for(&self, lanes: &[Row]) -> bool {
        let is_active =
            |row: &&Row| self.lanes.get(&(row.get("conversation"), row.get("subscriber"))).is_some_and(|l| l.active);
        let is_due = |row: &Row| !row.get::<_, bool>("leased");
        lanes.iter().filter(is_active).any(is_due)
    }

    /// Gives every row its id.
    pub(crate) async fn number(&mut self, ids: &mut Ids, session: &Session) -> Result<(), Failure> {
        let singles = self.deliveries.iter().filter(|d| d.single.is_some()).count();
        ids.ensure(session, self.outbox.len() + self.deliveries.len() + self.lanes.len() + singles).await?;
        self.outbox.iter_mut().for_each(|o| o.id = ids.next());
        self.deliveries.iter_mut().for_each(|d| d.id = ids.next());
        self.lanes.values_mut().for_each(|l| l.id = ids.next());
        self.deliveries.iter_mut().filter_map(|d| d.single.as_mut()).for_each(|single| *single = ids.next());
        Ok(())
    }
}

/// Everything that a batch writes.
pub(super) struct Work<'a> {
    database: &'a Database,
    subscribers: &'a Subscribers,
    ids: Ids,
    pub(super) raw: Vec<Raw<'a>>,
    pub(super) lines: Vec<Line<'a>>,
    pub(super) owed: Owed<'a>,
    /// Messages that were taken back: their rows, ids and what erases them.
    pub(super) erased: Vec<(i64, MessageId, &'a Inbound)>,
    /// What is kept and changes no message (a repeat beside something new, an event that is not understood): it must not say
    /// what was taken back before.
    pub(super) unchanging: Vec<(i64, MessageId, &'a Inbound)>,
}

impl<'a> Work<'a> {
    pub(super) fn new(database: &'a Database, subscribers: &'a Subscribers, ids: Ids) -> Self {
        let (raw, lines, erased, unchanging) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { database, subscribers, ids, raw, lines, owed: Owed::default(), erased, unchanging }
    }

    /// Whether nothing has to be looked up between writing and committing.
    pub(super) fn is_plain(&self) -> bool {
        self.erased.is_empty() && self.unchanging.is_empty()
    }

    /// Gives every row its id.
    pub(super) async fn number(&mut self, session: &Session) -> Result<(), Failure> {
        let bare = self.lines.iter().filter(|line| line.id == 0).count();
        self.ids.ensure(session, bare).await?;
        for line in self.lines.iter_mut().filter(|line| line.id == 0) {
            line.id = self.ids.next();
        }
        self.owed.number(&mut self.ids, session).await
    }

    /// Works out one webhook.
    pub(super) fn keep(
        &mut self,
        inbound: &'a Inbound,
        account: i64,
        asks: &[Ask<'a>],
        known: &mut Known,
    ) -> (Receipt, bool) {
        let owed_before = self.owed.deliveries.len();
        if asks.is_empty() {
            self.lines.push(Line {
                id: 0,
                webhook: None,
                beside: None,
                place: 0,
                account,
                inbound,
                kind: "",
                key: None,
                about: None,
                end: End::Ignored,
                message: None,
                replaces: false,
            });
            return (Receipt { ends: vec![End::Ignored] }, false);
        }
        let first_line = self.lines.len();
        let ends: Vec<End> = asks.iter().map(|ask| self.one(inbound, ask, known)).collect();
        // The raw webhook is kept with the first event that is worth it, so a repeat leaves a receipt without body.
        let worth = |line: &&Line<'_>| matches!(line.end, End::Stored | End::Quarantined(_));
        let kept = inbound.kept.or_else(|| {
            let id = self.lines[first_line..].iter().find(worth)?.id;
            self.raw.push(Raw { id, account, inbound });
            Some(id)
        });
        for (line, ask) in self.lines[first_line..].iter_mut().zip(asks) {
            if worth(&&*line) {
                line.webhook = kept;
            } else {
                line.beside = kept;
            }
            let is_understood = matches!(line.end, End::Stored);
            if let (Some(kept), Some(message), false) = (kept, ask.prepared.event.content.speaks_of(), is_understood) {
                self.unchanging.push((kept, message, inbound));
            }
        }
        let is_called =
            |d: &Delivery| self.owed.lanes.get(&(d.conversation, d.subscriber)).is_some_and(|lane| lane.active);
        (Receipt { ends }, self.owed.deliveries[owed_before..].iter().any(is_called))
    }

    fn one(&mut self, inbound: &'a Inbound, ask: &Ask<'a>, known: &mut Known) -> End {
        let event = &ask.prepared.event;
        let mut line = Line {
            id: ask.event,
            webhook: None,
            beside: None,
            place: ask.prepared.place,
            account: ask.account_row,
            inbound,
            kind: &event.kind,
            key: ask.key.map(|(key, hash)| (key.at, key.provider_key.as_str(), hash)),
            about: None,
            end: End::Stored,
            message: None,
            replaces: ask.prepared.replaces.is_some(),
        };
        let conflict = known.conflicts.contains(&ask.event);
        if ask.key.is_some() && (conflict || !known.first.contains(&ask.event)) {
            line.end = End::Duplicate { conflict };
        } else {
            match &event.content {
                Content::Quarantined(quarantine) => line.end = End::Quarantined(quarantine.clone()),
                Content::Notice(notice) => self.notice(inbound, ask, notice, known),
                content => line.message = self.message(inbound, ask, content, known),
            }
        }
        line.about = columns::about(&line.end);
        let end = line.end.clone();
        self.lines.push(line);
        end
    }

    fn occasion(&self, inbound: &'a Inbound) -> Occasion<'a> {
        Occasion {
            account: inbound.account.id,
            routes: &inbound.outlet.routes,
            subscribers: self.subscribers,
            now: inbound.received_at,
            clock: self.database.clock(inbound.received_at),
        }
    }

    fn message(&mut self, inbound: &'a Inbound, ask: &Ask<'a>, content: &'a Content, known: &mut Known) -> Option<i64> {
        let (Some(id), Some(sighting)) = (content.message_id(), content.sighting()) else { return None };
        let place = (ask.account_row, id);
        let seen = sighting.conversation_id(&inbound.account);
        let stays = known.messages.get(&place).and_then(|told| {
            let stays = told.found.known.message.conversation_id;
            (stays != seen).then_some((told.found.conversation, stays))
        });
        let (conversation, lane, change) = if let Some((conversation, lane)) = stays {
            // What is said later may not name the dialog: the message stays where it is.
            (conversation, lane, Change::None)
        } else {
            let (conversation, change) = see(known, sighting, ask);
            (conversation, seen, change)
        };
        let before = known.messages.get(&place);
        let applied = merge::apply(before.map(|told| &told.found.known), content);
        let mut owed = Vec::new();
        if let Some(outbound) = plan::of_conversation(&change, ask.prepared, &inbound.account, &inbound.outlet) {
            owed.push((Cow::Owned(outbound), false));
        }
        match plan::of_message(&applied, ask.prepared, &inbound.account, &inbound.outlet) {
            Cow::Borrowed(ready) => owed.extend(ready.iter().map(|outbound| (Cow::Borrowed(outbound), true))),
            Cow::Owned(made) => owed.extend(made.into_iter().map(|outbound| (Cow::Owned(outbound), true))),
        }
        let erase = applied.erase;
        let row = before.map(|told| told.found.row);
        let changes = applied.record.is_some();
        if let Some(now_known) = applied.known(None) {
            if let Some(told) = known.messages.get_mut(&place) {
                told.found.known = now_known;
                told.is_changed = true;
            } else {
                let is_early = matches!(content, Content::Edited(_) | Content::Unsent(_));
                let found = Found { row: ask.event, conversation, known: now_known };
                let told = Told { found, is_new: true, is_changed: false, is_early, event: ask.event };
                known.messages.insert(place, told);
            }
        }
        // A new message has the row of the event that it is first known from.
        let row = row.or_else(|| changes.then_some(ask.event));
        let occasion = self.occasion(inbound);
        for (outbound, about_message) in owed {
            self.owed.owe(&occasion, outbound, ask.event, row.filter(|_| about_message), (conversation, lane));
        }
        if erase && let Some(row) = row {
            self.erased.push((row, id, inbound));
        }
        row
    }

    /// Something that happened without a message takes its conversation's lane, or the account's when there is none.
    fn notice(&mut self, inbound: &'a Inbound, ask: &Ask<'a>, notice: &Notice, known: &mut Known) {
        let is_known = |s: &Sighting| known.conversations.contains_key(&s.conversation_id(&inbound.account).0);
        let (conversation, lane, change) = match &notice.sighting {
            Some(sighting) if notice.opens || is_known(sighting) => {
                let (conversation, change) = see(known, sighting, ask);
                (conversation, sighting.conversation_id(&inbound.account), change)
            }
            _ => (-ask.account_row, ConversationId(inbound.account.id.0), Change::None),
        };
        let lane = (conversation, lane);
        let occasion = self.occasion(inbound);
        if let Some(outbound) = plan::of_conversation(&change, ask.prepared, &inbound.account, &inbound.outlet) {
            self.owed.owe(&occasion, Cow::Owned(outbound), ask.event, None, lane);
        }
        let record = Record::ChannelEvent(&notice.record);
        let (render, cause) = (&*inbound.outlet.render, ask.prepared.cause());
        let outbound = OutboundEvent::new(render, inbound.account.id, EventType::ChannelEvent, record, cause);
        self.owed.owe(&occasion, Cow::Owned(outbound), ask.event, None, lane);
    }
}

/// Takes in what a sighting says of its conversation. A new one has the row of the event that it is first known from.
fn see(known: &mut Known, sighting: &Sighting, ask: &Ask<'_>) -> (i64, Change) {
    let event = ask.event;
    let id = sighting.conversation_id(ask.account).0;
    let before = known.conversations.get(&id);
    let change = observe(before.map(|talk| &talk.conversation), sighting, ask.account);
    match (&change, known.conversations.get_mut(&id)) {
        (Change::Created(made), _) => {
            let (account, conversation) = (ask.account_row, made.clone());
            let talk = Talk { row: event, account, conversation, is_new: true, is_changed: false };
            known.conversations.insert(id, talk);
            (event, change)
        }
        (Change::Updated(changed), Some(talk)) => {
            talk.conversation = changed.clone();
            talk.is_changed = true;
            (talk.row, change)
        }
        (_, Some(talk)) => (talk.row, change),
        // `observe` creates what is not known.
        (_, None) => (event, change),
    }
}

/// The partition of an event downstream.
pub(crate) fn day_of(outbound: &Outbound<'_>) -> i32 {
    day(outbound.at)
}
