//! Writing lanes that changed to their rows, and what is owed to `owed`: together, in order, a little with every commit.

use super::{Book, Row};
use crate::store::sqlite::statements::{Cell, Rows};
use rusqlite::{Connection, params};

/// Deliveries, or lanes that changed, that wait to be written together.
const TOGETHER: usize = 8192;

impl Book {
    /// After a commit: enough waits to be written, or all of it is written.
    pub(in crate::store::sqlite) fn keep_batch(&mut self) {
        self.before_item = 0;
        self.journal.clear();
        let waiting = usize::try_from(self.next_delivery - self.first).unwrap_or_default();
        if self.upto.is_none() && (waiting >= TOGETHER || self.touched.len() >= TOGETHER) {
            self.upto = Some(self.next_delivery);
            self.settling = std::mem::take(&mut self.touched);
            self.settling.sort_unstable_by(|a, b| b.cmp(a));
        }
    }

    /// Writes some lanes to their rows: as many as keeps what waits bounded while `items` are committed at a time.
    pub(in crate::store::sqlite) fn settle_some(
        &mut self,
        connection: &Connection,
        items: usize,
    ) -> rusqlite::Result<()> {
        let deliveries = usize::try_from(self.next_delivery - self.settled_for).unwrap_or_default();
        self.settled_for = self.next_delivery;
        let Some(upto) = self.upto else { return Ok(()) };
        let most = items.max(deliveries).saturating_mul(4).max(64);
        let lanes = self.settling.split_off(self.settling.len().saturating_sub(most));
        self.write_all(connection, lanes.into_iter().rev())?;
        if self.settling.is_empty() {
            self.move_on(connection, upto)?;
            self.upto = None;
        }
        Ok(())
    }

    /// Writes every lane to its row.
    pub(in crate::store::sqlite) fn settle_all(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let mut lanes = std::mem::take(&mut self.touched);
        lanes.append(&mut self.settling);
        lanes.sort_unstable();
        self.write_all(connection, lanes.into_iter())?;
        self.upto = None;
        self.move_on(connection, self.next_delivery)
    }

    fn move_on(&mut self, connection: &Connection, first: i64) -> rusqlite::Result<()> {
        self.first = first;
        connection.prepare_cached("UPDATE tail SET delivery = ?1")?.execute([first]).map(drop)
    }

    /// Whether everything about a delivery is written.
    pub(in crate::store::sqlite) fn is_written(&self, delivery: i64) -> bool {
        delivery < self.first
    }

    /// Writes a lane to its row and what is owed of it to `owed`.
    pub(in crate::store::sqlite) fn write(&mut self, connection: &Connection, lane: i64) -> rusqlite::Result<()> {
        self.write_all(connection, std::iter::once(lane))
    }

    fn write_all(&mut self, connection: &Connection, lanes: impl Iterator<Item = i64>) -> rusqlite::Result<()> {
        let mut owed = Vec::new();
        for lane in lanes {
            self.write_one(connection, lane, &mut owed)?;
        }
        owed.sort_unstable();
        let cells: Vec<_> = owed.iter().map(|row| row.map(Cell::Int)).collect();
        Rows::new(connection, "owed (subscriber, lane, seq, delivery)", 4)?.insert(&cells)
    }

    /// Writes a lane to its row, adds what is to be written to `owed`, and forgets the lane unless somebody works on it.
    fn write_one(&mut self, connection: &Connection, id: i64, owed: &mut Vec<[i64; 4]>) -> rusqlite::Result<()> {
        let is_leased = self.is_leased(id);
        let Some(lane) = self.lanes.get_mut(&id) else { return Ok(()) };
        lane.is_touched = false;
        if lane.is_single && lane.due.is_none() {
            if lane.row != Row::Missing {
                connection.prepare_cached("DELETE FROM lanes WHERE id = ?1")?.execute([id])?;
            }
            self.forget(id);
            return Ok(());
        }
        lane.is_stored |= !lane.fresh.is_empty();
        owed.extend(lane.fresh.drain(..).map(|head| [lane.subscriber, id, head.seq, head.delivery]));
        let due = lane.due.filter(|_| !is_leased);
        if lane.row == Row::Missing {
            connection
                .prepare_cached(
                    "INSERT INTO lanes (id, subscriber, conversation, single, last_seq, due_at, open)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    id,
                    lane.subscriber,
                    lane.conversation,
                    lane.is_single,
                    lane.last_seq,
                    due,
                    is_leased
                ])?;
        } else {
            connection
                .prepare_cached("UPDATE lanes SET last_seq = ?2, due_at = ?3, open = ?4 WHERE id = ?1")?
                .execute(params![id, lane.last_seq, due, is_leased])?;
        }
        if is_leased {
            lane.row = Row::Open;
        } else {
            self.forget(id);
        }
        Ok(())
    }
}
