//! `birdwire send`

use super::{Done, Failure, output, read_document};
use crate::adapter;
use crate::app;
use crate::config;
use anyhow::Context;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Args)]
pub(super) struct Options {
    /// Who signs
    #[arg(long)]
    provider: String,
    /// Where to post
    #[arg(long)]
    url: String,
    /// The signing key, literal, env:NAME or file:PATH
    #[arg(long)]
    key: String,
    /// The URL that is signed, when it is not the one posted to
    #[arg(long, value_name = "URL")]
    sign_url: Option<String>,
    /// The payload; - is standard input
    #[arg(default_value = "-")]
    file: PathBuf,
}

const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn run(options: Options) -> Done {
    let provider = provider(&options.provider)?;
    super::check_url("--url", &options.url)?;
    if let Some(url) = &options.sign_url {
        super::check_url("--sign-url", url)?;
    }
    let key = super::secret("--key", &options.key, config::secret)?;
    let body = read_document(&options.file)?;
    let signed_url = options.sign_url.as_ref().unwrap_or(&options.url);
    let mut request = client(TIMEOUT)?.post(&options.url);
    for (name, value) in (provider.sign)(&key, signed_url, &body, (app::system_clock())()) {
        request = request.header(name, value);
    }
    let response = request.body(body).send().await.with_context(|| format!("{} does not answer", options.url))?;
    output::line(response.status().as_str())?;
    if response.status().is_success() { Ok(()) } else { Err(Failure::NotGood) }
}

/// The provider of that name, or a usage error that lists them.
pub(super) fn provider(name: &str) -> Result<&'static adapter::Provider, Failure> {
    adapter::provider(name).ok_or_else(|| {
        let known: Vec<&str> = adapter::PROVIDERS.iter().map(|p| p.schema.provider).collect();
        Failure::Usage(format!("--provider: {name:?} is no provider; known: {}", known.join(", ")))
    })
}

/// A client for a single question: no redirects, no proxy, the system's certificates.
pub(super) fn client(timeout: Duration) -> anyhow::Result<reqwest::Client> {
    use rustls_platform_verifier::BuilderVerifierExt as _;
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(timeout)
        .build()?)
}
