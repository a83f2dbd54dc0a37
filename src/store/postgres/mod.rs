//! The engine for several nodes: one PostgreSQL database, any number of processes.
//!
//! Nodes know nothing of each other; what they share is in the database, and whatever has to be exclusive is a row
//! that somebody locks. Leases go by the database's clock.

mod address;
mod attempts;
mod connect;
mod error;
mod flush;
mod import;
mod inbound;
mod lanes;
mod messages;
mod names;
mod nodes;
mod outbox;
mod queue;
mod reads;
mod replay;
mod retention;
mod schema;
mod sql;
mod trace;

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
use attempts::Attempts;
use connect::{Database, PATIENCE, Session, settle};
use error::Failure;
pub(super) use import::target;
use inbound::{Hands, Webhooks};
use lanes::Claims;
use names::Names;
use nodes::Node;
use queue::{Queue, stopped};
use schema::Trouble;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Webhooks, or attempts, that may wait in one queue.
const QUEUE: usize = 2048;

/// How long a webhook waits for its commit before its provider is told to come back. It is committed all the same
/// when the database wakes up; the repeat is then recognised.
const ANSWER: Duration = Duration::from_millis(900);

/// How long reading and administration may take.
const LEISURE: Duration = Duration::from_mins(1);

/// How often the keeper looks after things, and while something is amiss.
const KEEP: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(200));

/// Clocks further apart than that are worth a word: signatures carry this machine's time.
const APART: Duration = Duration::from_secs(30);

/// How often partitions are looked for.
const PARTITIONS: Duration = Duration::from_mins(30);

struct Postgres {
    shared: Arc<Shared>,
    /// `None` for a store that is only read, and after `close`.
    queues: Mutex<Option<Arc<Queues>>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    stop: CancellationToken,
}

/// What calls and background tasks share.
struct Shared {
    database: Arc<Database>,
    names: Arc<Names>,
    claims: Arc<Claims>,
    hands: Arc<Hands>,
    hint: Arc<Notify>,
    /// This process, if it serves.
    node: Option<Node>,
    /// The subscribers of this process, for as long as the database does not know of them.
    unregistered: Mutex<Option<Vec<(SubscriberId, Order)>>>,
    failure: watch::Sender<Option<String>>,
}

struct Queues {
    webhooks: Queue<Webhooks>,
    attempts: Queue<Attempts>,
}

pub(super) async fn open(url: &str, opening: &Opening<'_>) -> Result<Arc<dyn Store>, StoreError> {
    let Opening { access, now, metrics, connections, node, chance, clock } = *opening;
    let database = Arc::new(Database::new(address::parse(url)?, connections, clock, chance));
    let (names, hint) = (Arc::new(Names::default()), Arc::new(Notify::new()));
    let (claims, hands) = (Arc::new(Claims::default()), Arc::new(Hands::default()));
    let is_ready = match prepare(&database, access, now).await {
        Ok(()) => true,
        Err(Trouble::Unusable(error)) => return Err(error),
        // Whoever only looks, or changes a thing by hand, has nothing to wait for.
        Err(Trouble::Failure(failure)) if access != Access::Serve => return Err(unreachable_now(failure)),
        // The reason was logged when it was found.
        Err(Trouble::Failure(_)) => false,
    };
    let id = Uuid::from_u128(chance());
    let node = Node { id, name: node.to_owned(), version: env!("CARGO_PKG_VERSION") };
    let shared = Arc::new(Shared {
        node: (access == Access::Serve).then_some(node),
        database: database.clone(),
        names: names.clone(),
        claims: claims.clone(),
        hands: hands.clone(),
        hint: hint.clone(),
        unregistered: Mutex::new(None),
        failure: watch::Sender::new(None),
    });
    let (mut queues, mut tasks, stop) = (None, Vec::new(), CancellationToken::new());
    if access != Access::Read {
        // Connections are left for everything else.
        let flushers = connections.div_ceil(3).clamp(1, 4);
        let flush = Webhooks { database: database.clone(), names, hint: hint.clone(), claims, hands };
        let (webhooks, own) = flush::start(flush, &database, metrics, QUEUE * flushers, flushers);
        tasks.extend(own);
        // One is enough: what was attempted meanwhile goes together.
        let flush = Attempts { database: database.clone(), hint };
        let (attempts, own) = flush::start(flush, &database, metrics, QUEUE, 1);
        tasks.extend(own);
        queues = Some(Arc::new(Queues { webhooks, attempts }));
    }
    if access == Access::Serve {
        tasks.push(tokio::spawn(keep(shared.clone(), is_ready, stop.clone())));
    }
    Ok(Arc::new(Postgres { shared, queues: Mutex::new(queues), tasks: Mutex::new(tasks), stop }))
}

/// Whether `url` can be understood, or what is wrong with it.
pub(super) fn check_url(url: &str) -> Result<(), String> {
    address::check(url)
}

/// Makes or updates the schema and does nothing else.
pub(super) async fn migrate(url: &str, opening: &Opening<'_>) -> Result<Migrated, StoreError> {
    let Opening { now, chance, clock, .. } = *opening;
    let database = Database::new(address::parse(url)?, 1, clock, chance);
    let applied = async {
        let session = database.first().await?;
        let applied = schema::migrate(&session, now).await?;
        schema::partitions(&session, now).await?;
        Ok(applied)
    };
    match applied.await {
        Ok(applied) => Ok(Migrated { version: schema::NEWEST, applied }),
        Err(Trouble::Unusable(error)) => Err(error),
        Err(Trouble::Failure(failure)) => Err(unreachable_now(failure)),
    }
}

fn unreachable_now(failure: Failure) -> StoreError {
    match StoreError::from(failure) {
        StoreError::Unavailable { detail, source } => {
            StoreError::Unusable { detail: format!("the database cannot be reached: {detail}"), source }
        }
        other => other,
    }
}

/// Sees to it that the schema is right.
async fn prepare(database: &Database, access: Access, now: Timestamp) -> Result<(), Trouble> {
    let session = database.first().await?;
    if access == Access::Serve {
        schema::migrate(&session, now).await?;
        import::refuse_unfinished(&session).await?;
        schema::partitions(&session, now).await?;
        look_at_server(&session, now).await?;
    } else {
        schema::check(&session).await?;
        import::refuse_unfinished(&session).await?;
    }
    Ok(())
}

/// Makes the schema that a store is copied into.
async fn prepare_copy(database: &Database, now: Timestamp) -> Result<(), Trouble> {
    let session = database.first().await?;
    schema::migrate(&session, now).await?;
    Ok(schema::partitions(&session, now).await?)
}

/// Says what of the database or of this machine's clock may surprise somebody one day.
async fn look_at_server(session: &Session, now: Timestamp) -> Result<(), Trouble> {
    let row = session
        .query_one("SELECT current_setting('fsync', true), current_setting('full_page_writes', true)", &[])
        .await?;
    for (column, name) in ["fsync", "full_page_writes"].into_iter().enumerate() {
        if row.get::<_, Option<&str>>(column) == Some("off") {
            tracing::warn!(setting = name, "the database may lose what it has confirmed: a setting is off");
        }
    }
    let there = sql::database_now(session).await?;
    let apart = there.since(now).max(now.since(there));
    if apart > APART {
        tracing::warn!(seconds = apart.as_secs(), "this machine's clock and the database's are apart");
    }
    Ok(())
}

/// Finishes a start that found no database, and looks after what has to be done now and then.
async fn keep(shared: Arc<Shared>, mut is_ready: bool, stop: CancellationToken) {
    let mut looked = Instant::now();
    loop {
        let amiss = !is_ready || shared.unregistered().is_some() || shared.database.is_down();
        let pause = if amiss { KEEP.1 } else { KEEP.0 };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if !is_ready {
            match shared.start().await {
                Ok(()) => is_ready = true,
                Err(Trouble::Unusable(error)) => {
                    shared.failure.send_replace(Some(error.to_string()));
                    return;
                }
                Err(Trouble::Failure(_)) => continue,
            }
        }
        let outcome = shared.look_after(looked.elapsed() >= PARTITIONS).await;
        if let Err(error @ StoreError::Unusable { .. }) = outcome {
            shared.failure.send_replace(Some(error.to_string()));
            return;
        }
        if let Err(error) = outcome {
            // Whether the database is away is said once, where that is noticed.
            tracing::debug!(error = &error as &dyn std::error::Error, "the store could not be looked after");
        } else if looked.elapsed() >= PARTITIONS {
            looked = Instant::now();
        }
    }
}

/// Runs `$work` on a connection of its own.
macro_rules! on {
    ($shared:expr, $patience:expr, |$session:ident| $work:expr) => {{
        let owned = $shared.database.session().await?;
        let outcome = {
            let $session = &owned;
            timeout($patience, $work).await
        };
        settle(&$shared.database, owned, outcome).await
    }};
}

impl Shared {
    fn unregistered(&self) -> Option<Vec<(SubscriberId, Order)>> {
        self.unregistered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn leave(&self, node: &Node) -> Result<(), StoreError> {
        Ok(on!(self, PATIENCE, |session| node.leave(session))?)
    }

    async fn start(&self) -> Result<(), Trouble> {
        let session = self.database.first().await?;
        let now = sql::database_now(&session).await?;
        schema::migrate(&session, now).await?;
        import::refuse_unfinished(&session).await?;
        Ok(schema::partitions(&session, now).await?)
    }

    async fn look_after(&self, partitions: bool) -> Result<(), StoreError> {
        let was_down = self.database.is_down();
        if let Some(node) = &self.node {
            on!(self, PATIENCE, |session| node.beat(session))?;
            // A copy that began when this process was not known yet: one of the two sees the other.
            on!(self, PATIENCE, |session| import::unfinished(session))?.map_or(Ok(()), Err)?;
        }
        if let Some(subscribers) = self.unregistered() {
            on!(self, PATIENCE, |session| self.names.register(session, &subscribers))?;
            self.unregistered.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        if was_down {
            self.hint.notify_one();
        }
        if partitions {
            let made = async |session: &Session| {
                let now = sql::database_now(session).await?;
                Ok(schema::partitions(session, now).await?)
            };
            on!(self, LEISURE, |session| made(session))?;
        }
        Ok(())
    }
}

impl Postgres {
    fn queues(&self) -> Result<Arc<Queues>, StoreError> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(stopped)
    }
}

#[async_trait::async_trait]
impl Store for Postgres {
    async fn commit_inbound(&self, inbound: Inbound) -> Result<Receipt, StoreError> {
        let queues = self.queues()?;
        // Fewer than may wait: by hand, or in a test, whoever waits longer is answered all the same.
        let answer = queues.webhooks.offer(inbound)?;
        drop(queues);
        match timeout(ANSWER, answer).await {
            Ok(answer) => answer.map_err(|_| stopped())?.map(|(receipt, _)| receipt),
            Err(_) => Err(Failure::silent().into()),
        }
    }

    async fn register_subscribers(&self, subscribers: &[(SubscriberId, Order)]) -> Result<(), StoreError> {
        self.queues()?;
        *self.shared.unregistered.lock().unwrap_or_else(PoisonError::into_inner) = Some(subscribers.to_vec());
        match self.shared.look_after(false).await {
            // It will be made up for as soon as the database is there.
            Err(StoreError::Unavailable { .. }) => Ok(()),
            outcome => outcome,
        }
    }

    async fn claim_lanes(&self, claims: Vec<Claim>, now: Timestamp, lease: Duration) -> Result<Claimed, StoreError> {
        self.queues()?;
        let shared = &self.shared;
        Ok(on!(shared, PATIENCE, |session| shared.claims.claim(&shared.database, session, &claims, now, lease))?)
    }

    fn hand_over_to(&self, taker: Arc<dyn Taker>) {
        self.shared.hands.set(taker);
    }

    async fn record_attempt(&self, attempt: Attempt) -> Result<Advance, StoreError> {
        Ok(self.queues()?.attempts.submit(attempt).await?.0)
    }

    async fn release_lanes(&self, leases: Vec<Lease>) -> Result<(), StoreError> {
        self.queues()?;
        on!(self.shared, PATIENCE, |session| lanes::release(session, &leases))?;
        self.shared.hint.notify_one();
        Ok(())
    }

    async fn disable(&self, subscriber: &SubscriberId, why: String, now: Timestamp) -> Result<bool, StoreError> {
        self.queues()?;
        let changed = on!(self.shared, PATIENCE, |session| replay::disable(session, &subscriber.0, &why, now))?;
        self.shared.names.forget();
        Ok(changed)
    }

    async fn enable(&self, subscriber: &SubscriberId, now: Timestamp) -> Result<bool, StoreError> {
        self.queues()?;
        let shared = &self.shared;
        let changed = on!(shared, LEISURE, |session| replay::enable(&shared.database, session, &subscriber.0, now))?;
        shared.names.forget();
        shared.claims.forget();
        shared.hint.notify_one();
        Ok(changed)
    }

    async fn replay(&self, of: ReplayOf, now: Timestamp) -> Result<Replayed, StoreError> {
        self.queues()?;
        let shared = &self.shared;
        let replayed = on!(shared, LEISURE, |session| replay::replay(&shared.database, session, &of, now))?;
        shared.hint.notify_one();
        Ok(replayed)
    }

    async fn events(&self, query: EventQuery) -> Result<Vec<EventRow>, StoreError> {
        Ok(on!(self.shared, LEISURE, |session| reads::events(session, &query))?)
    }

    async fn deliveries(&self, query: DeliveryQuery) -> Result<Vec<DeliveryRow>, StoreError> {
        Ok(on!(self.shared, LEISURE, |session| reads::deliveries(session, &query))?)
    }

    async fn delivery(&self, id: i64) -> Result<Option<DeliveryDetail>, StoreError> {
        Ok(on!(self.shared, LEISURE, |session| reads::details(session, &[id]))?.pop())
    }

    async fn kept(&self, query: KeptQuery) -> Result<Vec<Kept>, StoreError> {
        Ok(on!(self.shared, LEISURE, |session| replay::kept(session, &query))?)
    }

    async fn history(&self, account: Arc<Account>, message: MessageId) -> Result<Option<History>, StoreError> {
        Ok(on!(self.shared, LEISURE, |session| replay::history(session, &account, message))?)
    }

    async fn repair(&self, repair: Repair) -> Result<bool, StoreError> {
        self.queues()?;
        let shared = &self.shared;
        let names = &shared.names;
        let done = on!(shared, LEISURE, |session| replay::repair(&shared.database, session, names, &repair))?;
        shared.hint.notify_one();
        Ok(done)
    }

    async fn trace(&self, query: TraceQuery) -> Result<Vec<Trace>, StoreError> {
        Ok(on!(self.shared, LEISURE, |session| trace::trace(session, &query))?)
    }

    async fn accounts(&self) -> Result<Vec<AccountId>, StoreError> {
        Ok(on!(self.shared, LEISURE, |session| reads::accounts(session))?)
    }

    async fn subscribers(&self) -> Result<Vec<SubscriberRow>, StoreError> {
        Ok(on!(self.shared, LEISURE, |session| reads::subscribers(session))?)
    }

    async fn backlog(&self) -> Result<Vec<Backlog>, StoreError> {
        Ok(on!(self.shared, LEISURE, |session| reads::backlog(session))?)
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        Ok(on!(self.shared, PATIENCE, |session| nodes::list(session))?)
    }

    async fn retain(
        &self,
        raw_before: Timestamp,
        finished_before: Timestamp,
        limit: usize,
    ) -> Result<Retained, StoreError> {
        self.queues()?;
        if let Some(node) = &self.shared.node
            && !on!(self.shared, PATIENCE, |session| node.takes(session, "retention"))?
        {
            return Ok(Retained::default());
        }
        Ok(on!(self.shared, LEISURE, |session| retention::retain(session, raw_before, finished_before, limit))?)
    }

    async fn probe(&self, now: Timestamp) -> Result<(), StoreError> {
        self.queues()?;
        match &self.shared.node {
            // A row of its own: nodes do not wait for each other to prove that they can commit.
            Some(node) => Ok(on!(self.shared, PATIENCE, |session| node.beat(session))?),
            None => Ok(on!(self.shared, PATIENCE, |session| sql::probe(session, now))?),
        }
    }

    async fn work_hint(&self) {
        self.shared.hint.notified().await;
    }

    async fn failed(&self) -> StoreError {
        let mut failure = self.shared.failure.subscribe();
        let detail = failure.wait_for(Option::is_some).await.ok().and_then(|detail| detail.clone());
        match detail {
            Some(detail) => StoreError::Unusable { detail, source: None },
            None => std::future::pending().await,
        }
    }

    async fn close(&self) {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.stop.cancel();
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            // One that panicked has printed where.
            task.await.ok();
        }
        if let Some(node) = &self.shared.node
            && !self.shared.database.is_down()
            && let Err(error) = self.shared.leave(node).await
        {
            tracing::debug!(error = &error as &dyn std::error::Error, "nobody was told of the end");
        }
        self.shared.database.close();
    }
}
