//! Opening a database file: durability settings, engine version, schema version.

use super::error::unusable;
use super::private;
use crate::domain::time::Timestamp;
use crate::store::{Access, StoreError};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::Duration;

/// Versions before 3.51.3 can lose commits when a checkpoint races a restart of the log.
const OLDEST_SQLITE: i32 = 3_051_003;

/// How long a change waits for another process's change to end.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A version of the schema: its number, what makes it of the one before, and what the program has to do then.
type Migration = (i64, &'static str, Option<fn(&Connection) -> rusqlite::Result<()>>);

const MIGRATIONS: &[Migration] = &[
    (1, include_str!("migrations/0001_first.sql"), None),
    (2, include_str!("migrations/0002_tail.sql"), None),
    (3, include_str!("migrations/0003_derived.sql"), Some(super::index::fill)),
    (4, include_str!("migrations/0004_replaced.sql"), None),
    (5, include_str!("migrations/0005_at_work.sql"), None),
];

/// The version that this program makes.
pub(super) const NEWEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// The version that a file has; 0 when it has none, or is none.
pub(super) fn version(path: &Path) -> i64 {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .and_then(|c| c.query_row("SELECT coalesce(max(version), 0) FROM migrations", [], |r| r.get(0)))
        .unwrap_or_default()
}

/// Opens the file with the settings that `access` needs; the schema is made or brought up to date by `Serve`.
pub(super) fn connect(path: &Path, access: Access, now: Timestamp) -> Result<Connection, StoreError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        let detail = format!("SQLite {} is too old: 3.51.3 or newer is needed", rusqlite::version());
        return Err(StoreError::Unusable { detail, source: None });
    }
    if access != Access::Serve && !path.exists() {
        let detail = format!("there is no store at {}: `birdwire serve` makes one", path.display());
        return Err(StoreError::Unusable { detail, source: None });
    }
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX
        | match access {
            Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
            Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
            Access::Serve => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        };
    let what = format!("cannot open {}", path.display());
    if access == Access::Serve {
        private::make(path).map_err(|e| StoreError::Unusable { detail: what.clone(), source: Some(Box::new(e)) })?;
    }
    let mut connection = Connection::open_with_flags(path, flags).map_err(|e| unusable(&what, e))?;
    configure(&connection, access).map_err(|e| unusable(&what, e))?;
    if access == Access::Serve {
        migrate(&mut connection, now).map_err(|e| unusable(&what, e))?;
    }
    check_version(&connection, path)?;
    Ok(connection)
}

fn configure(connection: &Connection, access: Access) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Of a new file: what a commit costs counts pages more than bytes. One that is there keeps its own size.
    connection.execute_batch("PRAGMA page_size = 8192")?;
    connection.set_prepared_statement_cache_capacity(96);
    // Otherwise statements are prepared anew when their parameters change enough to ask for another plan.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    if access == Access::Serve {
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    }
    // FULL: a 200 is a promise, and the log is synced before it. The F_FULLFSYNC pair matters on Apple disks only.
    // wal_autocheckpoint = 0: checkpoints belong to their own connection, off the commit path.
    connection.execute_batch(
        "PRAGMA synchronous = FULL;
         PRAGMA fullfsync = ON;
         PRAGMA checkpoint_fullfsync = ON;
         PRAGMA temp_store = MEMORY;",
    )?;
    connection.query_row("PRAGMA wal_autocheckpoint = 0", [], |_| Ok(()))?;
    let cache_kib = if access == Access::Serve { 12 * 1024 } else { 2 * 1024 };
    connection.execute_batch(&format!("PRAGMA cache_size = -{cache_kib}"))
}

fn migrate(connection: &mut Connection, now: Timestamp) -> rusqlite::Result<()> {
    let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    tx.execute_batch(
        "CREATE TABLE IF NOT EXISTS migrations (
             version INTEGER PRIMARY KEY, checksum BLOB NOT NULL, applied_at INTEGER NOT NULL
         ) STRICT",
    )?;
    let applied: i64 = tx.query_row("SELECT coalesce(max(version), 0) FROM migrations", [], |r| r.get(0))?;
    for (version, sql, then) in MIGRATIONS.iter().filter(|(version, ..)| *version > applied) {
        tx.execute_batch(sql)?;
        if let Some(then) = then {
            then(&tx)?;
        }
        tx.execute(
            "INSERT INTO migrations (version, checksum, applied_at) VALUES (?1, ?2, ?3)",
            params![version, checksum(sql), now.micros()],
        )?;
    }
    tx.commit()
}

/// Refuses a schema that this program did not make or does not know.
fn check_version(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let what = format!("cannot use {}", path.display());
    let applied: Option<(i64, Vec<u8>)> = connection
        .query_row("SELECT version, checksum FROM migrations ORDER BY version DESC LIMIT 1", [], |r| {
            Ok((r.get(0)?, r.get(1)?))
        })
        .optional()
        .map_err(|e| unusable(&what, e))?;
    let detail = match applied {
        Some((version, _)) if version > NEWEST => {
            format!("{what}: its schema is version {version}, this birdwire knows up to {NEWEST}; use a newer birdwire")
        }
        Some((version, sum)) if MIGRATIONS.iter().any(|(v, sql, _)| *v == version && checksum(sql) == sum) => {
            if version == NEWEST {
                return Ok(());
            }
            format!("{what}: its schema is version {version}, {NEWEST} is needed; start `birdwire serve` once")
        }
        Some((version, _)) => format!("{what}: its schema version {version} was made by another program"),
        None => format!("{what}: it is no birdwire store"),
    };
    Err(StoreError::Unusable { detail, source: None })
}

fn checksum(sql: &str) -> Vec<u8> {
    Sha256::digest(sql.as_bytes()).to_vec()
}
