//! Where deliveries may go: nobody's subscriber URL may reach into the operator's own network.
//!
//! The check is made on the addresses that are connected to, after resolution and on every connection, so odd
//! spellings of an address and names that change their mind lead nowhere.

use crate::domain::network;
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;

/// Which addresses may be connected to.
#[derive(Clone, Debug)]
pub struct Guard {
    allowed: Arc<[IpNet]>,
    /// Plain HTTP goes to explicitly allowed networks only.
    plain: bool,
}

impl Guard {
    /// For https: public addresses, and those in `allowed`.
    pub fn secure(allowed: &[IpNet]) -> Self {
        Self { allowed: allowed.into(), plain: false }
    }

    /// For http: those in `allowed` only.
    pub fn plain(allowed: &[IpNet]) -> Self {
        Self { allowed: allowed.into(), plain: true }
    }

    /// Whether `address` may be connected to.
    pub fn allows(&self, address: IpAddr) -> bool {
        network::may_reach(address, self.plain, |address| self.allowed.iter().any(|net| net.contains(address)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_reserved_and_embedded_addresses_are_refused() {
        let guard = Guard::secure(&[]);
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "ff02::1",
            "2001:db8::1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "100::1",
            "2001::1",
            "fec0::1",
        ] {
            assert!(!guard.allows(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "2606:4700::1111",
            "64:ff9b::101:101",
            "2002:101:101::",
        ] {
            assert!(guard.allows(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn an_allow_list_opens_private_networks_and_is_all_that_plain_http_gets() {
        let nets = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        for (address, secure, plain) in [
            ("10.9.9.9", true, true),
            ("::ffff:10.9.9.9", true, true),
            ("::1", true, true),
            ("127.0.0.1", false, false),
            ("1.1.1.1", true, false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(Guard::secure(&nets).allows(address), secure, "{address}");
            assert_eq!(Guard::plain(&nets).allows(address), plain, "{address}");
        }
    }
}
