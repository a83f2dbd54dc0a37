//! Small words that many statements share.

use super::connect::Session;
use super::error::Failure;
use crate::domain::time::Timestamp;
use crate::store::columns;
use uuid::Uuid;

/// The clock of leases: the parameter `$1`, which only tests set, or else the database's.
macro_rules! now {
    () => {
        "coalesce($1::bigint, (extract(epoch FROM statement_timestamp()) * 1000000)::bigint)"
    };
}
pub(super) use now;

/// Parameters of a statement.
pub(super) type Params<'a> = &'a [&'a (dyn tokio_postgres::types::ToSql + Sync)];

/// What a provider's key is looked up by.
pub(super) fn key_hash(provider_key: &str) -> Uuid {
    Uuid::from_bytes(columns::key_hash(provider_key))
}

/// The partition of a moment: days since 1970.
pub(super) fn day(at: Timestamp) -> i32 {
    i32::try_from(at.seconds().div_euclid(86_400)).unwrap_or(i32::MAX)
}

/// Ids of rows in one bucket of look-ups, as a power of two; an event takes about six of them.
pub(super) const BUCKET_BITS: u32 = 18;

/// The bucket in which whatever the event with this row is known by is found.
pub(super) const fn bucket(event: i64) -> i64 {
    event >> BUCKET_BITS
}

/// Strangers' words as they came.
pub(super) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// A count or limit as the database takes it.
pub(super) fn number(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The time by the database's clock.
pub(super) async fn database_now(session: &Session) -> Result<Timestamp, tokio_postgres::Error> {
    let now = session.query_one("SELECT (extract(epoch FROM statement_timestamp()) * 1000000)::bigint", &[]).await?;
    Ok(Timestamp::from_micros(now.get(0)))
}

/// Commits something.
pub(super) async fn probe(session: &Session, now: Timestamp) -> Result<(), Failure> {
    let probe = session
        .prepare_cached("INSERT INTO probes (id, at) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET at = excluded.at")
        .await?;
    session.execute(&probe, &[&now.micros()]).await?;
    Ok(())
}
