//! Reaching the database: a pool, the settings of a session, how long anything may take, and what happens while the
//! database is away.
//!
//! While it is away nobody waits for it: the first failure opens a pause that doubles up to one second, with jitter
//! so that nodes do not come back in step, and within the pause everything fails at once with the reason.

use super::address::Address;
use super::error::{Failure, explain};
use super::schema::Trouble;
use crate::domain::time::Timestamp;
use crate::store::{Chance, LeaseClock};
use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio::time::error::Elapsed;
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long one transaction may take; longer, and the database counts as away.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long a connection may take to be made, and how long to wait for a free one.
const CONNECT: Duration = Duration::from_secs(3);

/// The pause after the first failure to connect, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What every session is told. Statements that take long are somebody's mistake; a node that is stopped in the middle of a
/// transaction must not keep others from its lanes until long after its leases; a lock that is not to be had soon
/// is better waited for anew; an answered webhook is a promise, so a commit is on disk; and look-ups always go by index, also while the planner still takes a table for empty.
const SESSION: &str = "SET statement_timeout = '10s';
    SET lock_timeout = '4s';
    SET idle_in_transaction_session_timeout = '5s';
    SET default_transaction_isolation = 'read committed';
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";
const PLANNER: &str = "SET enable_seqscan = off;
    SET enable_hashjoin = off;
    SET enable_mergejoin = off;
    SET jit = off";

/// A connection of the pool.
pub(super) type Session = Object;

/// The way to the database.
pub(super) struct Database {
    pool: Pool,
    away: Mutex<Option<Away>>,
    clock: LeaseClock,
    pub(super) chance: Chance,
}

struct Away {
    until: Instant,
    pause: Duration,
    detail: String,
}

impl Database {
    /// Connects to nothing yet.
    pub(super) fn new(address: Address, connections: usize, clock: LeaseClock, chance: Chance) -> Self {
        let Address { mut config, tls } = address;
        config.application_name("birdwire").connect_timeout(CONNECT).tcp_user_timeout(PATIENCE * 2);
        config.keepalives_idle(Duration::from_secs(15)).keepalives_interval(CONNECT).keepalives_retries(3);
        let manager = Manager::from_config(
            config,
            MakeRustlsConnect::new(tls),
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let pool = Pool::builder(manager)
            .max_size(connections)
            .runtime(deadpool_postgres::Runtime::Tokio1)
            .wait_timeout(Some(CONNECT))
            .create_timeout(Some(CONNECT))
            .recycle_timeout(Some(CONNECT))
            .post_create(Hook::async_fn(|client, _| {
                Box::pin(async move {
                    client.batch_execute(SESSION).await.map_err(HookError::Backend)?;
                    // Hints that another database need not know.
                    client.batch_execute(PLANNER).await.ok();
                    Ok(())
                })
            }))
            .build();
        // A pool with a runtime and a size is complete.
        let pool = match pool {
            Ok(pool) => pool,
            Err(error) => unreachable!("{error}"),
        };
        Self { pool, away: Mutex::new(None), clock, chance }
    }

    /// A connection, or why there is none.
    pub(super) async fn session(&self) -> Result<Session, Failure> {
        if let Some(detail) = self.is_away() {
            return Err(Failure::away(detail));
        }
        match self.pool.get().await {
            Ok(session) => {
                self.is_back();
                Ok(session)
            }
            Err(PoolError::Timeout(deadpool_postgres::TimeoutType::Wait)) => {
                Err(Failure::away("every connection to the database is busy"))
            }
            Err(error) => {
                let detail = match &error {
                    PoolError::Backend(e) | PoolError::PostCreateHook(HookError::Backend(e)) => explain(e),
                    PoolError::Timeout(_) => "the database does not answer".to_owned(),
                    other => other.to_string(),
                };
                self.is_gone(&detail);
                let source: Option<Box<dyn std::error::Error + Send + Sync>> = match error {
                    PoolError::Backend(e) | PoolError::PostCreateHook(HookError::Backend(e)) => Some(Box::new(e)),
                    _ => None,
                };
                Err(Failure::Away { detail, source })
            }
        }
    }

    /// A connection for looking at the schema, or why there will never be one.
    pub(super) async fn first(&self) -> Result<Session, Trouble> {
        match self.session().await {
            Ok(session) => Ok(session),
            Err(Failure::Away { detail, source }) => {
                match source.map(<dyn std::error::Error + Send + Sync>::downcast::<tokio_postgres::Error>) {
                    Some(Ok(error)) => Err(match Trouble::from(*error) {
                        Trouble::Failure(_) => Trouble::Failure(Failure::away(detail)),
                        unusable @ Trouble::Unusable(_) => unusable,
                    }),
                    _ => Err(Trouble::Failure(Failure::away(detail))),
                }
            }
            Err(failure) => Err(Trouble::Failure(failure)),
        }
    }

    /// Whether the last attempt to reach it failed.
    pub(super) fn is_down(&self) -> bool {
        self.away.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Why nothing is tried at the moment, while it is not.
    pub(super) fn is_away(&self) -> Option<String> {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.as_ref().filter(|away| Instant::now() < away.until).map(|away| away.detail.clone())
    }

    /// The database cannot be reached, or does not answer.
    pub(super) fn is_gone(&self, detail: &str) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        if away.is_none() {
            tracing::warn!(reason = detail, "the database is away");
        }
        let pause = away.as_ref().map_or(PAUSE.0, |away| (away.pause * 2).min(PAUSE.1));
        let jitter = Duration::from_micros(u64::try_from((self.chance)() % 1_000_000).unwrap_or(0));
        let until = Instant::now() + pause + jitter.mul_f64(pause.as_secs_f64() / 2.0);
        *away = Some(Away { until, pause, detail: detail.to_owned() });
    }

    fn is_back(&self) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        if away.take().is_some() {
            tracing::info!("the database is back");
        }
    }

    /// What stands for the database's clock in a statement: NULL, so that it takes its own, or in tests the
    /// caller's.
    pub(super) fn clock(&self, now: Timestamp) -> Option<i64> {
        match self.clock {
            LeaseClock::Store => None,
            LeaseClock::Caller => Some(now.micros()),
        }
    }

    /// Closes every connection.
    pub(super) fn close(&self) {
        self.pool.close();
    }
}

/// What became of a transaction on `session` that had [`PATIENCE`]. A session that did not answer in time, or whose
/// transaction cannot be undone, is not used again: what it still does cannot be known.
pub(super) async fn settle<T>(
    database: &Database,
    session: Session,
    outcome: Result<Result<T, Failure>, Elapsed>,
) -> Result<T, Failure> {
    match outcome {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(failure)) => {
            let undone = tokio::time::timeout(CONNECT, session.batch_execute("ROLLBACK")).await;
            if !matches!(undone, Ok(Ok(()))) {
                drop(Object::take(session));
            }
            Err(failure)
        }
        Err(_) => {
            drop(Object::take(session));
            database.is_gone("the database does not answer");
            Err(Failure::silent())
        }
    }
}
