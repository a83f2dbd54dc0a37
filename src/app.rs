//! The composition root: the one place that knows everyone, and the only one that takes the time and chance.

use crate::adapter::{self, Adapter};
use crate::config::{
    AccountConfig, Basics, Config, Judges, LogFormat, Mistake, Mistakes, Sources, StoreConfig, SubscriberConfig,
};
use crate::delivery::Subscriber;
use crate::delivery::dispatcher::Dispatcher;
use crate::delivery::sender::Sender;
use crate::domain::account::Account;
use crate::domain::backoff::Backoff;
use crate::domain::format::RecordFormat;
use crate::domain::route::{Interest, Routes, SubscriberId};
use crate::domain::settings::ProviderSchema;
use crate::domain::time::{Clock, Timestamp};
use crate::http::health::Trouble;
use crate::http::server::Limits;
use crate::http::webhook::Budget;
use crate::http::{Gateway, router, server};
use crate::ingest::Ingest;
use crate::lifecycle::Shutdown;
use crate::metrics::Metrics;
use crate::store::copy::{Source, Target};
use crate::store::inbound::Outlet;
use crate::store::listing::Migrated;
use crate::store::{self, Access, LeaseClock, Opening, Store, StoreError};
use crate::telemetry;
use crate::voipbin::Renderer;
use crate::voipbin::sign::Signer;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long attempts that were broken off may take to be recorded.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How often old rows are looked for, if nothing else is said.
pub const JANITOR_EVERY: Duration = Duration::from_mins(1);

/// Connections for a copy.
const COPIERS: usize = 2;

/// Rows removed in one transaction: few enough that webhooks behind it do not notice.
const JANITOR_BATCH: usize = 500;

/// Why the gateway does not run, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] Mistakes),
    /// The store cannot be used, or broke.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The metrics contradict each other.
    #[error("the metrics cannot be declared")]
    Metrics(#[from] prometheus::Error),
    /// There is no TLS.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// A part of the gateway ended that never should.
    #[error("the {0} ended unexpectedly")]
    Ended(&'static str),
}

/// The system's clock.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        #[expect(clippy::disallowed_methods, reason = "the one place that takes the time")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
    })
}

/// The system's clock, wrong on purpose: what a node makes of leases and retries when clocks disagree.
pub fn shifted_clock(by: Duration, back: bool) -> Clock {
    let clock = system_clock();
    Arc::new(move || if back { clock().minus(by) } else { clock().plus(by) })
}

/// What every provider understands.
pub fn schemas() -> Vec<ProviderSchema> {
    adapter::PROVIDERS.iter().map(|provider| provider.schema).collect()
}

/// What each part says of its own part of the configuration.
const JUDGES: Judges = Judges {
    store_url: store::check_url,
    log_filter: telemetry::check,
    account: |config| build_adapter(config).err().unwrap_or_default(),
};

/// Reads the configuration with the process's environment.
pub fn configure(file: Option<&Path>) -> Result<Config, Mistakes> {
    configure_from(&sources(file))
}

/// Reads the configuration, and has every part look at its own.
pub fn configure_from(sources: &Sources<'_>) -> Result<Config, Mistakes> {
    crate::config::load(sources, &schemas(), &JUDGES)
}

/// Reads only what is needed to look at the store or at the gateway.
pub fn configure_basics(file: Option<&Path>) -> Result<Basics, Mistakes> {
    crate::config::load_basics(&sources(file), &JUDGES)
}

fn sources(file: Option<&Path>) -> Sources<'_> {
    Sources { file, env: variables() }
}

/// The process's environment. Variables that are no text are nobody's settings.
pub fn variables() -> Vec<(String, String)> {
    std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?))).collect()
}

/// Starts logging as configured.
pub fn log(config: &Config) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let form = match config.log.format {
        LogFormat::Text => telemetry::Form::Text,
        LogFormat::Json => telemetry::Form::Json,
    };
    telemetry::start(form, &config.log.filter)
}

/// Opens the configured store.
pub async fn open_store(config: &StoreConfig, access: Access, clock: &Clock) -> Result<Arc<dyn Store>, AppError> {
    let metrics = Metrics::new()?;
    let opening = opening(access, clock(), &metrics, config.connections, "");
    Ok(store::open(&config.url, opening).await?)
}

/// Makes the configured store's schema, or brings it up to date.
pub async fn migrate_store(config: &StoreConfig, clock: &Clock) -> Result<Migrated, AppError> {
    let metrics = Metrics::new()?;
    let opening = opening(Access::Serve, clock(), &metrics, config.connections, "");
    Ok(store::migrate(&config.url, opening).await?)
}

/// Opens a store that is to be copied, as whoever serves it would.
pub fn copy_source(url: &str, clock: &Clock) -> Result<Arc<dyn Source>, AppError> {
    let metrics = Metrics::new()?;
    Ok(store::copy::source(url, &opening(Access::Serve, clock(), &metrics, COPIERS, ""))?)
}

/// Opens where a copy is to be.
pub async fn copy_target(url: &str, clock: &Clock) -> Result<Arc<dyn Target>, AppError> {
    let metrics = Metrics::new()?;
    Ok(store::copy::target(url, &opening(Access::Serve, clock(), &metrics, COPIERS, "")).await?)
}

/// How a store is opened here: with the system's chance, by the store's own clock.
pub fn opening<'a>(
    access: Access,
    now: Timestamp,
    metrics: &'a Metrics,
    connections: usize,
    node: &'a str,
) -> Opening<'a> {
    Opening { access, now, metrics, connections, node, chance: || fastrand::u128(..), clock: LeaseClock::Store }
}

/// Where this process can be found: the machine, and what it listens on.
fn node_name(listener: &TcpListener) -> String {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::env::var("HOSTNAME"));
    let machine = machine.unwrap_or_default();
    listener
        .local_addr()
        .map_or_else(|_| machine.trim().to_owned(), |at| format!("{} {at}", machine.trim()).trim().to_owned())
}

/// An account with what understands its webhooks.
pub type Understood = (Account, Box<dyn Adapter>);

/// The accounts with their adapters.
pub fn accounts(config: &Config) -> Result<Vec<Understood>, Mistakes> {
    let mut accounts = Vec::with_capacity(config.accounts.len());
    for account in &config.accounts {
        let adapter = build_adapter(account).map_err(|found| {
            let mistake = |message| Mistake { place: account.account.id.to_string(), message };
            Mistakes(found.into_iter().map(mistake).collect())
        })?;
        accounts.push((account.account.clone(), adapter));
    }
    Ok(accounts)
}

fn build_adapter(config: &AccountConfig) -> Result<Box<dyn Adapter>, Vec<String>> {
    let provider = adapter::provider(config.provider)
        .ok_or_else(|| vec![format!("provider: there is no provider {:?}", config.provider)])?;
    (provider.build)(&config.account, &config.settings, &config.webhook_url)
}

/// Accepts for accounts, renders in a format, owes to those who are interested.
pub fn ingest(
    store: Arc<dyn Store>,
    format: RecordFormat,
    interests: Vec<Interest>,
    accounts: Vec<Understood>,
) -> Ingest {
    let outlet = Outlet { render: Box::new(Renderer::new(format)), routes: Routes::new(interests) };
    Ingest::new(store, Arc::new(outlet), accounts)
}

/// Runs the gateway on `listener` until it is told to end, or breaks.
pub async fn serve(config: &Config, listener: TcpListener, clock: Clock, shutdown: Shutdown) -> Result<(), AppError> {
    serve_and_clean(config, listener, clock, JANITOR_EVERY, shutdown).await
}

/// The same, looking for old rows as often as is said.
pub async fn serve_and_clean(
    config: &Config,
    listener: TcpListener,
    clock: Clock,
    every: Duration,
    shutdown: Shutdown,
) -> Result<(), AppError> {
    let metrics = Metrics::new()?;
    let node = node_name(&listener);
    let opening = opening(Access::Serve, clock(), &metrics, config.store.connections, &node);
    let store = store::open(&config.store.url, opening).await?;
    let result = run(config, listener, (clock, every), shutdown, &store, metrics).await;
    store.close().await;
    result
}

async fn run(
    config: &Config,
    listener: TcpListener,
    (clock, every): (Clock, Duration),
    shutdown: Shutdown,
    store: &Arc<dyn Store>,
    metrics: Metrics,
) -> Result<(), AppError> {
    let orders: Vec<_> = config.subscribers.iter().map(|s| (s.interest.subscriber.clone(), s.order)).collect();
    store.register_subscribers(&orders).await?;
    if let Err(error) = report_forgotten(&**store).await {
        // A database that is away does not keep a node from starting: it waits for it.
        tracing::warn!(error = &error as &dyn std::error::Error, "what is owed cannot be looked at yet");
    }

    let interests = config.subscribers.iter().map(|s| s.interest.clone()).collect();
    let gateway = Gateway {
        ingest: ingest(store.clone(), config.record_format, interests, accounts(config)?),
        store: store.clone(),
        metrics: metrics.clone(),
        clock: clock.clone(),
        max_body_bytes: config.server.max_body_bytes,
        body_timeout: config.server.body_timeout,
        commit_timeout: config.server.commit_timeout,
        budget: Budget::new(config.server.queue_bytes),
        trouble: Trouble::default(),
        draining: shutdown.drain.clone(),
    };
    let address = listener.local_addr().ok();
    let limits = Limits {
        header_timeout: config.server.header_timeout,
        max_connections: config.server.max_connections,
        drain_timeout: config.server.drain_timeout,
    };
    let ending = CancellationToken::new();
    let cut = CancellationToken::new();
    let stops = (ending.clone(), cut.clone());
    let dispatcher = Arc::new(dispatcher(config, store.clone(), clock.clone(), metrics, stops)?);

    let mut parts: JoinSet<&'static str> = JoinSet::new();
    let drain = ending.clone();
    parts.spawn(async move {
        server::serve(listener, router(Arc::new(gateway)), limits, drain).await;
        "listener"
    });
    parts.spawn(async move {
        dispatcher.run().await;
        "dispatcher"
    });
    let (keep, janitor_store, drain) = (config.retention.clone(), store.clone(), ending.clone());
    parts.spawn(async move {
        janitor(&*janitor_store, every, (keep.raw, keep.finished), &clock, &drain).await;
        "janitor"
    });

    announce(config, address);
    tokio::select! {
        // Every part ends when the drain begins: asked in any other order, that would look like a fault.
        biased;
        () = shutdown.drain.cancelled() => {}
        broken = store.failed() => return Err(broken.into()),
        // One that panicked has printed where.
        ended = parts.join_next() => return Err(AppError::Ended(ended.and_then(Result::ok).unwrap_or("gateway"))),
    }
    tracing::info!("draining");
    // Whoever asks whether this node is ready hears that it is not; whoever has not asked yet is still served.
    tokio::select! {
        () = tokio::time::sleep(config.server.drain_delay) => {}
        () = shutdown.halt.cancelled() => {}
        broken = store.failed() => return Err(broken.into()),
        ended = parts.join_next() => return Err(AppError::Ended(ended.and_then(Result::ok).unwrap_or("gateway"))),
    }
    ending.cancel();
    finish(&mut parts, config.server.drain_timeout, &cut, &shutdown.halt).await;
    parts.shutdown().await;
    Ok(())
}

/// Waits for the end of everything that is under way. When that takes too long, attempts are broken off, so that their lanes
/// need not wait for the end of their leases.
async fn finish(
    parts: &mut JoinSet<&'static str>,
    timeout: Duration,
    cut: &CancellationToken,
    halt: &CancellationToken,
) {
    let mut done = pin!(async { while parts.join_next().await.is_some() {} });
    tokio::select! {
        () = &mut done => return tracing::info!("drained"),
        () = halt.cancelled() => return tracing::warn!("halted"),
        () = tokio::time::sleep(timeout) => tracing::warn!("the drain's time is up"),
    }
    cut.cancel();
    tokio::select! {
        () = &mut done => {}
        () = halt.cancelled() => tracing::warn!("halted"),
        () = tokio::time::sleep(LAST_WORDS) => tracing::warn!("lanes could not be given back"),
    }
}

/// Says that the gateway serves, once it does.
fn announce(config: &Config, address: Option<SocketAddr>) {
    tracing::info!(
        listen = %address.unwrap_or(config.server.listen),
        accounts = config.accounts.len(),
        subscribers = config.subscribers.len(),
        version = env!("CARGO_PKG_VERSION"),
        "birdwire serves"
    );
    for account in &config.accounts {
        tracing::info!(
            account.id = %account.account.id,
            provider = account.provider,
            url = account.registered_url(),
            "webhooks are expected"
        );
    }
}

/// Subscribers that the file no longer names keep what they are owed; somebody should know.
async fn report_forgotten(store: &dyn Store) -> Result<(), StoreError> {
    for backlog in store.backlog().await? {
        if !backlog.subscriber.configured && backlog.owed > 0 {
            tracing::warn!(
                subscriber = backlog.subscriber.id.0,
                owed = backlog.owed,
                "a subscriber that is no longer configured is still owed events"
            );
        }
    }
    Ok(())
}

fn dispatcher(
    config: &Config,
    store: Arc<dyn Store>,
    clock: Clock,
    metrics: Metrics,
    (stop, cut): (CancellationToken, CancellationToken),
) -> Result<Dispatcher, AppError> {
    let delivery = &config.delivery;
    let sender = Sender::new(&delivery.allow_networks, delivery.attempt_timeout, delivery.concurrency)?;
    let mut subscribers = HashMap::new();
    for (index, subscriber) in config.subscribers.iter().enumerate() {
        let made = subscriber_of(config, subscriber, &sender, &metrics)
            .map_err(|message| Mistakes(vec![Mistake { place: format!("subscribers[{index}]"), message }]))?;
        subscribers.insert(made.id.0.clone(), Arc::new(made));
    }
    Ok(Dispatcher {
        store,
        sender,
        subscribers,
        concurrency: delivery.concurrency,
        lease: delivery.lease,
        fresh: delivery.lease.saturating_sub(delivery.attempt_timeout),
        clock,
        jitter: Box::new(fastrand::f64),
        metrics,
        stop,
        cut,
        unrecorded: Arc::default(),
    })
}

/// The subscriber of a configuration, ready to be sent to; what is wrong with it otherwise.
pub fn subscriber_of(
    config: &Config,
    subscriber: &SubscriberConfig,
    sender: &Sender,
    metrics: &Metrics,
) -> Result<Subscriber, String> {
    let delivery = &config.delivery;
    let url = subscriber.url.parse().map_err(|e| format!("url: {e}"))?;
    Ok(Subscriber {
        id: SubscriberId(subscriber.interest.subscriber.0.clone()),
        receiver: sender.receiver(&url).map_err(|e| format!("url: {e}"))?,
        signer: Signer::new(&subscriber.secrets).map_err(|e| format!("secrets: {e}"))?,
        order: subscriber.order,
        backoff: Backoff {
            first: delivery.first_retry,
            max: delivery.max_retry,
            give_up_after: subscriber.order_timeout.unwrap_or(delivery.give_up_after),
        },
        counted: metrics.subscriber(&subscriber.interest.subscriber.0),
    })
}

async fn janitor(
    store: &dyn Store,
    every: Duration,
    (raw, finished): (Duration, Duration),
    clock: &Clock,
    drain: &CancellationToken,
) {
    loop {
        tokio::select! {
            () = drain.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        let now = clock();
        while !drain.is_cancelled() {
            match store.retain(now.minus(raw), now.minus(finished), JANITOR_BATCH).await {
                Ok(removed) if removed.raw + removed.finished > 0 => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "old rows cannot be removed");
                    break;
                }
            }
        }
    }
}
