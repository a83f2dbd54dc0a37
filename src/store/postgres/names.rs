//! Rows of accounts and subscribers, known by heart for a while.

use super::connect::Session;
use super::error::Failure;
use crate::domain::delivery::Order;
use crate::domain::route::SubscriberId;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Row;
use uuid::Uuid;

/// How long another process's changes of subscribers may go unnoticed.
const FRESH: Duration = Duration::from_secs(1);

/// What is known of a subscriber.
#[derive(Clone, Copy)]
pub(super) struct Subscriber {
    /// His row.
    pub(super) row: i64,
    /// Whether he gets one thing after the other.
    pub(super) ordered: bool,
    /// Whether he gets anything at the moment.
    pub(super) active: bool,
}

/// The columns of that.
macro_rules! subscriber {
    () => {
        "id, ordered, configured AND disabled_at IS NULL AS active"
    };
}

impl From<&Row> for Subscriber {
    fn from(row: &Row) -> Self {
        Self { row: row.get("id"), ordered: row.get("ordered"), active: row.get("active") }
    }
}

/// Every subscriber, by name.
pub(super) type Subscribers = HashMap<String, Subscriber>;

/// What is known by heart.
#[derive(Default)]
pub(super) struct Names {
    accounts: Mutex<HashMap<Uuid, i64>>,
    subscribers: Mutex<Option<(Instant, Arc<Subscribers>)>>,
}

impl Names {
    /// The rows of these accounts; unknown ones are made.
    pub(super) async fn accounts(
        &self,
        session: &Session,
        wanted: impl Iterator<Item = Uuid>,
    ) -> Result<HashMap<Uuid, i64>, Failure> {
        let mut rows = HashMap::new();
        for id in wanted {
            if let Entry::Vacant(place) = rows.entry(id) {
                let known = self.accounts.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied();
                place.insert(match known {
                    Some(row) => row,
                    None => self.account(session, id).await?,
                });
            }
        }
        Ok(rows)
    }

    async fn account(&self, session: &Session, id: Uuid) -> Result<i64, Failure> {
        let row = session
            .query_one(
                "INSERT INTO accounts (id, uuid) VALUES (nextval('row_ids'), $1)
                 ON CONFLICT (uuid) DO UPDATE SET uuid = excluded.uuid RETURNING id",
                &[&id],
            )
            .await?
            .get(0);
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).insert(id, row);
        Ok(row)
    }

    /// Every subscriber, these among them; unknown ones are made.
    pub(super) async fn subscribers<'a>(
        &self,
        session: &Session,
        wanted: impl Iterator<Item = &'a SubscriberId>,
    ) -> Result<Arc<Subscribers>, Failure> {
        let known = {
            let known = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
            known.as_ref().filter(|(at, _)| at.elapsed() < FRESH).map(|(_, rows)| rows.clone())
        };
        let mut rows = if let Some(rows) = known {
            rows
        } else {
            let select = session.prepare_cached(concat!("SELECT name, ", subscriber!(), " FROM subscribers")).await?;
            let known = |row: &Row| (row.get("name"), Subscriber::from(row));
            let rows: Subscribers = session.query(&select, &[]).await?.iter().map(known).collect();
            let rows = Arc::new(rows);
            *self.subscribers.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), rows.clone()));
            rows
        };
        for SubscriberId(name) in wanted {
            if !rows.contains_key(name) {
                let row = session
                    .query_one(
                        concat!(
                            "INSERT INTO subscribers (id, name, configured, ordered)
                             VALUES (nextval('row_ids'), $1, true, true)
                             ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING ",
                            subscriber!()
                        ),
                        &[name],
                    )
                    .await?;
                Arc::make_mut(&mut rows).insert(name.clone(), Subscriber::from(&row));
            }
        }
        Ok(rows)
    }

    /// Makes these subscribers the configured ones.
    pub(super) async fn register(
        &self,
        session: &Session,
        subscribers: &[(SubscriberId, Order)],
    ) -> Result<(), Failure> {
        let names: Vec<&str> = subscribers.iter().map(|(id, _)| id.0.as_str()).collect();
        let ordered: Vec<bool> = subscribers.iter().map(|(_, order)| *order != Order::None).collect();
        // In the order of names, as everybody: two nodes may start at once.
        session.batch_execute("BEGIN").await?;
        session.query("SELECT id FROM subscribers ORDER BY name FOR UPDATE", &[]).await?;
        session.execute("UPDATE subscribers SET configured = false WHERE NOT name = ANY($1)", &[&names]).await?;
        session
            .execute(
                "INSERT INTO subscribers (id, name, configured, ordered)
                 SELECT nextval('row_ids'), name, true, ordered FROM unnest($1::text[], $2::bool[]) AS t(name, ordered)
                 ORDER BY name
                 ON CONFLICT (name) DO UPDATE SET configured = true, ordered = excluded.ordered",
                &[&names, &ordered],
            )
            .await?;
        session.batch_execute("COMMIT").await?;
        self.forget();
        Ok(())
    }

    /// Subscribers may have changed.
    pub(super) fn forget(&self) {
        *self.subscribers.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
