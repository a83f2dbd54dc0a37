//! What keeping webhooks costs a store by itself: no HTTP, no parsing, nobody who sends anything on. Tells how much of a
//! change in the benchmark is the store's, in processor time, which a busy machine disturbs less than speed.
//!
//! `cargo bench --bench store` measures the embedded store; `-- URL` another one, of which only our own side is counted;
//! `-- URL COUNT SUBSCRIBERS CONVERSATIONS` says the rest. With `deliver` behind that, whatever is handed over counts as
//! delivered at once, and is recorded.
#![allow(clippy::cast_precision_loss, reason = "figures are rounded for people anyway")]

use anyhow::{Context, Result};
use birdwire::adapter::verified::kept;
use birdwire::adapter::{self, Adapter};
use birdwire::domain::account::{Account, Channel};
use birdwire::domain::delivery::Order;
use birdwire::domain::format::RecordFormat;
use birdwire::domain::ids::{AccountId, CustomerId};
use birdwire::domain::route::{Interest, Routes, SubscriberId};
use birdwire::domain::secret::Secret;
use birdwire::domain::settings::{SettingValue, Settings};
use birdwire::domain::time::Timestamp;
use birdwire::domain::webhook::RawWebhook;
use birdwire::metrics::Metrics;
use birdwire::store::inbound::{Inbound, Outlet, Prepared};
use birdwire::store::lane::{Advance, Attempt, Leased, Place, Taker, Verdict};
use birdwire::store::{self, Access, LeaseClock, Opening, Store};
use birdwire::voipbin::Renderer;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Webhooks that are kept at the same time.
const AT_ONCE: usize = 64;

/// The first webhooks only make pages and caches.
const WARM: usize = 20_000;

const BEGAN: i64 = 1_800_000_000_000_000;

struct Asked {
    url: String,
    count: usize,
    subscribers: usize,
    conversations: usize,
    delivers: bool,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |place: usize, usual: usize| arguments.get(place).map_or(Ok(usual), |text| text.parse());
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let asked = Asked {
        url: arguments.first().cloned().unwrap_or_else(|| format!("sqlite:{}/store.db", folder.path().display())),
        count: number(1, 60_000)?,
        subscribers: number(2, 1)?,
        conversations: number(3, 1_000)?,
        delivers: arguments.get(4).is_some_and(|word| word == "deliver"),
    };
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(&asked))
}

async fn run(asked: &Asked) -> Result<()> {
    let metrics = Metrics::new()?;
    let opening = Opening {
        access: Access::Serve,
        now: Timestamp::from_micros(BEGAN),
        metrics: &metrics,
        connections: 8,
        node: "bench",
        chance: || fastrand::u128(..),
        clock: LeaseClock::Store,
    };
    let store = store::open(&asked.url, opening).await?;
    let names: Vec<SubscriberId> = (0..asked.subscribers).map(|n| SubscriberId(format!("s{n}"))).collect();
    let orders: Vec<_> = names.iter().map(|name| (name.clone(), Order::Strict)).collect();
    store.register_subscribers(&orders).await?;
    let wants = |name: &SubscriberId| Interest { subscriber: name.clone(), events: Vec::new(), accounts: Vec::new() };
    let outlet = Arc::new(Outlet {
        render: Box::new(Renderer::new(RecordFormat::Documented)),
        routes: Routes::new(names.iter().map(wants).collect()),
    });
    let makes = Makes::new(outlet)?;
    let (hands, mut handed) = tokio::sync::mpsc::unbounded_channel();
    if asked.delivers {
        store.hand_over_to(Arc::new(Hands(Arc::new(Semaphore::new(10_000)), hands)));
    }
    let recording = store.clone();
    let recorder = tokio::spawn(async move {
        while let Some((leased, place)) = handed.recv().await {
            let store = recording.clone();
            tokio::spawn(record(store, leased, place));
        }
    });
    for (first, count, is_told) in [(0, WARM, false), (WARM, asked.count, true)] {
        // All are made before the clock starts.
        let made: Vec<_> = (first..first + count)
            .map(|n| std::sync::Mutex::new(Some(makes.inbound(n, asked.conversations))))
            .collect();
        let made = Arc::new(made);
        let next = Arc::new(AtomicUsize::new(0));
        let (began, cpu) = (Instant::now(), cpu()?);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE {
            let (store, made, next) = (store.clone(), made.clone(), next.clone());
            tasks.spawn(async move {
                while let Some(place) = made.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let inbound = place.lock().ok().and_then(|mut place| place.take()).context("it was taken")?;
                    let receipt = store.commit_inbound(inbound).await?;
                    anyhow::ensure!(receipt.ends.iter().all(|end| end.state() == "stored"), "{receipt:?}");
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        if is_told {
            let count = count as f64;
            anstream::println!(
                "{:.0} webhooks/s, {:.1} µs of processor time each",
                count / began.elapsed().as_secs_f64(),
                (self::cpu()? - cpu) * 1e6 / count
            );
        }
    }
    recorder.abort();
    store.close().await;
    Ok(())
}

/// Takes everything that is handed over.
struct Hands(Arc<Semaphore>, tokio::sync::mpsc::UnboundedSender<(Leased, Place)>);

impl Taker for Hands {
    fn place(&self, _subscriber: &SubscriberId) -> Option<Place> {
        let permit = self.0.clone().try_acquire_owned().ok()?;
        Some(Place { lease: Duration::from_mins(1), since: Timestamp::from_micros(BEGAN), permit })
    }

    fn give_back(&self, _: &SubscriberId, place: Place) {
        drop(place);
    }

    fn take(&self, lane: Leased, place: Place) {
        self.1.send((lane, place)).ok();
    }
}

/// Records what is handed over, and what follows in its lane, as delivered.
async fn record(store: Arc<dyn Store>, leased: Leased, place: Place) {
    let mut delivery = leased.owed.delivery;
    let now = Timestamp::from_micros(BEGAN);
    loop {
        let attempt = Attempt {
            lease: leased.lease,
            delivery,
            started_at: now,
            ended_at: now.plus(Duration::from_millis(1)),
            status: Some(200),
            reason: "delivered",
            verdict: Verdict::Delivered,
            extend: Some(Duration::from_mins(1)),
        };
        match store.record_attempt(attempt).await {
            Ok(Advance::Next(next)) => delivery = next.delivery,
            _ => break,
        }
    }
    drop(place);
}

/// Makes webhooks of Bird's.
struct Makes {
    account: Arc<Account>,
    adapter: Arc<dyn Adapter>,
    outlet: Arc<Outlet>,
}

impl Makes {
    fn new(outlet: Arc<Outlet>) -> Result<Self> {
        let bird = adapter::provider("bird").context("Bird is no provider any more")?;
        let account = Account {
            id: AccountId("6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a01".parse()?),
            customer_id: CustomerId("5e4a0680-804e-11ec-8477-2fea5968d85b".parse()?),
            name: "LINE through Bird".into(),
            channel: Channel::Line,
            address: None,
        };
        let mut settings = Settings::default();
        settings.0.insert("signing_keys", SettingValue::Secrets(vec![Secret::new("key")]));
        let adapter = (bird.build)(&account, &settings, "https://gw.example.com/")
            .map_err(|wrong| anyhow::anyhow!("{wrong:?}"))?;
        Ok(Self { account: Arc::new(account), adapter: adapter.into(), outlet })
    }

    fn inbound(&self, number: usize, conversations: usize) -> Inbound {
        let dialog = number.wrapping_mul(7919) % conversations;
        let at =
            Timestamp::from_micros(BEGAN + i64::try_from(number).unwrap_or(0) * 100 + i64::from(fastrand::u16(..)));
        let at = at.utc().map(|at| at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()).unwrap_or_default();
        let id = uuid::Uuid::from_u64_pair(fastrand::u64(..), number as u64);
        let body = include_str!("../fixtures/bird/text/request.json");
        let mut body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
        body["id"] = id.to_string().into();
        body["createdAt"] = at.clone().into();
        body["updatedAt"] = at.into();
        body["sender"]["contact"]["identifierValue"] = format!("U{dialog:032x}").into();
        body["body"]["text"]["text"] = "x".repeat(300).into();
        let received_at = Timestamp::from_micros(BEGAN);
        let webhook = RawWebhook { headers: Vec::new(), body: body.to_string().into_bytes(), received_at };
        let events = self.adapter.events(&kept(&webhook));
        let prepare = |(place, event)| Prepared::new(event, place, &self.account, &*self.outlet.render);
        Inbound {
            account: self.account.clone(),
            received_at,
            request_id: "req_abcdefghijklmnopqrstuvwxyz".to_owned(),
            headers: vec![
                ("messagebird-signature", "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=".to_owned()),
                ("messagebird-request-timestamp", "1800000000".to_owned()),
            ],
            body: webhook.body,
            events: events.into_iter().enumerate().map(prepare).collect(),
            outlet: self.outlet.clone(),
            kept: None,
            erase: self.adapter.clone(),
            hold: Box::new(()),
        }
    }
}

/// Seconds of processor time that this process has used, of which the kernel counts hundredths.
fn cpu() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / 100.0)
}
