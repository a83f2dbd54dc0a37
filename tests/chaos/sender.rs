//! The provider: signs webhooks, posts them, sends again whatever is not answered 200, and writes everything down.
//!
//! The next message of a dialog is sent only when the one before was taken, so their order is defined; dialogs are
//! sent side by side. A repeat has the bytes and the signature of the first request, as Bird's have.
//!
//! Of several nodes it is also what stands in front of them: each request goes to the next one, and to another when that
//! one is gone or does not take it.

use crate::ledger::{Answer, Request, text};
use crate::node::KEY;
use anyhow::{Context, Result, bail};
use birdwire::adapter;
use birdwire::app::system_clock;
use birdwire::domain::secret::Secret;
use birdwire::domain::time::Timestamp;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

/// How long a refused webhook waits before it is sent again. Real providers wait longer; the gateway does not care.
const AGAIN: Duration = Duration::from_millis(40);

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(15);

/// A provider with its ledger. Clones share both.
#[derive(Clone)]
pub(crate) struct Sender {
    inner: Arc<Inner>,
}

struct Inner {
    client: reqwest::Client,
    signed: String,
    targets: Vec<String>,
    turn: AtomicUsize,
    began: Instant,
    ledger: Mutex<Vec<Request>>,
    progress: watch::Sender<Progress>,
}

/// How far the provider is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Answers 200.
    pub(crate) taken: usize,
    /// Answers 503.
    pub(crate) refused: usize,
    /// Webhooks that no node took.
    pub(crate) turned_away: usize,
}

/// What to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Dialogs side by side.
    pub(crate) dialogs: u64,
    /// The first and the last message of each.
    pub(crate) messages: (u64, u64),
    /// Requests at once.
    pub(crate) connections: u64,
    /// Messages a second, altogether; `None` for as many as are taken.
    pub(crate) rate: Option<f64>,
    /// How long it may take altogether.
    pub(crate) within: Duration,
}

impl Load {
    /// How many webhooks that are.
    pub(crate) fn webhooks(&self) -> usize {
        let (first, last) = self.messages;
        usize::try_from(self.dialogs * (last + 1 - first)).unwrap_or(usize::MAX)
    }
}

/// A webhook as it is sent, each time.
#[derive(Clone)]
pub(crate) struct Webhook {
    payload: String,
    dialog: String,
    counter: u64,
    body: Vec<u8>,
    headers: Vec<(&'static str, String)>,
}

impl Sender {
    /// Posts to `targets` in turn; what is signed is one URL.
    pub(crate) fn new(client: reqwest::Client, signed: String, targets: Vec<String>, began: Instant) -> Self {
        let (turn, progress) = (AtomicUsize::new(0), watch::Sender::new(Progress::default()));
        Self { inner: Arc::new(Inner { client, signed, targets, turn, began, ledger: Mutex::default(), progress }) }
    }

    /// How long the scenario has run.
    pub(crate) fn elapsed(&self) -> Duration {
        self.inner.began.elapsed()
    }

    /// Sends the whole load until everything is taken; says how long it took.
    pub(crate) async fn run(&self, load: Load) -> Result<Duration> {
        let began = Instant::now();
        let (first, last) = load.messages;
        let queue: VecDeque<(u64, u64)> = (1..=load.dialogs).map(|dialog| (dialog, first)).collect();
        let work = Arc::new(Mutex::new(Work { queue, last, begun: 0 }));
        let mut tasks = JoinSet::new();
        for _ in 0..load.connections.min(load.dialogs) {
            let (sender, work) = (self.clone(), work.clone());
            tasks.spawn(async move { sender.take_part(&work, load.rate, began).await });
        }
        let all = async {
            while let Some(done) = tasks.join_next().await {
                done.context("the provider broke")??;
            }
            Ok(began.elapsed())
        };
        tokio::time::timeout(load.within, all)
            .await
            .with_context(|| format!("not everything was taken within {:?}: {:?}", load.within, self.progress()))?
    }

    async fn take_part(&self, work: &Mutex<Work>, rate: Option<f64>, began: Instant) -> Result<()> {
        while let Some((dialog, counter, place)) = next(work) {
            if let Some(rate) = rate {
                tokio::time::sleep_until(began + Duration::from_secs_f64(f64::from(place) / rate)).await;
            }
            self.post_until_taken(&self.webhook(dialog, counter)?).await;
            locked(work).give_back(dialog, counter);
        }
        Ok(())
    }

    /// A message of a dialog, signed now.
    pub(crate) fn webhook(&self, dialog: u64, counter: u64) -> Result<Webhook> {
        let dialog = format!("chaos-{dialog}");
        let payload = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{dialog} {counter}").as_bytes()).to_string();
        let now = (system_clock())();
        // Later messages are later, whatever the clock of this machine says of the milliseconds between.
        let created = Timestamp::from_micros(1_750_000_000_000_000 + i64::try_from(counter)? * 1_000_000);
        let body = payload_text(&payload, &dialog, &text(&dialog, counter), created)?.into_bytes();
        let Some(bird) = adapter::provider("bird") else { bail!("Bird is no provider any more") };
        let headers = (bird.sign)(&Secret::new(KEY), &self.inner.signed, &body, now);
        Ok(Webhook { payload, dialog, counter, body, headers })
    }

    async fn post_until_taken(&self, webhook: &Webhook) {
        while !self.post(webhook).await.is_taken() {
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// One request, to as many nodes as it takes.
    pub(crate) async fn post(&self, webhook: &Webhook) -> Answer {
        let all = self.inner.targets.len();
        let first = self.inner.turn.fetch_add(1, Ordering::Relaxed);
        let mut answer = Answer::Broken("there is no node".to_owned());
        for other in 0..all {
            answer = self.post_to((first + other) % all, webhook).await;
            if !matches!(answer, Answer::Broken(_) | Answer::Status(500.., _)) {
                return answer;
            }
        }
        self.inner.progress.send_modify(|progress| progress.turned_away += 1);
        answer
    }

    /// One request to one node.
    pub(crate) async fn post_to(&self, node: usize, webhook: &Webhook) -> Answer {
        let inner = &*self.inner;
        let began = Instant::now();
        let mut request = inner.client.post(&inner.targets[node]).timeout(PATIENCE).body(webhook.body.clone());
        for (name, value) in &webhook.headers {
            request = request.header(*name, value);
        }
        let answer = match request.send().await {
            Ok(response) => {
                let later = response.headers().get("retry-after").and_then(|v| v.to_str().ok()).map(str::to_owned);
                Answer::Status(response.status().as_u16(), later)
            }
            Err(error) => Answer::Broken(format!("{:#}", anyhow::Error::from(error))),
        };
        locked(&inner.ledger).push(Request {
            payload: webhook.payload.clone(),
            dialog: webhook.dialog.clone(),
            counter: webhook.counter,
            at: inner.began.elapsed(),
            took: began.elapsed(),
            answer: answer.clone(),
        });
        inner.progress.send_modify(|progress| match answer {
            Answer::Status(200, _) => progress.taken += 1,
            Answer::Status(503, _) => progress.refused += 1,
            _ => {}
        });
        answer
    }

    /// How far it is.
    pub(crate) fn progress(&self) -> Progress {
        *self.inner.progress.borrow()
    }

    /// Waits until it is so far.
    pub(crate) async fn until(&self, within: Duration, reached: impl Fn(&Progress) -> bool) -> Result<()> {
        let mut progress = self.inner.progress.subscribe();
        let waited = tokio::time::timeout(within, progress.wait_for(|now| reached(now))).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            _ => bail!("the provider got no further within {within:?}: {:?}", self.progress()),
        }
    }

    /// Everything that was sent.
    pub(crate) fn ledger(&self) -> Vec<Request> {
        locked(&self.inner.ledger).clone()
    }
}

/// What is still to be sent.
struct Work {
    /// Dialogs with the next message of each.
    queue: VecDeque<(u64, u64)>,
    last: u64,
    begun: u32,
}

impl Work {
    /// The next message, and its place among all.
    fn take(&mut self) -> Option<(u64, u64, u32)> {
        let (dialog, counter) = self.queue.pop_front()?;
        self.begun += 1;
        Some((dialog, counter, self.begun))
    }

    /// The dialog's next message may be sent.
    fn give_back(&mut self, dialog: u64, counter: u64) {
        if counter < self.last {
            self.queue.push_back((dialog, counter + 1));
        }
    }
}

fn next(work: &Mutex<Work>) -> Option<(u64, u64, u32)> {
    locked(work).take()
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The envelope as Bird's webhook subscriptions send it.
fn payload_text(id: &str, dialog: &str, text: &str, created: Timestamp) -> Result<String> {
    let at = created.utc().context("a time out of the calendar")?.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
    let body = serde_json::json!({
        "service": "channels",
        "event": "line.inbound",
        "payload": {
            "id": id,
            "channelId": "a1d50881-64f5-456c-a8ae-da18c0f203da",
            "sender": { "contact": {
                "id": "fb4bed31-cd9e-441b-b56d-6571c7ca8c30",
                "identifierKey": "line-2005309875",
                "identifierValue": dialog,
                "annotations": { "name": "Test user" },
            } },
            "receiver": { "connector": {
                "id": "e2bf1441-2edd-483f-bfa3-6d30106177c0",
                "identifierValue": "2005309875",
            } },
            "body": { "type": "text", "text": { "text": text } },
            "meta": {},
            "reference": "",
            "parts": [{ "platformReference": "518665685510651928" }],
            "status": "delivered",
            "reason": "",
            "direction": "incoming",
            "chargeableUnits": 1,
            "lastStatusAt": at,
            "createdAt": at,
            "updatedAt": at,
        },
    });
    Ok(body.to_string())
}
