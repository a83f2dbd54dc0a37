//! Nodes and their duties: a heartbeat for operators to look at, and leases on work that one node does at a time.
//!
//! Nothing else depends on heartbeats: a node that is gone loses its lanes when their leases end, and its duties when
//! those do.

use super::connect::Session;
use super::error::Failure;
use super::sql::now;
use crate::domain::time::{Timestamp, micros_of};
use crate::store::listing::{NodeRow, NodeState};
use std::time::Duration;
use uuid::Uuid;

/// How long a duty is held; its work is looked for every minute.
const DUTY: Duration = Duration::from_secs(90);

/// A node that has not been seen for that long is late.
const LATE: Duration = Duration::from_secs(10);

/// Nodes that ended, or were last seen, so long ago are forgotten: in microseconds.
const FORGOTTEN: i64 = 24 * 3_600_000_000;

/// A process that serves.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) version: &'static str,
}

impl Node {
    /// Says that it is there.
    pub(super) async fn beat(&self, session: &Session) -> Result<(), Failure> {
        let beat = session
            .prepare_cached(concat!(
                "INSERT INTO nodes (id, name, version, started_at, seen_at)
                 VALUES ($2, $3, $4, ",
                now!(),
                ", ",
                now!(),
                ")
                 ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, stopped_at = NULL"
            ))
            .await?;
        let own: Option<i64> = None;
        session.execute(&beat, &[&own, &self.id, &self.name, &self.version]).await?;
        Ok(())
    }

    /// Says that it ends, and leaves its duties to others.
    pub(super) async fn leave(&self, session: &Session) -> Result<(), Failure> {
        let own: Option<i64> = None;
        session.execute("DELETE FROM duties WHERE holder = $1", &[&self.id]).await?;
        session.execute(concat!("UPDATE nodes SET stopped_at = ", now!(), " WHERE id = $2"), &[&own, &self.id]).await?;
        Ok(())
    }

    /// Whether the duty is this node's for a while.
    pub(super) async fn takes(&self, session: &Session, duty: &str) -> Result<bool, Failure> {
        let own: Option<i64> = None;
        let taken = session
            .query_opt(
                concat!(
                    "INSERT INTO duties AS d (name, holder, until) VALUES ($2, $3, ",
                    now!(),
                    " + $4)
                     ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
                     WHERE d.holder = excluded.holder OR d.until <= ",
                    now!(),
                    "
                     RETURNING name"
                ),
                &[&own, &duty, &self.id, &micros_of(DUTY)],
            )
            .await?;
        Ok(taken.is_some())
    }
}

/// Every node of the last day, the oldest first.
pub(super) async fn list(session: &Session) -> Result<Vec<NodeRow>, Failure> {
    let own: Option<i64> = None;
    let rows = session
        .query(
            concat!(
                "SELECT n.id, n.name, n.version, n.started_at, n.seen_at, n.stopped_at, ",
                now!(),
                " - n.seen_at AS ago,
                     (SELECT coalesce(array_agg(d.name ORDER BY d.name), '{}') FROM duties d
                      WHERE d.holder = n.id AND d.until > ",
                now!(),
                ") AS duties
                 FROM nodes n ORDER BY n.started_at, n.id"
            ),
            &[&own],
        )
        .await?;
    let node = |row: &tokio_postgres::Row| {
        let ago = Duration::from_micros(u64::try_from(row.get::<_, i64>("ago")).unwrap_or_default());
        let stopped_at = row.get::<_, Option<i64>>("stopped_at").map(Timestamp::from_micros);
        NodeRow {
            id: row.get("id"),
            name: row.get("name"),
            version: row.get("version"),
            started_at: Timestamp::from_micros(row.get("started_at")),
            seen_at: stopped_at.unwrap_or(Timestamp::from_micros(row.get("seen_at"))),
            state: match stopped_at {
                Some(_) => NodeState::Stopped,
                None if ago > LATE => NodeState::Late,
                None => NodeState::Alive,
            },
            duties: row.get("duties"),
        }
    };
    Ok(rows.iter().map(node).collect())
}

/// Whether a node serves.
pub(super) fn is_alive(node: &NodeRow) -> bool {
    node.state == NodeState::Alive
}

/// Removes nodes that are long gone.
pub(super) async fn forget(session: &Session) -> Result<(), Failure> {
    let own: Option<i64> = None;
    let sql = concat!("DELETE FROM nodes WHERE seen_at < ", now!(), " - $2");
    session.execute(sql, &[&own, &FORGOTTEN]).await?;
    Ok(())
}
