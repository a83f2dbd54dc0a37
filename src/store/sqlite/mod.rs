//! The embedded engine: one file, one process that serves, one thread that writes.
//!
//! An async SQL layer would cost a factor of six here; the writer thread speaks to SQLite directly.

mod checkpoint;
mod error;
mod export;
mod inbound;
mod index;
mod lanes;
mod memory;
mod messages;
mod outbox;
mod private;
mod reads;
mod recent;
mod replay;
mod retention;
mod room;
mod schema;
mod statements;
mod trace;
mod writer;

use super::inbound::{Inbound, Receipt};
use super::lane::{Advance, Attempt, Claim, Claimed, Lease, Taker};
use super::listing::{
    Backlog, DeliveryDetail, DeliveryQuery, DeliveryRow, EventQuery, EventRow, Migrated, NodeRow, ReplayOf, Replayed,
    Retained, SubscriberRow,
};
use super::replay::{History, Kept, KeptQuery, Repair};
use super::trace::{Trace, TraceQuery};
use super::{Access, Opening, Store, StoreError};
use crate::domain::account::Account;
use crate::domain::delivery::Order;
use crate::domain::ids::{AccountId, MessageId};
use crate::domain::route::SubscriberId;
use crate::domain::time::Timestamp;
use checkpoint::{Bell, Opened};
pub(super) use export::source;
use lanes::book::Book;
use memory::Memory;
use room::Room;
use rusqlite::{Connection, params};
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use writer::{Signals, Tx, Writer};

/// Operations that may wait for the writer; inbound webhooks beyond that are told to come back.
const QUEUE: usize = 8192;

struct Sqlite {
    /// `None` for a store that is only read, and after `close`.
    writer: Mutex<Option<Arc<Writer>>>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
    bell: Arc<Bell>,
    reader: Arc<Reader>,
    /// Held while serving.
    lock: Mutex<Option<File>>,
    room: Room,
}

/// Who answers questions.
struct Reader {
    connection: Mutex<Connection>,
    /// After the connection, so that it goes last.
    _file: Opened,
}

pub(super) fn open(path: &Path, opening: &Opening<'_>) -> Result<Arc<dyn Store>, StoreError> {
    let Opening { access, now, metrics, .. } = *opening;
    let lock = if access == Access::Serve { Some(lock(path)?) } else { None };
    let connection = schema::connect(path, access, now)?;
    if access == Access::Serve {
        lanes::void_leases(&connection, now).map_err(|e| error::unusable("cannot void old leases", e))?;
    }
    let file: Opened = Arc::new(File::open(path).map_err(|e| StoreError::Unusable {
        detail: format!("cannot open {}", path.display()),
        source: Some(Box::new(e)),
    })?);
    let bell = Arc::new(Bell::default());
    let mut threads = Vec::new();
    let writer = if access == Access::Read {
        None
    } else {
        let restart_log = Arc::new(AtomicBool::new(false));
        if access == Access::Serve {
            let copier = schema::connect(path, Access::Write, now)?;
            threads.push(spawned(checkpoint::start(copier, file.clone(), bell.clone(), restart_log.clone()))?);
        }
        let book = Book::new(access == Access::Serve, now.micros());
        let memory =
            Memory::load(&connection, book).map_err(|e| error::unusable("cannot read the newest events", e))?;
        let ring = bell.clone();
        let signals = Signals { restart_log, committed: Box::new(move || ring.ring()), metrics: metrics.clone() };
        let (writer, thread) = spawned(Writer::start((connection, file.clone()), memory, QUEUE, signals))?;
        threads.push(thread);
        Some(Arc::new(writer))
    };
    Ok(Arc::new(Sqlite {
        writer: Mutex::new(writer),
        threads: Mutex::new(threads),
        bell,
        reader: Arc::new(Reader { connection: Mutex::new(schema::connect(path, Access::Read, now)?), _file: file }),
        lock: Mutex::new(lock),
        room: Room::new(path, room::space),
    }))
}

/// Makes or updates the schema; nobody may serve meanwhile.
pub(super) fn migrate(path: &Path, opening: &Opening<'_>) -> Result<Migrated, StoreError> {
    let lock = lock(path)?;
    let before = schema::version(path);
    schema::connect(path, Access::Serve, opening.now)?;
    lock.unlock().ok();
    Ok(Migrated { version: schema::NEWEST, applied: (before + 1..=schema::NEWEST).collect() })
}

/// The version of the SQLite that is built in.
pub(super) fn version() -> &'static str {
    rusqlite::version()
}

fn spawned<T>(started: std::io::Result<T>) -> Result<T, StoreError> {
    started.map_err(|e| StoreError::Unusable {
        detail: "cannot start the store's threads".to_owned(),
        source: Some(Box::new(e)),
    })
}

/// A second process on the file would void the leases of the first.
fn lock(path: &Path) -> Result<File, StoreError> {
    let unusable =
        |detail: String, source: std::io::Error| StoreError::Unusable { detail, source: Some(Box::new(source)) };
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        private::folder(folder).map_err(|e| unusable(format!("cannot make the folder {}", folder.display()), e))?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = std::path::PathBuf::from(name);
    let file = private::open(File::options().create(true).truncate(false).write(true), &name)
        .map_err(|e| unusable(format!("cannot open {}", name.display()), e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(StoreError::Unusable { detail: format!("another birdwire serves {}", path.display()), source: None })
        }
        Err(TryLockError::Error(e)) => Err(unusable(format!("cannot lock {}", name.display()), e)),
    }
}

impl Sqlite {
    fn writer(&self) -> Result<Arc<Writer>, StoreError> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.clone().ok_or_else(|| StoreError::Stopped { detail: "it is closed or read-only".to_owned() })
    }

    async fn read<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reader = self.reader.clone();
        let result = tokio::task::spawn_blocking(move || {
            let connection = reader.connection.lock().unwrap_or_else(PoisonError::into_inner);
            run(&connection).map_err(error::unavailable)
        });
        result.await.unwrap_or_else(|e| Err(StoreError::Stopped { detail: format!("a read failed: {e}") }))
    }
}

#[async_trait::async_trait]
impl Store for Sqlite {
    async fn commit_inbound(&self, inbound: Inbound) -> Result<Receipt, StoreError> {
        self.room.check(inbound.received_at)?;
        self.writer()?.submit(false, move |tx| inbound::commit(tx, &inbound)).await
    }

    async fn register_subscribers(&self, subscribers: &[(SubscriberId, Order)]) -> Result<(), StoreError> {
        let subscribers = subscribers.to_vec();
        self.writer()?
            .submit(true, move |tx| {
                tx.memory.forget_subscribers();
                tx.connection.execute("UPDATE subscribers SET configured = 0", [])?;
                for (id, order) in &subscribers {
                    tx.connection
                        .prepare_cached(
                            "INSERT INTO subscribers (name, configured, ordered) VALUES (?1, 1, ?2)
                             ON CONFLICT (name) DO UPDATE SET configured = 1, ordered = ?2",
                        )?
                        .execute(params![id.0, *order != Order::None])?;
                }
                Ok(())
            })
            .await
    }

    async fn claim_lanes(&self, claims: Vec<Claim>, now: Timestamp, lease: Duration) -> Result<Claimed, StoreError> {
        self.writer()?.submit(true, move |tx| lanes::claim(tx, &claims, now, lease)).await
    }

    fn hand_over_to(&self, taker: Arc<dyn Taker>) {
        if let Ok(writer) = self.writer() {
            *writer.taker.lock().unwrap_or_else(PoisonError::into_inner) = Some(taker);
        }
    }

    async fn record_attempt(&self, attempt: Attempt) -> Result<Advance, StoreError> {
        self.writer()?.submit(true, move |tx| lanes::record(tx, &attempt)).await
    }

    async fn release_lanes(&self, leases: Vec<Lease>) -> Result<(), StoreError> {
        self.writer()?.submit(true, move |tx| lanes::release(tx, &leases)).await
    }

    async fn disable(&self, subscriber: &SubscriberId, why: String, now: Timestamp) -> Result<bool, StoreError> {
        let subscriber = subscriber.clone();
        let disable = move |tx: &mut Tx<'_>| {
            tx.memory.forget_subscribers();
            lanes::disable(tx, &subscriber, &why, now)
        };
        self.writer()?.submit(true, disable).await
    }

    async fn enable(&self, subscriber: &SubscriberId, now: Timestamp) -> Result<bool, StoreError> {
        let subscriber = subscriber.clone();
        // Before anything of it can be claimed again: an old round would count the time for which it was disabled.
        let mut after = Some(i64::MIN);
        while let Some(behind) = after {
            let subscriber = subscriber.clone();
            after = self.writer()?.submit(true, move |tx| lanes::begin_rounds(tx, &subscriber, behind)).await?;
        }
        let enable = move |tx: &mut Tx<'_>| {
            tx.memory.forget_subscribers();
            lanes::enable(tx, &subscriber, now)
        };
        self.writer()?.submit(true, enable).await
    }

    async fn replay(&self, of: ReplayOf, now: Timestamp) -> Result<Replayed, StoreError> {
        self.writer()?.submit(true, move |tx| lanes::replay(tx, &of, now)).await
    }

    async fn events(&self, query: EventQuery) -> Result<Vec<EventRow>, StoreError> {
        self.read(move |connection| reads::events(connection, &query)).await
    }

    async fn deliveries(&self, query: DeliveryQuery) -> Result<Vec<DeliveryRow>, StoreError> {
        self.read(move |connection| reads::deliveries(connection, &query)).await
    }

    async fn delivery(&self, id: i64) -> Result<Option<DeliveryDetail>, StoreError> {
        self.read(move |connection| reads::delivery(connection, id)).await
    }

    async fn kept(&self, query: KeptQuery) -> Result<Vec<Kept>, StoreError> {
        self.read(move |connection| replay::kept(connection, &query)).await
    }

    async fn history(&self, account: Arc<Account>, message: MessageId) -> Result<Option<History>, StoreError> {
        self.read(move |connection| replay::history(connection, &account, message)).await
    }

    async fn repair(&self, repair: Repair) -> Result<bool, StoreError> {
        self.writer()?.submit(true, move |tx| replay::repair(tx, &repair)).await
    }

    async fn trace(&self, query: TraceQuery) -> Result<Vec<Trace>, StoreError> {
        self.read(move |connection| trace::trace(connection, &query)).await
    }

    async fn accounts(&self) -> Result<Vec<AccountId>, StoreError> {
        self.read(reads::accounts).await
    }

    async fn subscribers(&self) -> Result<Vec<SubscriberRow>, StoreError> {
        self.read(reads::subscribers).await
    }

    async fn backlog(&self) -> Result<Vec<Backlog>, StoreError> {
        self.read(reads::backlog).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn retain(
        &self,
        raw_before: Timestamp,
        finished_before: Timestamp,
        limit: usize,
    ) -> Result<Retained, StoreError> {
        self.writer()?.submit(true, move |tx| retention::retain(tx, raw_before, finished_before, limit)).await
    }

    async fn probe(&self, now: Timestamp) -> Result<(), StoreError> {
        self.room.check(now)?;
        self.writer()?
            .submit(false, move |tx| {
                tx.connection
                    .prepare_cached("INSERT INTO probes (id, at) VALUES (1, ?1) ON CONFLICT DO UPDATE SET at = ?1")?
                    .execute([now.micros()])
                    .map(drop)
            })
            .await
    }

    async fn work_hint(&self) {
        match self.writer() {
            Ok(writer) => {
                // Whoever waits must not keep the writer's thread from ending.
                let hint = writer.hint.clone();
                drop(writer);
                hint.notified().await;
            }
            Err(_) => std::future::pending().await,
        }
    }

    async fn failed(&self) -> StoreError {
        let Ok(writer) = self.writer() else { return std::future::pending().await };
        let mut failure = writer.failure.clone();
        drop(writer);
        let detail = failure.wait_for(Option::is_some).await.ok().and_then(|detail| detail.clone());
        match detail {
            Some(detail) => StoreError::Stopped { detail },
            // The thread ended in good order: the store was closed.
            None => std::future::pending().await,
        }
    }

    async fn close(&self) {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.bell.stop();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = tokio::task::spawn_blocking(move || {
            for thread in threads {
                // A panic was reported through `failed` already.
                thread.join().ok();
            }
        });
        ended.await.ok();
        // Unlocked, not only closed: a process that somebody starts at this moment has a copy of the file for an instant.
        if let Some(lock) = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take() {
            lock.unlock().ok();
        }
    }
}
