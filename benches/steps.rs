//! The pure steps of one text message, one by one, and its whole way from a request to the store: how long each takes,
//! and how many instructions.
//!
//! `cargo bench --bench steps` measures time, in rounds that take turns, so that whatever slows the machine down slows
//! every step down. Time says little on a machine that others use; `scripts/instructions` counts instead, with valgrind.

#[path = "steps/only.rs"]
mod only;

use anyhow::{Context, Result, ensure};
use birdwire::adapter::verified::verify;
use birdwire::adapter::{self, Adapter};
use birdwire::delivery::outcome::{Answer, Situation, judge};
use birdwire::domain::account::{Account, Channel};
use birdwire::domain::backoff::Backoff;
use birdwire::domain::event::End;
use birdwire::domain::format::RecordFormat;
use birdwire::domain::ids::{AccountId, CustomerId};
use birdwire::domain::route::Routes;
use birdwire::domain::secret::Secret;
use birdwire::domain::settings::{SettingValue, Settings};
use birdwire::domain::time::Timestamp;
use birdwire::domain::webhook::RawWebhook;
use birdwire::http::health::Trouble;
use birdwire::http::webhook::Budget;
use birdwire::http::{self, Gateway};
use birdwire::ingest::Ingest;
use birdwire::metrics::Metrics;
use birdwire::store::Store;
use birdwire::store::inbound::{Inbound, Outlet, Prepared, Receipt};
use birdwire::voipbin::Renderer;
use birdwire::voipbin::sign::Signer;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode};
use only::Only;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const BODY: &[u8] = include_bytes!("../fixtures/bird/text/request.json");
const URL: &str = "https://gw.example.com/v1.0/conversation/accounts/6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a01";
const KEY: &str = "steps-signing-key";
const SECRET: &str = "whsec_c3RlcHMtc2VjcmV0LXN0ZXBzLXNlY3JldC0xMjM0NTY=";
const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

const ROUNDS: usize = 15;
const REPEATS: u32 = 20_000;

/// A step and how it is done once.
type Step = (&'static str, Box<dyn Fn()>);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("steps: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let steps = steps()?;
    match &*arguments {
        [] => {
            time(&steps);
            Ok(())
        }
        [list] if list == "--list" => {
            for (name, _) in &steps {
                anstream::println!("{name}");
            }
            Ok(())
        }
        // For whoever counts from outside: a step, so many times.
        [wanted, times] => {
            let (_, step) = steps.iter().find(|(name, _)| name == wanted).context("there is no such step")?;
            (0..times.parse::<u32>()?).for_each(|_| step());
            Ok(())
        }
        _ => anyhow::bail!("steps [--list | STEP TIMES]"),
    }
}

/// Every step, with all that it needs prepared.
fn steps() -> Result<Vec<Step>> {
    let bird = adapter::provider("bird").context("Bird is no provider any more")?;
    let account = Account {
        id: AccountId("6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a01".parse()?),
        customer_id: CustomerId("5e4a0680-804e-11ec-8477-2fea5968d85b".parse()?),
        name: "LINE through Bird".into(),
        channel: Channel::Line,
        address: None,
    };
    let mut settings = Settings::default();
    settings.0.insert("signing_keys", SettingValue::Secrets(vec![Secret::new(KEY)]));
    let adapter = (bird.build)(&account, &settings, URL).map_err(|wrong| anyhow::anyhow!("{wrong:?}"))?;
    let adapter: &'static dyn Adapter = Box::leak(adapter);
    let headers = (bird.sign)(&Secret::new(KEY), URL, BODY, NOW);
    let headers = headers.into_iter().map(|(name, value)| (name.into(), value)).collect();
    let webhook: &'static _ = Box::leak(Box::new(RawWebhook { headers, body: BODY.to_vec(), received_at: NOW }));
    let verified = verify(adapter, webhook)?;
    let event = adapter.events(&verified).pop().context("no event in the message")?;
    let renderer = Renderer::new(RecordFormat::Documented);
    let account_of_webhook = account.clone();
    let written = Prepared::new(event.clone(), 0, &account, &renderer);
    let body = written.created.first().context("nothing is rendered")?.body.clone();
    ensure!(!body.is_empty(), "an empty record");
    let signer = Signer::new(&[Secret::new(SECRET)])?;
    let answer = Answer::Status { status: 503, retry_after: Some("120".to_owned()) };
    let situation = Situation { failures: 3, first_attempt: NOW, now: NOW, jitter: 0.5 };
    let backoff = Backoff {
        first: Duration::from_secs(1),
        max: Duration::from_hours(1),
        give_up_after: Duration::from_hours(72),
    };
    Ok(vec![
        ("verify", Box::new(move || drop(black_box(adapter.verify(black_box(webhook)))))),
        ("parse-and-map", Box::new(move || drop(black_box(adapter.events(black_box(&verified)))))),
        ("render", Box::new(move || drop(black_box(Prepared::new(black_box(event.clone()), 0, &account, &renderer))))),
        (
            "sign",
            Box::new(move || {
                let body = black_box(&body);
                let id = "f0b1f1f0-2f6c-5d5e-9a51-0a4c5b0c9a01";
                black_box((signer.voipbin(body), signer.standard(id, NOW.seconds(), body)));
            }),
        ),
        ("outcome", Box::new(move || _ = black_box(judge(black_box(&answer), situation, &backoff)))),
        ("webhook", whole_webhook(&settings, account_of_webhook)?),
    ])
}

/// A request for the real service on a connection of its own, whose store does nothing, and its answer.
fn whole_webhook(settings: &Settings, account: Account) -> Result<Box<dyn Fn()>> {
    let bird = adapter::provider("bird").context("Bird is no provider any more")?;
    let mut request = Request::post(URL).body(())?;
    for (name, value) in (bird.sign)(&Secret::new(KEY), URL, BODY, NOW) {
        request.headers_mut().insert(name, value.try_into()?);
    }
    request.headers_mut().insert("content-length", BODY.len().into());
    let adapter = (bird.build)(&account, settings, URL).map_err(|wrong| anyhow::anyhow!("{wrong:?}"))?;
    // It lets whoever asks wait once, as every store does.
    let store: Arc<dyn Store> = Arc::new(Only(|inbound: Inbound| async move {
        tokio::task::yield_now().await;
        Ok(Receipt { ends: vec![End::Stored; inbound.events.len()] })
    }));
    let render = Box::new(Renderer::new(RecordFormat::Documented));
    let outlet = Arc::new(Outlet { render, routes: Routes::new(Vec::new()) });
    let gateway = Gateway {
        ingest: Ingest::new(store.clone(), outlet, [(account, adapter)]),
        store,
        metrics: Metrics::new()?,
        clock: Arc::new(|| NOW),
        max_body_bytes: 1 << 20,
        body_timeout: Duration::from_secs(10),
        commit_timeout: Duration::from_secs(10),
        budget: Budget::new(1 << 20),
        trouble: Trouble::default(),
        draining: CancellationToken::new(),
    };
    let connection = http::router(Arc::new(gateway)).connection();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let answer = move || {
        let request = black_box(&request).clone().map(|()| Full::new(Bytes::from_static(BODY)));
        runtime.block_on(connection.answer(request))
    };
    ensure!(answer().status() == StatusCode::OK, "the webhook was not taken");
    Ok(Box::new(move || drop(black_box(answer()))))
}

fn time(steps: &[Step]) {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); steps.len()];
    for _ in 0..ROUNDS {
        for ((_, step), times) in steps.iter().zip(&mut times) {
            let began = Instant::now();
            (0..REPEATS).for_each(|_| step());
            times.push(began.elapsed().as_secs_f64() * 1e9 / f64::from(REPEATS));
        }
    }
    for ((name, _), times) in steps.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        anstream::println!("{name:<16} {:>7.0} ns, fastest round {:>7.0} ns", times[ROUNDS / 2], times[0]);
    }
}
