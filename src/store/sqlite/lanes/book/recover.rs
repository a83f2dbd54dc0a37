//! Reading lanes again after a start, or after somebody else has written: from the rows of deliveries that wait to be
//! written to `owed`, and from lanes that are open.

use super::{Book, Head, Held, Lane};
use rusqlite::Connection;

/// The token of a lease of which only its own process knows.
const SOMEBODY: i64 = -1;

impl Book {
    /// Reads everything that lanes' rows do not say.
    pub(in crate::store::sqlite) fn read(mut self, connection: &Connection) -> rusqlite::Result<Self> {
        (self.first, self.next_delivery) = connection.query_row(
            "SELECT delivery, max(delivery, 1 + coalesce((SELECT max(id) FROM deliveries), 0)) FROM tail",
            [],
            |r| Ok((r.get(0)?, r.get(1)?)),
        )?;
        self.settled_for = self.next_delivery;
        self.next_lane = connection.query_row(
            "SELECT 1 + max(0, coalesce((SELECT max(id) FROM lanes), 0),
                 coalesce((SELECT max(lane) FROM deliveries WHERE id >= ?1), 0))",
            [self.first],
            |r| r.get(0),
        )?;
        let open: Vec<i64> = connection
            .prepare("SELECT id FROM lanes WHERE open = 1")?
            .query_map([], |r| r.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for lane in open {
            self.lane(connection, lane)?;
        }
        // Deliveries that wait alone first name their conversation's lane last: they know it by its numbers only.
        for (sign, names_lane) in [(">", true), ("<", false)] {
            let mut newest = connection.prepare(&format!(
                "SELECT d.id, d.subscriber, d.lane, d.seq, d.due_at, d.state IN (0, 1), o.conversation
                 FROM deliveries d JOIN outbox o ON o.id = d.event WHERE d.id >= ?1 AND d.lane {sign} 0 ORDER BY d.id"
            ))?;
            let mut rows = newest.query([self.first])?;
            while let Some(row) = rows.next()? {
                let (delivery, subscriber, lane) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let (seq, due, is_owed, conversation) = (row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?);
                self.read_delivery(
                    connection,
                    names_lane,
                    (subscriber, conversation, lane),
                    Head { seq, delivery, due },
                    is_owed,
                )?;
            }
        }
        self.read_marks(connection)?;
        let all: Vec<i64> = self.lanes.keys().copied().collect();
        for lane in all {
            let due = match self.leases.get(&lane) {
                Some(held) => Some(held.until),
                None => self.head(connection, lane)?.map(|head| head.due),
            };
            self.set_due(lane, due);
            self.touch(lane);
        }
        self.leases.retain(|lane, _| self.lanes.contains_key(lane));
        if !self.grants {
            self.respect(connection)?;
        }
        Ok(self)
    }

    fn read_delivery(
        &mut self,
        connection: &Connection,
        names_lane: bool,
        (subscriber, conversation, lane): (i64, i64, i64),
        head: Head,
        is_owed: bool,
    ) -> rusqlite::Result<()> {
        let is_known = self.lane(connection, lane)?.is_some();
        if !is_known && (names_lane || is_owed) {
            self.insert(lane, Lane::new(subscriber, conversation, !names_lane));
        }
        let counted = match self.of_conversation(connection, subscriber, conversation)? {
            Some(counted) => counted,
            None => self.make(subscriber, conversation),
        };
        for numbered in [counted, lane] {
            if let Some(numbered) = self.lanes.get_mut(&numbered).filter(|numbered| !numbered.is_single) {
                numbered.last_seq = numbered.last_seq.max(head.seq);
            }
        }
        if !is_owed {
            return Ok(());
        }
        // A lane's deliveries are written in their order: what is there is the beginning.
        let stored: Option<i64> = connection
            .prepare_cached("SELECT max(seq) FROM owed WHERE subscriber = ?1 AND lane = ?2")?
            .query_row([subscriber, lane], |r| r.get(0))?;
        if let Some(owing) = self.lanes.get_mut(&lane) {
            if stored.is_some_and(|stored| stored >= head.seq) {
                owing.is_stored = true;
            } else {
                owing.is_stored |= stored.is_some();
                owing.fresh.push_back(head);
            }
        }
        Ok(())
    }

    /// Takes lanes of which the head is being attempted for leased by the process that serves.
    fn respect(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let mut state = connection.prepare_cached("SELECT state = 1 FROM deliveries WHERE id = ?1")?;
        let all: Vec<i64> = self.lanes.keys().copied().collect();
        for lane in all {
            if let Some(head) = self.head(connection, lane)?
                && (self.is_marked(lane, head.delivery) || state.query_row([head.delivery], |r| r.get(0))?)
            {
                self.leases.insert(lane, Held { token: SOMEBODY, until: i64::MAX, head });
                self.set_due(lane, Some(i64::MAX));
            }
        }
        Ok(())
    }

    /// Every lane that may be at work, with its head.
    pub(in crate::store::sqlite) fn at_work(
        &mut self,
        connection: &Connection,
    ) -> rusqlite::Result<Vec<(i64, Option<Head>)>> {
        let mut lanes: Vec<i64> = self.lanes.keys().copied().collect();
        lanes.sort_unstable();
        let mut heads = Vec::with_capacity(lanes.len());
        for lane in lanes {
            heads.push((lane, self.head(connection, lane)?));
        }
        Ok(heads)
    }
}
