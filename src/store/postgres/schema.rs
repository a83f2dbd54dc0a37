//! The schema: made and brought up to date by whoever comes first, however many start at once.
//!
//! Each migration is one transaction that holds the row in `schema_lock`; whoever waits for it finds the work done.
//! A migration must leave the version before able to run: during a rolling update both are at work.

use super::connect::Session;
use super::error::{Failure, unusable};
use super::sql::day;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use sha2::{Digest, Sha256};
use std::time::Duration;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

const MIGRATIONS: &[(i64, &str)] = &[
    (1, include_str!("migrations/0001_first.sql")),
    (2, include_str!("migrations/0002_nodes.sql")),
    (3, include_str!("migrations/0003_copy.sql")),
];

/// The version that this program makes.
pub(super) const NEWEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// Statements of use that not every database knows: settings for tables whose rows change often.
const OPTIONAL: &[&str] = &[
    "ALTER TABLE lanes SET (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
         autovacuum_vacuum_cost_delay = 0)",
    "ALTER TABLE deliveries SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02,
         autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0)",
    "ALTER TABLE conversations SET (fillfactor = 90)",
    "ALTER TABLE flushes SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000)",
    "ALTER TABLE events SET (autovacuum_vacuum_insert_scale_factor = 0.05)",
];

/// Tables with a partition for each day.
pub(super) const DAILY: [&str; 3] = ["webhooks", "outbox", "finished"];

/// Days for which partitions are made ahead.
pub(super) const AHEAD: i32 = 2;

/// Why the schema is not as it should be.
pub(super) enum Trouble {
    /// It cannot be looked at now.
    Failure(Failure),
    /// It never will be.
    Unusable(StoreError),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error.code().map(SqlState::code) {
            // Wrong password, no such database or role, no right to do it.
            Some(state) if state.starts_with("28") || state.starts_with("3D") || state == "42501" => {
                Self::Unusable(unusable("the database refuses", error))
            }
            _ => Self::Failure(error.into()),
        }
    }
}

/// Makes or updates the schema. Returns the versions that were applied.
pub(super) async fn migrate(session: &Session, now: Timestamp) -> Result<Vec<i64>, Trouble> {
    bootstrap(session).await?;
    let mut applied = Vec::new();
    for (version, sql) in MIGRATIONS {
        if apply(session, *version, sql, now).await? {
            applied.push(*version);
        }
    }
    check(session).await?;
    if !applied.is_empty() {
        for statement in OPTIONAL {
            if let Err(error) = session.batch_execute(statement).await {
                tracing::info!(error = super::error::explain(&error), "the database does not take a table's setting");
                break;
            }
        }
    }
    Ok(applied)
}

/// `CREATE TABLE IF NOT EXISTS` of two sessions at once may still collide; the next look finds the table.
async fn bootstrap(session: &Session) -> Result<(), Trouble> {
    const TABLES: &str = "
        CREATE TABLE IF NOT EXISTS migrations (
            version bigint PRIMARY KEY, checksum bytea NOT NULL, applied_at bigint NOT NULL);
        CREATE TABLE IF NOT EXISTS schema_lock (id integer PRIMARY KEY);
        INSERT INTO schema_lock (id) VALUES (1) ON CONFLICT DO NOTHING";
    for _ in 0..20 {
        match session.batch_execute(TABLES).await {
            Err(error) if is_collision(&error) => tokio::time::sleep(Duration::from_millis(50)).await,
            outcome => return Ok(outcome?),
        }
    }
    Ok(session.batch_execute(TABLES).await?)
}

fn is_collision(error: &Error) -> bool {
    let codes = [SqlState::UNIQUE_VIOLATION, SqlState::DUPLICATE_TABLE, SqlState::DUPLICATE_OBJECT];
    error.code().is_some_and(|code| codes.contains(code))
}

/// Whether it was not there yet.
async fn apply(session: &Session, version: i64, sql: &str, now: Timestamp) -> Result<bool, Trouble> {
    // Others' migrations may take longer than a lock is usually waited for.
    session.batch_execute("BEGIN; SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0").await?;
    let outcome = async {
        session.query_one("SELECT id FROM schema_lock WHERE id = 1 FOR UPDATE", &[]).await?;
        let newest: i64 = session.query_one("SELECT coalesce(max(version), 0) FROM migrations", &[]).await?.get(0);
        if newest >= version {
            return Ok(false);
        }
        session.batch_execute(sql).await?;
        session
            .execute(
                "INSERT INTO migrations (version, checksum, applied_at) VALUES ($1, $2, $3)",
                &[&version, &checksum(sql), &now.micros()],
            )
            .await?;
        Ok(true)
    };
    match outcome.await {
        Ok(done) => {
            session.batch_execute("COMMIT").await?;
            Ok(done)
        }
        Err(error) => {
            let error: Error = error;
            session.batch_execute("ROLLBACK").await.ok();
            // A table of somebody else's is in the way.
            if is_collision(&error) {
                return Err(Trouble::Unusable(unusable("the database's schema holds another program's tables", error)));
            }
            Err(error.into())
        }
    }
}

/// Refuses a schema that this program did not make or does not know.
pub(super) async fn check(session: &Session) -> Result<(), Trouble> {
    let found = session.query_opt("SELECT version, checksum FROM migrations ORDER BY version DESC LIMIT 1", &[]).await;
    let applied = match found {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => None,
        found => found?.map(|row| (row.get::<_, i64>(0), row.get::<_, Vec<u8>>(1))),
    };
    let newest = NEWEST;
    let detail = match applied {
        Some((version, _)) if version > newest => format!(
            "the database's schema is version {version}, this birdwire knows up to {newest}; use a newer birdwire"
        ),
        Some((version, sum)) if MIGRATIONS.iter().any(|(v, sql)| *v == version && checksum(sql) == sum) => {
            if version == newest {
                return Ok(());
            }
            format!(
                "the database's schema is version {version}, {newest} is needed; run `birdwire migrate`, or start \
                 `birdwire serve` once"
            )
        }
        Some((version, _)) => format!("the database's schema version {version} was made by another program"),
        None => "there is no store in this database: `birdwire serve` or `birdwire migrate` makes one".to_owned(),
    };
    Err(Trouble::Unusable(StoreError::Unusable { detail, source: None }))
}

fn checksum(sql: &str) -> Vec<u8> {
    Sha256::digest(sql.as_bytes()).to_vec()
}

/// Makes today's partitions and those of the next days. What has no partition is kept all the same, in the rest.
pub(super) async fn partitions(session: &Session, now: Timestamp) -> Result<(), Error> {
    for day in day(now)..=day(now) + AHEAD {
        for table in DAILY {
            make_partition(session, table, day).await?;
        }
    }
    Ok(())
}

/// Makes a day's partition of a table, if that is possible.
pub(super) async fn make_partition(session: &Session, table: &str, day: i32) -> Result<(), Error> {
    let name = partition(table, day);
    let made = format!(
        "SET LOCAL lock_timeout = '500ms';
         CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table} FOR VALUES FROM ({day}) TO ({})",
        day + 1
    );
    let there = session.query_opt("SELECT to_regclass($1::text)::text", &[&name]).await?;
    if there.is_some_and(|row| row.get::<_, Option<String>>(0).is_some()) {
        return Ok(());
    }
    if let Err(error) = session.batch_execute(&format!("BEGIN; {made}; COMMIT")).await {
        session.batch_execute("ROLLBACK").await?;
        // Another node was quicker, the table is busy, or rows of that day are in the rest already.
        tracing::debug!(error = super::error::explain(&error), partition = name, "no partition was made");
    }
    Ok(())
}

/// The name of a day's partition.
pub(super) fn partition(table: &str, day: i32) -> String {
    format!("{table}_{day}")
}
