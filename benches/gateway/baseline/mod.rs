//! The gateway without most of itself, as modes of this program, which `contender` starts as processes:
//!
//! - `raw`: axum's own server reads the body and answers 200. Nothing in Rust on this stack gets faster than that.
//! - `typed`: axum's own server; verified, parsed and mapped as one writes it by hand for documented payloads only.
//! - `map`: the gateway's own way in; the webhook is verified, parsed and mapped, and forgotten where it would be stored.
//! - `render`: the same, and what subscribers would get is written.
//! - `append`: the same, and both are appended to a file that is synced before the answer, one sync for all that wait. Keeping
//!   anything costs that much; nothing is found again in it.
//! - `append-sqlite`: the same, and the file is a SQLite database with one table and its own numbers as the only key.
//! - `least-postgres`: the same in PostgreSQL, where a message is taken once, can be found by its id, is numbered in its
//!   conversation and owed to a subscriber. A store with the same promises does no less.
//! - `forward`: as `render`, and it is sent to the subscriber before the webhook is answered. Nothing is kept.
//! - `append-deliver`: as `append`, and after the answer it is sent to the subscriber, and that is appended and synced too. Keeping
//!   and delivering cost that much; nothing is in order, and nobody would find after a crash what is still owed.

mod least;
mod log;
#[path = "../../steps/only.rs"]
mod only;
mod typed;

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use birdwire::app;
use birdwire::config::Config;
use birdwire::delivery::Subscriber;
use birdwire::delivery::outcome::Answer;
use birdwire::delivery::sender::Sender;
use birdwire::domain::event::{End, EventType, OutboundEvent, Record, Render};
use birdwire::domain::ids::ConversationId;
use birdwire::domain::route::Routes;
use birdwire::domain::time::Clock;
use birdwire::http::health::Trouble;
use birdwire::http::server::{self, Limits};
use birdwire::http::webhook::Budget;
use birdwire::http::{self, Gateway};
use birdwire::ingest::Ingest;
use birdwire::metrics::Metrics;
use birdwire::store::inbound::{Inbound, Outlet, Receipt};
use birdwire::store::lane::Owed;
use birdwire::store::{Store, StoreError};
use birdwire::voipbin::Renderer;
use log::{Entry, Log, Name};
use only::{Done, Only};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Where webhooks arrive, for axum's router.
const PATH: &str = "/v1.0/conversation/accounts/{account_id}";

/// Serves until it is killed.
pub(crate) fn run(mode: &str, config: &str) -> Result<()> {
    let config_path = Path::new(config);
    let config = app::configure(Some(config_path))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(config.server.listen).await?;
        if mode == "raw" {
            let raw = |body: Bytes| async move {
                black_box(&body);
                StatusCode::OK
            };
            return Ok(axum::serve(listener, Router::new().route(PATH, post(raw))).await?);
        }
        if mode == "typed" {
            return Ok(axum::serve(listener, typed::router(PATH)).await?);
        }
        let file = config_path.with_file_name("append.log");
        let (log, forward) = match mode {
            "map" | "render" => (None, None),
            "append" => (Some(Log::of_file(&file)?), None),
            "append-sqlite" => (Some(Log::of_sqlite(&file)?), None),
            "least-postgres" => (Some(Log::of_postgres(&config.store.url).await?), None),
            "forward" => (None, Some(Forward::new(&config)?)),
            "append-deliver" => (Some(Log::of_file(&file)?), Some(Forward::new(&config)?)),
            _ => bail!("there is no baseline {mode}"),
        };
        let desk = Arc::new(Desk { log, forward, clock: app::system_clock() });
        let store: Arc<dyn Store> = Arc::new(Only(move |inbound| take(desk.clone(), inbound)));
        let render: Box<dyn Render> =
            if mode == "map" { Box::new(Blank) } else { Box::new(Renderer::new(config.record_format)) };
        let outlet = Arc::new(Outlet { render, routes: Routes::new(Vec::new()) });
        let gateway = Gateway {
            ingest: Ingest::new(store.clone(), outlet, app::accounts(&config)?),
            store,
            metrics: Metrics::new()?,
            clock: app::system_clock(),
            max_body_bytes: config.server.max_body_bytes,
            body_timeout: config.server.body_timeout,
            commit_timeout: config.server.commit_timeout,
            budget: Budget::new(config.server.queue_bytes),
            trouble: Trouble::default(),
            draining: CancellationToken::new(),
        };
        let limits = Limits {
            header_timeout: config.server.header_timeout,
            max_connections: config.server.max_connections,
            drain_timeout: config.server.drain_timeout,
        };
        server::serve(listener, http::router(Arc::new(gateway)), limits, CancellationToken::new()).await;
        Ok(())
    })
}

/// Writes nothing.
struct Blank;

impl Render for Blank {
    fn body(&self, _: EventType, _: Record<'_>) -> Vec<u8> {
        Vec::new()
    }
}

/// What is done instead of what a store does.
struct Desk {
    log: Option<Log>,
    forward: Option<Forward>,
    clock: Clock,
}

/// The way to the subscriber.
struct Forward {
    sender: Sender,
    subscriber: Subscriber,
    /// How many attempts may be under way that no webhook waits for.
    places: Semaphore,
}

/// Takes a webhook.
async fn take(desk: Arc<Desk>, inbound: Inbound) -> Done<Receipt> {
    let receipt = Receipt { ends: vec![End::Stored; inbound.events.len()] };
    if desk.log.is_none() && desk.forward.is_none() {
        black_box(&inbound);
        return Ok(receipt);
    }
    let (mut owed, mut name) = (Vec::new(), Name::default());
    for prepared in inbound.events {
        let content = &prepared.event.content;
        let conversation = content.conversation_id(&inbound.account);
        if let (Some(key), Some(id)) = (&prepared.event.key, content.message_id()) {
            name = Name { at: key.at.micros(), id: id.0, conversation: conversation.0 };
        }
        owed.extend(prepared.created.into_iter().map(|event| (conversation, event)));
    }
    match (&desk.log, &desk.forward) {
        (Some(log), after) => {
            let event = owed.iter().flat_map(|(_, event)| &event.body).copied().collect();
            if !log.keep(Entry { webhook: inbound.body, event, name }).await {
                return Err(failed("it cannot be appended"));
            }
            if after.is_some() {
                tokio::spawn(async move { desk.deliver(owed).await });
            }
        }
        (None, Some(forward)) if !forward.send(owed, &desk.clock).await => {
            return Err(failed("the subscriber does not take it"));
        }
        (None, _) => {}
    }
    Ok(receipt)
}

fn failed(what: &str) -> StoreError {
    StoreError::Unavailable { detail: what.to_owned(), source: None }
}

impl Desk {
    /// Sends what is kept, and keeps that it was sent.
    async fn deliver(&self, owed: Vec<(ConversationId, OutboundEvent)>) {
        let (Some(log), Some(forward)) = (&self.log, &self.forward) else { return };
        let Ok(place) = forward.places.acquire().await else { return };
        let sent: Vec<u8> = owed.iter().flat_map(|(_, event)| *event.id.0.as_bytes()).collect();
        // What does not arrive is seen by the sink, which counts.
        if forward.send(owed, &self.clock).await {
            drop(place);
            log.keep(Entry { webhook: Vec::new(), event: sent, name: Name::default() }).await;
        }
    }
}

impl Forward {
    fn new(config: &Config) -> Result<Self> {
        let delivery = &config.delivery;
        let sender = Sender::new(&delivery.allow_networks, delivery.attempt_timeout, delivery.concurrency)?;
        let subscriber = config.subscribers.first().context("no subscriber is configured")?;
        let subscriber =
            app::subscriber_of(config, subscriber, &sender, &Metrics::new()?).map_err(anyhow::Error::msg)?;
        Ok(Self { sender, subscriber, places: Semaphore::new(delivery.concurrency) })
    }

    /// Whether the subscriber has taken all of it.
    async fn send(&self, owed: Vec<(ConversationId, OutboundEvent)>, clock: &Clock) -> bool {
        for (conversation, event) in owed {
            let now = clock();
            let mut owed = Owed::first(1, 1, &event, now);
            let answer = self.sender.attempt(&self.subscriber, conversation, &mut owed, (now, Instant::now())).await;
            if !matches!(answer, Answer::Status { status: 200..=299, .. }) {
                return false;
            }
        }
        true
    }
}
