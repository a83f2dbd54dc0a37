//! A subscriber over real HTTP: checks every delivery when it comes, writes it down, and answers as it is told to.

use crate::ledger::{Delivery, Reply};
use crate::node::SECRET;
use anyhow::{Context, Result, bail};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use birdwire::app::system_clock;
use birdwire::domain::secret::Secret;
use birdwire::voipbin::sign::{verify_standard, verify_voipbin};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What Standard Webhooks libraries allow.
const TOLERANCE_SECONDS: i64 = 300;

/// What to do with a delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// Answer this status.
    Answer(u16),
    /// Answer this status after a while.
    Delay(Duration, u16),
    /// Never answer.
    Hang,
}

/// Decides, given the delivery and how often it came before.
pub(crate) type Program = Box<dyn Fn(&Delivery, usize) -> Act + Send + Sync>;

/// A subscriber with its ledger.
pub(crate) struct Sink {
    name: String,
    url: String,
    inner: Arc<Inner>,
    server: JoinHandle<()>,
}

struct Inner {
    name: String,
    secret: Secret,
    program: Program,
    began: Instant,
    book: Mutex<Book>,
    /// How much has come.
    progress: watch::Sender<Progress>,
}

/// How far a subscriber is.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Deliveries that came.
    seen: usize,
    /// Different events that were taken.
    taken: usize,
}

#[derive(Default)]
struct Book {
    deliveries: Vec<Delivery>,
    times: HashMap<String, usize>,
    taken: HashSet<String>,
}

impl Sink {
    /// Listens on a port of its own.
    pub(crate) async fn start(name: &str, began: Instant, program: Program) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/", listener.local_addr()?);
        let inner = Arc::new(Inner {
            name: name.to_owned(),
            secret: Secret::new(SECRET),
            program,
            began,
            book: Mutex::default(),
            progress: watch::Sender::new(Progress::default()),
        });
        let routes = Router::new().route("/", post(receive)).with_state(inner.clone());
        let server = tokio::spawn(async move {
            // It runs until it is aborted; a gateway that gets no answers says so in its ledger.
            axum::serve(listener, routes).await.ok();
        });
        Ok(Self { name: name.to_owned(), url, inner, server })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// How many different events it took.
    pub(crate) fn taken(&self) -> usize {
        self.inner.progress.borrow().taken
    }

    /// Waits until it took so many different events.
    pub(crate) async fn until(&self, events: usize, within: Duration) -> Result<()> {
        self.wait(within, |progress| progress.taken >= events).await.with_context(|| format!("{events} events"))
    }

    /// Waits until so many deliveries came, whatever was answered.
    pub(crate) async fn until_seen(&self, deliveries: usize, within: Duration) -> Result<()> {
        self.wait(within, |progress| progress.seen >= deliveries).await.with_context(|| format!("{deliveries} seen"))
    }

    async fn wait(&self, within: Duration, reached: impl Fn(&Progress) -> bool) -> Result<()> {
        let mut progress = self.inner.progress.subscribe();
        let waited = tokio::time::timeout(within, progress.wait_for(|now| reached(now))).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            _ => bail!("{} got no further within {within:?}: {:?}", self.name, *self.inner.progress.borrow()),
        }
    }

    /// Everything that came.
    pub(crate) fn ledger(&self) -> Vec<Delivery> {
        self.inner.book().deliveries.clone()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Inner {
    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a delivery down and says what to do with it.
    fn enter(&self, delivery: Delivery) -> (usize, Act) {
        let mut book = self.book();
        let before = book.times.entry(delivery.id.clone()).or_default();
        *before += 1;
        let act = (self.program)(&delivery, *before - 1);
        book.deliveries.push(delivery);
        self.progress.send_modify(|progress| progress.seen = book.deliveries.len());
        (book.deliveries.len() - 1, act)
    }

    fn reply(&self, place: usize, reply: Reply) {
        let mut book = self.book();
        let delivery = &mut book.deliveries[place];
        delivery.reply = reply;
        if reply.is_taken() {
            let id = delivery.id.clone();
            book.taken.insert(id);
            self.progress.send_modify(|progress| progress.taken = book.taken.len());
        }
    }
}

/// While it waits its caller may go away, which ends it: what is in the ledger then is a delivery that was cut.
async fn receive(State(sink): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let delivery = Delivery {
        subscriber: sink.name.clone(),
        at: sink.began.elapsed(),
        id: header("webhook-id").to_owned(),
        lane: header("x-birdwire-lane").to_owned(),
        sequence: header("x-birdwire-sequence").parse().unwrap_or_default(),
        replay: header("x-birdwire-replay") == "true",
        signed: verify(&sink.secret, header, &body),
        body: body.to_vec(),
        reply: Reply::Cut,
    };
    let (place, act) = sink.enter(delivery);
    let status = match act {
        Act::Answer(status) => status,
        Act::Delay(time, status) => {
            tokio::time::sleep(time).await;
            status
        }
        Act::Hang => {
            sink.reply(place, Reply::Hung);
            std::future::pending().await
        }
    };
    sink.reply(place, Reply::Status(status));
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn verify<'a>(secret: &Secret, header: impl Fn(&str) -> &'a str, body: &[u8]) -> Result<(), String> {
    if !verify_voipbin(secret, body, header("x-voipbin-signature")) {
        return Err("x-voipbin-signature does not match".to_owned());
    }
    verify_standard(
        std::slice::from_ref(secret),
        header("webhook-id"),
        header("webhook-timestamp"),
        header("webhook-signature"),
        body,
        (system_clock())().seconds(),
        TOLERANCE_SECONDS,
    )
    .map_err(|refused| refused.to_string())
}
