//! `birdwire health`

use super::{ConfigArgs, Done, Failure, output};
use anyhow::Context;
use clap::Args;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    config: ConfigArgs,
    /// What to ask [default: /readyz of the configured listen address]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// Container runtimes give a health check 30 s by default; an answer later than that is none.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn run(options: Options) -> Done {
    let url = match options.url {
        Some(url) => {
            super::check_url("--url", &url)?;
            url
        }
        None => format!("http://{}/readyz", reachable(options.config.load_basics()?.server.listen)),
    };
    let response =
        super::send::client(TIMEOUT)?.get(&url).send().await.with_context(|| format!("{url} does not answer"))?;
    let status = response.status();
    let text = response.text().await.with_context(|| format!("{url} broke off"))?;
    output::line(text.trim_end())?;
    if status.is_success() { Ok(()) } else { Err(Failure::NotGood) }
}

/// A listener on every address is asked on the loopback one.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
