//! Marking what is being attempted, so that a start finds it: in the delivery's own row while that is new, else in
//! `at_work`. What stands in `owed` falls anywhere, and so do the rows of those deliveries; a lane that works it off
//! writes how far it is to a table of few rows instead, and takes out of `owed` what is done when it is given back.

use super::{Book, Head};
use rusqlite::{Connection, params};

/// What `at_work` says of a lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// What `owed` has of the lane below this is done.
    pub(super) seq: i64,
    /// What is being attempted.
    delivery: i64,
}

impl Book {
    /// Marks a lane's head as being attempted.
    pub(in crate::store::sqlite) fn begin(
        &mut self,
        connection: &Connection,
        lane: i64,
        head: Head,
    ) -> rusqlite::Result<()> {
        let Some(found) = self.lanes.get_mut(&lane) else { return Ok(()) };
        let is_new = !found.is_stored || found.fresh.front().is_some_and(|fresh| fresh.delivery == head.delivery);
        if is_new {
            self.unmark(connection, lane)?;
            return connection
                .prepare_cached("UPDATE deliveries SET state = 1 WHERE id = ?1")?
                .execute([head.delivery])
                .map(drop);
        }
        found.mark = Some(Mark { seq: head.seq, delivery: head.delivery });
        connection
            .prepare_cached("INSERT OR REPLACE INTO at_work (lane, subscriber, seq, delivery) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![lane, found.subscriber, head.seq, head.delivery])
            .map(drop)
    }

    /// Whether `at_work` says that this is being attempted.
    pub(in crate::store::sqlite) fn is_marked(&self, lane: i64, delivery: i64) -> bool {
        self.lanes.get(&lane).and_then(|lane| lane.mark).is_some_and(|mark| mark.delivery == delivery)
    }

    /// Takes out of a lane what was attempted and is not owed any more.
    pub(in crate::store::sqlite) fn finish(
        &mut self,
        connection: &Connection,
        lane: i64,
        seq: i64,
    ) -> rusqlite::Result<()> {
        match self.lanes.get_mut(&lane).and_then(|lane| lane.mark.as_mut()).filter(|mark| mark.seq == seq) {
            Some(mark) => {
                mark.seq += 1;
                Ok(())
            }
            None => self.remove(connection, lane, seq),
        }
    }

    /// Nothing of a lane is being attempted any more.
    pub(in crate::store::sqlite) fn unmark(&mut self, connection: &Connection, lane: i64) -> rusqlite::Result<()> {
        let Some(found) = self.lanes.get_mut(&lane) else { return Ok(()) };
        let Some(mark) = found.mark.take() else { return Ok(()) };
        connection.prepare_cached("DELETE FROM owed WHERE subscriber = ?1 AND lane = ?2 AND seq < ?3")?.execute([
            found.subscriber,
            lane,
            mark.seq,
        ])?;
        connection.prepare_cached("DELETE FROM at_work WHERE lane = ?1")?.execute([lane]).map(drop)
    }

    /// Reads what is marked in `at_work`.
    pub(super) fn read_marks(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let marks: Vec<(i64, Mark)> = connection
            .prepare_cached("SELECT lane, seq, delivery FROM at_work")?
            .query_map([], |r| Ok((r.get(0)?, Mark { seq: r.get(1)?, delivery: r.get(2)? })))?
            .collect::<rusqlite::Result<_>>()?;
        for (lane, mark) in marks {
            self.lane(connection, lane)?;
            if let Some(lane) = self.lanes.get_mut(&lane) {
                lane.mark = Some(mark);
            }
        }
        Ok(())
    }
}
