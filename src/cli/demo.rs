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
use samples::{BIRD_LINE, CHANNELS, Channel, SAMPLES, Sample};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::fmt::Write;
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
    let urls = config.accounts.iter().map(|a| (a.account.id.to_string(), a.webhook_url.clone())).collect();
    let serving = tokio::spawn(async move { app::serve(&config, gateway, app::system_clock(), shutdown).await });

    let shown = show(&options, &urls, &mut received).await;
    if !options.once && shown.is_ok() {
        print_next(&file, &base, url(&urls, &BIRD_LINE)?);
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

/// Where each account's webhooks arrive, by the account's id.
type Urls = HashMap<String, String>;

fn url<'u>(urls: &'u Urls, channel: &Channel) -> anyhow::Result<&'u str> {
    urls.get(channel.id).map(String::as_str).context("the demo has no such account")
}

/// The demo's configuration is a file like any other, so that every command works on it.
fn configure(file: &Path, folder: &Path, base: &str, subscriber: &str) -> Result<Config, Failure> {
    let mut text = format!(
        r#"[server]
public_url = "{base}"
listen = "{listen}"

[store]
url = "sqlite:{db}"

[delivery]
allow_networks = ["127.0.0.0/8"]

[log]
filter = "warn"

[[subscribers]]
id = "demo"
url = "{subscriber}"
secrets = ["{SECRET}"]
events = ["*"]
"#,
        listen = base.trim_start_matches("http://"),
        db = folder.join("birdwire.db").display(),
    );
    for Channel { name, provider, id, settings, .. } in CHANNELS {
        write!(
            text,
            r#"
[[accounts]]
id = "{id}"
customer_id = "5e4a0680-804e-11ec-8477-2fea5968d85b"
name = "{name}"
provider = "{provider}"
{settings}
"#
        )
        .context("the demo's configuration cannot be written")?;
    }
    std::fs::write(file, text).context("the demo's configuration cannot be written")?;
    Ok(app::configure(Some(file))?)
}

async fn show(options: &Options, urls: &Urls, received: &mut mpsc::UnboundedReceiver<Received>) -> Done {
    let form = Form::choose(options.json);
    let mut all = Vec::with_capacity(SAMPLES.len());
    for sample in SAMPLES {
        let mut shown = Shown::new(sample);
        if let Err(error) = one(sample, url(urls, sample.channel)?, received, &mut shown).await {
            shown.error = Some(format!("{error:#}"));
        }
        if form != Form::Json {
            shown.print_whole(sample)?;
        }
        all.push(shown);
    }
    // What comes now was expected of no sample.
    if let (Ok(delivery), Some(last)) = (received.try_recv(), all.last_mut()) {
        last.receive(&delivery)?;
        last.error = Some("more was delivered than expected".to_owned());
    }
    let mut summary = Listing::new::<Shown>(form);
    for shown in &all {
        summary.print(shown)?;
    }
    summary.finish()?;
    if all.iter().all(Shown::is_good) {
        Ok(())
    } else {
        Err(Failure::Failed(anyhow::anyhow!("not everything arrived as it should")))
    }
}

/// Posts one sample as its provider would and waits for everything that the subscriber must get for it.
async fn one(
    sample: &Sample,
    webhook_url: &str,
    received: &mut mpsc::UnboundedReceiver<Received>,
    shown: &mut Shown,
) -> anyhow::Result<()> {
    let provider = adapter::provider(sample.channel.provider).context("there is no such provider")?;
    let key = Secret::new(sample.channel.key);
    let mut request = super::send::client(PATIENCE)?.post(webhook_url);
    for (name, value) in (provider.sign)(&key, webhook_url, sample.payload, (app::system_clock())()) {
        request = request.header(name, value);
    }
    let status = request.body(sample.payload).send().await.context("the gateway does not answer")?.status();
    if !status.is_success() {
        bail!("the gateway answered {status}");
    }
    for expected in sample.expects {
        let expected = expected.as_str();
        let delivery = tokio::time::timeout(PATIENCE, received.recv())
            .await
            .with_context(|| format!("no {expected} was delivered"))?
            .context("the subscriber is gone")?;
        let got = shown.receive(&delivery)?;
        if got != expected {
            bail!("{got} was delivered instead of {expected}");
        }
    }
    Ok(())
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

/// A sample, and what the subscriber got for it.
#[derive(Serialize)]
struct Shown {
    account: &'static str,
    sample: &'static str,
    payload: Box<RawValue>,
    received: Vec<Delivered>,
    /// Of all deliveries: `verified`, or what is wrong with the first that is not.
    signature: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip)]
    glance: Glance,
}

#[derive(Serialize)]
struct Delivered {
    event: String,
    record: Box<RawValue>,
}

const VERIFIED: &str = "verified";

impl Shown {
    fn new(sample: &Sample) -> Self {
        Self {
            account: sample.channel.name,
            sample: sample.name,
            payload: sample.compact(),
            received: Vec::new(),
            signature: String::new(),
            error: None,
            glance: Glance::default(),
        }
    }

    /// Takes a delivery up; the type of its event.
    fn receive(&mut self, delivery: &Received) -> anyhow::Result<String> {
        let event: Event<'_> = serde_json::from_slice(&delivery.body).context("the delivery is not readable")?;
        if self.signature.is_empty() || self.signature == VERIFIED {
            self.signature = verdict(delivery);
        }
        // The newest state of the message is what the sample has come to.
        if event.r#type.starts_with("conversation_message_") {
            self.glance = serde_json::from_str(event.data.get()).unwrap_or_default();
        }
        self.received.push(Delivered { event: event.r#type.to_owned(), record: event.data.to_owned() });
        Ok(event.r#type.to_owned())
    }

    fn is_good(&self) -> bool {
        self.error.is_none() && self.signature == VERIFIED
    }

    fn print_whole(&self, sample: &Sample) -> anyhow::Result<()> {
        output::line(&format!("{}: {}", self.account, self.sample))?;
        output::line(&format!("  {:<13}{}", format!("{} sent", sample.channel.sender), self.payload.get()))?;
        for Delivered { event, record } in &self.received {
            output::line(&format!("  VoIPBIN got  {event} {}", record.get()))?;
        }
        if let Some(error) = &self.error {
            output::line(&format!("  FAILED       {error}"))?;
        }
        output::line(&format!("  signatures   {}\n", self.signature))
    }
}

/// Whether both signatures of a delivery are the gateway's.
fn verdict(delivery: &Received) -> String {
    let verified = super::listen::verify(delivery, &[Secret::new(SECRET)], (app::system_clock())());
    verified.map_or_else(|why| format!("FAILED: {why}"), |()| VERIFIED.to_owned())
}

impl Columns for Shown {
    const HEAD: &'static [&'static str] = &["ACCOUNT", "SAMPLE", "EVENTS", "TEXT", "MEDIAS", "SIGNATURES"];

    fn cells(&self) -> Vec<String> {
        let events: Vec<&str> = self.received.iter().map(|received| received.event.as_str()).collect();
        let medias: Vec<&str> = self.glance.medias.iter().map(|m| m.r#type.as_str()).collect();
        vec![
            self.account.to_owned(),
            self.sample.to_owned(),
            self.error.as_ref().map_or_else(|| events.join(", "), |error| format!("FAILED: {error}")),
            // One line each, whatever people write.
            self.glance.text.replace('\n', " "),
            medias.join(", "),
            self.signature.clone(),
        ]
    }
}

fn print_next(file: &Path, base: &str, webhook_url: &str) {
    let config = file.display();
    let key = BIRD_LINE.key;
    // However it was started: `cargo run` puts nothing on the path.
    let birdwire = std::env::current_exe().map_or_else(|_| "birdwire".to_owned(), |path| path.display().to_string());
    anstream::println!(
        r#"
The gateway keeps serving on {base}; Ctrl-C ends it. Try, from another terminal:

  echo '{{"id":"hello-1","body":{{"type":"text","text":{{"text":"hello"}}}},"direction":"incoming"}}' \
    | {birdwire} send --provider bird --url {webhook_url} --key {key}
  {birdwire} trace hello-1 --config {config}
  {birdwire} events --config {config}
  {birdwire} deliveries list --config {config}
  curl {base}/readyz
  curl {base}/metrics
"#
    );
}

fn print_delivery(delivery: &Received) {
    anstream::println!("{}\t{}", verdict(delivery), String::from_utf8_lossy(&delivery.body));
}
