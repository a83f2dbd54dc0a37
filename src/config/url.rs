//! As much of a URL as the configuration checks: absolute, http or https, a host that is one.
//!
//! Stricter than the clients that use the URL later, so that what is accepted here means the same to each of them:
//! an address in an odd form (`127.1`, `0x7f.0.0.1`) is neither address nor name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The parts of a URL that somebody checks.
#[derive(Debug)]
pub(super) struct Url<'a> {
    pub(super) https: bool,
    pub(super) host: Host,
    pub(super) userinfo: bool,
    /// From the path on.
    tail: &'a str,
}

impl Url<'_> {
    pub(super) fn has_query(&self) -> bool {
        self.tail.split('#').next().is_some_and(|before| before.contains('?'))
    }

    pub(super) fn has_fragment(&self) -> bool {
        self.tail.contains('#')
    }
}

/// Who a URL points to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Host {
    Ip(IpAddr),
    Name,
}

/// Says what is wrong with a URL of the command line, by the rules of those in the file.
pub fn check_url(text: &str) -> Result<(), &'static str> {
    parse(text).map(drop)
}

/// Takes a URL apart. The error says what would be right and does not quote the URL, which may hold a secret.
pub(super) fn parse(text: &str) -> Result<Url<'_>, &'static str> {
    let (https, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return Err("must be an absolute URL that begins with https:// or http://"),
    };
    if !text.bytes().all(|b| b.is_ascii_graphic() && !br#""<>\^`{|}"#.contains(&b)) {
        return Err("holds a character that must be percent-encoded in a URL");
    }
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (userinfo, place) = authority.rsplit_once('@').map_or((false, authority), |(_, place)| (true, place));
    let (host, port) = match place.find(']') {
        Some(end) => place.split_at(end + 1),
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    let number = port.strip_prefix(':');
    let is_port = |p: &str| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok_and(|p| p > 0);
    if !(port.is_empty() || number.is_some_and(is_port)) {
        return Err("has a port that is not a number from 1 to 65535");
    }
    let host = parse_host(host).ok_or("needs a host name or an IP address after //")?;
    Ok(Url { https, host, userinfo, tail })
}

fn parse_host(host: &str) -> Option<Host> {
    if let Some(inner) = host.strip_prefix('[') {
        return inner.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(|ip| Host::Ip(IpAddr::V6(ip)));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let fits = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if name.len() > 253 || !name.split('.').all(fits) {
        return None;
    }
    // A last label that reads as a number makes clients read the whole as an address.
    let last = name.rsplit('.').next()?.to_ascii_lowercase();
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let is_hex = last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    if digits(&last) || is_hex {
        return host.parse::<Ipv4Addr>().ok().map(|ip| Host::Ip(IpAddr::V4(ip)));
    }
    Some(Host::Name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_are_taken_apart() {
        let ip = |text: &str| Host::Ip(text.parse().unwrap());
        for (text, https, host, userinfo, query, fragment) in [
            ("https://crm.example.com/hooks", true, Host::Name, false, false, false),
            ("http://localhost:9000", false, Host::Name, false, false, false),
            ("http://10.1.2.3:80/x?y=1", false, ip("10.1.2.3"), false, true, false),
            ("https://[::1]:8443/", true, ip("::1"), false, false, false),
            ("https://u:p@host/", true, Host::Name, true, false, false),
            ("https://host/#a?b", true, Host::Name, false, false, true),
            ("https://host?a#b", true, Host::Name, false, true, true),
            ("https://host./", true, Host::Name, false, false, false),
        ] {
            let url = parse(text).unwrap();
            let found = (url.https, &url.host, url.userinfo, url.has_query(), url.has_fragment());
            assert_eq!(found, (https, &host, userinfo, query, fragment), "{text}");
        }
        for text in [
            "",
            "host",
            "/path",
            "ftp://host",
            "HTTPS://host",
            "https:/host",
            "https://",
            "https:///x",
            "https://:80",
            "https://host:",
            "https://host:0",
            "https://host:65536",
            "https://host:+1",
            "https://ho st",
            "https://hö",
            "https://a..b",
            "https://127.1",
            "https://0x7f.0.0.1",
            "https://1.2.3.0x4",
            "https://2130706433",
            "https://1.2.3.4.",
            "https://[::1",
            "https://[::1]x",
            "https://[nonsense]",
            "https://host\\@evil",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        /// Whatever is accepted here, the client that posts to it reads as the same host.
        #[test]
        fn what_is_accepted_means_the_same_to_the_client(
            text in "https?://[a-z0-9.:@\\[\\]x_-]{0,20}(/[!-~]{0,10})?(\\?[!-~]{0,10})?",
        ) {
            if let Ok(url) = parse(&text) && !url.has_fragment() && !url.userinfo {
                let uri: hyper::Uri = text.parse().map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
                let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
                match url.host {
                    Host::Ip(ip) => prop_assert_eq!(host.parse::<IpAddr>(), Ok(ip)),
                    Host::Name => prop_assert!(!host.is_empty() && host.parse::<IpAddr>().is_err()),
                }
            }
        }
    }
}
