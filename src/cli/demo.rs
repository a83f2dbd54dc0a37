//! `birdwire demo`: the whole way on real input, through real HTTP with real signatures.

mod samples;

use super::output::{self, Columns, Form, Listing};
use super::{Done, Failure};
use crate::adapter;
use crate::app;
use crate::config::Config;
use crate::domain::secret::Secret;
use crate::http::receiver::{self, Received};
use crate::http::server;
use crate::lifecycle::Shutdown;
use anyhow::{Context, bail};
use clap::Args;
use samples::{SAMPLES, Sample};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[derive(Args)]
pub(super) struct Options {
    /// End after the samples; fails if anything is missing
    #[arg(long)]
    once: bool,
    /// Where the gateway listens while it keeps serving
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    listen: SocketAddr,
    /// As JSON lines
    #[arg(long)]
    json: bool,
}

const ACCOUNT: &str = "6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a01";
const KEY: &str = "demo-signing-key";
const SECRET: &str = "whsec_ZGVtby1zZWNyZXQtZGVtby1zZWNyZXQtMTIzNDU2Nzg=";

/// Everything is on this machine; what takes longer is missing.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn run(options: Options) -> Done {
    let shutdown = Shutdown::on_signals()?;
    let folder = tempfile::tempdir().context("there is no folder for the demo's store")?;

    let subscriber = TcpListener::bind("127.0.0.1:0").await?;
    let subscriber_url = format!("http://{}/", subscriber.local_addr()?);
    let (sender, mut received) = mpsc::unbounded_channel();
    let routes = receiver::router(move |delivery| if sender.send(delivery).is_ok() { 200 } else { 503 });
    let subscriber_end = CancellationToken::new();
    tokio::spawn(server::serve(subscriber, routes, super::listen::LIMITS, subscriber_end.clone()));

    let gateway = TcpListener::bind(if options.once { "127.0.0.1:0".parse()? } else { options.listen })
        .await
        .with_context(|| format!("--listen: cannot listen on {}", options.listen))?;
    let base = format!("http://{}", gateway.local_addr()?);
    let file = folder.path().join("birdwire.toml");
    let config = configure(&file, folder.path(), &base, &subscriber_url)?;
    let webhook_url = config.accounts.first().context("the demo has no account")?.webhook_url.clone();
    let serving = tokio::spawn(async move { app::serve(&config, gateway, app::system_clock(), shutdown).await });

    let shown = show(&options, &webhook_url, &mut received).await;
    if !options.once && shown.is_ok() {
        print_next(&file, &base, &webhook_url);
        // Deliveries of whatever is tried by hand are printed until the end.
        tokio::spawn(async move {
            while let Some(delivery) = received.recv().await {
                print_delivery(&delivery);
            }
        });
        serving.await.context("the gateway broke")??;
    } else {
        serving.abort();
    }
    subscriber_end.cancel();
    shown
}

/// The demo's configuration is a file like any other, so that every command works on it.
fn configure(file: &Path, folder: &Path, base: &str, subscriber: &str) -> Result<Config, Failure> {
    let text = format!(
        r#"[server]
public_url = "{base}"
listen = "{listen}"

[store]
url = "sqlite:{db}"

[delivery]
allow_networks = ["127.0.0.0/8"]

[log]
filter = "warn"

[[accounts]]
id = "{ACCOUNT}"
customer_id = "5e4a0680-804e-11ec-8477-2fea5968d85b"
name = "LINE through Bird"
provider = "bird"
type = "line"
signing_keys = ["{KEY}"]

[[subscribers]]
id = "demo"
url = "{subscriber}"
secrets = ["{SECRET}"]
"#,
        listen = base.trim_start_matches("http://"),
        db = folder.join("birdwire.db").display(),
    );
    std::fs::write(file, text).context("the demo's configuration cannot be written")?;
    Ok(app::configure(Some(file))?)
}

async fn show(options: &Options, webhook_url: &str, received: &mut mpsc::UnboundedReceiver<Received>) -> Done {
    let form = Form::choose(options.json);
    let mut all = Vec::with_capacity(SAMPLES.len());
    let mut complete = true;
    for sample in SAMPLES {
        let shown = match one(sample, webhook_url, received).await {
            Ok(shown) => shown,
            Err(error) => Shown::missing(sample, &error),
        };
        complete &= shown.is_good();
        if form != Form::Json {
            shown.print_whole()?;
        }
        all.push(shown);
    }
    let mut summary = Listing::new::<Shown>(form);
    for shown in &all {
        summary.print(shown)?;
    }
    summary.finish()?;
    if complete { Ok(()) } else { Err(Failure::Failed(anyhow::anyhow!("not everything arrived as it should"))) }
}

/// Posts one sample as its provider would and waits for the message that the subscriber gets for it.
async fn one(
    sample: &Sample,
    webhook_url: &str,
    received: &mut mpsc::UnboundedReceiver<Received>,
) -> anyhow::Result<Shown> {
    let provider = adapter::provider(sample.provider).context("there is no such provider")?;
    let mut request = super::send::client(PATIENCE)?.post(webhook_url);
    for (name, value) in (provider.sign)(&Secret::new(KEY), webhook_url, sample.payload, (app::system_clock())()) {
        request = request.header(name, value);
    }
    let status = request.body(sample.payload).send().await.context("the gateway does not answer")?.status();
    if !status.is_success() {
        bail!("the gateway answered {status}");
    }
    loop {
        let delivery = tokio::time::timeout(PATIENCE, received.recv())
            .await
            .context("nothing was delivered")?
            .context("the subscriber is gone")?;
        let event: Event<'_> = serde_json::from_slice(&delivery.body).context("the delivery is not readable")?;
        if event.r#type == "conversation_message_created" {
            let now = (app::system_clock())();
            let verified = super::listen::verify(&delivery, &[Secret::new(SECRET)], now);
            return Ok(Shown::new(sample, &event, verified));
        }
    }
}

#[derive(Deserialize)]
struct Event<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// What a reader wants to see of a message at one glance.
#[derive(Deserialize, Default)]
struct Glance {
    #[serde(default)]
    text: String,
    #[serde(default)]
    medias: Vec<GlanceMedia>,
}

#[derive(Deserialize)]
struct GlanceMedia {
    r#type: String,
}

#[derive(Serialize)]
struct Shown {
    sample: &'static str,
    payload: Box<RawValue>,
    event: String,
    record: Option<Box<RawValue>>,
    signature: String,
    #[serde(skip)]
    glance: Glance,
}

impl Shown {
    fn new(sample: &Sample, event: &Event<'_>, verified: Result<(), String>) -> Self {
        Self {
            sample: sample.name,
            payload: sample.compact(),
            event: event.r#type.to_owned(),
            record: Some(event.data.to_owned()),
            signature: verified.map_or_else(|why| format!("FAILED: {why}"), |()| "verified".to_owned()),
            glance: serde_json::from_str(event.data.get()).unwrap_or_default(),
        }
    }

    fn missing(sample: &Sample, error: &anyhow::Error) -> Self {
        Self {
            sample: sample.name,
            payload: sample.compact(),
            event: format!("FAILED: {error:#}"),
            record: None,
            signature: String::new(),
            glance: Glance::default(),
        }
    }

    fn is_good(&self) -> bool {
        self.record.is_some() && self.signature == "verified"
    }

    fn print_whole(&self) -> anyhow::Result<()> {
        output::line(&format!("{}\n  Bird sent    {}", self.sample, self.payload.get()))?;
        if let Some(record) = &self.record {
            output::line(&format!("  VoIPBIN got  {} {}", self.event, record.get()))?;
        }
        output::line(&format!("  signatures   {}\n", self.signature))
    }
}

impl Columns for Shown {
    const HEAD: &'static [&'static str] = &["SAMPLE", "EVENT", "TEXT", "MEDIAS", "SIGNATURES"];

    fn cells(&self) -> Vec<String> {
        let medias: Vec<&str> = self.glance.medias.iter().map(|m| m.r#type.as_str()).collect();
        vec![
            self.sample.to_owned(),
            self.event.clone(),
            self.glance.text.clone(),
            medias.join(", "),
            self.signature.clone(),
        ]
    }
}

fn print_next(file: &Path, base: &str, webhook_url: &str) {
    let config = file.display();
    // However it was started: `cargo run` puts nothing on the path.
    let birdwire = std::env::current_exe().map_or_else(|_| "birdwire".to_owned(), |path| path.display().to_string());
    anstream::println!(
        r#"
The gateway keeps serving on {base}; Ctrl-C ends it. Try, from another terminal:

  echo '{{"id":"hello-1","body":{{"type":"text","text":{{"text":"hello"}}}},"direction":"incoming"}}' \
    | {birdwire} send --provider bird --url {webhook_url} --key {KEY}
  {birdwire} events --config {config}
  {birdwire} deliveries list --config {config}
  curl {base}/readyz
  curl {base}/metrics
"#
    );
}

fn print_delivery(delivery: &Received) {
    let verified = super::listen::verify(delivery, &[Secret::new(SECRET)], (app::system_clock())());
    let signature = verified.map_or_else(|why| format!("FAILED: {why}"), |()| "verified".to_owned());
    anstream::println!("{signature}\t{}", String::from_utf8_lossy(&delivery.body));
}
