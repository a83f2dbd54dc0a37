//! What is known of lanes by heart.
//!
//! A lane changes with every message and every attempt, and its row falls anywhere: writing each change to where it
//! belongs would be most of what a commit writes. So lanes change here, and are written together, in order, some
//! thousand deliveries at a time. Nothing is lost with the process, because everything follows from the rows of
//! deliveries, which are written at once: which are owed, when the head is due, and which number was the last.
//! `tail.delivery` says from which delivery on, and a lane that is `open` that its own row says nothing. Only leases
//! are known nowhere else: they end with the process.

mod mark;
mod recover;
mod settle;

use crate::store::lane::Lease;
use foldhash::{HashMap, HashMapExt};
use mark::Mark;
use rusqlite::{Connection, OptionalExtension};
use std::collections::{BTreeSet, VecDeque};

/// What the row of a lane says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    /// There is none.
    Missing,
    /// Nothing of it is owed but what waits to be written.
    Idle,
    /// When it is due, as is known here.
    Due,
    /// That it says nothing.
    Open,
}

/// A lane.
#[derive(Debug)]
struct Lane {
    subscriber: i64,
    conversation: i64,
    /// For one delivery only.
    is_single: bool,
    last_seq: i64,
    /// When it may be claimed; of a leased one the end of its lease; `None` when nothing is owed.
    due: Option<i64>,
    /// What is owed and waits to be written to `owed`, oldest first.
    fresh: VecDeque<Head>,
    /// Whether `owed` may have some of it.
    is_stored: bool,
    /// How far it is in `owed`, if it works that off.
    mark: Option<Mark>,
    row: Row,
    /// Whether it waits to be written.
    is_touched: bool,
}

/// The next delivery of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::sqlite) struct Head {
    pub(in crate::store::sqlite) seq: i64,
    pub(in crate::store::sqlite) delivery: i64,
    pub(in crate::store::sqlite) due: i64,
}

/// A lease as it was granted.
#[derive(Clone, Copy, Debug)]
struct Held {
    token: i64,
    until: i64,
    head: Head,
}

/// Lanes.
#[derive(Debug)]
pub(in crate::store::sqlite) struct Book {
    /// Whether this process is the one that grants leases.
    grants: bool,
    lanes: HashMap<i64, Lane>,
    of_conversation: HashMap<(i64, i64), i64>,
    /// Subscriber, when it is due, lane.
    clock: BTreeSet<(i64, i64, i64)>,
    leases: HashMap<i64, Held>,
    /// What leases of this batch were before.
    journal: Vec<(i64, Option<Held>)>,
    /// How much of the journal is not the current item's.
    before_item: usize,
    next_token: i64,
    next_lane: i64,
    next_delivery: i64,
    /// Deliveries from this one on wait to be written to `owed`.
    first: i64,
    /// The first delivery that nothing was settled for yet.
    settled_for: i64,
    touched: Vec<i64>,
    /// Lanes that are being written, the next one last; and what `first` is then.
    settling: Vec<i64>,
    upto: Option<i64>,
}

impl Book {
    /// An empty one. No token is less than `first_token`.
    pub(in crate::store::sqlite) fn new(grants: bool, first_token: i64) -> Self {
        Self {
            grants,
            lanes: HashMap::new(),
            of_conversation: HashMap::new(),
            clock: BTreeSet::new(),
            leases: HashMap::new(),
            journal: Vec::new(),
            before_item: 0,
            next_token: first_token,
            next_lane: 1,
            next_delivery: 1,
            first: 1,
            settled_for: 1,
            touched: Vec::new(),
            settling: Vec::new(),
            upto: None,
        }
    }

    /// One that knows the leases of this one, and nothing else.
    pub(in crate::store::sqlite) fn to_read_again(&self) -> Self {
        Self {
            leases: self.leases.clone(),
            journal: self.journal.clone(),
            before_item: self.before_item,
            ..Self::new(self.grants, self.next_token)
        }
    }

    pub(in crate::store::sqlite) fn next_delivery(&mut self) -> i64 {
        self.next_delivery += 1;
        self.next_delivery - 1
    }

    /// The lane of a conversation, which is made if there is none, and its next number.
    pub(in crate::store::sqlite) fn number(
        &mut self,
        connection: &Connection,
        subscriber: i64,
        conversation: i64,
    ) -> rusqlite::Result<(i64, i64)> {
        let lane = match self.of_conversation(connection, subscriber, conversation)? {
            Some(lane) => lane,
            None => self.make(subscriber, conversation),
        };
        self.touch(lane);
        let seq = self.lanes.get_mut(&lane).map_or(1, |lane| {
            lane.last_seq += 1;
            lane.last_seq
        });
        Ok((lane, seq))
    }

    fn make(&mut self, subscriber: i64, conversation: i64) -> i64 {
        let lane = self.next_lane;
        self.next_lane += 1;
        self.insert(lane, Lane::new(subscriber, conversation, false));
        lane
    }

    /// A lane for one delivery only: a replay, or a delivery to a subscriber that wants no order.
    pub(in crate::store::sqlite) fn single(
        &mut self,
        connection: &Connection,
        subscriber: i64,
        conversation: i64,
        delivery: i64,
    ) -> rusqlite::Result<i64> {
        let lane = -delivery;
        if self.lane(connection, lane)?.is_none() {
            self.insert(lane, Lane::new(subscriber, conversation, true));
        }
        Ok(lane)
    }

    /// Adds what is owed to the end of a lane.
    pub(in crate::store::sqlite) fn owe(&mut self, id: i64, head: Head) {
        self.touch(id);
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.fresh.push_back(head);
            if lane.due.is_none() {
                self.set_due(id, Some(head.due));
            }
        }
    }

    /// Whether nothing of a lane is owed.
    pub(in crate::store::sqlite) fn is_idle(&self, lane: i64) -> bool {
        self.lanes.get(&lane).is_none_or(|lane| lane.due.is_none())
    }

    /// Whether somebody has a lane on lease, or had until it ran out.
    pub(in crate::store::sqlite) fn is_leased(&self, lane: i64) -> bool {
        self.leases.contains_key(&lane)
    }

    /// The subscriber and the conversation of a lane.
    pub(in crate::store::sqlite) fn owner(&self, lane: i64) -> Option<(i64, i64)> {
        self.lanes.get(&lane).map(|lane| (lane.subscriber, lane.conversation))
    }

    /// Leases a lane to work on `head`.
    pub(in crate::store::sqlite) fn lease(
        &mut self,
        connection: &Connection,
        lane: i64,
        head: Head,
        until: i64,
    ) -> rusqlite::Result<Lease> {
        self.open(connection, lane)?;
        let token = self.next_token;
        self.next_token += 1;
        self.set_lease(lane, Some(Held { token, until, head }));
        self.set_due(lane, Some(until));
        self.touch(lane);
        Ok(Lease { lane, token })
    }

    /// Goes on with a lease for another delivery.
    pub(in crate::store::sqlite) fn extend(&mut self, lease: Lease, head: Head, until: i64) {
        self.set_lease(lease.lane, Some(Held { token: lease.token, until, head }));
        self.set_due(lease.lane, Some(until));
    }

    /// What is worked on under a lease that holds.
    pub(in crate::store::sqlite) fn held(&self, lease: Lease) -> Option<Head> {
        self.leases.get(&lease.lane).filter(|held| held.token == lease.token).map(|held| held.head)
    }

    /// Ends the lease of a lane, if it has one: it is due when its head is, idle without one. Says when it is due.
    pub(in crate::store::sqlite) fn settle(
        &mut self,
        connection: &Connection,
        lane: i64,
    ) -> rusqlite::Result<Option<i64>> {
        self.open(connection, lane)?;
        if self.leases.contains_key(&lane) {
            self.set_lease(lane, None);
        }
        self.unmark(connection, lane)?;
        let due = self.head(connection, lane)?.map(|head| head.due);
        self.set_due(lane, due);
        self.touch(lane);
        Ok(due)
    }

    /// The next delivery of a lane.
    pub(in crate::store::sqlite) fn head(
        &mut self,
        connection: &Connection,
        lane: i64,
    ) -> rusqlite::Result<Option<Head>> {
        let Some(found) = self.lanes.get_mut(&lane) else { return Ok(None) };
        if found.is_stored {
            let from = found.mark.map_or(i64::MIN, |mark| mark.seq);
            let head = connection
                .prepare_cached(
                    "SELECT o.seq, o.delivery, d.due_at FROM owed o JOIN deliveries d ON d.id = o.delivery
                     WHERE o.subscriber = ?1 AND o.lane = ?2 AND o.seq >= ?3 ORDER BY o.seq LIMIT 1",
                )?
                .query_row([found.subscriber, lane, from], |r| {
                    Ok(Head { seq: r.get(0)?, delivery: r.get(1)?, due: r.get(2)? })
                })
                .optional()?;
            if head.is_some() {
                return Ok(head);
            }
            found.is_stored = false;
        }
        Ok(found.fresh.front().copied())
    }

    /// Takes out of a lane what is not owed any more.
    pub(in crate::store::sqlite) fn remove(
        &mut self,
        connection: &Connection,
        lane: i64,
        seq: i64,
    ) -> rusqlite::Result<()> {
        let Some(found) = self.lanes.get_mut(&lane) else { return Ok(()) };
        if let Some(place) = found.fresh.iter().position(|head| head.seq == seq) {
            found.fresh.remove(place);
        } else if found.is_stored {
            connection
                .prepare_cached("DELETE FROM owed WHERE subscriber = ?1 AND lane = ?2 AND seq = ?3")?
                .execute([found.subscriber, lane, seq])?;
        }
        Ok(())
    }

    /// Takes up another time at which a delivery is due.
    pub(in crate::store::sqlite) fn postpone(&mut self, lane: i64, delivery: i64, due: i64) {
        if let Some(lane) = self.lanes.get_mut(&lane)
            && let Some(head) = lane.fresh.iter_mut().find(|head| head.delivery == delivery)
        {
            head.due = due;
        }
    }

    /// Lanes of a subscriber that are due in `from..=upto`, the first first, at most so many, as far as known by heart.
    pub(in crate::store::sqlite) fn due(&self, subscriber: i64, from: i64, upto: i64, most: usize) -> Vec<(i64, i64)> {
        let range = (subscriber, from, i64::MIN)..=(subscriber, upto, i64::MAX);
        self.clock.range(range).take(most).map(|&(_, due, lane)| (due, lane)).collect()
    }

    /// Whether a lane is known by heart, so that its row says nothing more.
    pub(in crate::store::sqlite) fn knows(&self, lane: i64) -> bool {
        self.lanes.contains_key(&lane)
    }

    /// Makes a lane known. Says whether there is one.
    pub(in crate::store::sqlite) fn lane(
        &mut self,
        connection: &Connection,
        lane: i64,
    ) -> rusqlite::Result<Option<()>> {
        if self.lanes.contains_key(&lane) {
            return Ok(Some(()));
        }
        let found = connection
            .prepare_cached("SELECT subscriber, conversation, single, last_seq, due_at, open FROM lanes WHERE id = ?1")?
            .query_row([lane], |r| Lane::of_row(r, 0))
            .optional()?;
        Ok(found.map(|found| self.insert(lane, found)))
    }

    fn of_conversation(
        &mut self,
        connection: &Connection,
        subscriber: i64,
        conversation: i64,
    ) -> rusqlite::Result<Option<i64>> {
        if let Some(&lane) = self.of_conversation.get(&(subscriber, conversation)) {
            return Ok(Some(lane));
        }
        let found = connection
            .prepare_cached(
                "SELECT id, subscriber, conversation, single, last_seq, due_at, open FROM lanes
                 WHERE subscriber = ?1 AND conversation = ?2 AND single = 0",
            )?
            .query_row([subscriber, conversation], |r| Ok((r.get(0)?, Lane::of_row(r, 1)?)))
            .optional()?;
        Ok(found.map(|(lane, found)| {
            self.insert(lane, found);
            lane
        }))
    }

    fn insert(&mut self, id: i64, lane: Lane) {
        if !lane.is_single {
            self.of_conversation.insert((lane.subscriber, lane.conversation), id);
        }
        if let Some(due) = lane.due {
            self.clock.insert((lane.subscriber, due, id));
        }
        self.lanes.insert(id, lane);
    }

    fn set_due(&mut self, id: i64, due: Option<i64>) {
        let Some(lane) = self.lanes.get_mut(&id).filter(|lane| lane.due != due) else { return };
        if let Some(before) = lane.due {
            self.clock.remove(&(lane.subscriber, before, id));
        }
        lane.due = due;
        if let Some(due) = due {
            self.clock.insert((lane.subscriber, due, id));
        }
    }

    fn set_lease(&mut self, lane: i64, held: Option<Held>) {
        let before = match held {
            Some(held) => self.leases.insert(lane, held),
            None => self.leases.remove(&lane),
        };
        self.journal.push((lane, before));
    }

    /// Makes the lane's row say nothing, because what it says will not be so.
    fn open(&mut self, connection: &Connection, id: i64) -> rusqlite::Result<()> {
        let Some(lane) = self.lanes.get_mut(&id).filter(|lane| lane.row == Row::Due) else { return Ok(()) };
        connection.prepare_cached("UPDATE lanes SET open = 1, due_at = NULL WHERE id = ?1")?.execute([id])?;
        lane.row = Row::Open;
        Ok(())
    }

    fn touch(&mut self, id: i64) {
        if let Some(lane) = self.lanes.get_mut(&id).filter(|lane| !lane.is_touched) {
            lane.is_touched = true;
            self.touched.push(id);
        }
    }

    pub(in crate::store::sqlite) fn begin_item(&mut self) {
        self.before_item = self.journal.len();
    }

    /// Takes back the leases of an item that was rolled back.
    pub(in crate::store::sqlite) fn forget_item(&mut self) {
        for (lane, before) in self.journal.drain(self.before_item..).rev() {
            match before {
                Some(held) => drop(self.leases.insert(lane, held)),
                None => drop(self.leases.remove(&lane)),
            }
        }
    }

    /// Takes back the leases of a batch that was rolled back.
    pub(in crate::store::sqlite) fn forget_batch(&mut self) {
        self.before_item = 0;
        self.forget_item();
    }

    /// Its row says everything.
    fn forget(&mut self, id: i64) {
        let Some(lane) = self.lanes.remove(&id) else { return };
        if !lane.is_single {
            self.of_conversation.remove(&(lane.subscriber, lane.conversation));
        }
        if let Some(due) = lane.due {
            self.clock.remove(&(lane.subscriber, due, id));
        }
    }
}

impl Lane {
    fn new(subscriber: i64, conversation: i64, is_single: bool) -> Self {
        Self {
            subscriber,
            conversation,
            is_single,
            last_seq: 0,
            due: None,
            fresh: VecDeque::new(),
            is_stored: false,
            mark: None,
            row: Row::Missing,
            is_touched: false,
        }
    }

    /// From the columns subscriber, conversation, single, last_seq, due_at, open.
    fn of_row(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Self> {
        let (due, is_open): (Option<i64>, bool) = (row.get(first + 4)?, row.get(first + 5)?);
        let said = match (is_open, due) {
            (true, _) => Row::Open,
            (false, Some(_)) => Row::Due,
            (false, None) => Row::Idle,
        };
        Ok(Self {
            last_seq: row.get(first + 3)?,
            due: due.filter(|_| !is_open),
            is_stored: is_open || due.is_some(),
            row: said,
            ..Self::new(row.get(first)?, row.get(first + 1)?, row.get(first + 2)?)
        })
    }
}
