//! `birdwire listen`

use super::{Done, output};
use crate::app;
use crate::config;
use crate::domain::secret::Secret;
use crate::domain::time::{Clock, Timestamp};
use crate::http::receiver::{self, Received};
use crate::http::server::{self, Limits};
use crate::lifecycle::Shutdown;
use crate::voipbin::sign::{verify_standard, verify_voipbin};
use anyhow::Context;
use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;

#[derive(Args)]
pub(super) struct Options {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:9090")]
    addr: SocketAddr,
    /// The subscriber's secret, literal, env:NAME or file:PATH; several while rotating
    #[arg(long)]
    secret: Vec<String>,
    /// As JSON lines
    #[arg(long)]
    json: bool,
}

/// What Standard Webhooks libraries allow.
const TOLERANCE_SECONDS: i64 = 300;

pub(super) const LIMITS: Limits =
    Limits { header_timeout: Duration::from_secs(10), max_connections: 256, drain_timeout: Duration::from_secs(1) };

pub(super) async fn run(options: Options) -> Done {
    let secret = |text: &String| super::secret("--secret", text, config::subscriber_secret);
    let secrets: Vec<Secret> = options.secret.iter().map(secret).collect::<Result<_, _>>()?;
    let listener =
        TcpListener::bind(options.addr).await.with_context(|| format!("--addr: cannot listen on {}", options.addr))?;
    anstream::eprintln!("listening on http://{}/", listener.local_addr()?);
    if secrets.is_empty() {
        anstream::eprintln!("no --secret: signatures are not checked");
    }
    let clock = app::system_clock();
    let routes = receiver::router(move |received| {
        let printed = Printed::new(&received, &secrets, &clock);
        let done = if options.json {
            serde_json::to_string(&printed).map_err(anyhow::Error::from).and_then(|text| output::line(&text))
        } else {
            output::line(&printed.plain())
        };
        // What was not printed was not received; what is not genuine is nobody's delivery.
        match done {
            Ok(()) if printed.signature == "refused" => 401,
            Ok(()) => 200,
            Err(_) => 500,
        }
    });
    server::serve(listener, routes, LIMITS, Shutdown::on_signals()?.drain).await;
    Ok(())
}

/// Whether both signatures of a delivery are genuine; `Err` says which is not, and why.
pub(super) fn verify(received: &Received, secrets: &[Secret], now: Timestamp) -> Result<(), String> {
    let header = |name| received.header(name).unwrap_or_default();
    if !secrets.iter().any(|secret| verify_voipbin(secret, &received.body, header("x-voipbin-signature"))) {
        return Err("x-voipbin-signature does not match".to_owned());
    }
    verify_standard(
        secrets,
        header("webhook-id"),
        header("webhook-timestamp"),
        header("webhook-signature"),
        &received.body,
        now.seconds(),
        TOLERANCE_SECONDS,
    )
    .map_err(|refused| refused.to_string())
}

#[derive(Serialize)]
struct Printed<'a> {
    signature: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    webhook_id: &'a str,
    lane: &'a str,
    sequence: Option<u64>,
    replay: bool,
    body: &'a RawValue,
}

impl<'a> Printed<'a> {
    fn new(received: &'a Received, secrets: &[Secret], clock: &Clock) -> Self {
        let (signature, refused) = if secrets.is_empty() {
            ("unchecked", None)
        } else {
            match verify(received, secrets, clock()) {
                Ok(()) => ("verified", None),
                Err(why) => ("refused", Some(why)),
            }
        };
        Self {
            signature,
            refused,
            webhook_id: received.header("webhook-id").unwrap_or_default(),
            lane: received.header("x-birdwire-lane").unwrap_or_default(),
            sequence: received.header("x-birdwire-sequence").and_then(|text| text.parse().ok()),
            replay: received.header("x-birdwire-replay") == Some("true"),
            body: serde_json::from_slice(&received.body).unwrap_or(RawValue::NULL),
        }
    }

    fn plain(&self) -> String {
        let signature =
            self.refused.as_ref().map_or_else(|| self.signature.to_owned(), |why| format!("refused ({why})"));
        let replay = if self.replay { " replay" } else { "" };
        let sequence = self.sequence.map_or_else(|| "-".to_owned(), |n| n.to_string());
        format!("{signature}\t{}\t{} {sequence}{replay}\t{}", self.webhook_id, self.lane, self.body.get())
    }
}
