//! The gateway without most of itself, as modes of this program, which `contender` starts as processes:
//!
//! - `raw`: axum's own server reads the body and answers 200. Nothing in Rust on this stack gets faster than that.
//! - `map`: the gateway's server; the webhook is verified, parsed and mapped, and forgotten.
//! - `render`: the same, and what subscribers would get is written.
//! - `append`: the same, and both are appended to a file that is synced before the answer, one sync for all that wait. Keeping
//!   anything costs that much; nothing is found again in it.
//! - `append-sqlite`: the same, and the file is a SQLite database with one table and its own numbers as the only key.
//! - `append-postgres`: the same in five tables of PostgreSQL, because a message is five rows that are looked for by
//!   different things; their own numbers are the only keys.
//! - `forward`: as `render`, and it is sent to the subscriber before the webhook is answered. Nothing is kept.
//! - `append-deliver`: as `append`, and after the answer it is sent to the subscriber, and that is appended and synced too. Keeping
//!   and delivering cost that much; nothing is in order, and nobody would find after a crash what is still owed.

mod log;

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use birdwire::adapter::Adapter;
use birdwire::adapter::verified::verify;
use birdwire::app;
use birdwire::config::Config;
use birdwire::delivery::Subscriber;
use birdwire::delivery::outcome::Answer;
use birdwire::delivery::sender::Sender;
use birdwire::domain::account::Account;
use birdwire::domain::event::OutboundEvent;
use birdwire::domain::ids::ConversationId;
use birdwire::domain::time::Clock;
use birdwire::domain::webhook::RawWebhook;
use birdwire::http::server::{self, Limits};
use birdwire::metrics::Metrics;
use birdwire::store::inbound::Prepared;
use birdwire::store::lane::Owed;
use birdwire::voipbin::Renderer;
use log::{Entry, Log};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

struct Desk {
    account: Account,
    adapter: Box<dyn Adapter>,
    renderer: Option<Renderer>,
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

/// Serves until it is killed.
pub(crate) fn run(mode: &str, config: &str) -> Result<()> {
    let config_path = Path::new(config);
    let config = app::configure(Some(config_path))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(config.server.listen).await?;
        let route = "/v1.0/conversation/accounts/{account_id}";
        if mode == "raw" {
            let raw = |body: Bytes| async move {
                black_box(&body);
                StatusCode::OK
            };
            return Ok(axum::serve(listener, Router::new().route(route, post(raw))).await?);
        }
        let renderer = (mode != "map").then(|| Renderer::new(config.record_format));
        let file = config_path.with_file_name("append.log");
        let (log, forward) = match mode {
            "map" | "render" => (None, None),
            "append" => (Some(Log::of_file(&file)?), None),
            "append-sqlite" => (Some(Log::of_sqlite(&file)?), None),
            "append-postgres" => (Some(Log::of_postgres(&config.store.url).await?), None),
            "forward" => (None, Some(Forward::new(&config)?)),
            "append-deliver" => (Some(Log::of_file(&file)?), Some(Forward::new(&config)?)),
            _ => bail!("there is no baseline {mode}"),
        };
        let (account, adapter) = app::accounts(&config)?.pop().context("no account is configured")?;
        let desk = Arc::new(Desk { account, adapter, renderer, log, forward, clock: app::system_clock() });
        let limits = Limits {
            header_timeout: config.server.header_timeout,
            max_connections: config.server.max_connections,
            drain_timeout: config.server.drain_timeout,
        };
        let router = Router::new().route(route, post(receive)).with_state(desk);
        server::serve(listener, router, limits, CancellationToken::new()).await;
        Ok(())
    })
}

async fn receive(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let text = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
        Some((name.as_str().to_owned().into(), value.to_str().ok()?.to_owned()))
    };
    let webhook = RawWebhook {
        headers: headers.iter().filter_map(text).collect(),
        body: body.to_vec(),
        received_at: (desk.clock)(),
    };
    let Ok(verified) = verify(&*desk.adapter, &webhook) else { return StatusCode::UNAUTHORIZED };
    let events = desk.adapter.events(&verified);
    let Some(renderer) = &desk.renderer else {
        drop(black_box(events));
        return StatusCode::OK;
    };
    let mut owed = Vec::new();
    for (place, event) in events.into_iter().enumerate() {
        let conversation = event.content.conversation_id(&desk.account);
        let prepared = black_box(Prepared::new(event, place, &desk.account, renderer));
        owed.extend(prepared.created.into_iter().map(|event| (conversation, event)));
    }
    if let Some(log) = &desk.log {
        let event = owed.iter().flat_map(|(_, event)| &event.body).copied().collect();
        if !log.keep(Entry { webhook: webhook.body, event }).await {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        if desk.forward.is_some() {
            tokio::spawn(async move { desk.deliver(owed).await });
        }
        return StatusCode::OK;
    }
    match &desk.forward {
        Some(forward) if !forward.send(owed, &desk.clock).await => StatusCode::BAD_GATEWAY,
        _ => StatusCode::OK,
    }
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
            log.keep(Entry { webhook: Vec::new(), event: sent }).await;
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
            let mut owed = Owed {
                delivery: 1,
                sequence: 1,
                event_id: event.id,
                event_type: event.event_type.as_str().to_owned(),
                body: event.body,
                failures: 0,
                first_attempt: None,
                created_at: now,
                replay: false,
            };
            let answer = self.sender.attempt(&self.subscriber, conversation, &mut owed, now).await;
            if !matches!(answer, Answer::Status { status: 200..=299, .. }) {
                return false;
            }
        }
        true
    }
}
