//! Which addresses events may be sent to: one rule for whoever reads the configuration and for whoever connects.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an event may be sent to `address`: to the networks that the operator named, and over https to everything
/// public.
pub fn may_reach(address: IpAddr, plain: bool, is_named: impl Fn(&IpAddr) -> bool) -> bool {
    let address = address.to_canonical();
    is_named(&address) || (!plain && is_public(address))
}

/// Whether an address belongs to the public internet.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113) // multicast, reserved, broadcast
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // NAT64 and 6to4 carry an IPv4 address, which decides.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        [0x64, 0xff9b, 1, ..] | [0x2001, 0xdb8 | 0..=0x1ff, ..] | [0x100, 0, 0, 0, ..] => false,
        // Only global unicast is handed out: everything else is loopback, unspecified, IPv4-compatible, unique
        // local, link local or multicast.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}
