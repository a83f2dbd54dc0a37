//! The gateway without most of itself, as modes of this program, which `contender` starts as processes:
//!
//! - `raw`: axum's own server reads the body and answers 200. Nothing in Rust on this stack gets faster than that.
//! - `map`: the gateway's server; the webhook is verified, parsed and mapped, and forgotten.
//! - `render`: the same, and what subscribers would get is written.
//! - `append`: the same, and both are appended to a file that is synced before the answer, one sync for all that wait. Keeping
//!   anything costs that much; nothing is found again in it.
//! - `forward`: as `render`, and it is sent to the subscriber before the webhook is answered. Nothing is kept.

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
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

struct Desk {
    account: Account,
    adapter: Box<dyn Adapter>,
    renderer: Option<Renderer>,
    forward: Option<(Sender, Subscriber)>,
    log: Option<mpsc::Sender<Entry>>,
    clock: Clock,
}

/// What is appended for a webhook, and who waits for it.
type Entry = (Vec<u8>, oneshot::Sender<()>);

/// Entries that share a sync; as many as in one of the gateway's commits.
const BATCH: usize = 256;

/// How long the file gets before it is written over, which needs no new blocks from the file system: what the gateway's own log
/// does.
const LOG: usize = 32 << 20;

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
        let renderer = match mode {
            "map" => None,
            "render" | "append" | "forward" => Some(Renderer::new(config.record_format)),
            _ => bail!("there is no baseline {mode}"),
        };
        let forward = if mode == "forward" { Some(forward(&config)?) } else { None };
        let log = if mode == "append" { Some(append(&config_path.with_file_name("append.log"))?) } else { None };
        let (account, adapter) = app::accounts(&config)?.pop().context("no account is configured")?;
        let desk = Arc::new(Desk { account, adapter, renderer, forward, log, clock: app::system_clock() });
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

fn forward(config: &Config) -> Result<(Sender, Subscriber)> {
    let delivery = &config.delivery;
    let sender = Sender::new(&delivery.allow_networks, delivery.attempt_timeout, delivery.concurrency)?;
    let subscriber = config.subscribers.first().context("no subscriber is configured")?;
    let subscriber = app::subscriber_of(config, subscriber, &sender, &Metrics::new()?).map_err(anyhow::Error::msg)?;
    Ok((sender, subscriber))
}

/// Starts the thread that appends.
fn append(path: &Path) -> Result<mpsc::Sender<Entry>> {
    std::fs::write(path, vec![0; LOG])?;
    let file = File::options().write(true).open(path)?;
    file.sync_all()?;
    let (sender, mut receiver) = mpsc::channel::<Entry>(4 * BATCH);
    std::thread::Builder::new().name("append".to_owned()).spawn(move || -> std::io::Result<()> {
        let (mut buffer, mut waiting, mut at) = (Vec::new(), Vec::with_capacity(BATCH), 0);
        while receiver.blocking_recv_many(&mut waiting, BATCH) > 0 {
            buffer.clear();
            for (entry, _) in &waiting {
                buffer.extend_from_slice(entry);
            }
            if at + buffer.len() > LOG {
                at = 0;
            }
            file.write_all_at(&buffer, u64::try_from(at).unwrap_or_default())?;
            file.sync_data()?;
            at += buffer.len();
            for (_, answer) in waiting.drain(..) {
                // Whoever went away needs no answer.
                answer.send(()).ok();
            }
        }
        Ok(())
    })?;
    Ok(sender)
}

/// Whether the entry is kept.
async fn keep(log: &mpsc::Sender<Entry>, entry: Vec<u8>) -> bool {
    let (answer, kept) = oneshot::channel();
    log.send((entry, answer)).await.is_ok() && kept.await.is_ok()
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
    match &desk.renderer {
        None => drop(black_box(events)),
        Some(renderer) => {
            let mut kept = desk.log.is_some().then_some(webhook.body);
            for (place, event) in events.into_iter().enumerate() {
                let conversation = event.content.conversation_id(&desk.account);
                let prepared = black_box(Prepared::new(event, place, &desk.account, renderer));
                for event in prepared.created {
                    if let Some(kept) = &mut kept {
                        kept.extend_from_slice(&event.body);
                    }
                    if !desk.send(conversation, event).await {
                        return StatusCode::BAD_GATEWAY;
                    }
                }
            }
            if let (Some(log), Some(entry)) = (&desk.log, kept)
                && !keep(log, entry).await
            {
                return StatusCode::SERVICE_UNAVAILABLE;
            }
        }
    }
    StatusCode::OK
}

impl Desk {
    /// Whether the subscriber, if there is one, has taken the event.
    async fn send(&self, conversation: ConversationId, event: OutboundEvent) -> bool {
        let Some((sender, subscriber)) = &self.forward else { return true };
        let now = (self.clock)();
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
        let answer = sender.attempt(subscriber, conversation, &mut owed, now).await;
        matches!(answer, Answer::Status { status: 200..=299, .. })
    }
}
