//! The sections that exist once: `[server]`, `[store]`, `[voipbin]`, `[delivery]`, `[retention]`, `[log]`.
//!
//! Each reader first reads every key, so that every mistake is noted, and only then puts the results together.

use super::mistakes::{Noted, Notes};
use super::read::{SOME, Section, quoted, shown};
use super::{Delivery, Judges, Log, LogFormat, Retention, Server, StoreConfig, url};
use crate::domain::format::RecordFormat;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// More would exhaust file descriptors long before anything else.
const CONNECTIONS: RangeInclusive<usize> = 1..=1_000_000;
const LANES: RangeInclusive<usize> = 1..=10_000;

/// One commits while another claims; a database server has few hundreds for everybody.
const SESSIONS: RangeInclusive<usize> = 2..=500;

/// Shorter delays would hammer a subscriber that is already down.
const LEAST_RETRY: Duration = Duration::from_millis(10);
const LEAST_GIVE_UP: Duration = Duration::from_secs(1);

/// Between the deadline of an attempt and the end of its lease: time to record the result.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// Anything shorter would delete what was just written.
const LEAST_RETENTION: Duration = Duration::from_secs(1);

const NEEDED: &str = "needed";

pub(super) fn server(root: &mut Section, paths: &[String], notes: &mut Notes) -> Result<Server, Noted> {
    let mut keys = root.section("server", notes)?;
    let listen = keys.required("listen", NEEDED, notes).and_then(|leaf| {
        leaf.read(notes, |text| {
            text.parse::<SocketAddr>().map_err(|_| {
                format!(r#"{} is no address; write an IP address and a port, such as "127.0.0.1:8080""#, quoted(text))
            })
        })
    });
    let public_url = keys.required("public_url", NEEDED, notes).and_then(|leaf| leaf.read(notes, public_url));
    let (body_at, queue_at) = (keys.at("max_body_bytes"), keys.at("queue_bytes"));
    let max_body_bytes = keys.required("max_body_bytes", NEEDED, notes).and_then(|leaf| leaf.size(notes));
    let queue_bytes = keys.required("queue_bytes", NEEDED, notes).and_then(|leaf| leaf.size(notes));
    let header_timeout = duration(&mut keys, "header_timeout", SOME, notes);
    let body_timeout = duration(&mut keys, "body_timeout", SOME, notes);
    let max_connections =
        keys.required("max_connections", NEEDED, notes).and_then(|leaf| leaf.whole(&CONNECTIONS, notes));
    let commit_timeout = duration(&mut keys, "commit_timeout", SOME, notes);
    let drain_delay = duration(&mut keys, "drain_delay", Duration::ZERO, notes);
    let drain_timeout = duration(&mut keys, "drain_timeout", SOME, notes);
    keys.finish(paths, notes);
    if let (Ok(body), Ok(queue)) = (max_body_bytes, queue_bytes)
        && queue < body
    {
        notes.add(queue_at.or(&body_at), "the queue must hold the largest webhook: queue_bytes >= max_body_bytes");
    }
    Ok(Server {
        listen: listen?,
        public_url: public_url?,
        max_body_bytes: max_body_bytes?,
        header_timeout: header_timeout?,
        body_timeout: body_timeout?,
        max_connections: max_connections?,
        queue_bytes: queue_bytes?,
        commit_timeout: commit_timeout?,
        drain_delay: drain_delay?,
        drain_timeout: drain_timeout?,
    })
}

pub(super) fn store(
    root: &mut Section,
    paths: &[String],
    judges: &Judges,
    notes: &mut Notes,
) -> Result<StoreConfig, Noted> {
    let mut keys = root.section("store", notes)?;
    let url = keys.required("url", NEEDED, notes).and_then(|leaf| {
        leaf.read(notes, |text| {
            let url = store_url(text)?;
            (judges.store_url)(&url).map(|()| url)
        })
    });
    let connections = keys.required("connections", NEEDED, notes).and_then(|leaf| leaf.whole(&SESSIONS, notes));
    keys.finish(paths, notes);
    Ok(StoreConfig { url: url?, connections: connections? })
}

pub(super) fn record_format(root: &mut Section, paths: &[String], notes: &mut Notes) -> Result<RecordFormat, Noted> {
    let mut keys = root.section("voipbin", notes)?;
    let format = keys
        .required("record_format", NEEDED, notes)
        .and_then(|leaf| leaf.word(RecordFormat::ALL, RecordFormat::as_str, notes));
    keys.finish(paths, notes);
    format
}

pub(super) fn delivery(root: &mut Section, paths: &[String], notes: &mut Notes) -> Result<Delivery, Noted> {
    let mut keys = root.section("delivery", notes)?;
    let (first_at, max_at) = (keys.at("first_retry"), keys.at("max_retry"));
    let (lease_at, attempt_at) = (keys.at("lease"), keys.at("attempt_timeout"));
    let first_retry = duration(&mut keys, "first_retry", LEAST_RETRY, notes);
    let max_retry = duration(&mut keys, "max_retry", LEAST_RETRY, notes);
    let give_up_after = duration(&mut keys, "give_up_after", LEAST_GIVE_UP, notes);
    let attempt_timeout = duration(&mut keys, "attempt_timeout", SOME, notes);
    let lease = duration(&mut keys, "lease", SOME, notes);
    let concurrency = keys.required("concurrency", NEEDED, notes).and_then(|leaf| leaf.whole(&LANES, notes));
    let allow_networks = networks(&mut keys, notes);
    keys.finish(paths, notes);
    if let (Ok(first), Ok(max)) = (first_retry, max_retry)
        && first > max
    {
        notes.add(
            first_at.or(&max_at),
            format_args!("first_retry ({}) must not exceed max_retry ({})", shown(first), shown(max)),
        );
    }
    if let (Ok(lease), Ok(attempt)) = (lease, attempt_timeout)
        && lease <= attempt + LEASE_MARGIN
    {
        let bound = shown(attempt + LEASE_MARGIN);
        notes.add(
            lease_at.or(&attempt_at),
            format_args!("lease ({}) must be more than attempt_timeout + 5s ({bound})", shown(lease)),
        );
    }
    Ok(Delivery {
        first_retry: first_retry?,
        max_retry: max_retry?,
        give_up_after: give_up_after?,
        attempt_timeout: attempt_timeout?,
        lease: lease?,
        concurrency: concurrency?,
        allow_networks: allow_networks?,
    })
}

pub(super) fn retention(root: &mut Section, paths: &[String], notes: &mut Notes) -> Result<Retention, Noted> {
    let mut keys = root.section("retention", notes)?;
    let raw = duration(&mut keys, "raw", LEAST_RETENTION, notes);
    let finished = duration(&mut keys, "finished", LEAST_RETENTION, notes);
    keys.finish(paths, notes);
    Ok(Retention { raw: raw?, finished: finished? })
}

pub(super) fn log(root: &mut Section, paths: &[String], judges: &Judges, notes: &mut Notes) -> Result<Log, Noted> {
    let mut keys = root.section("log", notes)?;
    let format =
        keys.required("format", NEEDED, notes).and_then(|leaf| leaf.word(LogFormat::ALL, LogFormat::as_str, notes));
    let filter_at = keys.at("filter");
    let filter = keys
        .required("filter", NEEDED, notes)
        .and_then(|leaf| leaf.filled(r#"write a level, such as "info""#, notes))
        .and_then(|filter| match (judges.log_filter)(&filter) {
            Ok(()) => Ok(filter),
            Err(what) => Err(notes.add(&filter_at, what)),
        });
    keys.finish(paths, notes);
    Ok(Log { format: format?, filter: filter? })
}

fn duration(keys: &mut Section, key: &'static str, least: Duration, notes: &mut Notes) -> Result<Duration, Noted> {
    keys.required(key, NEEDED, notes).and_then(|leaf| leaf.duration(least, notes))
}

fn networks(keys: &mut Section, notes: &mut Notes) -> Result<Vec<IpNet>, Noted> {
    let leaves = keys.required("allow_networks", NEEDED, notes).and_then(|leaf| leaf.list(notes))?;
    let read: Vec<_> = leaves.into_iter().map(|leaf| leaf.read(notes, network)).collect();
    read.into_iter().collect()
}

fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>().map_err(|_| match text.parse::<IpAddr>() {
        Ok(ip) => format!("{} is one address; write {:?}", quoted(text), IpNet::from(ip).to_string()),
        Err(_) => {
            format!(r#"{} is no network; write an address and a prefix length, such as "10.0.0.0/8""#, quoted(text))
        }
    })
}

fn public_url(text: &str) -> Result<String, &'static str> {
    let url = url::parse(text)?;
    if url.userinfo {
        return Err("must not hold a user name or password");
    }
    if url.has_query() || url.has_fragment() {
        return Err("must not have a query or a fragment; webhook paths are appended to it");
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn store_url(text: &str) -> Result<String, &'static str> {
    if let Some(rest) = text.strip_prefix("postgres:").or_else(|| text.strip_prefix("postgresql:")) {
        let place = rest.strip_prefix("//").unwrap_or_default().split(['/', '?']).next().unwrap_or_default();
        let host = place.rsplit('@').next().unwrap_or_default();
        if host.is_empty() {
            return Err(r#"needs a host, such as "postgres://user:password@host:5432/birdwire""#);
        }
        return Ok(text.to_owned());
    }
    match text.strip_prefix("sqlite:") {
        None => {
            Err(r#"must be "sqlite:PATH", such as "sqlite:data/birdwire.db", or "postgres://user:password@host/db""#)
        }
        Some(path) if path.trim().is_empty() => Err(r#"needs a path, such as "sqlite:data/birdwire.db""#),
        // Others read these as options or as memory; here they would be odd file names.
        Some(path) if path.starts_with("//") => {
            Err(r#"must not have // after sqlite:; write "sqlite:data/birdwire.db" or "sqlite:/var/lib/birdwire.db""#)
        }
        Some(path) if path.starts_with(':') => Err("there is no store in memory; write the path of a file"),
        Some(path) if path.contains(['?', '#', '\0']) => Err("takes a path and no options"),
        Some(_) => Ok(text.to_owned()),
    }
}
